"""Clips beside each other, with labels: as one clip, and as a sheet of pictures."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate, pad

from csd_lab.report.text import wrap

INK, FADED = (28, 32, 38), (110, 118, 129)
MARGIN, GAP = 20, 6
SMALL, TEXT, TITLE = 13, 16, 22
TITLE_LINES = 3
LARGEST_TILE = 480
NARROWEST = 640
WIDEST_CLIP = 1920
PANEL = 384
WIDE, WIDEST_STACK = 2, 1400
"""Frames wider than so many heights stand below each other, up to so many pixels wide."""
LARGE, DETAIL = 2048, 460
"""Images this long get parts at full size, this wide."""


def contact_sheet(
    rows: Mapping[str, Tensor],
    title: str = "",
    columns: int = 8,
    width: int = 1400,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Frames of several clips as a picture: a row a clip, a column a moment.

    Small frames are enlarged by a whole factor without smoothing, so that their pixels are seen as
    they are; the sheet is then about ``width`` wide. Single images stand beside each other, or, if
    they are wide, below each other; of large ones three parts are shown at full size too.
    Scripts that the font (DejaVu Sans: Latin, Greek, Cyrillic, Arabic and more) lacks are drawn as
    boxes.

    Args:
        rows: clips by label, each (F, 3, H, W), in [0, 1], all of one shape; in this order.
        title: above all, such as the prompt; long ones are wrapped, then cut with an ellipsis.
        columns: how many frames at most; evenly spaced from the first to the last.
        width: of the sheet, in pixels.
        names: of the F frames; None: "frame 0" and so on.

    Returns:
        The sheet, (3, H', W'), in [0, 1].

    Raises:
        ValueError: if there is no clip, or the clips differ in shape.
    """
    clips = _checked(rows)
    frames = len(clips[0])
    if frames == 1:
        parts = [side_by_side(rows)[0], *_details(rows)]
    else:
        count = min(columns, frames)
        shown = [round(place) for place in np.linspace(0, frames - 1, count).tolist()]
        tile = _tile(clips[0], min(LARGEST_TILE, (width - 2 * MARGIN) // count - GAP))
        heads = [f"frame {i}" if names is None else names[i] for i in shown]
        parts = [_text_bar(heads, tile[1], SMALL, FADED)]
        for label, clip in reversed(list(zip(rows, clips, strict=True))):
            strip = _joined(list(_scaled(clip[shown], tile)))
            parts = [_text_bar([label], strip.shape[-1]), strip, *parts]
    across = max(NARROWEST, *(part.shape[-1] for part in parts))
    if title.strip():
        parts = [_heading(title, across), *parts]
    return pad(_stacked(parts, across), [MARGIN] * 4, value=1.0)


def side_by_side(rows: Mapping[str, Tensor]) -> Tensor:
    """Several clips as one, beside each other, each under its label.

    Frames that are more than twice as wide as high stand below each other. Small ones are enlarged
    by a whole factor without smoothing; large ones are reduced so that the clip is at most 1920
    pixels wide.

    Args:
        rows: clips by label, each (F, 3, H, W), in [0, 1], all of one shape; from left to right,
            or from top to bottom.

    Returns:
        The clip, (F, 3, H', W'), in [0, 1]; H' and W' are even, as video encoders want it.

    Raises:
        ValueError: if there is no clip, or the clips differ in shape.
    """
    clips = _checked(rows)
    if clips[0].shape[3] > WIDE * clips[0].shape[2]:
        return _even(_below_each_other(list(rows), clips))
    room = (WIDEST_CLIP - GAP * (len(clips) - 1)) // len(clips)
    tile = _tile(clips[0], room if clips[0].shape[-1] > PANEL else min(room, PANEL))
    panels = _joined([_scaled(clip, tile) for clip in clips])
    labels = _text_bar(list(rows), tile[1]).expand(len(panels), -1, -1, -1)
    return _even(torch.cat([labels, panels], dim=2))


def _below_each_other(labels: list[str], clips: list[Tensor]) -> Tensor:
    """Wide clips, (F, 3, H, W) each, as one."""
    tile = _tile(clips[0], WIDEST_STACK)
    parts = []
    for label, clip in zip(labels, clips, strict=True):
        bar = _text_bar([label], tile[1]).expand(len(clip), -1, -1, -1)
        parts += [bar, _scaled(clip, tile)]
    return torch.cat(parts, dim=2)


def _even(clip: Tensor) -> Tensor:
    return pad(clip, [0, clip.shape[3] % 2, 0, clip.shape[2] % 2], value=1.0)


def _details(rows: Mapping[str, Tensor]) -> list[Tensor]:
    """Three parts of large images at full size: a bar with the label and a strip for each image."""
    images = [clip[0] for clip in _checked(rows)]
    height, width = images[0].shape[-2:]
    if max(height, width) < LARGE:
        return []
    side = min(DETAIL, height, width)
    top = (height - side) // 2
    places = [round(share * (width - side)) for share in (0.0, 0.5, 1.0)]
    parts = []
    for label, image in zip(rows, images, strict=True):
        strip = [image[:, top : top + side, left : left + side] for left in places]
        joined = _joined(strip)
        parts += [_text_bar([f"{label}, parts at full size"], joined.shape[-1]), joined]
    return parts


def _checked(rows: Mapping[str, Tensor]) -> list[Tensor]:
    clips = [clip.detach().cpu().float() for clip in rows.values()]
    shapes = {tuple(clip.shape) for clip in clips}
    if len(shapes) != 1 or any(len(s) != 4 or s[1] != 3 or 0 in s for s in shapes):
        raise ValueError(
            f"rows must be clips of one shape (F, 3, H, W) with F >= 1, got {sorted(shapes)}."
        )
    return clips


def _tile(clip: Tensor, room: int) -> tuple[int, int]:
    """Height and width of a frame that is to be about ``room`` pixels wide, and not much higher."""
    height, width = clip.shape[-2:]
    scale = room / max(width, height / 1.5)
    if scale > 1:
        scale = max(1, round(scale))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _scaled(clip: Tensor, size: tuple[int, int]) -> Tensor:
    if size[0] >= clip.shape[2]:
        return interpolate(clip, size, mode="nearest")
    resized = interpolate(clip, size, mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)


def _joined(pictures: list[Tensor]) -> Tensor:
    """Pictures of one shape, (..., h, w), beside each other with gaps between."""
    spaced = [pad(picture, [0, GAP], value=1.0) for picture in pictures[:-1]]
    return torch.cat([*spaced, pictures[-1]], dim=-1)


def _stacked(pictures: list[Tensor], width: int) -> Tensor:
    """Pictures, (3, h, w), below each other, filled up to a common width."""
    return torch.cat([pad(p, [0, width - p.shape[-1]], value=1.0) for p in pictures], dim=1)


def _text_bar(
    texts: list[str], cell: int, size: int = TEXT, colour: tuple[int, int, int] = INK
) -> Tensor:
    """A line of text above each of several pictures that are ``cell`` wide, (3, h, w)."""
    font, height = _font(size), 2 * size
    bar = Image.new("RGB", (len(texts) * (cell + GAP) - GAP, height), "white")
    for index, text in enumerate(texts):
        for line in wrap(text, font, cell, 1):
            place = (index * (cell + GAP), height // 2)
            ImageDraw.Draw(bar).text(place, line, colour, font, anchor="lm")
    return _tensor(bar)


def _heading(title: str, width: int) -> Tensor:
    font, line = _font(TITLE, bold=True), round(1.4 * TITLE)
    wrapped = wrap(title, font, width, TITLE_LINES)
    heading = Image.new("RGB", (width, line * len(wrapped)), "white")
    for index, text in enumerate(wrapped):
        ImageDraw.Draw(heading).text((0, index * line), text, INK, font)
    return _tensor(heading)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


@lru_cache(maxsize=8)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
