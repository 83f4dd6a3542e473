"""A ring stays a ring when it is fitted to a prior, and when it comes back."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from csd_lab.data import Fit

CASES = [
    ((50, 1000), 64, None),
    ((50, 300), 64, 64),
    ((96, 96), 64, 256),
    ((40, 1000), 8, 16),
    ((64, 512), 16, None),
]


def ring(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(width)
    return torch.rand(1, 3, height, width, generator=generator)


@pytest.mark.parametrize(("size", "multiple", "resolution"), CASES)
def test_turning_the_ring_first_or_last_is_the_same(
    size: tuple[int, int], multiple: int, resolution: int | None
) -> None:
    """By steps that are whole columns on both sides; so the join is a place like any other,
    up to how precisely interpolation knows a place far from 0.
    """
    frames = ring(*size)
    fit = Fit(size, multiple, resolution, wrap=True)
    common = math.gcd(size[1], fit.fitted[1])
    there, here = size[1] // common, fit.fitted[1] // common
    fitted = fit.apply(frames)
    assert torch.allclose(fit.apply(frames.roll(there, -1)), fitted.roll(here, -1), atol=3e-4)
    back = fit.restore(fitted, frames)
    turned = fit.restore(fitted.roll(here, -1), frames.roll(there, -1))
    assert back.shape == frames.shape
    assert torch.allclose(turned, back.roll(there, -1), atol=3e-4)


@given(st.integers(1, 60), st.integers(1, 200), st.sampled_from([1, 8, 16, 64]))
@settings(max_examples=60, deadline=None)
def test_a_ring_is_never_extended_sideways(height: int, width: int, multiple: int) -> None:
    fit = Fit((height, width), multiple, wrap=True)
    assert fit.fitted[0] - height in range(multiple)
    assert abs(fit.fitted[1] - width) <= multiple / 2 or fit.fitted[1] == multiple
    assert all(side % multiple == 0 for side in fit.fitted)
    frames = ring(height, width)
    assert fit.apply(frames).shape[2:] == fit.fitted
    if width % multiple == 0:
        assert torch.equal(fit.restore(fit.apply(frames), frames), frames)


def test_a_smooth_ring_has_no_seam_after_resizing() -> None:
    angle = torch.arange(1000) / 1000 * 2 * math.pi
    frames = (0.5 + 0.4 * torch.sin(3 * angle)).expand(1, 3, 64, 1000)
    steps = {}
    for wrap in (False, True):
        fitted = Fit((64, 1000), 64, 64, wrap=wrap).apply(frames)[0, 0, 30]
        steps[wrap] = (fitted.roll(-1) - fitted).abs()
    assert steps[True][-1] < 1.05 * steps[True].max()
    assert (steps[True][-1] - 0.4 * 3 * 2 * math.pi / 1024).abs() < 1e-4


def test_the_sharp_source_comes_back_where_nothing_was_edited() -> None:
    frames = ring(50, 997)
    fit = Fit((50, 997), 64, detail="residual", wrap=True)
    assert torch.allclose(fit.restore(fit.apply(frames), frames), frames, atol=1e-6)
