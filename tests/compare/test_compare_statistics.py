"""Means, intervals and fronts against scipy, closed forms and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from csd_lab.compare import statistics as s

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30)


def scenes(values):
    return {(i,): (v, 1) for i, v in enumerate(values)}


@given(VALUES)
def test_students_interval_is_that_of_scipy(values):
    estimate = s.student_estimate(scenes(values))
    scale = stats.sem(values)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), scale or 1e-300)
    assert estimate.low == pytest.approx(low, rel=1e-9, abs=1e-9)
    assert estimate.high == pytest.approx(high, rel=1e-9, abs=1e-9)
    assert estimate.scenes == estimate.runs == len(values)


def test_students_interval_by_hand():
    """1, 2, 3: mean 2, standard error 1 / sqrt 3, t_2 = 4.303."""
    estimate = s.student_estimate(scenes([1.0, 2.0, 3.0]))
    assert estimate.mean == 2.0
    assert estimate.half == pytest.approx(4.302652729911275 / math.sqrt(3))


@pytest.mark.parametrize("estimate", [s.student_estimate, s.bootstrap_estimate])
def test_one_scene_has_a_mean_and_no_interval(estimate):
    one, none = estimate({(0,): (3.0, 4)}), estimate({})
    assert (one.mean, one.scenes, one.runs) == (3.0, 1, 4)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(none.mean)
    assert none.scenes == 0


def test_the_bootstrap_agrees_with_scipys():
    values = np.random.default_rng(1).exponential(size=14)
    estimate = s.bootstrap_estimate(scenes(values))
    level = 1 - 2 * s.levels(14).tail
    reference = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=100_000,
        method="percentile",
        confidence_level=level,
        rng=np.random.default_rng(2),
    ).confidence_interval
    spread = values.std() / math.sqrt(14)
    assert estimate.low == pytest.approx(reference.low, abs=0.1 * spread)
    assert estimate.high == pytest.approx(reference.high, abs=0.1 * spread)


def test_the_tail_expands_the_percentiles_as_student_expands_the_normal():
    for n in (3, 10, 100):
        expanded = stats.norm.cdf(-math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
        assert s.levels(n).tail == pytest.approx(expanded)
    assert s.levels(10**5).tail == pytest.approx(0.025, abs=1e-5)
    with pytest.raises(ValueError, match="at least 2"):
        s.levels(1)


def test_bootstrap_intervals_cover_as_told():
    """From ENOUGH scenes on, 93 % of intervals or more hold the mean; plain percentiles do not."""
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((1500, s.ENOUGH))
    estimates = [s.bootstrap_estimate(scenes(v)) for v in samples]
    covered = np.mean([e.low <= 0 <= e.high for e in estimates])
    plain = np.quantile(samples[:, s.draws(s.ENOUGH)].mean(2), [0.025, 0.975], axis=1)
    assert 0.92 <= covered <= 0.96
    assert np.mean((plain[0] <= 0) & (plain[1] >= 0)) < 0.9


def test_draws_are_uniform_and_independent():
    draws = s.draws(7)
    assert draws.shape == (s.RESAMPLES, 7)
    assert stats.chisquare(np.bincount(draws.ravel(), minlength=7)).pvalue > 1e-3
    pairs = np.bincount(draws[:, 0] * 7 + draws[:, 1], minlength=49)
    assert stats.chisquare(pairs).pvalue > 1e-3
    assert np.abs(np.corrcoef(draws.T) - np.eye(7)).max() < 0.06


def test_draws_are_a_plain_hash_of_their_place():
    """Murmur3's finaliser in whole numbers without a width."""

    def hashed(place):
        h = (place + 1) * 0x9E3779B9 % 2**32
        h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
        h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
        return h ^ h >> 16

    places = range(5 * s.RESAMPLES)
    assert s.draws(5).ravel().tolist() == [hashed(place) * 5 // 2**32 for place in places]


def test_runs_of_a_scene_count_once():
    """Three seeds of one scene and one of another: the mean is of two scenes, not of four runs."""
    means = s.scene_means([((0,), 1.0), ((0,), 2.0), ((0,), 3.0), ((1,), 10.0)])
    assert means == {(0,): (2.0, 3), (1,): (10.0, 1)}
    assert s.student_estimate(means)[0] == 6.0
    assert s.student_estimate(means)[3:] == (2, 4)


def test_undefined_values_are_left_out():
    means = s.scene_means([((0,), math.nan), ((1,), 2.0), ((1,), math.inf)])
    assert means == {(1,): (2.0, 1)}


def test_pairing_removes_what_differs_between_scenes():
    cells = [(scene, seed) for scene in range(8) for seed in range(2)]
    base = {cell: 100.0 * cell[0] + cell[1] for cell in cells}
    ours = {cell: value + 0.5 for cell, value in base.items()}
    paired = s.paired_scenes(ours, base, {cell: cell[:1] for cell in cells})
    estimate = s.bootstrap_estimate(paired)
    assert estimate == (0.5, 0.5, 0.5, 8, 16)


def test_only_cells_that_both_have_are_compared():
    scene = {(0, 0): (0,), (0, 1): (0,), (1, 0): (1,)}
    ours = {(0, 0): 1.0, (0, 1): 50.0, (1, 0): 3.0}
    paired = s.paired_scenes(ours, {(0, 0): 0.0, (2, 0): 9.0, (1, 0): 1.0}, scene)
    assert paired == {(0,): (1.0, 1), (1,): (2.0, 1)}


POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25)


@given(POINTS, st.booleans(), st.booleans())
def test_the_front_is_what_nothing_beats(points, higher_x, higher_y):
    def gain(point):
        return (point[0] if higher_x else -point[0], point[1] if higher_y else -point[1])

    def beaten(point):
        a, b = gain(point)
        others = [gain(other) for other in points]
        return any(x >= a and y >= b and (x, y) != (a, b) for x, y in others)

    front = s.pareto_front(points, (higher_x, higher_y))
    assert sorted(front) == [i for i, point in enumerate(points) if not beaten(point)]


def test_undefined_points_are_on_no_front():
    assert s.pareto_front([(math.nan, 9.0), (1.0, 1.0)], (True, True)) == [1]
