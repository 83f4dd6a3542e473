"""Regions: masks that share an image, and weights equal to the official tables."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from csd_lab.canvas import (
    Box,
    Mask,
    Region,
    Strip,
    WindowGrid,
    region_masks,
    window_weights,
)

GOLDEN = np.load(Path(__file__).parent / "data" / "region_weights.npz")
SHARES = st.floats(0, 1, width=32)


@st.composite
def drawn(draw: st.DrawFn) -> Region:
    kind = draw(st.sampled_from(["box", "strip", "mask"]))
    if kind == "mask":
        shape = (draw(st.integers(1, 40)), draw(st.integers(1, 40)))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        return Mask(torch.rand(shape, generator=generator).round())
    if kind == "strip":
        count = draw(st.integers(1, 6))
        return Strip(draw(st.integers(0, count - 1)), count)
    top, bottom = sorted(draw(st.lists(SHARES, min_size=2, max_size=2, unique=True)))
    left, right = draw(st.lists(SHARES, min_size=2, max_size=2, unique=True))
    return Box(top, left, bottom, right)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_weights_of_strips_are_the_official_tables(count: int) -> None:
    grid = WindowGrid(64, 240, (64, 64), (16, 16))
    masks = region_masks([Strip(k, count) for k in range(count)], 64, 240)
    weights = window_weights(masks, grid, torch.arange(len(grid)))
    assert weights.shape == (12, count + 1)
    expected = torch.from_numpy(GOLDEN[f"WEIGHTS_{count}"]).float()
    torch.testing.assert_close(weights[:, :-1], expected, rtol=0, atol=1e-6)
    assert torch.equal(weights[:, :-1] == 0, expected == 0)
    assert not weights[:, -1].any()


@given(st.integers(1, 7), st.integers(65, 300))
@settings(max_examples=40, deadline=None)
def test_weights_of_strips_are_their_closed_form(count: int, width: int) -> None:
    grid = WindowGrid(70, width, (64, 64), (16, 16))
    masks = region_masks([Strip(k, count) for k in range(count)], 70, width)
    weights = window_weights(masks, grid, torch.arange(len(grid)))
    for row, (_, start) in zip(weights, grid.origins.tolist(), strict=True):
        for k in range(count):
            left, right = k * width / count, (k + 1) * width / count
            share = max(0.0, min(start + 64, right) - max(start, left)) / 64
            assert row[k].item() == pytest.approx(share, abs=1e-5)


@given(
    st.lists(drawn(), max_size=4),
    st.tuples(st.integers(1, 40), st.integers(1, 50)),
    st.floats(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_masks_share_the_canvas(
    regions: list[Region], size: tuple[int, int], softness: float
) -> None:
    masks = region_masks(regions, *size, transition=softness * min(size), wrap=True)
    assert masks.shape == (len(regions) + 1, *size)
    assert masks.min() >= 0
    torch.testing.assert_close(masks.sum(0), torch.ones(size), rtol=0, atol=1e-5)
    grid = WindowGrid(*size, (8, 8), (5, 3), wrap=True)
    weights = window_weights(masks, grid, torch.arange(len(grid)))
    for index, row in enumerate(weights):
        window = grid.crop(masks[None], torch.tensor([index]))[0]
        torch.testing.assert_close(row, window.mean((1, 2)))
        assert torch.equal(row == 0, ~window.flatten(1).any(1))


@given(st.lists(SHARES, min_size=4, max_size=4, unique=True), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_a_box_covers_its_area_at_any_size(sides: list[float], length: int) -> None:
    (top, bottom), (left, right) = sorted(sides[:2]), sorted(sides[2:])
    mask = Box(top, left, bottom, right).mask(length, 2 * length)
    assert mask.mean().item() == pytest.approx((bottom - top) * (right - left), abs=1e-6)
    inverse = Box(top, right, bottom, left).mask(length, 2 * length)
    band = Box(top, 0, bottom, 1).mask(length, 2 * length)
    torch.testing.assert_close(mask + inverse, band)


def test_a_box_on_latents_is_the_mean_of_the_box_on_pixels() -> None:
    box = Box(0.11, 0.23, 0.57, 0.91)
    pixels = box.mask(64, 128)
    latents = pixels.unflatten(0, (8, 8)).unflatten(2, (16, 8)).mean((1, 3))
    torch.testing.assert_close(box.mask(8, 16), latents)
    torch.testing.assert_close(Mask(pixels).mask(8, 16), latents)


@given(st.tuples(*[st.integers(1, 30)] * 4))
@settings(max_examples=60, deadline=None)
def test_a_drawn_mask_keeps_its_area_at_any_size(sizes: tuple[int, int, int, int]) -> None:
    image = torch.rand(sizes[:2], generator=torch.Generator().manual_seed(0))
    mask = Mask(image).mask(*sizes[2:])
    assert mask.mean().item() == pytest.approx(image.mean().item(), abs=1e-5)
    assert Mask(torch.ones(sizes[:2])).mask(*sizes[2:]).min().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("transition", [2, 5, 8, 7.5])
def test_a_soft_border_is_a_ramp_of_its_width(transition: float) -> None:
    left, right, background = region_masks([Strip(0, 2), Strip(1, 2)], 40, 40, transition)
    centres = torch.arange(40) - 19.5  # distance from the border
    torch.testing.assert_close(right[0], (centres / transition + 0.5).clamp(0, 1))
    torch.testing.assert_close(left, right.flip(1))
    assert not background.any()


def test_soft_borders_of_a_ring_go_over_its_join() -> None:
    left, right, _ = region_masks([Strip(0, 2), Strip(1, 2)], 8, 40, 8, wrap=True)
    torch.testing.assert_close(left, left.flip(1).roll(20, 1))
    torch.testing.assert_close(left[0, :4] + right[0, :4], torch.ones(4))
    assert 0.5 < left[0, 0] < 0.6
    assert 0.4 < left[0, 39] < 0.5
    open_left, _, _ = region_masks([Strip(0, 2), Strip(1, 2)], 8, 40, 8)
    assert open_left[0, 0] == 1


def test_overlapping_regions_share_and_the_background_is_the_rest() -> None:
    masks = region_masks([Box(right=0.5), Box(left=0.25, right=0.75)], 4, 8)
    expected = [[1, 1, 0.5, 0.5, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 1, 1, 0, 0], [0] * 6 + [1, 1]]
    assert torch.equal(masks[:, 0], torch.tensor(expected))
    assert torch.equal(masks, masks[:, :1].expand(-1, 4, -1))


def repeated(mask: Tensor, canvas: tuple[int, int], scale: int) -> Tensor:
    """A mask of an image's pixels, its last row and column repeated, as means over latents."""
    beyond = [scale * length - have for length, have in zip(canvas, mask.shape, strict=True)]
    whole = pad(mask[None, None], (0, beyond[1], 0, beyond[0]), mode="replicate")
    return avg_pool2d(whole, scale)[0, 0]


