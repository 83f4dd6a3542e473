"""Scalars over steps of many runs on common steps."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from csd_lab.compare.results import RunRecord

NUMBERS = 400_000
"""How many values all curves together may have: about what a page can carry (2 MB)."""
FEWEST, MOST = 20, 400
"""Points of a curve, at least and at most."""


class Curves(NamedTuple):
    """Curves of all runs, thinned to common steps.

    Attributes:
        width: steps in a point; a point is the mean of the values logged at these.
        steps: the middle of each point's steps, (P,).
        values: by scalar, (R, P); NaN where a run has no value.
    """

    width: int
    steps: npt.NDArray[np.float64]
    values: dict[str, npt.NDArray[np.float32]]


def curves_of(runs: Sequence[RunRecord], numbers: int = NUMBERS) -> Curves:
    """Read the curves of the runs that are done, as fine as their number allows.

    Args:
        runs: R of them; those that are not done have no values.
        numbers: how many values all curves may have together; never fewer than 20 points a curve.
    """
    read = [run.curves() if run.state == "done" else {} for run in runs]
    names = dict.fromkeys(name for curves in read for name, (steps, _) in curves.items() if steps)
    last = max((max(c[n][0]) for c in read for n in c if c[n][0]), default=-1)
    points = min(MOST, max(FEWEST, numbers // max(1, sum(map(bool, read)) * len(names))))
    width = max(1, math.ceil((last + 1) / points))
    count = math.ceil((last + 1) / width)
    middles = np.arange(count, dtype=np.float64) * width + (width - 1) / 2
    values = {
        name: np.stack([_binned(curves.get(name), width, count) for curves in read])
        for name in names
    }
    return Curves(width, middles, values)


def _binned(
    curve: tuple[list[int], list[float]] | None, width: int, count: int
) -> npt.NDArray[np.float32]:
    """Means of the finite values of each ``width`` steps, (count,); NaN where there are none."""
    if curve is None:
        return np.full(count, np.nan, np.float32)
    steps, values = np.array(curve[0], dtype=np.int64), np.array(curve[1], dtype=np.float64)
    finite = np.isfinite(values)
    place = steps[finite] // width
    number = np.bincount(place, minlength=count)
    total = np.bincount(place, values[finite], minlength=count)
    means = np.divide(total, number, out=np.full(count, np.nan), where=number > 0)
    return means.astype(np.float32)
