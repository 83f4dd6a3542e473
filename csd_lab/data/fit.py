r"""Fits frames of any size to the sizes that a prior takes, and edited frames back.

Two ways there:

- without ``resolution`` frames keep their scale and are extended to the next multiple by
  mirroring at the right and lower border; the way back cuts that off, and changes nothing;
- with ``resolution`` they are resized (bicubic, antialiased) so that one side has about that
  length; each side is rounded to a multiple, which stretches by at most half a multiple a side.

Two ways back, where the frames were resized. With D and U the resizing down and up, s the source
and e the edited frames:

- ``resize``: :math:`U(e)`, what the prior made, as sharp as it made it;
- ``residual``: :math:`s + U(e - D(s))`, the change carried over to the sharp source. Details of
  the source survive, which suits looks, light and colour; where the edit puts another thing in
  place of one, the outlines of the former shine through.

A ring (a panorama of 360 degrees, ``wrap``) must remain one: its width is never extended but
resized, if only by a few columns, and whatever is resized sees its left end behind its right.
"""

import math
from typing import Literal, final, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from csd_lab.checks import check_choice, check_whole

Detail = Literal["resize", "residual"]
Side = Literal["short", "long"]
MAX_PIXELS = 2**25


@final
class Fit:
    """A pair of maps between frames of one size and frames that a prior takes.

    Args:
        size: height and width of the source frames, in pixels.
        multiple: both sides of fitted frames are multiples of this, in pixels.
        resolution: about how long the chosen side of fitted frames is, in pixels; None: as long
            as the source's.
        side: which side ``resolution`` means.
        detail: how edited frames come back to the source's size.
        wrap: the frames are rings.

    Attributes:
        size: height and width of the source frames.
        fitted: height and width of the fitted frames.

    Raises:
        ValueError: if an argument is out of range, or the fitted frames would be huge.
    """

    def __init__(
        self,
        size: tuple[int, int],
        multiple: int,
        resolution: int | None = None,
        side: Side = "short",
        detail: Detail = "resize",
        wrap: bool = False,
    ) -> None:
        for name, number in {"height": size[0], "width": size[1], "multiple": multiple}.items():
            check_whole(name, number)
        if resolution is not None:
            check_whole("resolution", resolution)
        check_choice("side", side, get_args(Side))
        check_choice("detail", detail, get_args(Detail))
        self.size = (int(size[0]), int(size[1]))
        self.detail = detail
        self.wrap = wrap
        chosen = side_length(size, side)
        if resolution is None:
            self._scaled = (self.size[0], _near(size[1], multiple) if wrap else self.size[1])
            self.fitted = (_up(self._scaled[0], multiple), _up(self._scaled[1], multiple))
        else:
            height, width = (length * resolution / chosen for length in size)
            self._scaled = self.fitted = (_near(height, multiple), _near(width, multiple))
        if self.fitted[0] * self.fitted[1] > MAX_PIXELS:
            raise ValueError(
                f"fitted frames may have at most {MAX_PIXELS} pixels, got "
                f"{self.fitted[1]}x{self.fitted[0]} from {size[1]}x{size[0]}; choose a smaller "
                "resolution, or side='long'."
            )

    def __repr__(self) -> str:
        how = "extended" if self._scaled == self.size else "resized"
        return f"Fit({self.size[1]}x{self.size[0]} {how} to {self.fitted[1]}x{self.fitted[0]})"

    @property
    def scale(self) -> tuple[float, float]:
        """Fitted pixels a source pixel, along the height and along the width."""
        return self._scaled[0] / self.size[0], self._scaled[1] / self.size[1]

    @property
    def visible(self) -> tuple[float, float]:
        """Shares of the fitted height and width that the source takes; the rest is an extension."""
        return self._scaled[0] / self.fitted[0], self._scaled[1] / self.fitted[1]

    def apply(self, frames: Tensor) -> Tensor:
        """Frames as the prior takes them.

        Args:
            frames: (..., 3, H, W), in [0, 1], of the source's size.

        Returns:
            (..., 3, h, w), in [0, 1]; the same tensor if nothing is to be done.

        Raises:
            ValueError: if the frames have another size.
        """
        _check_size(frames, self.size)
        if self._scaled != self.size:
            frames = _resize(frames, self._scaled, self.wrap).clamp(0, 1)
        return frames if self._scaled == self.fitted else _extend(frames, self.fitted)

    def restore(self, edited: Tensor, source: Tensor, reference: Tensor | None = None) -> Tensor:
        """Edited frames at the source's size.

        Args:
            edited: (..., 3, h, w), in [0, 1], of the fitted size.
            source: (..., 3, H, W), in [0, 1], of the source's size.
            reference: what ``edited`` would be without any edit, (..., 3, h, w); with ``residual``
                the change is taken from here. None: the fitted source. The autoencoded source
                keeps the autoencoder's own loss out of the result.

        Returns:
            (..., 3, H, W), in [0, 1].

        Raises:
            ValueError: if a tensor has another size.
        """
        _check_size(edited, self.fitted)
        _check_size(source, self.size)
        if self._scaled == self.size:
            return self._unextended(edited)
        if self.detail == "resize":
            return _resize(self._unextended(edited), self.size, self.wrap).clamp(0, 1)
        change = self._unextended(edited - (self.apply(source) if reference is None else reference))
        return (source + _resize(change, self.size, self.wrap)).clamp(0, 1)

    def _unextended(self, frames: Tensor) -> Tensor:
        """Fitted frames without what they were extended by."""
        if self._scaled == self.fitted:
            return frames
        return frames[..., : self._scaled[0], : self._scaled[1]]


