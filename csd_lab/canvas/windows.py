r"""Windows on a canvas of latents, and how their gradients come together on it.

A canvas x of H x W latents is seen through overlapping windows of h x w,

.. math::
    x_i = P_i x,

where P_i copies a rectangle. A step moves the windows of a set S, each by a gradient g_i, weighted
by a taper w over the window. On the canvas every latent gets the mean over windows that hold it,

.. math::
    G = \frac{\sum_{i \in S} P_i^T (w \, g_i)}
        {\max\Big(\sum_{i \in S} P_i^T w, \; \bar w \sum_{i \in S} P_i^T 1\Big)}, \qquad
    \bar w = \frac{\sum_i P_i^T w}{\sum_i P_i^T 1},

and nothing where no window lies. The numerator is what autograd gives through
:meth:`WindowGrid.crop`, the division is :meth:`WindowGrid.average`. With w = 1 this is the plain
mean (Kim et al. 2023, section 4.1, after MultiDiffusion, Bar-Tal et al. 2023, arXiv 2302.08113).

A network knows least at a window's edge, where it does not see what lies beyond; in a plain mean
what it says there leaves lines in the image. With n latents along a side and u = (k + 1/2) / n,
a taper is the product over both sides of

.. math::
    w(u) = 1, \qquad w(u) = 1 - |2 u - 1|, \qquad w(u) = \sin^2(\pi u)

(``constant``, ``hat``, ``hann``), which are above 0 everywhere. Two hats, or two Hann windows, that
lie half a window apart add up to 1.

With all windows in S the maximum has two equal arguments, and G is the weighted mean. With some of
them a latent may be held by edges alone, whose weights would cancel: that is what the mean weight
:math:`\bar w`, over all windows of the canvas, is for. There a step is shorter than the mean by
:math:`w / \bar w`, so that over many steps each window counts by its weight; it is never longer,
since the optimiser could not follow. At a latent where all windows have one weight, such as in the
corner of a canvas, weights cancel, as they should.

Along an axis windows start at 0, s, 2 s, ... with the stride s, and one more ends at the edge where
the stride leaves a rest, so that every latent is covered. An axis shorter than a window is one
window of its own length. A ring, closed along its width, has no edge: ceil(W / s) windows lie
evenly around it, some of them over the join; one that is no wider than a window is seen whole, from
each of these starts, so that its join lies in the middle of some.

Windows that always end at the same places leave lines there. A grid can therefore be shifted by d
latents along an axis: its first and its last window stay at the ends, and each other one begins at
its place plus d, but no further than the last. With

.. math::
    -\min(\lfloor s / 2 \rfloor, h - s) \le d \le \min(\lfloor (s - 1) / 2 \rfloor, h - s)

no two neighbours come to lie more than a window apart, so that every latent stays covered by the
same number of windows in the same order; where they overlap by half or more these are s places, one
of each remainder of s. On a ring all windows move, and d is bounded by the stride alone.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from csd_lab.checks import check_whole

Taper = Literal["constant", "hat", "hann"]
"""How much a window counts from its edges to its middle."""


@final
class WindowGrid:
    """Windows on a canvas; all lengths in latents.

    Windows are numbered row by row, from the top left one.

    Args:
        height: of the canvas, H.
        width: of the canvas, W.
        window: height and width of a window; at most the canvas's are used.
        stride: from a window to the next one below it and the next one to its right, at most the
            window's height and width.
        wrap: the canvas is closed along its width.
        taper: how much a window's gradient counts from its edges to its middle.
        shift: by how much the windows lie below, and right of, their usual places.

    Attributes:
        window: height h and width w of the windows.
        weights: the taper w, (h, w), float32, in (0, 1].
        reach: the shifts that there are along the height, and along the width.
        rows: where windows begin along the height, ascending.
        columns: where windows begin along the width, ascending from the first, around a ring.
        origins: where each of the M windows begins, (M, 2), int64: row and column.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        height: int,
        width: int,
        window: tuple[int, int],
        stride: tuple[int, int],
        wrap: bool = False,
        taper: Taper = "constant",
        shift: tuple[int, int] = (0, 0),
    ) -> None:
        if taper not in get_args(Taper):
            raise ValueError(f"taper must be one of {get_args(Taper)}, got {taper!r}")
        check_whole("height", height)
        check_whole("width", width)
        check_pair("window", window)
        check_pair("stride", stride)
        if stride[0] > window[0] or stride[1] > window[1]:
            raise ValueError(
                f"stride must be at most the window, {tuple(window)}, or latents between windows "
                f"would never be edited, got {tuple(stride)}"
            )
        self.height = height
        self.width = width
        self.window = (min(window[0], height), min(window[1], width))
        self.stride = (stride[0], stride[1])
        self._laid = (window, stride)  # as given, on whatever canvas
        self.wrap = wrap
        self.taper = taper
        overlap = window[0] - stride[0], window[1] if wrap else window[1] - stride[1]
        self.reach = _reach(stride[0], overlap[0]), _reach(stride[1], overlap[1])
        _check_shift(shift, self.reach)
        self.rows = _moved(_starts(height, self.window[0], stride[0]), shift[0])
        if wrap:
            around = _starts_around(width, stride[1])
            self.columns = tuple((start + shift[1]) % width for start in around)
        else:
            self.columns = _moved(_starts(width, self.window[1], stride[1]), shift[1])
        self.origins = torch.cartesian_prod(torch.tensor(self.rows), torch.tensor(self.columns))
        down, across = (_profile(side, taper) for side in self.window)
        self.weights = torch.outer(down, across)
        # windows are all pairs of a row and a column, so their mean weight is a product too
        down, across = _mean(down, self.rows, height), _mean(across, self.columns, width)
        self._mean_weight = torch.outer(down, across)

    def __len__(self) -> int:
        return len(self.origins)

    def __repr__(self) -> str:
        ring = "ring" if self.wrap else "canvas"
        return (
            f"WindowGrid({len(self)} windows of {self.window[0]} x {self.window[1]} on a {ring} "
            f"of {self.height} x {self.width} latents)"
        )

    def shifted(self, shift: tuple[int, int]) -> "WindowGrid":
        """The same windows, as many in the same order, elsewhere.

        Args:
            shift: by how much they lie below, and right of, the places of an unshifted grid.

        Raises:
            ValueError: a shift is out of :attr:`reach`.
        """
        return WindowGrid(self.height, self.width, *self._laid, self.wrap, self.taper, shift)

    def crop(self, canvas: Tensor, ids: Tensor) -> Tensor:
        """Windows of a canvas, differentiable in the canvas.

        A gradient that flows back through them is weighted by the taper, and added up.

        Args:
            canvas: (1, C, H, W), in any units.
            ids: which windows, (N,); one may come twice.

        Returns:
            (N, C, h, w).

        Raises:
            ValueError: the canvas is of another shape, or there is no such window.
        """
        if (
            canvas.ndim != 4
            or canvas.shape[0] != 1
            or canvas.shape[2:] != (self.height, self.width)
        ):
            raise ValueError(
                f"canvas must be (1, C, {self.height}, {self.width}), got {tuple(canvas.shape)}"
            )
        return _Crop.apply(canvas, self, self._listed(ids))

    def lay(self, windows: Tensor, ids: Tensor) -> Tensor:
        """Windows (N, C, h, w) added up on an empty canvas, (1, C, H, W), unweighted."""
        return self._lay(windows, self._listed(ids))

    def coverage(self, ids: Tensor) -> Tensor:
        """How many of the windows ``ids`` hold each latent, (H, W), int64, where the ids are."""
        ones = torch.ones((), dtype=torch.int64, device=ids.device)
        return self.lay(ones.expand(len(ids), 1, *self.window), ids)[0, 0]

    def average(self, gradient: Tensor, ids: Tensor) -> Tensor:
        """Sums over the windows of a step as means over those that hold each latent.

        Args:
            gradient: sum over windows of what each says, weighted, (1, C, H, W).
            ids: the windows of the step, (N,), each of them counted.

        Returns:
            (1, C, H, W); 0 where it was 0.
        """
        held = self.coverage(ids).to(gradient.device, gradient.dtype)
        weights = self.weights.to(gradient.device, gradient.dtype)
        weight = self.lay(weights.expand(len(ids), 1, *self.window), ids)[0, 0]
        usual = held * self._mean_weight.to(gradient.device, gradient.dtype)
        return gradient / torch.where(held > 0, torch.maximum(weight, usual), 1)

    def _listed(self, ids: Tensor) -> list[int]:
        listed: list[int] = ids.tolist()
        for index in listed:
            if not 0 <= index < len(self):
                raise ValueError(f"ids must be from 0 to {len(self) - 1}, got {index}")
        return listed

    def _crop(self, canvas: Tensor, ids: list[int]) -> Tensor:
        windows = canvas.new_empty(len(ids), canvas.shape[1], *self.window)
        for window, index in zip(windows, ids, strict=True):
            for on_canvas, in_window in self._places(index):
                window[in_window] = canvas[0][on_canvas]
        return windows

    def _lay(self, windows: Tensor, ids: list[int]) -> Tensor:
        canvas = windows.new_zeros(1, windows.shape[1], self.height, self.width)
        for window, index in zip(windows, ids, strict=True):
            for on_canvas, in_window in self._places(index):
                canvas[0][on_canvas] += window[in_window]
        return canvas

    def _places(self, index: int) -> Iterator[tuple[Any, Any]]:
        """Where the pieces of a window lie, as indices of (C, H, W) and of (C, h, w)."""
        row, column = self.origins[index].tolist()
        tall = slice(row, row + self.window[0])
        for across, within in pieces(column, column + self.window[1], self.width):
            yield (slice(None), tall, across), (slice(None), slice(None), within)


