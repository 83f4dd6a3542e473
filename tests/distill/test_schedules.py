"""Facts about noise levels, timesteps and weights."""

from collections import Counter

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from csd_lab.distill import (
    AlphaSigmaSquared,
    AnnealedTimesteps,
    Constant,
    NoiseToSignal,
    SigmaSquared,
    UniformTimesteps,
    VariancePreserving,
)

SCHEDULE = VariancePreserving.scaled_linear()
T = torch.tensor(300)


def test_variance_is_preserved_and_noise_grows() -> None:
    levels = [(SCHEDULE.alpha(t), SCHEDULE.sigma(t)) for t in torch.arange(0, 1000, 50)]
    for a, b in levels:
        assert a**2 + b**2 == pytest.approx(1)
    sigmas = [b.item() for _, b in levels]
    assert sigmas == sorted(sigmas)


def test_scaled_linear_by_hand() -> None:
    schedule = VariancePreserving.scaled_linear(0.01, 0.09, 3)  # betas 0.1^2, 0.2^2, 0.3^2
    abar = [0.99, 0.99 * 0.96, 0.99 * 0.96 * 0.91]
    assert schedule.num_steps == 3
    for t, expected in enumerate(abar):
        assert schedule.alpha(torch.tensor(t)) ** 2 == pytest.approx(expected)


def test_scaled_linear_is_stable_diffusions() -> None:
    """abar_999 = 0.0047 of the released scheduler; 1 - abar_179 as the official code had it."""
    assert SCHEDULE.alpha(torch.tensor(999)) ** 2 == pytest.approx(0.004660, abs=1e-6)
    assert SCHEDULE.sigma(torch.tensor(179)) ** 2 == pytest.approx(0.21435076, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_noise_that_is_added_can_be_removed(dtype) -> None:
    x, noise = torch.randn(2, 3, 4, 4).to(dtype), torch.randn(2, 3, 4, 4).to(dtype)
    x_t = SCHEDULE.add_noise(x, noise, T)
    assert x_t.dtype == dtype
    tolerance = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        SCHEDULE.remove_noise(x_t, noise, T), x, rtol=tolerance, atol=tolerance
    )


def test_between_timesteps_the_ratio_of_noise_to_signal_is_linear() -> None:
    """As of the levels to which the diffusers library's own scheduler steps."""
    scheduler = EulerDiscreteScheduler(1000, 0.00085, 0.012, "scaled_linear")
    scheduler.set_timesteps(7)
    assert any(t != t.round() for t in scheduler.timesteps)
    for t, level in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        a, b = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
        assert b / a == pytest.approx(level.item(), rel=1e-4)
        assert a**2 + b**2 == pytest.approx(1)


def test_the_fall_is_rounded() -> None:
    assert AnnealedTimesteps(0, 10, 5, steps=3).upper(1) == 8  # 8.33
    assert AnnealedTimesteps(0, 10, 5, steps=3).upper(2) == 7  # 6.67


@pytest.mark.parametrize("t", [-1, 999.5, 1000])
def test_timesteps_outside_the_schedule_are_refused(t) -> None:
    with pytest.raises(ValueError, match=rf"t must be in 0 ... 999, got {t}"):
        SCHEDULE.alpha(torch.tensor(t))


@pytest.mark.parametrize(
    "table", [torch.zeros(3), torch.ones(2, 2), torch.tensor([]), torch.tensor([1.1])]
)
def test_the_table_is_checked(table) -> None:
    with pytest.raises(ValueError, match="alphas_cumprod must be"):
        VariancePreserving(table)


def test_scaled_linear_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="0 < beta_start <= beta_end < 1"):
        VariancePreserving.scaled_linear(0.5, 0.1)


# --- timesteps ---------------------------------------------------------------------------------


def test_uniform_timesteps_are_uniform_and_within_their_bounds() -> None:
    sampler = UniformTimesteps(20, 30)
    counts = Counter(int(sampler(0, step)) for step in range(5000))
    assert set(counts) == set(range(20, 30))
    # chi^2 with 9 degrees of freedom: its 99.9 % quantile is 27.9
    assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 27.9


def test_timesteps_are_a_function_of_seed_and_step() -> None:
    sampler = UniformTimesteps(20, 501)
    t = sampler(3, 8)
    assert t.shape == ()
    assert t.dtype == torch.int64
    assert sampler(3, 8) == t
    assert len({int(sampler(seed, step)) for seed in range(4) for step in range(4)}) > 8


