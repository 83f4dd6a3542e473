r"""Which windows of a canvas a step sees: an endless stream of batches that knows no history.

A step updates the latents that its windows hold, once each, since the gradient of overlapping
windows is averaged. A latent at a corner lies in one window only; with windows drawn at random it
is updated in B / M of the steps, and one in the middle several times as often.

Let q be a distribution over the batches S of B of the M windows. What is wanted is

.. math::
    \max_q \min_l \; \sum_{S \ni l} q(S) \qquad \text{such that} \qquad
    \sum_{S \ni m} q(S) \ge \rho \frac{B}{M} \quad \text{for every window } m,

the latent that is updated least to be updated as often as possible. Without the condition a few
windows side by side would do, and the seams between them would never lie within a window; with
rho = 1 every window comes equally often, which is the draw at random. Here rho = 1/4; under a taper
rho = 1/2, since there a latent is moved by windows in whose middle it lies, and hardly by those
that end there.

A linear program over all batches gives the optimum of small cases (tests/canvas); this stream
comes within a tenth of it, greedily. The share rho of the places is dealt like cards, so that every
window comes up. Each other place goes to the window with the greatest sum, over its latents that
the batch does not hold yet, of

.. math::
    (1 + \max_{l'} u_{l'} - u_l)^2,

u being the updates so far in the present round of steps.

Where windows shift from step to step, which is by half a stride at most, they are counted where an
unshifted grid has them.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from csd_lab.canvas.windows import WindowGrid
from csd_lab.checks import check_whole
from csd_lab.data.batches import FrameBatches
from csd_lab.data.checks import check_batch_size

STREAM = 0x77696E64
"""Keeps this stream of random numbers apart from others of the same seed."""

SHARE = 4
"""One place in so many is dealt: 1 / rho."""

TAPERED_SHARE = 2
"""The same where windows count less at their edges."""

ROUND = 128
"""Steps over which updates are counted."""

Floats = npt.NDArray[np.float64]
Starts = tuple[int, ...]


@final
class WindowBatches(IterableDataset[Tensor]):
    """Batches of window ids; batch k follows from (seed, k) alone.

    Args:
        grid: the windows.
        batch_size: number of windows in a batch, B; None: all of them in order, each time.
        seed: of the stream.
        start: gives the k of the first batch whenever an iteration begins; None: 0.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        grid: WindowGrid,
        batch_size: int | None = None,
        seed: int = 0,
        start: Callable[[], int] | None = None,
    ) -> None:
        check_batch_size(batch_size, len(grid), "the image's", "windows")
        check_whole("seed", seed, 0)
        self.count = len(grid)
        self.size = self.count if batch_size is None else batch_size
        self.seed = seed
        self.start = start
        self._share = SHARE if grid.taper == "constant" else TAPERED_SHARE
        self._rows = (grid.height, grid.window[0], grid.rows)
        self._columns = (grid.width, grid.window[1], grid.columns)

    def __iter__(self) -> Iterator[Tensor]:
        """Batches k = start, start + 1, ... without end."""
        k = self.start() if self.start else 0
        while True:
            yield self.batch(k)
            k += 1

    def batch(self, k: int) -> Tensor:
        """Batch k: different ids, (B,), int64, in [0, M)."""
        if self.size == self.count:
            return torch.arange(self.count)
        number, place = divmod(k, ROUND)
        batches = _round(self._rows, self._columns, self.size, self._share, self.seed, number)
        return torch.from_numpy(batches[place].copy())


class Axis(NamedTuple):
    """An axis cut where windows begin or end, so that a window holds whole cells.

    Attributes:
        holds: whether a window, by its start, holds a cell, (starts, cells), 0 or 1.
        lengths: of the cells, in latents, (cells,).
    """

    holds: Floats
    lengths: Floats


def _axis(length: int, window: int, starts: Starts) -> Axis:
    cuts = sorted({0} | {end % length for start in starts for end in (start, start + window)})
    inside = [[(cut - start) % length < window for cut in cuts] for start in starts]
    return Axis(np.array(inside, float), np.diff([*cuts, length]).astype(float))


@lru_cache(maxsize=2)
def _round(
    rows: tuple[int, int, Starts],
    columns: tuple[int, int, Starts],
    size: int,
    share: int,
    seed: int,
    number: int,
) -> npt.NDArray[np.int64]:
    """The batches of a round, (ROUND, B).

    Args:
        rows: length of the canvas, length of a window and starts of windows along the height.
        columns: the same along the width.
        size: of a batch, B.
        share: 1 / rho.
        seed: of the stream.
        number: of the round.
    """
    down, across = _axis(*rows), _axis(*columns)
    random = np.random.PCG64([STREAM, seed, number])  # its raw stream never changes with versions
    updates = np.zeros((len(down.lengths), len(across.lengths)))
    batches = np.empty((ROUND, size), dtype=np.int64)
    count = len(down.holds) * len(across.holds)
    for place in range(ROUND):
        batch = _dealt(count, size, share, seed, number * ROUND + place)
        order = np.argsort(random.random_raw(count))
        batches[place], held = _filled(batch, size, updates, order, down, across)
        updates += held
    return batches


def _dealt(count: int, size: int, share: int, seed: int, k: int) -> list[int]:
    """The windows of batch k that are dealt; none in some batches that are smaller than 1 / rho."""
    cards = FrameBatches(count, 1, seed)
    places = range(k * size // share, (k + 1) * size // share)
    return list(dict.fromkeys(int(cards.batch(place)) for place in places))


def _filled(
    batch: list[int], size: int, updates: Floats, order: npt.NDArray[np.int64], *axes: Axis
) -> tuple[list[int], Floats]:
    """The batch, filled with the windows whose latents are neediest, and the cells that it holds.

    Sums of whole numbers below 2^53 are exact, so that no machine breaks a tie another way.

    Args:
        batch: windows that it has, fewer than ``size``.
        size: windows that it is to have.
        updates: of each cell so far.
        order: of the windows, which breaks ties.
        axes: along the height and the width.
    """
    down, across = axes
    need = (1 + updates.max() - updates) ** 2 * np.outer(down.lengths, across.lengths)
    held = np.zeros_like(updates)
    for window in batch:
        np.maximum(held, _cells(window, down, across), out=held)
    while len(batch) < size:
        gain = (down.holds @ (need * (1 - held)) @ across.holds.T).ravel()
        gain[batch] = -1
        batch.append(int(order[gain[order].argmax()]))
        np.maximum(held, _cells(batch[-1], down, across), out=held)
    return batch, held


def _cells(window: int, down: Axis, across: Axis) -> Floats:
    """The cells that a window holds, 0 or 1."""
    row, column = divmod(window, len(across.holds))
    return np.outer(down.holds[row], across.holds[column])