def side_length(size: tuple[int, int], side: Side) -> int:
    """The short or the long one of two sides."""
    return min(size) if side == "short" else max(size)


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _near(length: float, multiple: int) -> int:
    return max(1, round(length / multiple)) * multiple


def _resize(frames: Tensor, size: tuple[int, int], wrap: bool) -> Tensor:
    """Bicubic with antialiasing, which may overshoot; a ring is resized as one.

    For a ring so many columns of either end are put behind the other as the filter sees, or more,
    such that they become whole columns of the result, which are then cut off.
    """
    flat = frames.reshape(-1, *frames.shape[-3:])
    margin, width = 0, size[1]
    if wrap:
        length = frames.shape[-1]
        common = math.gcd(length, width)
        sight = 2 * max(1, length / width) + 1
        blocks = math.ceil(sight / (length // common))
        behind = blocks * (length // common)
        margin = blocks * (width // common)
        columns = torch.arange(-behind, length + behind, device=frames.device) % length
        flat = flat[..., columns]
    out = interpolate(
        flat, (size[0], width + 2 * margin), mode="bicubic", antialias=True, align_corners=False
    )
    return out[..., margin : margin + width].reshape(*frames.shape[:-2], *size)


def _extend(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Mirror at the right and lower border, as often as it takes; a single row is repeated."""
    rows, columns = (
        _mirrored(length, end, frames.device)
        for length, end in zip(frames.shape[-2:], size, strict=True)
    )
    return frames[..., rows, :][..., columns]


def _mirrored(length: int, end: int, device: torch.device) -> Tensor:
    """Indices 0, 1, ..., length - 1, length - 2, ..., 1, 0, 1, ... up to ``end`` of them."""
    period = max(1, 2 * (length - 1))
    index = torch.arange(end, device=device) % period
    return torch.where(index < length, index, period - index)


def _check_size(frames: Tensor, size: tuple[int, int]) -> None:
    if tuple(frames.shape[-2:]) != size:
        raise ValueError(
            f"frames must be {size[0]} x {size[1]} pixels (H x W), got shape {tuple(frames.shape)}."
        )
