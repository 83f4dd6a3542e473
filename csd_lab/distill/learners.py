"""What learns the particles' own distribution while they move.

Variational score distillation (Wang et al. 2023, arXiv 2305.16213, algorithm 1) needs the scores of
two distributions of noisy images: that of the prior, and that of the particles themselves. For the
second a predictor eps_phi is trained on them, step by step beside them:

    phi <- phi - lr grad_phi 1/N sum_i |eps_phi(x_u^i; s_i, y, u) - e'_i|^2 / D
    x_u^i = a_u x_i + b_u e'_i

with D numbers a particle, and with a timestep u, uniform over all noise levels, and noise e' of its
own: neither are those by which the particles move in this step. The particles x_i are constants
here, as phi is one where they move: the two descents share no parameter.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from csd_lab.checks import check_positive
from csd_lab.distill.guidance import ClassifierFree, Query, Request, guided_noise
from csd_lab.distill.kernels import at_least_float32
from csd_lab.distill.schedules import NoiseSchedule
from csd_lab.types import Conditioning

CONDITIONAL = ClassifierFree(1.0)
"""What the particles are is asked without guidance."""


class Learner(nn.Module, ABC):
    """A noise predictor that is trained on the particles; its parameters are what it learns.

    Args:
        learning_rate: of AdamW, > 0.
    """

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        check_positive("learning_rate", learning_rate)
        self.learning_rate = learning_rate

    @property
    @abstractmethod
    def schedule(self) -> NoiseSchedule:
        """The noise levels of ``predict_noise``."""

    @abstractmethod
    def predict_noise(self, queries: Sequence[Query], t: Tensor) -> list[Tensor]:
        """The noise in each query's particles at t, (), differentiable in the parameters."""

    @final
    def optimizer(self) -> AdamW:
        """A new optimiser of the parameters."""
        return AdamW(self.parameters(), lr=self.learning_rate)

    @final
    def estimate(self, x_t: Tensor, conditioning: Conditioning, t: Tensor) -> Tensor:
        """eps_phi(x_t; s, y, t) of noisy particles: (N, C, h, w), in float32 or higher."""
        coefficients = CONDITIONAL.coefficients(conditioning.prompt)
        request = Request(x_t, coefficients, conditioning.image)
        return guided_noise(self, t, [request])[0]

    @final
    def errors(self, x: Tensor, conditioning: Conditioning, noise: Tensor, t: Tensor) -> Tensor:
        """How far the estimates are from the noise: mean squares, differentiable.

        Args:
            x: clean particles, (N, C, h, w), taken as constants; N may be 0.
            conditioning: texts and image condition.
            noise: e', (N, C, h, w), standard normal.
            t: timestep u, () of int64.

        Returns:
            (N,); also of no particles it depends on every parameter.
        """
        x_t = self.schedule.add_noise(x.detach(), noise, t)
        off = self.estimate(x_t, conditioning, t) - at_least_float32(noise)
        nothing = torch.stack([p.sum() for p in self.parameters()]).sum() * 0
        return off.square().flatten(1).mean(1) + nothing
