"""Windows: where they lie, and that crops, sums and means equal naive loops."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from csd_lab.canvas import WindowGrid

VIEWS = np.load(Path(__file__).parent / "data" / "region_weights.npz")


class Case(NamedTuple):
    grid: WindowGrid
    height: int
    width: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 30))
    window = draw(st.tuples(st.integers(1, 9), st.integers(1, 12)))
    stride = tuple(draw(st.integers(1, side)) for side in window)
    grid = WindowGrid(height, width, window, stride, draw(st.booleans()))
    return Case(grid, height, width)


def some_ids(grid: WindowGrid, seed: int, count: int) -> Tensor:
    return torch.randint(len(grid), (count,), generator=torch.Generator().manual_seed(seed))


def cells(grid: WindowGrid, index: int) -> list[tuple[int, int, int, int]]:
    """For each place in a window: its row and column there, and on the canvas."""
    row, column = grid.origins[index].tolist()
    return [
        (i, j, row + i, (column + j) % grid.width)
        for i in range(grid.window[0])
        for j in range(grid.window[1])
    ]


@given(cases())
@settings(max_examples=150, deadline=None)
def test_every_latent_is_covered_and_windows_lie_inside(case: Case) -> None:
    grid = case.grid
    assert grid.window[0] <= case.height
    assert grid.window[1] <= case.width
    assert grid.coverage(torch.arange(len(grid))).min() >= 1
    last = torch.tensor([case.height - grid.window[0], case.width - 1])
    if not grid.wrap:
        last[1] = case.width - grid.window[1]
    assert bool((grid.origins >= 0).all() and (grid.origins <= last).all())
    assert len(set(map(tuple, grid.origins.tolist()))) == len(grid)


@given(cases())
@settings(max_examples=100, deadline=None)
def test_windows_begin_at_multiples_of_the_stride_but_for_the_last(case: Case) -> None:
    grid = case.grid
    for starts, length, window, stride in (
        (grid.rows, case.height, grid.window[0], grid.stride[0]),
        (grid.columns, case.width, grid.window[1], grid.stride[1]),
    ):
        if grid.wrap and starts is grid.columns:
            gaps = np.diff([*starts, length + starts[0]])
            assert len(starts) == -(-length // stride)
            assert gaps.max() <= stride
            assert gaps.max() - gaps.min() <= 1
        else:
            regular = list(range(0, length - window + 1, stride))
            assert list(starts[: len(regular)]) == regular
            assert list(starts[len(regular) :]) in ([], [length - window])


@given(cases(), st.integers(0, 10**6), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_crops_and_coverage_equal_naive_loops(case: Case, seed: int, count: int) -> None:
    grid, ids = case.grid, some_ids(case.grid, seed, count)
    canvas = torch.randn(1, 2, case.height, case.width)
    expected = torch.zeros(count, 2, *grid.window)
    covered = torch.zeros(case.height, case.width, dtype=torch.int64)
    for place, index in enumerate(ids.tolist()):
        for i, j, row, column in cells(grid, index):
            expected[place, :, i, j] = canvas[0, :, row, column]
            covered[row, column] += 1
    assert torch.equal(grid.crop(canvas, ids), expected)
    assert torch.equal(grid.coverage(ids), covered)


@given(cases(), st.integers(0, 10**6), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_the_gradient_through_crops_is_their_sum_and_its_average_their_mean(
    case: Case, seed: int, count: int
) -> None:
    grid, ids = case.grid, some_ids(case.grid, seed, count)
    canvas = torch.zeros(1, 2, case.height, case.width, requires_grad=True)
    gradients = torch.randn(count, 2, *grid.window)
    grid.crop(canvas, ids).backward(gradients)
    assert canvas.grad is not None
    held: dict[tuple[int, int], list[Tensor]] = {}
    for gradient, index in zip(gradients, ids.tolist(), strict=True):
        for i, j, row, column in cells(grid, index):
            held.setdefault((row, column), []).append(gradient[:, i, j])
    total, mean = torch.zeros_like(canvas), torch.zeros_like(canvas)
    for (row, column), parts in held.items():
        total.data[0, :, row, column] = torch.stack(parts).sum(0)
        mean.data[0, :, row, column] = torch.stack(parts).mean(0)
    torch.testing.assert_close(canvas.grad, total.detach())
    torch.testing.assert_close(grid.average(canvas.grad, ids), mean.detach())
    torch.testing.assert_close(grid.lay(gradients, ids), total.detach())


def test_the_gradient_of_crops_passes_gradcheck() -> None:
    grid = WindowGrid(5, 7, (3, 4), (2, 3), wrap=True)
    canvas = torch.randn(1, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([0, 5, 2, 5])
    assert torch.autograd.gradcheck(lambda x: grid.crop(x, ids), (canvas,))


@pytest.mark.parametrize("name", [name for name in VIEWS.files if name.startswith("views_")])
def test_windows_are_the_official_ones_and_one_at_each_edge_they_miss(name: str) -> None:
    _, size, stride = name.split("_")
    height, width = (int(side) // 8 for side in size.split("x"))
    step = int(stride[1:])
    grid = WindowGrid(height, width, (64, 64), (step, step))
    corners = torch.cat([grid.origins, grid.origins + torch.tensor(grid.window)], dim=1)
    ours = {(top, bottom, left, right) for top, left, bottom, right in corners.tolist()}
    official = set(map(tuple, VIEWS[name].astype(int).tolist()))
    assert official <= ours
    fits = all(side >= 64 and (side - 64) % step == 0 for side in (height, width))
    assert (ours == official) == fits
    for top, bottom, left, right in ours - official:
        assert bottom == height or right == width or top % step == left % step == 0
        assert max(bottom, right) <= max(height, width)


def test_a_small_image_is_one_window_of_its_own_size() -> None:
    grid = WindowGrid(48, 40, (64, 64), (16, 16))
    assert grid.window == (48, 40)
    assert grid.origins.tolist() == [[0, 0]]
    canvas = torch.randn(1, 4, 48, 40)
    assert torch.equal(grid.crop(canvas, torch.tensor([0])), canvas)


def test_a_small_ring_is_seen_whole_from_several_starts() -> None:
    grid = WindowGrid(64, 40, (64, 64), (16, 16), wrap=True)
    assert grid.origins.tolist() == [[0, 0], [0, 13], [0, 26]]
    canvas = torch.randn(1, 4, 64, 40)
    for index, shift in enumerate((0, 13, 26)):
        window = grid.crop(canvas, torch.tensor([index]))
        assert torch.equal(window, canvas.roll(-shift, 3))


def test_a_window_over_the_join_of_a_ring_is_in_one_piece() -> None:
    grid = WindowGrid(4, 240, (4, 64), (4, 16), wrap=True)
    assert len(grid) == 15
    canvas = torch.arange(240.0).expand(1, 1, 4, 240)
    last = grid.crop(canvas, torch.tensor([14]))[0, 0, 0]
    assert last.tolist() == [*range(224, 240), *range(48)]


def test_many_overlapping_windows_add_up_in_one_order() -> None:
    grid = WindowGrid(40, 90, (32, 32), (4, 4))
    ids = torch.arange(len(grid))
    gradients = torch.randn(len(grid), 4, 32, 32)
    sums = []
    for _ in range(3):
        canvas = torch.zeros(1, 4, 40, 90, requires_grad=True)
        grid.crop(canvas, ids).backward(gradients)
        sums.append(canvas.grad)
    assert all(torch.equal(one, sums[0]) for one in sums)


def test_no_windows_give_an_empty_crop_with_a_gradient() -> None:
    grid = WindowGrid(8, 8, (4, 4), (2, 2))
    canvas = torch.ones(1, 3, 8, 8, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    crop = grid.crop(canvas, none)
    assert crop.shape == (0, 3, 4, 4)
    crop.sum().backward()
    assert canvas.grad is not None
    assert not canvas.grad.any()
    assert not grid.average(canvas.grad, none).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"height": 0}, "height must be a whole number of at least 1; got 0"),
        ({"width": 2.0}, r"width must be a whole number of at least 1; got 2\.0"),
        ({"window": 64}, r"window must be a height and a width, such as \(64, 64\); got 64"),
        ({"window": (64, 0)}, "each side of window must be a whole number of at least 1; got 0"),
        ({"stride": (16, 17)}, r"stride must be at most the window, \(16, 16\), .* \(16, 17\)"),
    ],
)
def test_wrong_grids_are_refused(arguments: dict, words: str) -> None:
    grid = {"height": 32, "width": 64, "window": (16, 16), "stride": (8, 8)}
    with pytest.raises(ValueError, match=words):
        WindowGrid(**(grid | arguments))


def test_wrong_canvases_and_ids_are_refused() -> None:
    grid = WindowGrid(8, 12, (4, 4), (4, 4))
    for shape in ((2, 3, 8, 12), (3, 8, 12), (1, 3, 12, 8)):
        with pytest.raises(ValueError, match=r"canvas must be \(1, C, 8, 12\); got"):
            grid.crop(torch.zeros(shape), torch.tensor([0]))
    for index in (-1, 6):
        with pytest.raises(ValueError, match=rf"ids must be from 0 to 5; got {index}"):
            grid.crop(torch.zeros(1, 3, 8, 12), torch.tensor([index]))
