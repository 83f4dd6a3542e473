"""Facts about sampling and distillation where the prior's score is known exactly."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from csd_lab.distill import (
    IMQ,
    RBF,
    Bandwidth,
    ClassifierFree,
    CollaborativeScoreDistillation,
    Constant,
    Identity,
    Kernel,
    NoiseResidual,
    NoiseToSignal,
    Query,
    ScoreDistillation,
    SigmaSquared,
    UniformTimesteps,
    VariancePreserving,
    particle_noise,
    svgd_direction,
)
from csd_lab.priors import GaussianMixture
from csd_lab.types import Conditioning

from .helpers import adagrad

SCHEDULE = VariancePreserving.scaled_linear()


def two_modes() -> GaussianMixture:
    """1/3 N(-2, 1) + 2/3 N(2, 1), the first example of Liu & Wang 2016 (figure 1)."""
    means = torch.tensor([-2.0, 2.0], dtype=torch.float64).view(2, 1, 1, 1)
    return GaussianMixture(means, SCHEDULE, scales=1.0, weights=[1 / 3, 2 / 3])


def score_of(prior: GaussianMixture, t: Tensor) -> Callable[[Tensor], Tensor]:
    """The score -eps / b_t of points (N, 1), from the prior's noise prediction."""

    def score(x: Tensor) -> Tensor:
        (noise,) = prior.predict_noise([Query(x.view(-1, 1, 1, 1), "", None)], t)
        return -noise.view_as(x) / SCHEDULE.sigma(t)

    return score


def climb(kernel: Kernel, start: float) -> Tensor:
    """100 particles from N(start, 1), 500 steps of AdaGrad at the lowest noise level."""
    score = score_of(two_modes(), torch.tensor(0))
    generator = torch.Generator().manual_seed(0)
    x = start + torch.randn(100, 1, dtype=torch.float64, generator=generator)
    *_, x = adagrad(x, lambda x: svgd_direction(x, score(x), kernel), 500, 0.1)
    return x


@pytest.mark.parametrize("start", [-10.0, 10.0])
@pytest.mark.parametrize("kernel", [RBF(Bandwidth()), RBF(Bandwidth("official")), IMQ(Bandwidth())])
def test_svgd_finds_both_modes_with_their_weights(kernel, start) -> None:
    """The mixture has mean 2/3 and variance 1 + 32/9."""
    x = climb(kernel, start)
    assert (x > 0).double().mean() == pytest.approx(2 / 3, abs=0.04)
    assert x.mean() == pytest.approx(2 / 3, abs=0.08)
    assert x.var() == pytest.approx(1 + 32 / 9, rel=0.05)


@pytest.mark.parametrize("start", [-10.0, 10.0])
def test_independent_particles_find_the_mode_on_their_side_alone(start) -> None:
    x = climb(Identity(), start)
    mode = 2 if start > 0 else -2
    assert ((x - mode).abs() < 0.1).all()


def gaussian(mean: float, deviation: float) -> GaussianMixture:
    return GaussianMixture(torch.full((1, 2, 3, 3), mean), SCHEDULE, scales=deviation)


def test_the_residual_on_a_gaussian_is_exact() -> None:
    """eps(x_t) = b_t (x_t - a_t m) / (a_t^2 s^2 + b_t^2) for N(m, s^2)."""
    x, noise = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3)
    distiller = ScoreDistillation(NoiseResidual(ClassifierFree(1.0)), Constant())
    for t in torch.tensor([20, 300, 900]):
        a, b = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
        estimate = b * (a * x + b * noise - a * 0.5) / (a**2 * 0.3**2 + b**2)
        outcome = distiller(gaussian(0.5, 0.3), x, None, Conditioning(""), noise, t)
        torch.testing.assert_close(outcome.gradient, estimate - noise, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("t", [20, 250, 600, 980])
@pytest.mark.parametrize("rate", [1.0, 2.0, 3.0])
def test_a_step_goes_a_share_of_the_way_to_the_clean_estimate(t: int, rate: float) -> None:
    x, noise = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3)
    rule, at = NoiseResidual(ClassifierFree(1.0)), torch.tensor(t)
    distiller = ScoreDistillation(rule, SigmaSquared())
    arguments = (gaussian(0.5, 0.3), x, None, Conditioning(""), noise, at)
    clean = distiller.residual(*arguments).x_0
    share = rate * SCHEDULE.alpha(at) * SCHEDULE.sigma(at)
    after = x - rate * distiller(*arguments).gradient
    torch.testing.assert_close(after, x + share * (clean - x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("t", "share"), [(20, 0.7), (250, 0.7), (900, None)])
def test_a_step_goes_as_far_at_all_levels_of_less_noise_than_signal(t: int, share: float) -> None:
    x, noise, at = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3), torch.tensor(t)
    distiller = ScoreDistillation(NoiseResidual(ClassifierFree(1.0)), NoiseToSignal())
    arguments = (gaussian(0.5, 0.3), x, None, Conditioning(""), noise, at)
    clean = distiller.residual(*arguments).x_0
    after = x - 0.7 * distiller(*arguments).gradient
    share = share or 0.7 * float(SCHEDULE.alpha(at) / SCHEDULE.sigma(at))
    torch.testing.assert_close(after, x + share * (clean - x), rtol=1e-3, atol=1e-3)


def test_up_to_which_learning_rate_no_step_goes_beyond_the_clean_estimate() -> None:
    shares = [float(SCHEDULE.alpha(t) * SCHEDULE.sigma(t)) for t in torch.arange(1000)]
    assert max(shares) == pytest.approx(0.5, abs=1e-5)


def distil(repulsion: float) -> Tensor:
    """8 particles, 300 steps of SGD on a Gaussian prior N(0.5, 0.3^2)."""
    prior, rule = gaussian(0.5, 0.3), NoiseResidual(ClassifierFree(1.0))
    kernel = RBF(Bandwidth())
    distiller = CollaborativeScoreDistillation(rule, kernel, SigmaSquared(), repulsion=repulsion)
    sampler, ids = UniformTimesteps(20, 501), torch.arange(8)
    x = particle_noise(1, 0, ids, (2, 3, 3))
    for step in range(300):
        noise = particle_noise(0, step, ids, (2, 3, 3))
        outcome = distiller(prior, x, None, Conditioning(""), noise, sampler(0, step))
        x = x - outcome.gradient
    return x


def test_collaborative_distillation_of_a_gaussian() -> None:
    """Comes to the prior's mean, and the repulsion keeps the particles apart."""
    together, apart = distil(0.0), distil(1.0)
    assert together.mean() == pytest.approx(0.5, abs=0.05)
    assert apart.mean() == pytest.approx(0.5, abs=0.05)
    assert apart.std(0).mean() > 2 * together.std(0).mean()
