r"""SyncTweedies: windows with noise of their own, whose predicted clean images are averaged.

Kim et al. 2024, arXiv 2403.14370, case 2. Every window i has a noisy latent of its own, x_t^i. A
step predicts its clean latent (Tweedie's formula), averages these on the canvas, and moves every
window along the noise that the average leaves of it:

.. math::
    x_0^i = \frac{x_t^i - b_t \epsilon_w(x_t^i; s_i, y)}{a_t}, \qquad
    \theta = \frac{\sum_i P_i^T x_0^i}{\sum_i P_i^T 1}, \qquad
    x_{t'}^i = S\Big(x_t^i, \frac{x_t^i - a_t P_i \theta}{b_t}\Big)

The canvas theta, the particles' parameter, is clean at every step. Windows that begin with parts of
one canvas of noise keep them in common, and this is MultiDiffusion.
"""

from typing import Any, ClassVar, final

from torch import Tensor

from csd_lab.baselines.base import Followed, ScheduledSampler, check_deterministic
from csd_lab.distill import (
    Need,
    NoisePredictor,
    NoiseSchedule,
    Particles,
    Residual,
)
from csd_lab.priors.base import Prior
from csd_lab.types import Conditioning


@final
class SyncTweedies(ScheduledSampler):
    """Samples windows that agree on what they are noisy versions of.

    Args:
        guidance: see :class:`ScheduledSampler`, as all others.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"windows"})
    couples: ClassVar[bool] = True

    def check(self, prior: Prior) -> None:  # noqa: ARG002
        """Raises ValueError if the scheduler draws noise in its steps."""
        check_deterministic(self)

    def start(self, source: Tensor, noise: Tensor, conditioning: Conditioning) -> Tensor:  # noqa: ARG002
        """Anything: the first step replaces it."""
        self._begin()
        self._views: Tensor | None = None
        return source

    @property
    def done(self) -> bool:
        """The canvas is always clean."""
        return True

    def evaluate(self, prior: NoisePredictor, particles: Particles) -> Residual:
        """The noise of the windows' own latents; the particles are parts of the clean canvas."""
        x, _, conditioning, noise, t = particles
        if self._views is None:
            views = noise * self.scheduler.init_noise_sigma
        else:
            views = self._follow(x, prior.schedule)
        x_t = self.scheduler.scale_model_input(views, t)
        estimate = self.estimate(prior, x_t, conditioning, t)
        self._views = views
        return Residual(estimate, x, prior.schedule.remove_noise(x_t, estimate, t))

    def _follow(self, clean: Tensor, schedule: NoiseSchedule) -> Tensor:
        """The windows' latents after a step along the noise that a clean canvas leaves of them."""
        assert self._views is not None  # the caller has seen to it
        t = self.timestep(self.taken - 1)
        x_t = self.scheduler.scale_model_input(self._views, t)
        noise = (x_t - schedule.alpha(t) * clean) / schedule.sigma(t)
        return self.advance(noise, t, self._views)

    def follow(self, residual: Residual, t: Tensor) -> Followed:
        """The clean latents that their windows predict."""
        del t
        return Followed(residual.x_0, {})

    def state_dict(self) -> dict[str, Any]:
        """The windows' latents besides."""
        return super().state_dict() | {"views": self._views}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        super().load_state_dict(state)
        self._views = state["views"]