@given(
    st.integers(1, 50), st.integers(1, 50), st.sampled_from([1, 2, 8]), st.integers(1, 4), st.data()
)
@settings(max_examples=100, deadline=None)
def test_regions_lie_on_the_image_and_go_on_beyond_it(
    height: int, width: int, scale: int, latents: int, data: st.DataObject
) -> None:
    multiple = scale * latents
    canvas = (-(-height // multiple) * latents, -(-width // multiple) * latents)
    visible = (height / (scale * canvas[0]), width / (scale * canvas[1]))
    rows, columns = (
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))
        for n in (height, width)
    )
    box = Box(rows[0] / height, columns[0] / width, rows[1] / height, columns[1] / width)
    drawn = torch.rand(height, width, generator=torch.Generator().manual_seed(width))
    for region, pixels in ((box, box.mask(height, width)), (Mask(drawn), drawn)):
        found = region_masks([region], *canvas, visible=visible)[0]
        torch.testing.assert_close(found, repeated(pixels, canvas, scale), rtol=0, atol=1e-5)


def test_regions_of_a_photo_of_712_x_1000_on_a_canvas_of_768_x_1024() -> None:
    photo = {"height": 96, "width": 128, "visible": (712 / 768, 1000 / 1024)}
    drawn = torch.zeros(4, 10)
    drawn[:, 5:] = 1
    half = torch.tensor([0.0] * 62 + [0.5] + [1.0] * 65)  # from pixel 500 on
    for right in (Box(left=0.5), Strip(1, 2), Mask(drawn)):
        mask = region_masks([right], **photo)[0]
        torch.testing.assert_close(mask, half.expand(96, -1))
    soft = region_masks([Box(left=0.5)], **photo, transition=8)[0, 0]
    torch.testing.assert_close(soft[:125], 1 - soft[:125].flip(0))  # a ramp about pixel 500
    assert (soft[125:] == 1).all()
    low = region_masks([Box(top=0.95)], **photo)[0]
    expected = torch.tensor([0.0] * 84 + [0.45] + [1.0] * 11)
    torch.testing.assert_close(low[:, 0], expected, rtol=0, atol=1e-6)
    high = region_masks([Box(bottom=0.95, right=0.5)], **photo)[0]
    torch.testing.assert_close(high, torch.outer(1 - expected, 1 - half), rtol=0, atol=1e-6)


