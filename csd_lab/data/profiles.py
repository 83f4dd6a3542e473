"""Colour profiles (ICC): pictures as their makers saw them, in sRGB, by Little CMS.

A profile that moves no colour by more than one of 255 levels is taken for sRGB and not applied, so
that pictures in sRGB, which nearly all are, stay what they are to the last bit.
"""

import io
import logging
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from csd_lab.text import on_one_line

try:
    from PIL import ImageCms
except ImportError:  # a Pillow that was built without Little CMS
    ImageCms = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "LAB": "LAB"}
"""Colour spaces of profiles, and Pillow's modes for them."""
CONVERTED = {"RGB": ("RGB", "L", "1", "P", "YCbCr"), "L": ("L", "1")}
"""Modes that a picture may be converted from for the sake of a profile."""
GRID = 17


class Way(NamedTuple):
    """The way from a profile to sRGB.

    Attributes:
        mode: of pictures before, in Pillow's words.
        transform: to RGB; None if the profile is as good as sRGB.
    """

    mode: str
    transform: "ImageCms.ImageCmsTransform | None"


def is_srgb(profile: bytes | None) -> bool:
    """Whether a profile changes nothing (or nothing that is understood here); so does none."""
    way = _way(profile)
    return way is None or way.transform is None


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A picture with 8 bits a channel in sRGB, with mode RGB.

    Args:
        image: of any mode without opacity.
        profile: what it was saved with; None or a damaged one: what is usual for its mode.
    """
    way = _way(profile)
    if way and way.mode != image.mode and image.mode not in CONVERTED.get(way.mode, ()):
        log.warning("A colour profile for %s is left out of a picture in %s.", way.mode, image.mode)
        way = None
    if way is None and image.mode == "LAB":
        way = Way("LAB", _from_lab())
    if way is None or way.transform is None:
        return image.convert("RGB")
    return way.transform.apply(image.convert(way.mode))


@lru_cache(maxsize=8)
def _way(profile: bytes | None) -> Way | None:
    """The way from a profile; None without Little CMS, or if there is no way."""
    if ImageCms is None or not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = MODES[source.profile.xcolor_space.strip().upper()]
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            flags=ImageCms.Flags.NOOPTIMIZE,  # whose shortcut is off by ten levels in dark greys
        )
        return Way(mode, None if _moves_nothing(mode, transform) else transform)
    except (ImageCms.PyCMSError, OSError, KeyError) as error:
        reason = on_one_line(error)[:200]
        log.warning("A colour profile that cannot be applied is left out: %s", reason)
        return None


def _from_lab() -> "ImageCms.ImageCmsTransform | None":
    if ImageCms is None:
        return None
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")


def _moves_nothing(mode: str, transform: "ImageCms.ImageCmsTransform") -> bool:
    """Whether no colour of a grid (no grey of all) changes by more than a level."""
    if mode not in ("RGB", "L"):
        return False
    levels = np.linspace(0, 255, GRID if mode == "RGB" else 256).round().astype(np.uint8)
    before = (
        np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(GRID, -1, 3)
        if mode == "RGB"
        else levels[None]
    )
    image = Image.fromarray(before)
    after = np.asarray(transform.apply(image), dtype=np.int16)
    return bool(np.abs(after - np.asarray(image.convert("RGB"), dtype=np.int16)).max() <= 1)
