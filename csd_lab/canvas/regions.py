r"""Regions of an image, each with a prompt of its own, and how much of each a window sees.

Region p has a mask m_p of the canvas's height and width, in [0, 1]: at a latent, the share of it
that the region covers. A soft transition of width d is the mask's mean over a square of side d, so
that a straight border becomes a linear ramp. A canvas may go on beyond its image, at the right and
lower border, where a prior takes some sizes alone: there a mask goes on as at the image's edge.
Where regions overlap they share,

.. math::
    m_p \to \frac{m_p}{\max(1, \sum_q m_q)}, \qquad m_\text{background} = 1 - \sum_p m_p,

and what no region covers is the background's. The weight of a prompt in window i is the mean of its
mask over the window,

.. math::
    w_{i p} = \frac{1}{h w} \sum_{l \in i} m_p(l), \qquad \sum_p w_{i p} = 1,

which for K equal strips is what the official code has in tables, for K = 2, 3 and 4 and one size
(Kim et al. 2023, https://github.com/subin-kim-cv/CSD): the share of the window in the strip. A
prompt of weight 0 need not be evaluated.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from csd_lab.canvas.windows import WindowGrid

NOTHING = 1e-6
"""Below this a weight is rounding."""

WHOLE = (1.0, 1.0)
"""An image as high and as wide as its canvas."""


class Region(ABC):
    """A part of an image."""

    @abstractmethod
    def mask(self, height: int, width: int, visible: tuple[float, float] = WHOLE) -> Tensor:
        """The share of each latent that the region covers.

        Args:
            height: of the canvas, in latents.
            width: of the canvas, in latents.
            visible: shares of these, in (0, 1], that the image takes from the top left corner;
                beyond, the region goes on as at the image's edge.

        Returns:
            (height, width), float32, in [0, 1].
        """


@final
@dataclass(frozen=True)
class Box(Region):
    """A rectangle, in shares of the image's height and width, so that it fits any size.

    On a ring ``left`` may be greater than ``right``: the box then lies over the join.

    Args:
        top: of the height, from 0 at the top to 1 at the bottom.
        left: of the width, from 0 at the left to 1 at the right.
        bottom: of the height, greater than ``top``.
        right: of the width.

    Raises:
        ValueError: a side is out of range, or the box is empty.
    """

    top: float = 0.0
    left: float = 0.0
    bottom: float = 1.0
    right: float = 1.0

    def __post_init__(self) -> None:
        sides = (self.top, self.left, self.bottom, self.right)
        if not all(0 <= side <= 1 for side in sides):
            raise ValueError(
                "top, left, bottom and right must be shares of the image, from 0 to 1, got "
                f"{', '.join(map(str, sides))}"
            )
        if self.top >= self.bottom or self.left == self.right:
            raise ValueError(f"a box must not be empty: top < bottom and left != right, got {self}")

    def mask(self, height: int, width: int, visible: tuple[float, float] = WHOLE) -> Tensor:
        """The share of each latent that the box covers, see :class:`Region`."""
        down, across = visible
        tall = _covered(self.top, self.bottom, height, down)
        if self.left < self.right:
            wide = _covered(self.left, self.right, width, across)
        else:
            wide = _covered(self.left, 1, width, across) + _covered(0, self.right, width, across)
        return torch.outer(tall, wide).float()


@final
@dataclass(frozen=True)
class Strip(Region):
    """One of several equally wide upright strips, which lie side by side.

    Args:
        index: which strip, from 0 at the left.
        count: how many there are.

    Raises:
        ValueError: there is no such strip.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(
                f"index must be from 0 to count - 1 = {self.count - 1}, got {self.index}"
            )

    def mask(self, height: int, width: int, visible: tuple[float, float] = WHOLE) -> Tensor:
        """The share of each latent that the strip covers, see :class:`Region`."""
        left, right = self.index / self.count, (self.index + 1) / self.count
        return Box(left=left, right=right).mask(height, width, visible)


@final
class Mask(Region):
    """A region that was drawn: white where it is, grey where it partly is.

    Args:
        image: (H, W), in [0, 1]; laid over the whole image, whatever its size.

    Raises:
        ValueError: the image is of another shape or range.
    """

    def __init__(self, image: Tensor) -> None:
        if image.ndim != 2 or 0 in image.shape:
            raise ValueError(f"a mask must be (H, W), one value a pixel, got {tuple(image.shape)}")
        if not bool(((image >= 0) & (image <= 1)).all()):
            raise ValueError(
                f"a mask must be in [0, 1], got values from {image.min():.4g} to {image.max():.4g}"
            )
        self.image = image.float()

    def mask(self, height: int, width: int, visible: tuple[float, float] = WHOLE) -> Tensor:
        """The mean of the drawn image over each latent, see :class:`Region`."""
        (rows, columns), (down, across) = self.image.shape, visible
        tall, wide = _shares(height, rows, down), _shares(width, columns, across)
        return (tall @ self.image @ wide.T).clamp(0, 1)


