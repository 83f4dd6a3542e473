r"""Instruct-NeRF2NeRF's edit of a view: Instruct-Pix2Pix from the rendering, not from noise.

Haque et al. 2023, arXiv 2303.12789. A view that is rendered as x_0 is given noise of a level drawn
for it, and sampled down from there under its captured image,

.. math::
    T \sim U[T_\text{low}, T_\text{high}], \qquad x_{T'} = a_{T'} x_0 + b_{T'} \epsilon,

with S steps spread over the timesteps below T, of which T' is the first. So late edits build upon
what the scene has become of earlier ones.
"""

from typing import Any, ClassVar, final

from diffusers import DDIMScheduler
from torch import Tensor

from csd_lab.baselines.base import ScheduledSampler, check_takes_image
from csd_lab.baselines.schedulers import SchedulerFactory
from csd_lab.checks import is_finite
from csd_lab.distill import Guidance, Need
from csd_lab.distill.noise import NoiseMode
from csd_lab.priors.base import Prior
from csd_lab.streams import Stream, numpy_generator
from csd_lab.types import Conditioning


@final
class InstructNerf2Nerf(ScheduledSampler):
    """Samples an edit of each view from its rendering, each time from another noise level.

    Args:
        guidance: see :class:`ScheduledSampler`, as of all below but for the last two.
        scheduler: must give DDIM.
        steps: of a sample.
        noise: ``independent`` for each view, or ``shared`` by all.
        seed: of T, and of what noise a scheduler adds, >= 0.
        low: lowest T as a share of the prior's timesteps, in (0, 1).
        high: highest T, likewise.

    Raises:
        ValueError: an argument is out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"views"})

    def __init__(
        self,
        guidance: Guidance,
        scheduler: SchedulerFactory,
        steps: int,
        noise: NoiseMode = "independent",
        seed: int = 0,
        low: float = 0.02,
        high: float = 0.98,
    ) -> None:
        super().__init__(guidance, scheduler, steps, noise, seed)
        if not (is_finite(low) and is_finite(high) and 0 < low <= high < 1):
            raise ValueError(f"low and high must have 0 < low <= high < 1, got {low} and {high}")
        self.low = low
        self.high = high
        self._limit = 0

    def check(self, prior: Prior) -> None:
        """Raises ValueError if the prior takes no image condition, or the scheduler is not DDIM."""
        check_takes_image(prior)
        if not isinstance(self.scheduler, DDIMScheduler):
            raise ValueError(
                "sampler must be ddim for InstructNerf2Nerf, which begins between the ends, got "
                f"{type(self.scheduler).__name__}"
            )
        self._limit = prior.schedule.num_steps

    def start(self, source: Tensor, noise: Tensor, conditioning: Conditioning) -> Tensor:  # noqa: ARG002
        """The renderings ``source`` with noise of a level of their own."""
        self._below(self._level())
        self.begun += 1
        first = self.scheduler.timesteps[:1]
        noisy: Tensor = self.scheduler.add_noise(source, noise, first.expand(len(source)))
        return noisy

    def _level(self) -> int:
        """T of the next start."""
        random = numpy_generator(Stream.SAMPLER_LEVEL, self.seed, self.begun)
        share = random.uniform(self.low, self.high)
        return max(self.steps, round(share * self._limit))

    def _below(self, level: int) -> None:
        """Spread the steps over the timesteps below T."""
        self._restart()
        self.scheduler.register_to_config(num_train_timesteps=level)
        self.scheduler.set_timesteps(self.steps)

    def state_dict(self) -> dict[str, Any]:
        """The sampler's, with T."""
        return {**super().state_dict(), "level": self.scheduler.config.num_train_timesteps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self._below(state["level"])
        super().load_state_dict(state)
