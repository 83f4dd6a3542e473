r"""Group normalisation of an image that is coded in parts.

A group normalisation (Wu & He 2018, arXiv 1803.08494) takes the mean and variance of each group of
channels over the whole image:

.. math::
    y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

Coded in tiles, every tile would have its own, and neighbours would differ in contrast and colour.
So the image goes through the network twice. First in small patches, which share the statistics of
each layer: as many at a time as there is memory for, in groups of which each is spread over the
whole image, so that its statistics are nearly those of the whole. Their mean over the groups is
kept, and with it all tiles are coded. Layer for layer the exact statistics would take one passage a
layer; a passage in tiles with statistics of their own does not lead to them either.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from csd_lab.canvas.tiles import Code, Tile, Tiling, cut_out

CORE = 16
"""Side of the part of a patch that its statistics are of, in cells."""
MARGIN = 4
"""What a patch shows around it, in cells, so that the network sees no edge there."""

Rule = Callable[[nn.GroupNorm, Tensor], "Moments"]


class Moments(NamedTuple):
    """Moments of the G groups of a layer.

    Attributes:
        mean: (G,).
        variance: (G,).
    """

    mean: Tensor
    variance: Tensor

    def mixed(self, other: "Moments", share: float) -> "Moments":
        """Moments of a mixture, of which ``share``, in [0, 1], has the other's."""
        apart = other.mean - self.mean
        within = torch.lerp(self.variance, other.variance, share)
        return Moments(self.mean + share * apart, within + share * (1 - share) * apart**2)


@final
class SharedStatistics:
    """Statistics of an image for the group normalisations of a network.

    Args:
        network: its layers are changed within the contexts below, and as before after them.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [each for each in network.modules() if isinstance(each, nn.GroupNorm)]
        self._kept: dict[nn.GroupNorm, Moments] = {}
        self._count = 0.0

    @contextmanager
    def pooled(self, inner: Tensor) -> Iterator[None]:
        """Normalise each batch by the statistics of all its samples together, and keep these.

        Args:
            inner: which cells of the N samples they are of, (N, h, w), 0 or 1.
        """
        weight = float(inner.sum())
        self._count += weight
        share = weight / self._count

        def rule(layer: nn.GroupNorm, x: Tensor) -> Moments:
            moments = _moments(x.detach().unflatten(1, (layer.num_groups, -1)), inner)
            self._kept[layer] = self._kept.get(layer, moments).mixed(moments, share)
            return moments

        with self._normalising(rule):
            yield

    @contextmanager
    def fixed(self) -> Iterator[None]:
        """Normalise by the mean of the statistics that were kept, whatever the input."""
        with self._normalising(lambda layer, _: self._kept[layer]):
            yield

    @contextmanager
    def _normalising(self, rule: Rule) -> Iterator[None]:
        for layer in self._layers:
            layer.forward = partial(_normalised, rule, layer)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.forward


def code_in_tiles(
    network: nn.Module, code: Code, image: Tensor, tiling: Tiling, channels: int, scale: int
) -> Tensor:
    """Code an image in tiles that share the statistics of the whole.

    Differentiable in the image, with the statistics taken as constants.

    Args:
        network: what normalises within ``code``.
        code: maps tiles (N, C, k h, k w) to (N, channels, scale h, scale w).
        image: (1, C, k H, k W), with k elements a cell.
        tiling: of H x W cells.
        channels: of the result.
        scale: elements of the result a cell, along each axis.

    Returns:
        (1, channels, scale H, scale W).
    """
    statistics = SharedStatistics(network)
    if len(tiling) == 1:
        ((row, column),) = tiling
        inner = torch.outer(_own(row, image), _own(column, image))
        with statistics.pooled(inner[None]):
            return tiling.apply(code, image, channels, scale)
    largest = max((r.stop - r.start) * (c.stop - c.start) for r, c in tiling)
    with torch.no_grad():
        for patches, inner in _samples(image, tiling, largest):
            with statistics.pooled(inner):
                code(patches)
    with statistics.fixed():
        return tiling.apply(code, image, channels, scale)


def _own(tile: Tile, like: Tensor) -> Tensor:
    """1 in a tile's own part, 0 in what it overlaps its neighbours by."""
    cells = torch.arange(tile.start, tile.stop, device=like.device)
    return ((cells >= tile.first) & (cells < tile.last)).to(like.dtype)


def _samples(image: Tensor, tiling: Tiling, cells: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of patches, each spread over an image, and their inner parts, (N, h, w).

    The inner parts of all patches are the image.

    Args:
        image: (1, C, k H, k W).
        tiling: of H x W cells.
        cells: of a batch at most.
    """
    rows = _patches(tiling.height, wrap=False)
    columns = _patches(tiling.width, tiling.wrap)
    # one row after the other, each turned by one more column: those of a group lie on diagonals
    turned = [columns[i % len(columns) :] + columns[: i % len(columns)] for i in range(len(rows))]
    places = [(row, column) for row, order in zip(rows, turned, strict=True) for column in order]
    groups = -(-len(places) * (CORE + 2 * MARGIN) ** 2 // cells)
    scale = image.shape[-1] // tiling.width
    for group in range(groups):
        chosen = places[group::groups]
        inner = [torch.outer(_own(row, image), _own(column, image)) for row, column in chosen]
        patches = [cut_out(image, row, column, scale) for row, column in chosen]
        yield torch.cat(patches), torch.stack(inner)


def _patches(length: int, wrap: bool) -> list[Tile]:
    """Equally long patches, whose own parts are an axis cut into parts of at most CORE cells."""
    count = -(-length // CORE)
    side = CORE + 2 * MARGIN if wrap else min(length, CORE + 2 * MARGIN)
    patches = []
    for first, last in pairwise(i * length // count for i in range(count + 1)):
        start = (first + last - side) // 2
        start = start if wrap else min(max(0, start), length - side)
        patches.append(Tile(start, start + side, first, last))
    return patches


def _moments(x: Tensor, inner: Tensor) -> Moments:
    """Moments of the groups of features (N, G, C / G, ...) over the inner cells (N, h, w)."""
    if x.ndim == 5:
        n = x.shape[3] // inner.shape[1]
        weights = inner.repeat_interleave(n, 1).repeat_interleave(n, 2)[:, None, None]
    else:  # an attention's features, (N, G, C / G, h w)
        weights = inner.flatten(1)[:, None, None]
    over = (0, *range(2, x.ndim))
    total = weights.sum() * x.shape[2]
    mean = (x * weights).sum(over, keepdim=True) / total
    variance = ((x - mean).square_() * weights).sum(over) / total
    return Moments(mean.flatten(), variance)


def _normalised(rule: Rule, layer: nn.GroupNorm, x: Tensor) -> Tensor:
    """Features (N, C, ...) normalised by the moments that the rule gives."""
    mean, variance = rule(layer, x)
    each = x.shape[1] // layer.num_groups
    return batch_norm(
        x,
        mean.repeat_interleave(each),
        variance.repeat_interleave(each),
        layer.weight,
        layer.bias,
        training=False,
        eps=layer.eps,
    )
