"""Windows: where they lie, and that crops, sums and means equal naive loops."""

from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from csd_lab.canvas import WindowGrid
from csd_lab.canvas.windows import Taper

TAPERS = get_args(Taper)
VIEWS = np.load(Path(__file__).parent / "data" / "region_weights.npz")


class Case(NamedTuple):
    """A grid, perhaps a shifted one, and the one that it was shifted from."""

    grid: WindowGrid
    height: int
    width: int
    still: WindowGrid


@st.composite
def cases(draw: st.DrawFn, tapers: tuple[str, ...] = ("constant",)) -> Case:
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 30))
    window = draw(st.tuples(st.integers(1, 9), st.integers(1, 12)))
    stride = tuple(draw(st.integers(1, side)) for side in window)
    wrap, taper = draw(st.booleans()), draw(st.sampled_from(tapers))
    still = WindowGrid(height, width, window, stride, wrap, taper)
    shift = tuple(draw(st.sampled_from([0, *reach])) for reach in still.reach)
    return Case(still.shifted(shift), height, width, still)


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
    assert len(set(map(tuple, case.still.origins.tolist()))) == len(grid)


@given(cases())
@settings(max_examples=100, deadline=None)
def test_windows_begin_at_multiples_of_the_stride_but_for_the_last(case: Case) -> None:
    grid = case.still
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


@given(cases())
@settings(max_examples=100, deadline=None)
def test_a_shift_moves_all_windows_alike_but_those_at_the_ends(case: Case) -> None:
    still = case.still
    for down, across in ((d, still.reach[1][0]) for d in still.reach[0]):
        grid = still.shifted((down, across))
        for axis, (starts, before, shift) in enumerate(
            ((grid.rows, still.rows, down), (grid.columns, still.columns, across))
        ):
            if axis == 1 and still.wrap:
                assert starts == tuple((start + shift) % case.width for start in before)
                continue
            assert (starts[0], starts[-1]) == (before[0], before[-1])
            inner = [min(start + shift, before[-1]) for start in before[1:-1]]
            assert list(starts[1:-1]) == inner


def test_shifts_put_a_border_at_every_latent_between_the_windows_at_the_ends() -> None:
    still = WindowGrid(16, 80, (16, 16), (8, 8))
    assert still.reach == (range(-4, 4), range(-4, 4))
    begins = {start for d in still.reach[1] for start in still.shifted((0, d)).columns}
    assert begins == {0, *range(4, 60), 64}


def test_windows_that_hardly_overlap_hardly_shift() -> None:
    assert WindowGrid(20, 20, (4, 4), (4, 4)).reach == (range(1), range(1))
    assert WindowGrid(20, 20, (8, 8), (7, 6)).reach == (range(-1, 2), range(-2, 3))
    assert WindowGrid(20, 20, (4, 4), (4, 4), wrap=True).reach == (range(1), range(-2, 2))
    with pytest.raises(ValueError, match=r"shift across must be from -2 to 2, .* got 3"):
        WindowGrid(20, 20, (8, 8), (7, 6)).shifted((0, 3))


def test_a_small_canvas_has_nothing_to_shift() -> None:
    still = WindowGrid(10, 20, (16, 16), (12, 12))
    assert torch.equal(still.shifted((-4, 4)).origins, still.origins)


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


# --- tapers ------------------------------------------------------------------------------------


def through_crops(grid: WindowGrid, gradients: Tensor, ids: Tensor) -> Tensor:
    """What reaches the canvas of gradients of its windows."""
    canvas = torch.zeros(1, gradients.shape[1], grid.height, grid.width, requires_grad=True)
    grid.crop(canvas, ids).backward(gradients)
    assert canvas.grad is not None
    return grid.average(canvas.grad, ids)


def test_a_weighted_mean_by_hand() -> None:
    grid = WindowGrid(1, 6, (1, 4), (1, 2), taper="hat")
    torch.testing.assert_close(grid.weights, torch.tensor([[0.25, 0.75, 0.75, 0.25]]))
    gradients = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])[:, None, None]
    both = through_crops(grid, gradients, torch.tensor([0, 1]))
    shared = [0.75 * 3 + 0.25 * 5, 0.25 * 4 + 0.75 * 6]
    torch.testing.assert_close(both, torch.tensor([[[[1.0, 2, *shared, 7, 8]]]]))
    first = through_crops(grid, gradients[:1], torch.tensor([0]))
    # at 2 it weighs 3/4, more than the mean, 1/2: all of it; at 3 it weighs 1/4: half of it
    torch.testing.assert_close(first, torch.tensor([[[[1.0, 2, 3, 2, 0, 0]]]]))


