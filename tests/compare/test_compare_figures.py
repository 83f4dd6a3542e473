"""Numbers as text."""

import math

import pytest

from csd_lab.compare.figures import difference_text, fixed, mean_text
from csd_lab.compare.statistics import Estimate


def around(mean, half):
    return Estimate(mean, mean - half, mean + half, 3, 3)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (around(22.7125, 1.381), "22.7 ± 1.4"),
        (around(0.0039, 0.00026), "0.00390 ± 0.00026"),
        (around(12345.6, 432.1), "12346 ± 432"),
        (around(0.5, 0.0996), "0.50 ± 0.10"),
        (around(1.0, 0.0), "1.000 ± 0.000"),
        (around(-3.14159, 0.25), "−3.14 ± 0.25"),
        (Estimate(0.123456, math.nan, math.nan, 1, 1), "0.1235"),
        (Estimate(math.nan, math.nan, math.nan, 0, 0), "–"),
    ],
)
def test_means_have_two_digits_of_their_interval(estimate, text):
    assert mean_text(estimate) == text


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.31, -0.04, 0.66, 5, 5), "+0.31 [−0.04, +0.66]"),
        (Estimate(-1.0, -1.0, -1.0, 5, 5), "−1.000"),
        (Estimate(0.0, -0.2, 0.2, 5, 5), "0.00 [−0.20, +0.20]"),
        (Estimate(2.5, math.nan, math.nan, 1, 1), "+2.500"),
    ],
)
def test_differences_have_signs(estimate, text):
    assert difference_text(estimate) == text


def test_halves_are_rounded_away_from_zero_and_zero_has_no_sign():
    assert fixed(0.125, 2) == "0.13"
    assert fixed(-2.5, 0) == "−3"
    assert fixed(-0.001, 2) == "0.00"
