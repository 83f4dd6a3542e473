"""The order of frames: balanced, free of repeats, and a function of (seed, step) alone."""

from collections import Counter
from itertools import combinations, islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from csd_lab.data.batches import FrameBatches

SIZES = st.integers(1, 24).flatmap(lambda f: st.tuples(st.just(f), st.integers(1, f)))


@given(SIZES, st.integers(0, 2**40))
@settings(max_examples=80, deadline=None)
def test_each_frame_comes_up_equally_often(sizes: tuple[int, int], seed: int) -> None:
    frames, size = sizes
    batches = FrameBatches(frames, size, seed)
    stream = torch.cat([batches.batch(k) for k in range(2 * frames)])
    for first in range(0, len(stream), frames):
        assert sorted(stream[first : first + frames].tolist()) == list(range(frames))


@given(SIZES, st.integers(0, 2**40), st.integers(0, 10**6))
@settings(max_examples=80, deadline=None)
def test_no_batch_holds_a_frame_twice(sizes: tuple[int, int], seed: int, k: int) -> None:
    frames, size = sizes
    batch = FrameBatches(frames, size, seed).batch(k)
    assert batch.dtype == torch.int64
    assert len(batch) == size == len(set(batch.tolist()))
    assert 0 <= batch.min() <= batch.max() < frames


@given(SIZES, st.integers(0, 2**40), st.integers(0, 500))
@settings(max_examples=40, deadline=None)
def test_a_later_start_sees_the_same_batches(sizes: tuple[int, int], seed: int, k: int) -> None:
    frames, size = sizes
    late = islice(FrameBatches(frames, size, seed, start=lambda: k), 5)
    for offset, batch in enumerate(late):
        assert torch.equal(batch, FrameBatches(frames, size, seed).batch(k + offset))


def test_all_frames_come_in_order() -> None:
    for size in (None, 7):
        for batch in islice(FrameBatches(7, size, 3), 4):
            assert batch.tolist() == list(range(7))


def test_seeds_and_passes_differ() -> None:
    streams = {
        tuple(torch.cat([FrameBatches(12, 4, seed).batch(k) for k in range(first, first + 3)]))
        for seed in range(5)
        for first in range(0, 30, 3)
    }
    assert len(streams) == 50


def test_pairs_of_frames_meet_evenly() -> None:
    """Over many steps any two frames share a batch about as often as any other two."""
    batches = FrameBatches(8, 3, 0)
    pairs = Counter(
        pair for k in range(4000) for pair in combinations(sorted(batches.batch(k).tolist()), 2)
    )
    counts = list(pairs.values())
    expected = 4000 * 3 * 2 / (8 * 7)
    assert len(counts) == 28
    assert max(abs(count - expected) for count in counts) < 5 * expected**0.5


def test_known_order_does_not_change() -> None:
    """A resumed run relies on this order, also after an update of this package."""
    batches = FrameBatches(6, 4, 1)
    assert [batches.batch(k).tolist() for k in range(3)] == [
        [2, 1, 0, 4],
        [3, 5, 2, 4],
        [5, 3, 0, 1],
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"frames": 0}, "frames must be a whole number of at least 1, got 0"),
        ({"frames": 5, "batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"frames": 5, "batch_size": 6}, "at most the clip's 5 frames, or null .* got 6"),
        ({"frames": 5, "batch_size": 2.0}, r"batch_size must be a whole number .* got 2\.0"),
        ({"frames": 5, "seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FrameBatches(**arguments)
