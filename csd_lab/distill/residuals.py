"""Residuals: a guided noise prediction less a baseline.

Particles x_i are noised with the timestep t that they share, x_t^i = a_t x_i + b_t e_i. Then

    delta_i = eps_w(x_t^i; s_i, y) - e_i                        against the noise
    delta_i = eps_w(x_t^i; s_i, y) - eps_w(s_t^i; s_i, y_src)   against the source s_i, noised with
                                                                the same e_i and t

y is the prompt, y_src the source's own text, usually the null text.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple, final

from torch import Tensor

from csd_lab.distill.guidance import Guidance, NoisePredictor, Request, guided_noise
from csd_lab.types import Blend, Conditioning, Text


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
    """

    delta: Tensor
    x_t: Tensor
    x_0: Tensor


class ResidualRule(ABC):
    """Guided noise prediction less a baseline.

    Args:
        guidance: combines the predictions.
    """

    def __init__(self, guidance: Guidance) -> None:
        self.guidance = guidance

    @abstractmethod
    def __call__(self, prior: NoisePredictor, particles: Particles) -> Residual:
        """The residual of the particles, by one call of the prior."""

    def _request(self, x_t: Tensor, conditioning: Conditioning, prompt: Text | Blend) -> Request:
        coefficients = self.guidance.coefficients(prompt, conditioning.negative_prompt)
        return Request(x_t, coefficients, conditioning.image)


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

    def __call__(self, prior: NoisePredictor, particles: Particles) -> Residual:
        """The residual of the particles, by one call of the prior for target and source."""
        x, source, conditioning, noise, t = particles
        if source is None:
            raise ValueError("source must be the clean source particles, (N, C, h, w); got None")
        x_t = prior.schedule.add_noise(x, noise, t)
        s_t = prior.schedule.add_noise(source, noise, t)
        requests = [
            self._request(x_t, conditioning, conditioning.prompt),
            self._request(s_t, conditioning, conditioning.source_prompt),
        ]
        estimate, baseline = guided_noise(prior, t, requests)
        return Residual(estimate - baseline, x_t, prior.schedule.remove_noise(x_t, estimate, t))
