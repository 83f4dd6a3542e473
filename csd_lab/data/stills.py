"""Still and animated images, read with Pillow."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from csd_lab.data.containers import MediaError, shown

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")
ANIMATED = ("PNG", "GIF", "WEBP")
ENDLESS = ("TIFF", "BMP")
ORIENTATION_TAG = 0x0112
TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


class Still(NamedTuple):
    """What the header of an image file says.

    Attributes:
        height: of the upright picture, in pixels.
        width: of the upright picture, in pixels.
        frames: 1, or the number of frames of an animation.
    """

    height: int
    width: int
    frames: int


def look(path: Path) -> Still:
    """Size and number of frames of an image file; only formats without an end mark are decoded."""
    with _open(path) as image:
        if image.format in ENDLESS:
            image.load()
        width, height = image.size
        frames = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
        if frames == 1 and image.getexif().get(ORIENTATION_TAG) in TURNED:
            width, height = height, width
    return Still(height, width, frames)


def read_frames(
    path: Path, part: slice = slice(None)
) -> Iterator[tuple[npt.NDArray[np.generic], float]]:
    """The pictures of an image file, in order, each with the second at which it is shown.

    Colour profiles are not applied. A picture with transparency is laid over white. Animations
    come composed, each frame as a viewer would show it.

    Args:
        path: a png, jpg, gif, webp, tif or bmp file.
        part: which frames of an animation.

    Yields:
        The picture, (H, W, 3), as uint8, or float32 in [0, 1] where a channel has more than 8
        bits; and its time.
    """
    with _open(path) as image:
        count = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
        time, wanted = 0.0, range(count)[part]
        for index in range(wanted[-1] + 1 if wanted else 0):
            image.seek(index)
            image.load()
            if index in wanted:
                upright = ImageOps.exif_transpose(image) if count == 1 else image
                yield _pixels(upright, path), time
            time += _duration(image)


def _open(path: Path) -> Image.Image:
    Image.init()  # registers all formats; else those named below may not be known yet
    return Image.open(path, formats=FORMATS)


def _duration(image: Image.Image) -> float:
    """Seconds; as in browsers, frames of 10 ms and less take 100 ms."""
    milliseconds = float(image.info.get("duration", 0))
    return milliseconds / 1000 if milliseconds > 10 else 0.1


def _pixels(image: Image.Image, path: Path) -> npt.NDArray[np.generic]:
    if image.mode.startswith(("I", "F")):
        return _deep_grey(image, path)
    if image.has_transparency_data:
        layers = np.asarray(image.convert("RGBA"), dtype=np.float32)
        alpha = layers[..., 3:] / 255
        return np.rint(layers[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.asarray(image.convert("RGB"))


def _deep_grey(image: Image.Image, path: Path) -> npt.NDArray[np.generic]:
    """Grey of 16 or 32 bits as three equal channels, (H, W, 3), float32 in [0, 1]."""
    values = np.asarray(image, dtype=np.float64) / (1.0 if image.mode == "F" else 65535.0)
    if not (values.min() >= 0 and values.max() <= 1):
        full = "1" if image.mode == "F" else "65535"
        raise MediaError(
            f"{shown(path)} has grey values outside of 0 to {full}; save it as 8 or 16 bit."
        )
    return np.repeat(values.astype(np.float32)[..., None], 3, axis=-1)
