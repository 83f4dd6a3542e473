"""Noise levels, timesteps and weights.

A noise schedule maps a timestep t to the scales a_t and b_t of x_t = a_t x + b_t e, e ~ N(0, I).
The noise prediction eps of a model gives its score, -eps / b_t, and its estimate of the clean
particle, x_0 = (x_t - b_t eps) / a_t.

The timestep of step k is t_k = low + floor(u_k (high_k - low)), with u_k in [0, 1) drawn anew at
each step, or of Kronecker's sequence, which has low discrepancy (Niederreiter 1992, Random Number
Generation and Quasi-Monte Carlo Methods, chapter 3):

    u_k = frac(u_0 + k / g),    g = (1 + sqrt(5)) / 2

u_0 is drawn once for a run, so that each u_k by itself is uniform over seeds. K steps in a row
leave no gap in [0, 1) wider than 1.9 / K, so that few steps see all levels of noise, early and
late; of independent draws the widest is about ln(K) / K.

A weight w says how far a step goes. With x_t = a_t x + b_t e, the way from a particle to its clean
estimate is x_0 - x = -(b_t / a_t) (eps - e), so that

    x <- x - lr w (eps - e) = x + lr w (a_t / b_t) (x_0 - x)

goes a share lr w a_t / b_t of it. With w = b_t^2 and a_t^2 + b_t^2 = 1 that is lr a_t b_t, at most
lr / 2: above lr = 2 steps at some levels of noise go beyond the estimate, and soon oscillate. With
w = b_t / a_t the share is lr at all levels.
"""

from abc import ABC, abstractmethod
from math import floor, sqrt
from typing import Literal, Self, final, get_args

import torch
from torch import Tensor

from csd_lab.checks import check_choice, check_finite, check_positive, check_whole, is_whole
from csd_lab.distill.noise import timestep_generator

Draws = Literal["independent", "low_discrepancy"]
GOLDEN_RATIO = (1 + sqrt(5)) / 2


