"""Still and animated images, read with Pillow; 16-bit colour with FFmpeg, as Pillow has 8 bits.

A picture is read as a viewer would show it: upright, in sRGB, and with what shines through where it
is not opaque (:class:`Picture`). Colour profiles are applied by Little CMS, with 8 bits a channel;
one that moves no colour by more than a level is taken for sRGB, and then nothing is rounded.
"""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from csd_lab.data import clips, profiles
from csd_lab.data.containers import MediaError, shown

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.generic]
Colour = tuple[float, float, float]

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")
ANIMATED = ("PNG", "GIF", "WEBP")
ENDLESS = ("TIFF", "BMP")
ORIENTATION_TAG = 0x0112
TURNED = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""
BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What takes a picture that was turned by its EXIF orientation back to how it is stored."""
BITS_TAG, KIND_TAG, TILE_TAG, ALPHA_TAG, NUMBERS_TAG = 258, 262, 322, 338, 339
"""Of TIFF: bits a channel, what they mean, tiles, what a fourth one is, kind of numbers."""
LENGTH_TAGS = (279, 325)
"""Of TIFF: lengths of strips or tiles, which stand behind what says how they are to be read."""
TIFF_NEGATIVE, TIFF_RGB, PREMULTIPLIED, FLOATS = 0, 2, 1, 3
DEEPEST = 65535

WHITE: Colour = (1.0, 1.0, 1.0)
MAX_PIXELS = 2**26
"""Of one picture; 8192 x 8192."""


class Still(NamedTuple):
    """What the header of an image file says.

    Attributes:
        height: in pixels.
        width: in pixels.
        frames: 1, or the number of frames of an animation.
    """

    height: int
    width: int
    frames: int


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        colour: (H, W, 3), uint8, or float32 in [0, 1] where a channel has more than 8 bits; not
            multiplied by the opacity.
        alpha: opacity, (H, W), float32 in [0, 1]; None if all is opaque.
    """

    colour: Pixels
    alpha: npt.NDArray[np.float32] | None

    def over(self, background: Colour = WHITE) -> Pixels:
        """The picture laid over a plain colour, (H, W, 3), uint8 or float32 in [0, 1].

        Args:
            background: red, green and blue, in [0, 1].
        """
        if self.alpha is None:
            return self.colour
        colour, alpha = _unit(self.colour), self.alpha[..., None]
        return colour * alpha + np.asarray(background, np.float32) * (1 - alpha)


def look(path: Path, upright: bool = True) -> Still:
    """Size and number of frames of an image file; only formats without an end mark are decoded.

    Args:
        path: of the file.
        upright: whether the size is that of the upright picture, or that of the stored one.
    """
    with _open(path) as image:
        turned = image.getexif().get(ORIENTATION_TAG) in TURNED
        if image.format in ENDLESS:
            image.load()
        width, height = image.size
        frames = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
        if turned and frames == 1 and upright is not _turns_itself(image):
            width, height = height, width
    return Still(height, width, frames)


def read_frames(
    path: Path, part: slice = slice(None), upright: bool = True
) -> Iterator[tuple[Picture, float]]:
    """The pictures of an image file, in order, each with the second at which it is shown.

    Animations come composed, each frame as a viewer would show it.

    Args:
        path: a png, jpg, gif, webp, tif or bmp file.
        part: which frames of an animation.
        upright: whether a single picture is turned as its EXIF says, or left as it is stored.
    """
    with _open(path) as image:
        count = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
        time, wanted = 0.0, range(count)[part]
        for index in range(wanted[-1] + 1 if wanted else 0):
            image.seek(index)
            if index in wanted and count == 1 and _is_deep_colour(image, path):
                yield _deep_colour(image, path, upright), time
                return
            orientation = image.getexif().get(ORIENTATION_TAG) if count == 1 else None
            image.load()
            if index in wanted:
                turned = _oriented(image, orientation, upright)
                yield _picture(turned, path, _is_negative(image)), time
            time += _duration(image)


def _turns_itself(image: Image.Image) -> bool:
    """Whether Pillow turns a picture by its EXIF orientation as it loads it."""
    return image.format == "TIFF"


def _oriented(image: Image.Image, orientation: int | None, upright: bool) -> Image.Image:
    """A loaded picture, upright, or as it is stored.

    Args:
        image: as Pillow gives it.
        orientation: by EXIF, before it was loaded; None: as stored, in any case.
        upright: which one it is to be.
    """
    if orientation not in BACK or upright is _turns_itself(image):
        return image
    return ImageOps.exif_transpose(image) if upright else image.transpose(BACK[orientation])


def _open(path: Path) -> Image.Image:
    Image.init()  # registers all formats; else those named below may not be known yet
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(path, formats=FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(path) from error
        except UnidentifiedImageError:
            _check_tiff(path)
            raise
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise _too_large(path)
    if image.mode == "F":
        image.close()
        raise _floats(path)
    return image


def _too_large(path: Path) -> MediaError:
    side = round(MAX_PIXELS**0.5)
    return MediaError(
        f"{shown(path)} has more than {MAX_PIXELS} pixels ({side} x {side}), the most that are "
        "read; scale it down first."
    )


def _check_tiff(path: Path) -> None:
    """Say of a whole TIFF that Pillow has no mode for what is in it.

    Raises:
        MediaError: if that is so.
    """
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] not in (b"II*\0", b"MM\0*") or len(head) < 8:
            return
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        file.seek(tags.next)
        tags.load(file)
        numbers, bits = tags.get(NUMBERS_TAG, ()), tags.get(BITS_TAG, ())
        whole = any(tag in tags for tag in LENGTH_TAGS)
    if FLOATS in numbers:
        raise _floats(path)
    if bits and whole:
        raise MediaError(
            f"{shown(path)} is a kind of TIFF that cannot be read here ({len(bits)} channels of "
            f"{max(bits)} bits); save it as RGB with 8 or 16 bits a channel."
        )


