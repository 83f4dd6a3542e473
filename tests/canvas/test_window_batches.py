"""The order of windows: even over latents, and a function of (seed, step) alone."""

from functools import cache
from itertools import combinations, islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, hstack, vstack
from torch import Tensor

from csd_lab.canvas import WindowGrid
from csd_lab.canvas.windows import Taper
from csd_lab.data.windows import ROUND, SHARE, TAPERED_SHARE, WindowBatches

STEPS = 200
WINDOW = {"window": (64, 64), "stride": (16, 16)}


@st.composite
def streams(draw: st.DrawFn) -> tuple[WindowGrid, int, int]:
    sides = draw(st.tuples(st.integers(1, 30), st.integers(1, 40)))
    window = draw(st.tuples(st.integers(4, 10), st.integers(4, 10)))
    grid = WindowGrid(*sides, window, (draw(st.integers(2, 4)), 3), draw(st.booleans()))
    return grid, draw(st.integers(1, len(grid))), draw(st.integers(0, 2**40))


def updates(grid: WindowGrid, batches: list[Tensor]) -> Tensor:
    """In how many of the batches each latent is held."""
    return torch.stack([grid.coverage(batch) > 0 for batch in batches]).sum(0)


def drawn(grid: WindowGrid, size: int, seed: int = 0) -> list[Tensor]:
    stream = WindowBatches(grid, size, seed)
    return [stream.batch(k) for k in range(STEPS)]


@given(streams(), st.integers(0, 10**4))
@settings(max_examples=40, deadline=None)
def test_a_batch_holds_different_windows(stream: tuple[WindowGrid, int, int], k: int) -> None:
    grid, size, seed = stream
    batch = WindowBatches(grid, size, seed).batch(k)
    assert batch.dtype == torch.int64
    assert len(batch) == size == len(set(batch.tolist()))
    assert 0 <= batch.min() <= batch.max() < len(grid)


@given(streams(), st.integers(0, 3 * ROUND))
@settings(max_examples=20, deadline=None)
def test_a_later_start_sees_the_same_batches(stream: tuple[WindowGrid, int, int], k: int) -> None:
    grid, size, seed = stream
    late = islice(WindowBatches(grid, size, seed, start=lambda: k), 5)
    for offset, batch in enumerate(late):
        assert torch.equal(batch, WindowBatches(grid, size, seed).batch(k + offset))


@pytest.mark.parametrize("size", [None, 12])
def test_all_windows_come_in_order(size: int | None) -> None:
    grid = WindowGrid(64, 240, **WINDOW)
    for batch in islice(WindowBatches(grid, size, 3), 4):
        assert batch.tolist() == list(range(12))


@cache
def optimum(height: int, width: int, size: int, share: int) -> float:
    """How often the latent that is updated least can be updated, as a share of the steps.

    Over all distributions on batches, with every window at least 1 / share of its fair share.
    """
    grid = WindowGrid(height, width, **WINDOW)
    every = torch.arange(len(grid))
    held = torch.stack([grid.coverage(one)[::16, ::16].flatten() for one in every.split(1)]).numpy()
    batches = np.array(list(combinations(range(len(grid)), size)))
    covers = csr_matrix((held[batches].sum(1) > 0).T.astype(float))
    uses = np.zeros((len(batches), len(grid)))
    uses[np.arange(len(batches))[:, None], batches] = 1
    latents, windows = covers.shape[0], len(grid)
    bounds = vstack(
        [
            hstack([-covers, csr_matrix(np.ones((latents, 1)))]),
            hstack([csr_matrix(-uses.T), csr_matrix((windows, 1))]),
        ]
    )
    least = np.concatenate([np.zeros(latents), np.full(windows, -size / windows / share)])
    goal = np.zeros(len(batches) + 1)
    goal[-1] = -1
    total = np.ones((1, len(batches) + 1))
    total[0, -1] = 0
    return -linprog(goal, bounds, least, total, [1.0], bounds=(0, None)).fun


@pytest.mark.parametrize(
    ("height", "width", "size"), [(64, 240, 2), (64, 240, 4), (64, 240, 8), (96, 128, 4)]
)
@pytest.mark.parametrize(("taper", "share"), [("constant", SHARE), ("hann", TAPERED_SHARE)])
def test_updates_of_latents_come_near_the_best_that_is_possible(
    height: int, width: int, size: int, taper: Taper, share: int
) -> None:
    grid = WindowGrid(height, width, **WINDOW, taper=taper)
    best = STEPS * optimum(height, width, size, share)
    for seed in range(3):
        least = updates(grid, drawn(grid, size, seed)).min().item()
        assert 0.9 * best <= least <= best + size


@pytest.mark.parametrize("size", [4, 8])
def test_the_official_setting_is_evener_than_the_official_draw(size: int) -> None:
    """Which gives 62 to 182 updates over 200 steps with 4 of these 12 windows."""
    grid = WindowGrid(64, 240, **WINDOW)
    for seed in range(5):
        counts = updates(grid, drawn(grid, size, seed))
        assert counts.min() >= 175
        random = np.random.default_rng(seed)
        choices = [torch.from_numpy(random.permutation(12)[:size]) for _ in range(STEPS)]
        plain = updates(grid, choices)
        spread = counts.max() - counts.min()
        assert spread < 0.4 * (plain.max() - plain.min())


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 11])
@pytest.mark.parametrize(("taper", "share"), [("constant", SHARE), ("hat", TAPERED_SHARE)])
def test_every_window_comes_up(size: int, taper: Taper, share: int) -> None:
    grid = WindowGrid(64, 240, **WINDOW, taper=taper)
    used = torch.bincount(torch.cat(drawn(grid, size)), minlength=12)
    assert used.min() >= 0.95 * STEPS * size / 12 / share - 1


def test_a_ring_is_updated_evenly() -> None:
    grid = WindowGrid(64, 240, **WINDOW, wrap=True)
    counts = updates(grid, drawn(grid, 4))
    assert counts.min() >= 180
    assert counts.max() - counts.min() <= 10


@pytest.mark.parametrize("wrap", [False, True])
def test_windows_that_shift_are_updated_about_as_evenly(wrap: bool) -> None:
    grid = WindowGrid(128, 400, (64, 64), (32, 32), wrap, "hat")
    batches, random = drawn(grid, 6), np.random.default_rng(0)
    shifts = [tuple(int(random.choice(reach)) for reach in grid.reach) for _ in batches]
    held = [grid.shifted(s).coverage(b) > 0 for s, b in zip(shifts, batches, strict=True)]
    assert torch.stack(held).sum(0).min() >= 0.75 * updates(grid, batches).min()


def test_seeds_and_rounds_differ() -> None:
    grid = WindowGrid(64, 480, **WINDOW)
    starts = {
        tuple(torch.cat([WindowBatches(grid, 4, seed).batch(k + i) for i in range(5)]).tolist())
        for seed in range(4)
        for k in (0, ROUND, 2 * ROUND)
    }
    assert len(starts) == 12


def test_known_order_does_not_change() -> None:
    """A resumed run relies on this order, also after an update of this package."""
    batches = WindowBatches(WindowGrid(64, 240, **WINDOW), 4, 1)
    assert [batches.batch(k).tolist() for k in (0, 1, 150)] == [
        [2, 6, 10, 0],
        [11, 7, 3, 0],
        [8, 4, 0, 11],
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 13}, "at most the image's 12 windows, or null .* got 13"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WindowBatches(WindowGrid(64, 240, **WINDOW), **arguments)