class _Crop(torch.autograd.Function):
    """Crops, whose gradient is weighted, and added up window after window.

    Indexing would do as well, but adds in an order that several threads change, and slicing would
    keep a canvas for every window.
    """

    @staticmethod
    def forward(ctx: Any, canvas: Tensor, grid: WindowGrid, ids: list[int]) -> Tensor:
        ctx.grid, ctx.ids = grid, ids
        return grid._crop(canvas, ids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        weights = ctx.grid.weights.to(gradient.device, gradient.dtype)
        return ctx.grid._lay(gradient * weights, ctx.ids), None, None


def pieces(start: int, stop: int, length: int) -> Iterator[tuple[slice, slice]]:
    """A stretch of a ring of this length as stretches that do not cross its join.

    Args:
        start: where it begins; may be negative, or beyond the ring.
        stop: where it ends; may be more than once around.
        length: of the ring.

    Yields:
        Where a piece lies on the ring, and where it lies in the stretch.
    """
    place = start
    while place < stop:
        at = place % length
        size = min(stop - place, length - at)
        yield slice(at, at + size), slice(place - start, place - start + size)
        place += size


def _starts(length: int, window: int, stride: int) -> tuple[int, ...]:
    """Starts along an axis with two ends; the last window ends where the axis does."""
    last = length - window
    regular = range(0, last + 1, stride)
    return (*regular, last) if last % stride else tuple(regular)


def _starts_around(length: int, stride: int) -> tuple[int, ...]:
    """Starts around a ring, as even as can be and at most a stride apart."""
    count = -(-length // stride)
    return tuple(i * length // count for i in range(count))


def _reach(stride: int, most: int) -> range:
    """The shifts along an axis, at most this far."""
    return range(-min(stride // 2, most), min((stride - 1) // 2, most) + 1)


def _moved(starts: tuple[int, ...], shift: int) -> tuple[int, ...]:
    """Starts along an axis with two ends, all but the first and the last one shifted."""
    last = starts[-1]
    return (*starts[:1], *(min(start + shift, last) for start in starts[1:-1]), *starts[1:][-1:])


def _profile(side: int, taper: Taper) -> Tensor:
    """The weight of each latent along a side of a window, (side,), float32, in (0, 1]."""
    places = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    if taper == "hat":
        places = 1 - (2 * places - 1).abs()
    elif taper == "hann":
        places = (math.pi * places).sin().square()
    else:
        places = torch.ones_like(places)
    return places.float()


def _mean(weights: Tensor, starts: tuple[int, ...], length: int) -> Tensor:
    """The mean weight at each place of an axis over the windows that hold it, (length,)."""
    total, held = torch.zeros(length), torch.zeros(length)
    for start in starts:
        for on_axis, in_window in pieces(start, start + len(weights), length):
            total[on_axis] += weights[in_window]
            held[on_axis] += 1
    return total / held


def check_pair(name: str, value: Any) -> None:
    """Check a height and a width.

    Raises:
        ValueError: they are not two whole numbers of at least 1.
    """
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError(f"{name} must be a height and a width, such as (64, 64), got {value!r}")
    for side in value:
        check_whole(f"each side of {name}", side)


def _check_shift(shift: tuple[int, int], reach: tuple[range, range]) -> None:
    for name, by, allowed in zip(("down", "across"), shift, reach, strict=True):
        if by not in allowed:
            raise ValueError(
                f"shift {name} must be from {allowed[0]} to {allowed[-1]}, or latents would be "
                f"left out, got {by}"
            )
