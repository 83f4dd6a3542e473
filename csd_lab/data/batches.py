"""Which frames a step sees: an endless stream of batches that knows no history."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from csd_lab.checks import check_whole
from csd_lab.data.checks import check_batch_size

STREAM = 0x66726D73
"""Keeps this stream of random numbers apart from others of the same seed."""


@final
class FrameBatches(IterableDataset[Tensor]):
    """Batches of frame ids; batch k follows from (seed, k) alone.

    Frames are dealt like cards: every pass over them is a new shuffle, so that each frame comes
    up equally often, and a batch that takes the end of one pass and the beginning of the next
    never holds a frame twice.

    Args:
        frames: number of frames F.
        batch_size: number of frames in a batch, B; None: all of them in order, each time.
        seed: of the shuffles.
        start: gives the k of the first batch whenever an iteration begins; None: 0.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        frames: int,
        batch_size: int | None = None,
        seed: int = 0,
        start: Callable[[], int] | None = None,
    ) -> None:
        check_batch_size(batch_size, frames)
        check_whole("frames", frames)
        check_whole("seed", seed, 0)
        self.frames = frames
        self.size = frames if batch_size is None else batch_size
        self.seed = seed
        self.start = start

    def __iter__(self) -> Iterator[Tensor]:
        """Batches k = start, start + 1, ... without end."""
        k = self.start() if self.start else 0
        while True:
            yield self.batch(k)
            k += 1

    def batch(self, k: int) -> Tensor:
        """Batch k: different ids, (B,), int64, in [0, F)."""
        if self.size == self.frames:
            return torch.arange(self.frames)
        rounds, place = divmod(k, self.frames)
        return torch.from_numpy(_round(self.frames, self.size, self.seed, rounds)[place].copy())


@lru_cache(maxsize=2)
def _round(frames: int, size: int, seed: int, index: int) -> np.ndarray:
    """F batches, (F, B), that use each frame B times: B shuffled passes in a row.

    A pass begins with frames that the unfinished batch before it does not hold.
    """
    random = np.random.PCG64([STREAM, seed, index])  # its raw stream never changes with versions
    dealt = np.empty(0, dtype=np.int64)
    for _ in range(size):
        held = dealt[len(dealt) - len(dealt) % size :]
        order = np.argsort(random.random_raw(frames))
        fresh = order[~np.isin(order, held)][: size - len(held)]
        dealt = np.concatenate([dealt, fresh, order[~np.isin(order, fresh)]])
    return dealt.reshape(frames, size)
