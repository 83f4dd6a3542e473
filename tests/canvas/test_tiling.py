"""Tiles: what a local map gives tile by tile is what it gives in one piece."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from csd_lab.canvas import Tiling

REACH = 3  # cells that the maps below look at, to each side
KERNEL = torch.rand(1, 1, 2 * REACH + 1, 2 * REACH + 1, generator=torch.Generator().manual_seed(0))
KERNEL = KERNEL / KERNEL.sum()


def same(x: Tensor) -> Tensor:
    """A map of cells that looks REACH cells around, with zeros beyond the edges."""
    return conv2d(x.transpose(0, 1), KERNEL.to(x), padding=REACH).transpose(0, 1)


def down(x: Tensor) -> Tensor:
    return same(avg_pool2d(x, 2))


def up(x: Tensor) -> Tensor:
    return interpolate(same(x), scale_factor=4, mode="nearest")


MAPS = {"same": (same, 1, 1), "down": (down, 2, 1), "up": (up, 1, 4)}
SIDES = st.integers(1, 70)


def image(height: int, width: int, seed: int = 0, channels: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, channels, height, width, generator=generator, dtype=torch.float64)


def around(code, x: Tensor, size: int, scale: int) -> Tensor:
    """A local map of a ring in one piece: some of each end is put beyond the other."""
    turns = -(-REACH // (x.shape[3] // size))
    padded = torch.cat([x] * (2 * turns + 1), dim=3)
    start = turns * scale * (x.shape[3] // size)
    return code(padded)[..., start : start + scale * (x.shape[3] // size)]


@given(SIDES, SIDES, st.integers(13, 40), st.sampled_from(sorted(MAPS)), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_local_map_in_tiles_is_the_map_in_one_piece(height, width, tile, name, wrap) -> None:
    code, size, scale = MAPS[name]
    x = image(size * height, size * width)
    tiling = Tiling(height, width, tile, overlap=12, blend=5, wrap=wrap)
    expected = around(code, x, size, scale) if wrap else code(x)
    result = tiling.apply(code, x, 2, scale)
    assert result.shape == (1, 2, scale * height, scale * width)
    torch.testing.assert_close(result, expected)


@given(SIDES, SIDES, st.integers(13, 40), st.booleans())
@settings(max_examples=80, deadline=None)
def test_tiles_have_a_bounded_area_and_lie_inside(height, width, tile, wrap) -> None:
    tiling = Tiling(height, width, tile, overlap=12, blend=5, wrap=wrap)
    for row, column in tiling:
        assert (row.stop - row.start) * (column.stop - column.start) <= tile**2
        assert 0 <= row.start < row.stop <= height
        if not wrap:
            assert 0 <= column.start < column.stop <= width
    assert (len(tiling) == 1) == (height * (width + 12 * wrap) <= tile**2)


def test_weights_add_up_where_tiles_differ() -> None:
    """A map that knows its tile still gives a mean over tiles, which is smooth over the cuts."""
    tiles: list[float] = []

    def own(x: Tensor) -> Tensor:
        tiles.append(float(len(tiles) % 2))
        return torch.full_like(x, tiles[-1])

    result = Tiling(20, 400, 64).apply(own, torch.zeros(1, 1, 20, 400), 1, 1)
    assert len(tiles) >= 2
    assert result.min() == 0
    assert result.max() == 1
    assert result.diff(dim=3).abs().max() <= 1 / 8 + 1e-6
    ones = Tiling(150, 130, 64, wrap=True).apply(torch.ones_like, torch.zeros(1, 1, 150, 130), 1, 1)
    torch.testing.assert_close(ones, torch.ones(1, 1, 150, 130))


def test_a_turned_ring_gives_the_turned_result() -> None:
    tiling = Tiling(30, 90, 40, overlap=12, blend=5, wrap=True)
    x = image(30, 90)
    for shift in (1, 17, 45):
        turned = tiling.apply(same, x.roll(shift, 3), 2, 1)
        torch.testing.assert_close(turned, tiling.apply(same, x, 2, 1).roll(shift, 3))


@pytest.mark.parametrize("wrap", [False, True])
def test_the_gradient_is_that_of_the_map_in_one_piece(wrap: bool) -> None:
    x = image(30, 50).requires_grad_()
    weights = image(120, 200, seed=1)
    tiling = Tiling(30, 50, 20, overlap=12, blend=5, wrap=wrap)
    whole = around(up, x, 1, 4) if wrap else up(x)
    (expected,) = torch.autograd.grad((whole * weights).sum(), x)
    (gradient,) = torch.autograd.grad((tiling.apply(up, x, 2, 4) * weights).sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_what_lies_across_a_tiles_edge_is_not_seen_through_the_blend() -> None:
    """Elements within (overlap - blend) / 2 cells of an inner edge of a tile have weight 0."""

    def spoilt(x: Tensor) -> Tensor:
        bad = x.clone()
        bad[..., :10] = bad[..., -10:] = 100
        return bad

    x = torch.zeros(1, 1, 40, 300)
    result = Tiling(40, 300, 60, overlap=32, blend=8).apply(spoilt, x, 1, 1)
    assert not result[..., 12:-12].any()


@pytest.mark.parametrize(
    "arguments", [{"height": 0}, {"tile": 32}, {"overlap": 4}, {"blend": 0}, {"width": -1}]
)
def test_wrong_tilings_are_refused(arguments) -> None:
    legal = {"height": 10, "width": 10, "tile": 64, "overlap": 32, "blend": 8}
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f"tile > overlap >= blend >= 1, got .*{name}={value}"):
        Tiling(**(legal | arguments))


def test_images_of_another_size_are_refused() -> None:
    tiling = Tiling(10, 20, 64)
    for shape in ((1, 3, 10, 21), (2, 3, 10, 20), (1, 3, 20, 20), (1, 3, 5, 10)):
        with pytest.raises(ValueError, match=r"image must be \(1, C, k 10, k 20\)"):
            tiling.apply(same, torch.zeros(shape), 3, 1)


def test_pad_is_what_around_does() -> None:
    """The reference of these tests against PyTorch's own circular padding."""
    x = image(9, 20, channels=1)
    padded = pad(pad(x, (REACH, REACH, 0, 0), mode="circular"), (0, 0, REACH, REACH))
    torch.testing.assert_close(around(same, x, 1, 1), conv2d(padded, KERNEL.to(x)))