class NoiseSchedule(ABC):
    """Scales of signal and noise.

    Attributes:
        num_steps: timesteps are the integers 0 ... num_steps - 1, and what lies between them.
    """

    num_steps: int

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The signal's scale a_t at t, (): ()."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The noise's scale b_t at t, (): ()."""

    @final
    def add_noise(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = a_t x + b_t e, for clean x and noise of one shape (N, *)."""
        return self.alpha(t) * x + self.sigma(t) * noise

    @final
    def remove_noise(self, x_t: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_0 = (x_t - b_t eps) / a_t, for noisy x_t and (predicted) noise of one shape (N, *)."""
        return (x_t - self.sigma(t) * noise) / self.alpha(t)


@final
class VariancePreserving(NoiseSchedule):
    """a_t = sqrt(abar_t), b_t = sqrt(1 - abar_t): Ho et al. 2020, arXiv 2006.11239.

    Between two timesteps the ratio b_t / a_t is linear, as in the diffusers library's schedulers
    that step to levels of noise between those of training (Karras et al. 2022, arXiv 2206.00364).

    Args:
        alphas_cumprod: abar_t, (T,), each in (0, 1].
    """

    def __init__(self, alphas_cumprod: Tensor) -> None:
        table = alphas_cumprod.detach().to("cpu", torch.float64)
        if table.ndim != 1 or table.numel() == 0 or not bool(((table > 0) & (table <= 1)).all()):
            raise ValueError(
                "alphas_cumprod must be (T,), T >= 1, with values in (0, 1], "
                f"got shape {tuple(table.shape)} with values {table.flatten()[:3].tolist()} ..."
            )
        self.num_steps = table.numel()
        self._alphas_cumprod = table

    @classmethod
    def scaled_linear(
        cls, beta_start: float = 0.00085, beta_end: float = 0.012, num_steps: int = 1000
    ) -> Self:
        """Stable Diffusion's: sqrt(beta_t) linear in t, abar_t = prod_{s <= t} (1 - beta_s)."""
        if not 0 < beta_start <= beta_end < 1 or num_steps < 1:
            raise ValueError(
                "beta_start and beta_end must have 0 < beta_start <= beta_end < 1, and num_steps "
                f"be >= 1, got {beta_start}, {beta_end}, {num_steps}"
            )
        root = torch.linspace(beta_start**0.5, beta_end**0.5, num_steps, dtype=torch.float64)
        return cls((1 - root**2).cumprod(0))

    def alpha(self, t: Tensor) -> Tensor:
        """sqrt(abar_t), ()."""
        return self._at(t).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - abar_t), ()."""
        return (1 - self._at(t)).sqrt()

    def _at(self, t: Tensor) -> Tensor:
        if not 0 <= t <= self.num_steps - 1:
            raise ValueError(f"t must be in 0 ... {self.num_steps - 1}, got {t.item():g}")
        below = int(t)
        if below == t:
            return self._alphas_cumprod[below]
        low, high = (1 / self._alphas_cumprod[below : below + 2] - 1).sqrt()
        return 1 / (1 + low.lerp(high, float(t) - below) ** 2)


class TimestepSampler(ABC):
    """Draws the timestep that all particles of a step share.

    Args:
        low: smallest timestep, >= 0.
        high: one more than the largest timestep.
        draws: how the steps of a run go together.
    """

    def __init__(self, low: int, high: int, draws: Draws = "independent") -> None:
        if not (is_whole(low, 0) and is_whole(high) and low < high):
            raise ValueError(
                "low and high must be whole numbers with 0 <= low < high, high excluded, got "
                f"{low} and {high}"
            )
        check_choice("draws", draws, get_args(Draws))
        self.low, self.high, self.draws = low, high, draws

    @final
    def check(self, schedule: NoiseSchedule) -> None:
        """Raises ValueError unless all timesteps are within the schedule."""
        if self.high > schedule.num_steps:
            raise ValueError(
                f"high must be at most the schedule's {schedule.num_steps} steps, "
                f"got {self.high}: lower the timesteps' high"
            )

    @final
    def __call__(self, seed: int, step: int) -> Tensor:
        """The timestep of a step: a 0-d int64 tensor on the CPU, a function of seed and step."""
        high = self.upper(step)
        if self.draws == "independent":
            return torch.tensor(int(timestep_generator(seed, step).integers(self.low, high)))
        place = (timestep_generator(seed, 0).random() + step / GOLDEN_RATIO) % 1.0
        return torch.tensor(self.low + floor(place * (high - self.low)))

    @abstractmethod
    def upper(self, step: int) -> int:
        """One more than the largest timestep that a step may draw, in low + 1 ... high."""


@final
class UniformTimesteps(TimestepSampler):
    """t ~ U{low, ..., high - 1}, as in DreamFusion and CSD (whose [20, 500] is 20 and 501).

    Args:
        low: smallest timestep, >= 0.
        high: one more than the largest timestep.
        draws: ``independent`` at each step, or with ``low_discrepancy`` over a run.
    """

    def upper(self, step: int) -> int:  # noqa: ARG002
        """High, at every step."""
        return self.high


@final
class AnnealedTimesteps(TimestepSampler):
    """t ~ U{low, ..., high_k - 1}, where high_k falls from ``high`` to ``final`` over the steps.

        high_k = high - (high - final) (k / steps)^power,    k = min(step, steps)

    Large t decide on layout, small t on detail. power = 1 is linear; power = 1/2 is the
    annealing of HiFA (Zhu & Zhuang 2023, arXiv 2305.18766).

    Args:
        low: smallest timestep, >= 0.
        high: one more than the largest timestep at the first step.
        final: one more than the largest timestep from step ``steps`` on.
        steps: how many steps the fall takes, >= 1.
        power: > 0.
        draws: ``independent`` at each step, or with ``low_discrepancy`` over a run.
    """

    def __init__(
        self,
        low: int,
        high: int,
        final: int,
        steps: int,
        power: float = 1.0,
        draws: Draws = "independent",
    ) -> None:
        super().__init__(low, high, draws)
        check_positive("power", power)
        if not (is_whole(final) and low < final <= high):
            raise ValueError(
                "final must be a whole number with low < final <= high, "
                f"got final={final} with low={low} and high={high}"
            )
        check_whole("steps", steps)
        self.final, self.steps, self.power = final, steps, power

    def upper(self, step: int) -> int:
        """high_k."""
        done = min(step / self.steps, 1.0) ** self.power
        return round(self.high - (self.high - self.final) * done)


class Weight(ABC):
    """The weight w(t) of a gradient."""

    @abstractmethod
    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        """w(t) at t, () of int64: ()."""


@final
class SigmaSquared(Weight):
    """w(t) = b_t^2, that is 1 - abar_t: DreamFusion (arXiv 2209.14988), CSD."""

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        """b_t^2."""
        return schedule.sigma(t) ** 2


@final
class AlphaSigmaSquared(Weight):
    """w(t) = a_t b_t^2: Fantasia3D (Chen et al. 2023, arXiv 2303.13873)."""

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        """a_t b_t^2."""
        return schedule.alpha(t) * schedule.sigma(t) ** 2


@final
class NoiseToSignal(Weight):
    """w(t) = min(b_t / a_t, most): as far towards the clean estimate, up to some level of noise.

    Unbounded, w (eps - e) is the gradient of |x - x_0|^2 / 2 (Zhu & Zhuang 2023, arXiv 2305.18766);
    but the more noise there is, the less the estimate is to be trusted.

    Args:
        most: > 0; with 1, steps are shorter where there is more noise than signal.
    """

    def __init__(self, most: float = 1.0) -> None:
        check_positive("most", most)
        self.most = most

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:
        """min(b_t / a_t, most)."""
        return (schedule.sigma(t) / schedule.alpha(t)).clamp(max=self.most)


@final
class Constant(Weight):
    """w(t) = value: DDS (Hertz et al. 2023, arXiv 2304.07090) with 1.

    Args:
        value: any finite number.
    """

    def __init__(self, value: float = 1.0) -> None:
        check_finite("value", value)
        self.value = value

    def __call__(self, schedule: NoiseSchedule, t: Tensor) -> Tensor:  # noqa: ARG002
        """The value, whatever t."""
        return torch.tensor(self.value, dtype=torch.float64)
