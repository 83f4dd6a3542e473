"""Facts about Stein variational gradient descent."""

import pytest
import torch
from torch import Tensor

from csd_lab.distill import (
    IMQ,
    RBF,
    Bandwidth,
    Identity,
    Mean,
    kernelized_stein_discrepancy,
    stein_direction,
    svgd_direction,
)

from .helpers import adagrad, randn

PRECISION = torch.tensor([[0.2260, 0.1652], [0.1652, 0.6779]], dtype=torch.float64)
MEAN = torch.tensor([-0.6871, 0.8010], dtype=torch.float64)
COVARIANCE = torch.linalg.inv(PRECISION)


def gaussian_score(x: Tensor) -> Tensor:
    return -(x - MEAN) @ PRECISION


@pytest.mark.parametrize("kernel", [RBF(Bandwidth()), IMQ(Bandwidth())])
def test_two_particles_without_score_move_apart(kernel) -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    moved = x + 0.1 * svgd_direction(x, torch.zeros_like(x), kernel)
    assert (moved[1] - moved[0]).norm() > (x[1] - x[0]).norm()
    # along their line, symmetrically
    torch.testing.assert_close(moved.mean(0), x.mean(0))
    step = moved[1] - x[1]
    assert torch.cosine_similarity(step, x[1] - x[0], dim=0) == pytest.approx(1)


@pytest.mark.parametrize("kernel", [RBF(Bandwidth()), IMQ(Bandwidth()), Identity(), Mean()])
def test_one_particle_climbs_its_gradient(kernel) -> None:
    x, score = randn(1, 5), randn(1, 5, seed=1)
    assert torch.equal(svgd_direction(x, score, kernel), score)


def test_the_identity_is_n_independent_ascents_and_mean_the_mean_score() -> None:
    x, score = randn(4, 5), randn(4, 5, seed=1)
    assert torch.equal(svgd_direction(x, score, Identity()), score / 4)
    mean = score.mean(0).expand(4, 5)
    torch.testing.assert_close(svgd_direction(x, score, Mean()), mean)


@pytest.mark.parametrize("normalize", ["n", "row"])
def test_the_direction_equals_a_naive_double_loop(normalize) -> None:
    x, score, h = randn(5, 3), randn(5, 3, seed=1), 2.0
    expected = torch.zeros_like(x)
    for i in range(5):
        weights = [torch.exp(-((x[j] - x[i]) ** 2).sum() / h) for j in range(5)]
        for j, k in enumerate(weights):
            expected[i] += k * score[j] + 2 / h * (x[i] - x[j]) * k
        expected[i] /= 5 if normalize == "n" else sum(weights)
    direction = stein_direction(x, score, RBF(Bandwidth("fixed", value=h)), normalize)
    torch.testing.assert_close(direction.attraction + direction.repulsion, expected)


def test_row_normalisation_of_mean_and_identity() -> None:
    x, score = randn(4, 5), randn(4, 5, seed=1)
    assert torch.equal(stein_direction(x, score, Identity(), "row").attraction, score)
    torch.testing.assert_close(
        stein_direction(x, score, Mean(), "row").attraction, score.mean(0).expand(4, 5)
    )


def test_autocast_changes_nothing() -> None:
    x, score = randn(6, 32).float(), randn(6, 32, seed=1).float()
    expected = svgd_direction(x, score, RBF(Bandwidth()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(svgd_direction(x, score, RBF(Bandwidth())), expected)


def test_arguments_are_checked() -> None:
    x = randn(3, 2)
    with pytest.raises(ValueError, match=r"score must have the shape of x.*got \(2, 2\)"):
        svgd_direction(x, x[:2], Mean())
    with pytest.raises(ValueError, match="normalize must be one of n, row, got 'rows'"):
        stein_direction(x, x, Mean(), "rows")


@pytest.mark.parametrize("rule", ["svgd2016", "offdiagonal", "official"])
@pytest.mark.parametrize("kernel", [RBF, IMQ])
def test_the_gaussian_of_liu_and_wang(kernel, rule) -> None:
    """10 particles, AdaGrad 0.01, 1000 steps: mean to 0.02, covariance to 40 % (Frobenius).

    The target's deviations are 2.3 and 1.3. SVGD with few particles comes out too narrow, as is
    known; the discrepancy falls all the same, below the (tr A + D / h) / N that 10 independent
    draws of the target have on average.
    """
    kernel, gauge = kernel(Bandwidth(rule)), IMQ(Bandwidth("fixed", value=1.0))
    x = randn(10, 2)
    start = kernelized_stein_discrepancy(x, gaussian_score(x), gauge, "v")
    run = adagrad(x, lambda x: svgd_direction(x, gaussian_score(x), kernel), 1000, 0.01)
    path = list(run)
    ksd = [
        kernelized_stein_discrepancy(path[i], gaussian_score(path[i]), gauge, "v")
        for i in (49, 99, 999)
    ]
    assert start > ksd[0] > ksd[1]
    assert ksd[2] < start / 2
    assert ksd[2] < (PRECISION.trace() + 2 / 1.0) / 10
    assert (path[-1].mean(0) - MEAN).norm() < 0.02
    covariance = torch.cov(path[-1].T, correction=0)
    assert (covariance - COVARIANCE).norm() < 0.4 * COVARIANCE.norm()


def test_the_gaussian_with_100_particles() -> None:
    """Mean to 0.03, covariance to 10 % (Frobenius)."""
    kernel = RBF(Bandwidth())
    run = adagrad(randn(100, 2), lambda x: svgd_direction(x, gaussian_score(x), kernel), 1000, 0.02)
    *_, x = run
    assert (x.mean(0) - MEAN).norm() < 0.03
    covariance = torch.cov(x.T, correction=0)
    assert (covariance - COVARIANCE).norm() < 0.1 * COVARIANCE.norm()
