"""Residuals: a guided noise prediction less a baseline.

Particles x_i are noised with the timestep t that they share, x_t^i = a_t x_i + b_t e_i. Then

    delta_i = eps_w(x_t^i; s_i, y) - e_i                        against the noise
    delta_i = eps_w(x_t^i; s_i, y) - eps_w(s_t^i; s_i, y_src)   against the source s_i, noised with
                                                                the same e_i and t

y is the prompt, y_src the source's own text, usually the null text.

Posterior Distillation Sampling (Koo et al. 2024, arXiv 2311.13831) compares what a sampler would
have had to draw at t to pass from x_t to a given x_u, u = t - stride, for particle and source:

    z(x) = (x_u - mu(x_t, eps_w)) / sigma,    x_u = a_u x + b_u e',    delta_i = z(x_i) - z(s_i)

with the diffusion's posterior q(x_u | x_t, x_0) = N(mu, sigma^2 I) (Ho et al. 2020, equation 7) at
x_0 = (x_t - b_t eps_w) / a_t, and with the same e and e' on both sides:

    mu = gamma x_0 + kappa x_t,    gamma = a_u beta / b_t^2,    kappa = r b_u^2 / b_t^2
    sigma = b_u sqrt(beta) / b_t,  beta = b_t^2 - r^2 b_u^2,    r = a_t / a_u

Put in, x_0 = x + b_t (e - eps_w) / a_t. All that holds e or e' alone is one for both sides and
cancels, so that e' need not be drawn, and what is left is linear:

    delta_i = psi (x_i - s_i) + chi (eps_w(x_t^i; s_i, y) - eps_w(s_t^i; s_i, y_src))
    psi = (a_u - gamma - kappa a_t) / sigma,    chi = gamma b_t / (a_t sigma)

The posterior keeps means, gamma + kappa a_t = a_u, so psi = 0: exactly taken, this is the residual
against the source times chi. The official code takes r and beta of the one step from t - 1 to t,
whatever the stride, and the identity is lost: psi > 0 for strides above 1 (its own is 2) pulls
particles back to their sources, most of all at small t.

Variational score distillation (Wang et al. 2023, arXiv 2305.16213) takes the place of the noise by
what a predictor expects that learns the particles' own distribution (see ``learners``):

    delta_i = eps_w(x_t^i; s_i, y) - eps_phi(x_t^i; s_i, y, t)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, final, get_args

from torch import Tensor

from csd_lab.checks import check_choice, check_whole
from csd_lab.distill.guidance import Guidance, NoisePredictor, Request, guided_noise
from csd_lab.distill.kernels import at_least_float32
from csd_lab.distill.learners import Learner
from csd_lab.distill.schedules import NoiseSchedule, TimestepSampler
from csd_lab.types import Blend, Conditioning, Text

LearnerFactory = Callable[[Any], Learner]
"""Makes what learns beside the particles, from the prior."""
PosteriorStep = Literal["official", "exact"]


class Particles(NamedTuple):
    """The particles of a step, and the randomness that meets them.

    Attributes:
        x: clean particles, (N, C, h, w), in the prior's latent units.
        source: source particles, (N, C, h, w); None where the residual needs none.
        conditioning: texts and image condition.
        noise: e, (N, C, h, w), standard normal.
        t: timestep, () of int64.
    """

    x: Tensor
    source: Tensor | None
    conditioning: Conditioning
    noise: Tensor
    t: Tensor


class Residual(NamedTuple):
    """What the network said of the particles.

    Attributes:
        delta: guided noise prediction less the baseline, (N, C, h, w), in float32 or higher.
        x_t: noisy particles, (N, C, h, w), in the particles' dtype.
        x_0: clean particles as the guided prediction sees them, (x_t - b_t eps_w) / a_t,
            (N, C, h, w), in float32 or higher.
        features: what a kernel compares in the place of particles, (N, F), in float32 or higher;
            None where it compares one of the above.
        repulsion: the kernel's of these features, in the place of the particles' own,
            (N, C, h, w), in float32 or higher; None where there is none, or none yet.
    """

    delta: Tensor
    x_t: Tensor
    x_0: Tensor
    features: Tensor | None = None
    repulsion: Tensor | None = None


class ResidualRule(ABC):
    """Guided noise prediction less a baseline.

    Args:
        guidance: combines the predictions.

    Attributes:
        needs_source: whether particles are compared with their sources.
        lowest: the smallest timestep at which it is defined.
    """

    needs_source: ClassVar[bool] = False
    lowest: int = 0

    def __init__(self, guidance: Guidance) -> None:
        self.guidance = guidance

    @abstractmethod
    def __call__(self, prior: NoisePredictor, particles: Particles) -> Residual:
        """The residual of the particles, by one call of the prior."""

    @final
    def check(self, timesteps: TimestepSampler) -> None:
        """Raises ValueError unless it is defined at all timesteps that may be drawn."""
        if timesteps.low < self.lowest:
            raise ValueError(
                f"the timesteps' low must be at least {self.lowest} for {type(self).__name__}, got "
                f"{timesteps.low}"
            )

    def learner(self, prior: Any) -> Learner | None:  # noqa: ARG002
        """What is to be trained on the particles of this prior; None where nothing is."""
        return None

    def _request(self, x_t: Tensor, conditioning: Conditioning, prompt: Text | Blend) -> Request:
        coefficients = self.guidance.coefficients(prompt, conditioning.negative_prompt)
        return Request(x_t, coefficients, conditioning.image)

    @final
    def _against_source(self, prior: NoisePredictor, particles: Particles) -> Residual:
        """eps_w(x_t; s, y) - eps_w(s_t; s, y_src), by one call of the prior."""
        x, source, conditioning, noise, t = particles
        if source is None:
            raise ValueError("source must be the clean source particles, (N, C, h, w), got None")
        x_t = prior.schedule.add_noise(x, noise, t)
        s_t = prior.schedule.add_noise(source, noise, t)
        requests = [
            self._request(x_t, conditioning, conditioning.prompt),
            self._request(s_t, conditioning, conditioning.source_prompt),
        ]
        estimate, baseline = guided_noise(prior, t, requests)
        return Residual(estimate - baseline, x_t, prior.schedule.remove_noise(x_t, estimate, t))


@final
class NoiseResidual(ResidualRule):
    """delta = eps_w(x_t; s, y) - e: SDS (Poole et al. 2022, arXiv 2209.14988, equation 3).

    Args:
        guidance: combines the predictions.
    """

    def __call__(self, prior: NoisePredictor, particles: Particles) -> Residual:
        """The residual of the particles, by one call of the prior. The source is not used."""
        x, _, conditioning, noise, t = particles
        x_t = prior.schedule.add_noise(x, noise, t)
        request = self._request(x_t, conditioning, conditioning.prompt)
        (estimate,) = guided_noise(prior, t, [request])
        return Residual(estimate - noise, x_t, prior.schedule.remove_noise(x_t, estimate, t))


@final
class SourceResidual(ResidualRule):
    """delta = eps_w(x_t; s, y) - eps_w(s_t; s, y_src): DDS and CSD-Edit.

    The same noise and timestep on both sides take out what any image's gradient would hold
    (Hertz et al. 2023, arXiv 2304.07090), so that details of the source survive.

    Args:
        guidance: combines the predictions.
    """

    needs_source = True

    def __call__(self, prior: NoisePredictor, particles: Particles) -> Residual:
        """The residual of the particles, by one call of the prior for target and source."""
        return self._against_source(prior, particles)


@final
class PosteriorResidual(ResidualRule):
    """delta = psi (x - s) + chi (eps_w(x_t; s, y) - eps_w(s_t; s, y_src)): PDS.

    Costs what :class:`SourceResidual` costs.

    Args:
        guidance: combines the predictions.
        stride: timesteps from t to the earlier one, >= 1; no t may be below it.
        step: ``official`` takes beta of one timestep whatever the stride, so that psi > 0 for
            strides above 1; ``exact`` takes it of the whole stride, and psi is 0.

    Raises:
        ValueError: an argument is out of range.
    """

    needs_source = True

    def __init__(
        self, guidance: Guidance, stride: int = 2, step: PosteriorStep = "official"
    ) -> None:
        super().__init__(guidance)
        check_whole("stride", stride)
        check_choice("step", step, get_args(PosteriorStep))
        self.stride = self.lowest = stride
        self.step: PosteriorStep = step

    def coefficients(self, schedule: NoiseSchedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """Psi and chi at t, () of int64: two ().

        Raises:
            ValueError: t is below the stride.
        """
        if t < self.stride:
            raise ValueError(
                f"t must be at least the stride, {self.stride}, got {int(t)}: raise the "
                "timesteps' low, or lower the stride"
            )
        earlier = t - self.stride
        before = earlier if self.step == "exact" else t - 1
        a_t, b_t = schedule.alpha(t), schedule.sigma(t)
        a_u, b_u = schedule.alpha(earlier), schedule.sigma(earlier)
        r = a_t / schedule.alpha(before)
        beta = b_t**2 - (r * schedule.sigma(before)) ** 2
        gamma, kappa = a_u * beta / b_t**2, r * b_u**2 / b_t**2
        sigma = b_u * beta.sqrt() / b_t
        return (a_u - gamma - kappa * a_t) / sigma, gamma * b_t / (a_t * sigma)

    def __call__(self, prior: NoisePredictor, particles: Particles) -> Residual:
        """The residual of the particles, by one call of the prior for target and source."""
        psi, chi = self.coefficients(prior.schedule, particles.t)
        against_source = self._against_source(prior, particles)
        assert particles.source is not None  # else there were no residual against it
        moved = at_least_float32(particles.x) - particles.source
        return against_source._replace(delta=psi * moved + chi * against_source.delta)


@final
class VariationalResidual(ResidualRule):
    """delta = eps_w(x_t; s, y) - eps_phi(x_t; s, y, t): VSD. The source is not used.

    If eps_phi were e, this would be SDS. At the first step eps_phi is the prior, and delta the
    guided estimate less the conditional one.

    Args:
        guidance: combines the predictions of the prior.
        learner: makes the predictor of the particles' own distribution from the prior.
    """

    def __init__(self, guidance: Guidance, learner: LearnerFactory) -> None:
        super().__init__(guidance)
        self._make = learner
        self._learners: dict[Any, Learner] = {}

    def learner(self, prior: Any) -> Learner:
        """The predictor that is trained on the particles of this prior, which it starts from."""
        if prior not in self._learners:
            self._learners[prior] = self._make(prior)
        return self._learners[prior]

    def __call__(self, prior: NoisePredictor, particles: Particles) -> Residual:
        """The residual of the particles, by one call of the prior and one of the learner."""
        x, _, conditioning, noise, t = particles
        x_t = prior.schedule.add_noise(x, noise, t)
        request = self._request(x_t, conditioning, conditioning.prompt)
        (estimate,) = guided_noise(prior, t, [request])
        own = self.learner(prior).estimate(x_t, conditioning, t)
        return Residual(estimate - own, x_t, prior.schedule.remove_noise(x_t, estimate, t))