def test_annealed_timesteps_fall_from_high_to_final() -> None:
    sampler = AnnealedTimesteps(20, 500, 100, steps=40)
    assert [sampler.upper(step) for step in (0, 20, 40, 1000)] == [500, 300, 100, 100]
    early = [int(sampler(0, step)) for step in range(5)]
    late = [int(sampler(0, step)) for step in range(40, 400)]
    assert max(early) > 100
    assert min(late) >= 20
    assert max(late) < 100


def test_the_power_shapes_the_fall() -> None:
    sampler = AnnealedTimesteps(0, 1000, 200, steps=100, power=0.5)
    assert sampler.upper(25) == 600  # 1000 - 800 * sqrt(1/4)


@given(seed=st.integers(0, 2**32), first=st.integers(0, 10**5), count=st.integers(2, 200))
def test_timesteps_of_low_discrepancy_leave_no_wide_gap(seed: int, first: int, count: int) -> None:
    sampler = UniformTimesteps(0, 10**6, draws="low_discrepancy")
    drawn = sorted(int(sampler(seed, step)) for step in range(first, first + count))
    gaps = np.diff([0, *drawn, 10**6])
    assert gaps.max() <= 1.9 * 10**6 / count + 1


def test_timesteps_of_low_discrepancy_are_uniform_over_seeds() -> None:
    sampler = UniformTimesteps(20, 30, draws="low_discrepancy")
    counts = Counter(int(sampler(seed, 7)) for seed in range(5000))
    assert set(counts) == set(range(20, 30))
    assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 27.9


def test_annealed_timesteps_of_low_discrepancy_keep_to_their_bounds() -> None:
    sampler = AnnealedTimesteps(20, 981, 200, steps=30, draws="low_discrepancy")
    independent = AnnealedTimesteps(20, 981, 200, steps=30)
    drawn = [[int(sampler(seed, step)) for step in range(30)] for seed in range(50)]
    assert all(20 <= t < sampler.upper(step) for run in drawn for step, t in enumerate(run))
    means = [np.mean([int(independent(seed, step)) for step in range(30)]) for seed in range(50)]
    assert np.std(np.mean(drawn, axis=1)) < np.std(means) / 3


def test_draws_are_checked() -> None:
    with pytest.raises(ValueError, match="draws must be one of independent, low_discrepancy"):
        UniformTimesteps(20, 500, draws="sobol")


def test_a_range_outside_the_schedule_is_refused() -> None:
    UniformTimesteps(0, 1000).check(SCHEDULE)
    with pytest.raises(
        ValueError, match="high must be at most the schedule's 1000 steps, got 1001"
    ):
        UniformTimesteps(0, 1001).check(SCHEDULE)


@pytest.mark.parametrize(("low", "high"), [(-1, 10), (5, 5), (6, 5)])
def test_uniform_arguments_are_checked(low, high) -> None:
    with pytest.raises(ValueError, match="0 <= low < high"):
        UniformTimesteps(low, high)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"final": 20}, "low < final <= high"),
        ({"final": 501}, "low < final <= high"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"power": 0.0}, "power must be a finite number above 0"),
    ],
)
def test_annealed_arguments_are_checked(change, message) -> None:
    arguments = {"low": 20, "high": 500, "final": 100, "steps": 40} | change
    with pytest.raises(ValueError, match=message):
        AnnealedTimesteps(**arguments)


# --- weights -----------------------------------------------------------------------------------


def test_weights_by_hand() -> None:
    schedule, t = VariancePreserving(torch.tensor([0.9, 0.64])), torch.tensor(1)
    assert SigmaSquared()(schedule, t) == pytest.approx(0.36)
    assert AlphaSigmaSquared()(schedule, t) == pytest.approx(0.8 * 0.36)
    assert NoiseToSignal()(schedule, t) == pytest.approx(0.6 / 0.8)
    assert NoiseToSignal(0.5)(schedule, t) == 0.5
    assert Constant()(schedule, t) == 1
    assert Constant(2.5)(schedule, t) == 2.5
    with pytest.raises(ValueError, match="value must be a finite number, got inf"):
        Constant(float("inf"))
    with pytest.raises(ValueError, match="most must be a finite number above 0, got 0"):
        NoiseToSignal(0.0)