def test_a_ring_is_extended_at_its_lower_border_alone() -> None:
    over = [Box(left=0.9, right=0.1)]
    extended = region_masks(over, 96, 128, 8, wrap=True, visible=(712 / 768, 1.0))
    assert torch.equal(extended, region_masks(over, 96, 128, 8, wrap=True))
    torch.testing.assert_close(extended, extended.flip(2))
    low = region_masks([Box(0.5, 0.9, 1, 0.1)], 96, 128, wrap=True, visible=(712 / 768, 1.0))[0]
    expected = torch.outer(torch.tensor([0.0] * 44 + [0.5] + [1.0] * 51), low[-1])
    torch.testing.assert_close(low, expected, rtol=0, atol=1e-6)
    assert low[-1].sum().item() == pytest.approx(0.2 * 128, abs=1e-4)


def test_without_regions_all_is_background() -> None:
    assert torch.equal(region_masks([], 3, 5), torch.ones(1, 3, 5))


def half(value: float) -> Tensor:
    return torch.tensor([[value, 0.5]])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Box(left=-0.1), r"shares of the image, from 0 to 1, got 0\.0, -0\.1"),
        (lambda: Box(right=100), "shares of the image, from 0 to 1, got .*100"),
        (lambda: Box(top=0.5, bottom=0.5), "must not be empty"),
        (lambda: Box(left=0.5, right=0.5), "must not be empty"),
        (lambda: Strip(2, 2), "index must be from 0 to count - 1 = 1, got 2"),
        (lambda: Strip(-1, 2), "index must be from 0 to count - 1 = 1, got -1"),
        (lambda: Mask(torch.ones(3, 4, 4)), r"a mask must be \(H, W\).*got \(3, 4, 4\)"),
        (lambda: Mask(half(255)), r"a mask must be in \[0, 1\], got values from 0.5 to 255"),
        (lambda: Mask(half(float("nan"))), r"a mask must be in \[0, 1\]"),
        (lambda: region_masks([], 8, 20, -1), "transition must be from 0 .* 8 latents, got -1"),
        (lambda: region_masks([], 8, 20, 9), "transition must be from 0 .* 8 latents, got 9"),
        (lambda: region_masks([Box(left=0.9, right=0.1)], 8, 8), "left must be less than right"),
        (lambda: region_masks([], 8, 8, visible=(0, 1)), r"visible must be .* got \(0, 1\)"),
        (lambda: region_masks([], 8, 8, visible=(1, 1.5)), r"at most 1, .* got \(1, 1\.5\)"),
        (lambda: region_masks([], 8, 8, wrap=True, visible=(1, 0.5)), "1 along the width of a rin"),
    ],
)
def test_wrong_regions_are_refused(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