class PromptedRegion(NamedTuple):
    """A region where a prompt of its own holds.

    Attributes:
        prompt: an instruction or a caption, as the prior wants it.
        area: where it holds.
    """

    prompt: str
    area: Region


def region_masks(
    regions: Sequence[Region],
    height: int,
    width: int,
    transition: float = 0.0,
    wrap: bool = False,
    visible: tuple[float, float] = WHOLE,
) -> Tensor:
    """Masks of all regions, and of the background that they leave.

    Args:
        regions: P regions, in the order of their prompts; they may overlap.
        height: of the canvas, in latents.
        width: of the canvas, in latents.
        transition: width of the passage from a region to its surroundings, in latents (pixels
            divided by the prior's ``latent_scale``); 0: sharp.
        wrap: the canvas is closed along its width.
        visible: shares of the canvas's height and width that the image takes, from the top left
            corner; regions lie on the image, and go on beyond it as at its edge.

    Returns:
        (P + 1, height, width), float32, in [0, 1]; the last one is the background's. They add up
        to 1.

    Raises:
        ValueError: the transition is negative or wider than the canvas, a box crosses the join of
            a canvas that is not closed, or the image does not lie on the canvas.
    """
    _check_visible(visible, wrap)
    if not 0 <= transition <= min(height, width):
        raise ValueError(
            f"transition must be from 0 to the canvas's shorter side, {min(height, width)} latents,"
            f" got {transition}"
        )
    for region in regions:
        if isinstance(region, Box) and region.left > region.right and not wrap:
            raise ValueError(
                f"left must be less than right where the image is no ring (wrap=True), got {region}"
            )
    masks = torch.zeros(len(regions) + 1, height, width, dtype=torch.float64)
    for mask, region in zip(masks, regions, strict=False):
        mask += _softened(region.mask(height, width, visible).double(), transition, wrap)
    masks[:-1] /= masks.sum(0).clamp(min=1)
    masks[-1] = 1 - masks.sum(0)
    return torch.where(masks < NOTHING, 0, masks).float()


def window_weights(masks: Tensor, grid: WindowGrid, ids: Tensor) -> Tensor:
    """The weight of each prompt in some windows.

    Args:
        masks: of P prompts on the grid's canvas, (P, H, W); they add up to 1.
        grid: M windows.
        ids: which of them, (N,).

    Returns:
        (N, P), in [0, 1], exactly 0 where a window does not touch a region; rows add up to 1.
    """
    weights = [grid.crop(masks[None], some).double().mean(dim=(2, 3)) for some in ids.split(64)]
    return torch.cat(weights).to(masks.dtype)


def _check_visible(visible: tuple[float, float], wrap: bool) -> None:
    if not all(0 < share <= 1 for share in visible) or (wrap and visible[1] != 1):
        raise ValueError(
            "visible must be shares of the canvas's height and width, above 0 and at most 1, and 1 "
            f"along the width of a ring (wrap=True), got {visible}"
        )


def _covered(start: float, stop: float, length: int, visible: float) -> Tensor:
    """The share of each latent of an axis that a stretch of the image covers, (length,).

    Args:
        start: of the image, from 0 to 1.
        stop: likewise; at 1 the stretch goes on to the end of the axis.
        length: of the axis, in latents.
        visible: share of it that the image takes.
    """
    seen = visible * length
    edges = torch.arange(length + 1, dtype=torch.float64)
    inside = edges.clamp(start * seen, length if stop == 1 else stop * seen)
    return inside.diff()


def _shares(length: int, pixels: int, visible: float) -> Tensor:
    """How much of each latent of an axis each pixel of a drawn image is, (length, pixels).

    Args:
        length: of the axis, in latents.
        pixels: of the drawn image; the last one goes on to the end of the axis.
        visible: share of the axis that the image takes.
    """
    parts = torch.arange(length, dtype=torch.float64)[:, None]
    edges = torch.arange(pixels + 1, dtype=torch.float64) * (visible * length) / pixels
    edges[-1] = length
    common = torch.minimum(edges[1:], parts + 1) - torch.maximum(edges[:-1], parts)
    return common.clamp(min=0).float()


def _softened(mask: Tensor, side: float, wrap: bool) -> Tensor:
    """The mean over squares of this side, (H, W); beyond its edges a mask goes on as there."""
    if side <= 1:
        return mask
    reach = ceil((side - 1) / 2)  # latents to each side that the square touches
    offsets = torch.arange(-reach, reach + 1, dtype=mask.dtype)
    taps = ((offsets + 0.5).clamp(max=side / 2) - (offsets - 0.5).clamp(min=-side / 2)) / side
    soft = pad(mask[None, None], (0, 0, reach, reach), mode="replicate")
    soft = conv2d(soft, taps[:, None][None, None])
    soft = pad(soft, (reach, reach, 0, 0), mode="circular" if wrap else "replicate")
    return conv2d(soft, taps[None, None, None])[0, 0]
