"""Facts about the residual of posterior distillation sampling."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from csd_lab.distill import (
    ClassifierFree,
    Constant,
    DualGuidance,
    PosteriorResidual,
    Query,
    ScoreDistillation,
    SourceResidual,
    UniformTimesteps,
    VariancePreserving,
)
from csd_lab.types import Conditioning

from .helpers import ClosedForm, randn

SCHEDULE = VariancePreserving.scaled_linear()
ALPHAS_CUMPROD = torch.stack([SCHEDULE.alpha(torch.tensor(t)) ** 2 for t in range(1000)])
GUIDANCE = ClassifierFree(3.0)
X, SOURCE, NOISE, IMAGE = (randn(3, 4, 5, 6, seed=seed) for seed in range(4))
CONDITIONING = Conditioning(("A", "B", "C"), "src", "", IMAGE)


def residual(rule, t: int, x: Tensor = X) -> Tensor:
    distiller = ScoreDistillation(rule, Constant())
    arguments = (ClosedForm(), x, SOURCE, CONDITIONING, NOISE, torch.tensor(t))
    return distiller.residual(*arguments).delta


def drawn(x: Tensor, text, t: int, stride: int, step: str, earlier_noise: Tensor) -> Tensor:
    """What a sampler would have had to draw: Ho et al. 2020, equation 7, with numbers for z."""
    kept, kept_before = ALPHAS_CUMPROD[t], ALPHAS_CUMPROD[t - stride]
    alpha = kept / ALPHAS_CUMPROD[t - (stride if step == "exact" else 1)]
    beta = 1 - alpha
    x_t = kept.sqrt() * x + (1 - kept).sqrt() * NOISE
    earlier = kept_before.sqrt() * x + (1 - kept_before).sqrt() * earlier_noise
    queries = [Query(x_t, text, IMAGE), Query(x_t, "", IMAGE)]
    y, n = ClosedForm().predict_noise(queries, torch.tensor(t))
    x_0 = (x_t - (1 - kept).sqrt() * (n + 3 * (y - n))) / kept.sqrt()
    mean = (
        kept_before.sqrt() * beta / (1 - kept) * x_0
        + alpha.sqrt() * (1 - kept_before) / (1 - kept) * x_t
    )
    return (earlier - mean) / ((1 - kept_before) / (1 - kept) * beta).sqrt()


@pytest.mark.parametrize("step", ["official", "exact"])
@pytest.mark.parametrize(("t", "stride"), [(1, 1), (300, 1), (20, 2), (700, 2), (500, 40)])
def test_is_the_difference_of_what_would_have_been_drawn(t, stride, step) -> None:
    rule = PosteriorResidual(GUIDANCE, stride, step)
    for seed in (5, 6):  # whatever the earlier noise is
        earlier = randn(3, 4, 5, 6, seed=seed)
        target = drawn(X, CONDITIONING.prompt, t, stride, step, earlier)
        source = drawn(SOURCE, "src", t, stride, step, earlier)
        torch.testing.assert_close(residual(rule, t), target - source)


@pytest.mark.parametrize(("t", "stride"), [(1, 1), (300, 1), (300, 2), (999, 500)])
def test_taken_exactly_it_is_the_residual_against_the_source_times_chi(t, stride) -> None:
    rule = PosteriorResidual(GUIDANCE, stride, "exact")
    psi, chi = rule.coefficients(SCHEDULE, torch.tensor(t))
    assert abs(psi) < 1e-9 * chi
    assert chi > 0
    torch.testing.assert_close(residual(rule, t), chi * residual(SourceResidual(GUIDANCE), t))


def test_both_steps_are_one_for_a_stride_of_one() -> None:
    t = torch.tensor(400)
    official, exact = (
        PosteriorResidual(GUIDANCE, 1, step).coefficients(SCHEDULE, t)
        for step in ("official", "exact")
    )
    assert official == exact


@pytest.mark.parametrize("stride", [2, 10])
def test_the_official_step_pulls_to_the_source_most_at_small_t(stride) -> None:
    rule = PosteriorResidual(GUIDANCE, stride)
    pulls = [rule.coefficients(SCHEDULE, torch.tensor(t))[0] for t in range(stride, 1000)]
    assert all(later < earlier for earlier, later in pairwise(pulls))
    assert pulls[-1] > 0


def test_without_the_pull_it_is_dds_times_chi() -> None:
    rule, t = PosteriorResidual(GUIDANCE, 2), 300
    psi, chi = rule.coefficients(SCHEDULE, torch.tensor(t))
    rest = residual(rule, t) - psi * (X - SOURCE)
    torch.testing.assert_close(rest, chi * residual(SourceResidual(GUIDANCE), t))
    # where nothing has moved, there is no pull
    unmoved = chi * residual(SourceResidual(GUIDANCE), t, SOURCE)
    torch.testing.assert_close(residual(rule, t, SOURCE), unmoved)


@pytest.mark.parametrize("t", [1, 300, 999])
def test_the_posterior_is_that_of_two_gaussians(t) -> None:
    """By Bayes' rule: N(x_t; r x_u, beta) N(x_u; a_u x_0, b_u^2), precisions added."""
    t, u = torch.tensor(t), torch.tensor(t - 1)
    r = SCHEDULE.alpha(t) / SCHEDULE.alpha(u)
    beta = 1 - r**2
    precision = r**2 / beta + 1 / SCHEDULE.sigma(u) ** 2
    gain = SCHEDULE.alpha(u) / SCHEDULE.sigma(u) ** 2 / precision  # of x_0 in the mean
    _, chi = PosteriorResidual(GUIDANCE, 1).coefficients(SCHEDULE, t)
    expected = gain * precision.sqrt() * SCHEDULE.sigma(t) / SCHEDULE.alpha(t)
    torch.testing.assert_close(chi, expected)


def test_takes_five_samples_a_particle_as_an_edit_does() -> None:
    prior = ClosedForm()
    rule = PosteriorResidual(DualGuidance(7.5, 1.5))
    conditioning = Conditioning("A", "", "", IMAGE)
    ScoreDistillation(rule, Constant())(prior, X, SOURCE, conditioning, NOISE, torch.tensor(300))
    assert (prior.calls, prior.samples) == (1, 5 * len(X))


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="stride must be a whole number of at least 1, got 0"):
        PosteriorResidual(GUIDANCE, 0)
    with pytest.raises(ValueError, match="step must be one of official, exact, got 'half'"):
        PosteriorResidual(GUIDANCE, 2, "half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="t must be at least the stride, 5, got 4"):
        residual(PosteriorResidual(GUIDANCE, 5), 4)
    PosteriorResidual(GUIDANCE, 5).check(UniformTimesteps(5, 500))
    with pytest.raises(ValueError, match="low must be at least 5 for PosteriorResidual, got 4"):
        PosteriorResidual(GUIDANCE, 5).check(UniformTimesteps(4, 500))
    with pytest.raises(ValueError, match="source must be the clean source particles"):
        ScoreDistillation(PosteriorResidual(GUIDANCE), Constant())(
            ClosedForm(), X, None, CONDITIONING, NOISE, torch.tensor(300)
        )
