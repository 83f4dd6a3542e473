r"""Coding a large image tile by tile: bounded memory, time that grows with the area, no seams.

Coding maps an image of cells to another: a cell is a latent on one side and some pixels on the
other. Each axis is cut into equal parts, and every part is coded with some of its surroundings.
Around a cut the parts pass into each other linearly:

.. math::
    y = \sum_i w_i \, \mathrm{code}(x_i), \qquad \sum_i w_i = 1, \qquad
    w_i = 0 \text{ within } m \text{ cells of the edges of tile } i,

with m = (overlap - blend) / 2, except at edges of the image, up to which w_i = 1. Where a coded
cell depends on the m cells around it alone, all tiles agree on it, and the result is that of coding
in one piece, wherever the cuts are. A ring has a tile over its join.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple, final

import torch
from torch import Tensor

from csd_lab.canvas.windows import pieces

Code = Callable[[Tensor], Tensor]


class Tile(NamedTuple):
    """A stretch of one axis, in cells.

    Attributes:
        start: of the tile; below 0 on a ring, where it lies over the join.
        stop: of the tile.
        first: start of its own part, which lies between two cuts.
        last: stop of its own part.
    """

    start: int
    stop: int
    first: int
    last: int


@final
class Tiling:
    """How an image is cut into tiles; lengths in cells.

    Args:
        height: of the image.
        width: of the image.
        tile: side of a tile at most; where the image is narrower than that, tiles are longer, with
            the same area.
        overlap: by how much neighbouring tiles overlap; less than ``tile``.
        blend: width of the stretch in which they pass into each other, from 1 to ``overlap``.
        wrap: the image is closed along its width.

    Attributes:
        rows: tiles along the height.
        columns: tiles along the width.

    Raises:
        ValueError: a length is out of range.
    """

    def __init__(
        self,
        height: int,
        width: int,
        tile: int,
        overlap: int = 32,
        blend: int = 8,
        wrap: bool = False,
    ) -> None:
        if not (height >= 1 and width >= 1 and tile > overlap >= blend >= 1):
            raise ValueError(
                "height and width must be at least 1, and tile > overlap >= blend >= 1, got "
                f"{height=}, {width=}, {tile=}, {overlap=}, {blend=}"
            )
        self.height = height
        self.width = width
        self.blend = blend
        self.wrap = wrap
        needed = width + overlap if wrap else width
        wide = tile**2 // height if height < tile else min(tile, needed)
        tall = tile**2 // wide if wide < tile else tile
        self.rows = _cut(height, tall, overlap, wrap=False)
        self.columns = _cut(width, wide, overlap, wrap)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[tuple[Tile, Tile]]:
        """Each tile, as its stretch along the height and the one along the width."""
        return ((row, column) for row in self.rows for column in self.columns)

    def apply(self, code: Code, image: Tensor, channels: int, scale: int) -> Tensor:
        """Code an image tile by tile.

        Differentiable as far as ``code`` is.

        Args:
            code: maps tiles of h x w cells, (1, C, k h, k w), to (1, channels, scale h, scale w).
            image: (1, C, k height, k width), with k elements a cell along each axis.
            channels: of the result.
            scale: elements of the result a cell, along each axis.

        Returns:
            (1, channels, scale height, scale width).

        Raises:
            ValueError: the image is of another shape.
        """
        size = image.shape[-1] // self.width
        if len(image) != 1 or image.shape[2:] != (size * self.height, size * self.width):
            raise ValueError(
                f"image must be (1, C, k {self.height}, k {self.width}) with a whole number k, got "
                f"{tuple(image.shape)}"
            )
        whole = image.new_zeros(1, channels, scale * self.height, scale * self.width)
        for row, column in self:
            coded = code(cut_out(image, row, column, size))
            tall = _weights(row, self.rows, self.blend, scale, ring=False).to(coded)
            wide = _weights(column, self.columns, self.blend, scale, self.wrap).to(coded)
            weighted = coded * (tall[:, None] * wide)
            rows = slice(scale * row.start, scale * row.stop)
            for on_image, in_tile in _across(column, self.width, scale):
                whole[:, :, rows, on_image] += weighted[..., in_tile]
        return whole


def _cut(length: int, tile: int, overlap: int, wrap: bool) -> tuple[Tile, ...]:
    """The fewest equal parts of which any with overlaps on both sides is at most ``tile``."""
    if not wrap and length <= tile:
        return (Tile(0, length, 0, length),)
    count = -(-length // (tile - overlap))
    cuts = [i * length // count for i in range(count + 1)]
    before, after = overlap - overlap // 2, overlap // 2
    tiles = [Tile(a - before, b + after, a, b) for a, b in pairwise(cuts)]
    if wrap:
        return tuple(tiles)
    return tuple(Tile(max(0, t.start), min(length, t.stop), t.first, t.last) for t in tiles)


def _weights(tile: Tile, tiles: tuple[Tile, ...], blend: int, scale: int, ring: bool) -> Tensor:
    """Weights of a tile's elements along an axis, in [0, 1]; over all tiles they add up to 1."""
    blend = min(blend, *(each.last - each.first for each in tiles))
    centres = (torch.arange(scale * tile.start, scale * tile.stop) + 0.5) / scale
    rising = ((centres - tile.first) / blend + 0.5).clamp(0, 1)
    falling = ((tile.last - centres) / blend + 0.5).clamp(0, 1)
    weights = torch.ones_like(centres)
    if ring or tile is not tiles[0]:
        weights *= rising
    if ring or tile is not tiles[-1]:
        weights *= falling
    return weights


def _across(column: Tile, width: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Where a tile's columns lie, with ``size`` elements a cell: on the image, in the tile."""
    return pieces(size * column.start, size * column.stop, size * width)


def cut_out(image: Tensor, row: Tile, column: Tile, size: int) -> Tensor:
    """A tile of an image (B, C, H, W) with ``size`` elements a cell; it may lie over the join."""
    stripe = image[:, :, size * row.start : size * row.stop]
    width = image.shape[-1] // size
    parts = [stripe[..., on_image] for on_image, _ in _across(column, width, size)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=3)