def _floats(path: Path) -> MediaError:
    return MediaError(
        f"{shown(path)} holds floating-point numbers, whose range and meaning a file does not say; "
        "save it with 8 or 16 bits a channel."
    )


def _duration(image: Image.Image) -> float:
    """Seconds; as in browsers, frames of 10 ms and less take 100 ms."""
    milliseconds = float(image.info.get("duration", 0))
    return milliseconds / 1000 if milliseconds > 10 else 0.1


def _is_negative(image: Image.Image) -> bool:
    """Whether 0 means white, which Pillow heeds with 8 bits only."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not image.mode.startswith("I;16"):
        return False
    return image.tag_v2.get(KIND_TAG) == TIFF_NEGATIVE


def _picture(image: Image.Image, path: Path, negative: bool) -> Picture:
    """What Pillow has decoded."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        grey = _deep_grey(image, path)
        return Picture(_deep_in_srgb(1 - grey if negative else grey, profile, path), None)
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        alpha = _unit(np.asarray(layers.getchannel("A")))
        return _with_alpha(np.asarray(profiles.to_srgb(layers.convert("RGB"), profile)), alpha)
    return Picture(np.asarray(profiles.to_srgb(image, profile)), None)


def _with_alpha(colour: Pixels, alpha: npt.NDArray[np.float32]) -> Picture:
    return Picture(colour, alpha if alpha.min() < 1 else None)


def _deep_grey(image: Image.Image, path: Path) -> npt.NDArray[np.float32]:
    """Grey of 9 to 16 bits, or of 32 that hold no more than 16, (H, W, 1), in [0, 1]."""
    values = np.asarray(image, dtype=np.float64) / _deepest_grey(image)
    if not (values.min() >= 0 and values.max() <= 1):
        raise MediaError(
            f"{shown(path)} has grey values outside of 0 to {DEEPEST}; save it as 8 or 16 bit."
        )
    return values.astype(np.float32)[..., None]


def _deepest_grey(image: Image.Image) -> int:
    """The white of deep grey: less than 16 bits are stored as they are."""
    tags = getattr(image, "tag_v2", {})
    bits: int = tags.get(BITS_TAG, (16,))[0] if image.mode.startswith("I;16") else 16
    return int(2**bits - 1)


def _is_deep_colour(image: Image.Image, path: Path) -> bool:
    """Whether it has colour, or grey with opacity, of 16 bits a channel that FFmpeg can read.

    Of TIFFs in tiles FFmpeg makes black pictures; there Pillow's 8 bits have to do.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        deep = tags.get(KIND_TAG) == TIFF_RGB and set(tags.get(BITS_TAG, ())) == {16}
        if deep and TILE_TAG in tags:
            log.warning("%s: 8 of 16 bits are read, as it is a TIFF in tiles.", shown(path))
        return deep and TILE_TAG not in tags
    return (
        image.format == "PNG" and image.mode != "I;16" and "16B" in str(getattr(image, "tile", ""))
    )


def _deep_colour(image: Image.Image, path: Path, upright: bool) -> Picture:
    """Colour of 16 bits a channel, decoded by FFmpeg; ``image`` is what Pillow says of the file."""
    orientation = image.getexif().get(ORIENTATION_TAG, 1) if upright else 1
    image.load()  # for its errors: FFmpeg forgives damage
    values = clips.read_deep(path, "tiff_pipe" if image.format == "TIFF" else "png_pipe")
    layers = np.divide(values, DEEPEST, dtype=np.float32)
    if image.format == "TIFF" and PREMULTIPLIED in image.tag_v2.get(ALPHA_TAG, ()):  # type: ignore[attr-defined]
        layers[..., :3] = (layers[..., :3] / layers[..., 3:].clip(1 / DEEPEST)).clip(0, 1)
    layers = np.ascontiguousarray(_upright(layers, orientation))
    profile = image.info.get("icc_profile")
    return _with_alpha(_deep_in_srgb(layers[..., :3], profile, path), layers[..., 3])


def _upright(pixels: npt.NDArray[np.float32], orientation: int) -> npt.NDArray[np.float32]:
    """Pixels, (H, W, C), turned by the EXIF orientation that they were stored with."""
    if orientation in TURNED:
        pixels = pixels.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return pixels[rows, columns]


def _deep_in_srgb(values: npt.NDArray[np.float32], profile: bytes | None, path: Path) -> Pixels:
    """Deep grey or colour, (H, W, 1 or 3), as sRGB, (H, W, 3); a profile leaves 8 bits of it."""
    if profiles.is_srgb(profile):
        return np.broadcast_to(values, (*values.shape[:2], 3))
    log.warning("%s: 8 of 16 bits are read, as it has a colour profile.", shown(path))
    shallow = np.rint(values * 255).astype(np.uint8)
    image = Image.fromarray(shallow[..., 0] if shallow.shape[-1] == 1 else shallow)
    return np.asarray(profiles.to_srgb(image, profile))


def _unit(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Pixels as float32 in [0, 1]."""
    scale = 255 if pixels.dtype == np.uint8 else 1
    return np.divide(pixels, scale, dtype=np.float32)