@given(cases(TAPERS), st.integers(0, 10**6), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_weighted_means_equal_naive_loops(case: Case, seed: int, count: int) -> None:
    grid, ids = case.grid, some_ids(case.grid, seed, count)
    weights = grid.weights.double()
    usual = torch.zeros(2, case.height, case.width, dtype=torch.float64)
    for index in range(len(grid)):
        for i, j, row, column in cells(grid, index):
            usual[:, row, column] += torch.tensor([weights[i, j], 1])
    sums = torch.zeros(3, case.height, case.width, dtype=torch.float64)
    gradients = torch.randn(count, 1, *grid.window)
    for place, index in enumerate(ids.tolist()):
        for i, j, row, column in cells(grid, index):
            w, g = weights[i, j], gradients[place, 0, i, j]
            sums[:, row, column] += torch.stack([w * g, w, torch.tensor(1.0)])
    divisor = torch.maximum(sums[1], sums[2] * usual[0] / usual[1])
    expected = torch.where(sums[2] > 0, sums[0] / divisor, 0).float()
    torch.testing.assert_close(through_crops(grid, gradients, ids)[0, 0], expected)


@given(cases(TAPERS), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_windows_that_agree_give_what_they_agree_on(case: Case, seed: int) -> None:
    """All of them together; some of them never more, where the mean was of that sign."""
    grid, said = case.grid, torch.rand(1, 2, case.height, case.width) + 0.5
    everyone = torch.arange(len(grid))
    agreed = through_crops(grid, grid.crop(said, everyone), everyone)
    torch.testing.assert_close(agreed, said)
    some = some_ids(grid, seed, 4)
    step = through_crops(grid, grid.crop(said, some), some)
    assert bool((step >= 0).all())
    assert bool((step <= said * (1 + 1e-5)).all())
    assert torch.equal(step[0, 0] > 0, grid.coverage(some) > 0)


@pytest.mark.parametrize("taper", TAPERS)
@pytest.mark.parametrize("side", [1, 2, 7, 16, 64, 128])
def test_tapers_are_above_zero_symmetric_and_largest_in_the_middle(taper: str, side: int) -> None:
    weights = WindowGrid(side, side, (side, side), (side, side), taper=taper).weights
    assert bool((weights > 0).all() and (weights <= 1).all())
    torch.testing.assert_close(weights, weights.T)
    torch.testing.assert_close(weights, weights.flip(0))
    assert bool((weights[: side // 2 + 1].diff(dim=0) >= 0).all())


@pytest.mark.parametrize("taper", ["hat", "hann"])
def test_windows_half_a_window_apart_add_up_to_one(taper: str) -> None:
    grid = WindowGrid(1, 64, (1, 16), (1, 8), wrap=True, taper=taper)  # one latent is a middle
    ids = torch.arange(len(grid))
    whole = grid.lay(grid.weights.expand(len(grid), 1, -1, -1), ids)
    torch.testing.assert_close(whole, torch.ones_like(whole))


def test_a_constant_taper_is_the_plain_mean_bit_for_bit() -> None:
    grid = WindowGrid(9, 11, (4, 5), (3, 2))
    ids = some_ids(grid, 3, 7)
    gradients = torch.randn(7, 3, 4, 5)
    plain = grid.lay(gradients, ids) / grid.coverage(ids).clamp(min=1)
    assert torch.equal(through_crops(grid, gradients, ids), plain)


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
        ({"height": 0}, "height must be a whole number of at least 1, got 0"),
        ({"width": 2.0}, r"width must be a whole number of at least 1, got 2\.0"),
        ({"window": 64}, r"window must be a height and a width, such as \(64, 64\), got 64"),
        ({"window": (64, 0)}, "each side of window must be a whole number of at least 1, got 0"),
        ({"taper": "round"}, r"taper must be one of \('constant', 'hat', 'hann'\), got 'round'"),
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
        with pytest.raises(ValueError, match=r"canvas must be \(1, C, 8, 12\), got"):
            grid.crop(torch.zeros(shape), torch.tensor([0]))
    for index in (-1, 6):
        with pytest.raises(ValueError, match=rf"ids must be from 0 to 5, got {index}"):
            grid.crop(torch.zeros(1, 3, 8, 12), torch.tensor([index]))
