"""Reads and writes what a user has: videos, animations, folders of images, single images.

:func:`probe` looks at headers and structure only and is cheap; :func:`read_media` decodes. Both
raise :class:`MediaError` with one line that says what is wrong with which file. What a file is
follows from its first bytes, not from its name.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from csd_lab.checks import check_whole
from csd_lab.data import clips, stills
from csd_lab.data.checks import FASTEST, SLOWEST, check_fps
from csd_lab.data.containers import STILLS, Kind, MediaError, flaw, shown, sniff
from csd_lab.data.stills import Colour
from csd_lab.files import atomic_path
from csd_lab.text import natural, on_one_line

log = logging.getLogger(__name__)

__all__ = [
    "Media",
    "MediaError",
    "MediaInfo",
    "Photo",
    "probe",
    "read_image",
    "read_media",
    "write_image",
    "write_video",
]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
WITH_ALPHA = frozenset({".png", ".webp", ".tif", ".tiff"})
READABLE = "mp4, mov, webm, mkv, avi, gif, a folder of images, or a png, jpg, webp, tif, bmp image"
STILL_FPS = 8.0
PNG_EFFORT = 3
"""Of 9: a third of the usual time, and photographs become no larger by it."""
RATE_TOLERANCE = 0.02
GIBIBYTE = 2**30

Picture = tuple[npt.NDArray[np.generic], float | None]
"""Pixels, (H, W, 3), and the second at which they are shown, None if unknown."""


class Media(NamedTuple):
    """Frames in memory.

    Attributes:
        frames: (F, 3, H, W), float32, in [0, 1].
        fps: frames a second.
        name: name of the file or folder, for display only.
    """

    frames: Tensor
    fps: float
    name: str


class Photo(NamedTuple):
    """One image in memory.

    Attributes:
        image: laid over a plain background where it is transparent, (3, H, W), float32, in [0, 1].
        alpha: opacity, (H, W), float32, in [0, 1]; None if all is opaque.
        name: name of the file, for display only.
    """

    image: Tensor
    alpha: Tensor | None
    name: str


class MediaInfo(NamedTuple):
    """What can be said of media without decoding them.

    Attributes:
        kind: where the frames come from.
        height: of the upright frames, in pixels.
        width: of the upright frames, in pixels.
        frames: number of wanted frames; None if the header does not say.
        fps: frames a second; None if there is no rate, or the header does not say.
        name: name of the file or folder, for display only.
    """

    kind: Literal["video", "animation", "folder", "image"]
    height: int
    width: int
    frames: int | None
    fps: float | None
    name: str


def probe(
    path: Path | str, max_frames: int | None = None, start: int = 0, stride: int = 1
) -> MediaInfo:
    """Check that media can be read, by headers and structure; decodes one frame at most.

    Args:
        path: a file or a folder.
        max_frames: how many frames at most; None: all.
        start: first frame.
        stride: take each ``stride``-th frame.

    Raises:
        MediaError: if something is missing, empty, cut short or not media.
        ValueError: if another argument is out of range.
    """
    path, part = Path(path), _part(max_frames, start, stride)
    with _one_line(path):
        info = _info(path, part)
        if info.frames is None:
            return info
        wanted = len(range(info.frames)[part])
        if wanted == 0:
            raise _too_late(path, start)
        return info._replace(frames=wanted)


def read_media(
    path: Path | str,
    max_frames: int | None = None,
    start: int = 0,
    stride: int = 1,
    still_fps: float = STILL_FPS,
    max_bytes: int = 8 * GIBIBYTE,
) -> Media:
    """Read frames ``start``, ``start + stride``, ... of a video, animation, folder or image.

    Every decoded frame is one frame of the result: of a video with a variable frame rate none is
    repeated or dropped, and ``fps`` is the mean rate, so that the clip takes as long as before.
    Images of a folder are taken in natural order (2 before 10); other files in it are ignored.
    Transparency is laid over white, but that of VP8 and VP9 is not read; EXIF orientation, rotation
    tags and the colour profiles of images are applied.

    Args:
        path: a file or a folder.
        max_frames: how many frames at most; None: all.
        start: first frame.
        stride: take each ``stride``-th frame.
        still_fps: frames a second of folders and images, which have no rate of their own.
        max_bytes: most memory that the frames may take, 12 bytes a pixel.

    Raises:
        MediaError: if the media cannot be read whole; the message is one line.
        ValueError: if another argument is out of range.
    """
    check_fps("still_fps", still_fps)
    path, part = Path(path), _part(max_frames, start, stride)
    info = probe(path, max_frames, start, stride)
    pictures: list[Picture] = []
    with _one_line(path):
        for picture in _pictures(path, info, part):
            pictures.append(picture)
            _check_room(path, pictures, max_bytes)
        if not pictures:
            raise _too_late(path, start)
        _check_sizes(path, pictures)
    return Media(_tensor(pictures), _rate(pictures, info, stride, still_fps), info.name)


def read_image(path: Path | str, background: Colour = stills.WHITE, upright: bool = True) -> Photo:
    """Read one image whole: png, jpg, webp, tif, bmp, or a gif of one frame.

    It comes upright (EXIF) and in sRGB (ICC), with the full depth of 8 or 16 bits a channel; of
    16 bits 8 are read, and a line of the log says so, where a colour profile has to be applied or
    a TIFF is stored in tiles. Of a TIFF with several pages the first one is read.

    Args:
        path: of the file.
        background: red, green and blue, in [0, 1], of what a transparent image is laid over.
        upright: whether it is turned as its EXIF says, or left as it is stored.

    Raises:
        MediaError: if it is no image, an animation, has more than 2**26 pixels, holds
            floating-point numbers, or cannot be read whole; the message is one line.
    """
    path = Path(path)
    image_size(path)
    with _one_line(path):
        picture, _ = next(stills.read_frames(path, upright=upright))
    alpha = None if picture.alpha is None else torch.tensor(picture.alpha)
    return Photo(_tensor([(picture.over(background), None)])[0], alpha, _name(path))


def image_size(path: Path | str, upright: bool = True) -> tuple[int, int]:
    """Height and width of an image, in pixels, without decoding it (but for tif and bmp).

    Args:
        path: of the file.
        upright: of the upright image, or of the stored one.

    Raises:
        MediaError: if it is no image, or an animation; the message is one line.
    """
    path = Path(path)
    with _one_line(path):
        if _is_folder(path) or _kind(path) not in STILLS:
            what = "a folder" if path.is_dir() else "a video"
            raise MediaError(f"{shown(path)} is {what}, not a single image.")
        still = stills.look(path, upright)
        if still.frames > 1:
            raise MediaError(f"{shown(path)} is an animation, not a single image.")
    return still.height, still.width


def write_video(path: Path | str, frames: Tensor, fps: float) -> None:
    """Write an mp4 that browsers play (H.264, 4:2:0); it appears whole or not at all.

    An odd width or height is extended by one copied column or row, since 4:2:0 needs even sides.

    Args:
        path: a name that ends in .mp4.
        frames: (F, 3, H, W), in [0, 1], F >= 1.
        fps: frames a second.

    Raises:
        ValueError: if an argument is out of range, or a value is not finite.
        OSError: if the file cannot be written.
    """
    if Path(path).suffix.lower() != ".mp4":
        raise ValueError(f"path must end in .mp4, got {shown(path)}.")
    check_fps("fps", fps)
    if frames.ndim != 4 or frames.shape[0] == 0:
        raise ValueError(f"frames must be (F, 3, H, W) with F >= 1, got {tuple(frames.shape)}.")
    height, width = frames.shape[2:]
    with atomic_path(path) as temporary:
        clips.write_frames(temporary, (_bytes(frame) for frame in frames), height, width, fps)


def write_image(path: Path | str, image: Tensor) -> None:
    """Write an image; it appears whole or not at all.

    Args:
        path: a name that ends in .png, .jpg, .webp, .tif or .bmp.
        image: (3, H, W), or (4, H, W) with opacity, in [0, 1]; rounded to the nearest of 255
            levels.

    Raises:
        ValueError: if an argument is out of range, a value is not finite, or the format cannot
            hold opacity.
        OSError: if the file cannot be written.
    """
    if Path(path).suffix.lower() not in IMAGE_SUFFIXES:
        names = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"path must end in one of {names}, got {shown(path)}.")
    if len(image) == 4 and Path(path).suffix.lower() not in WITH_ALPHA:
        names = ", ".join(sorted(WITH_ALPHA))
        raise ValueError(f"path must end in one of {names} to hold opacity, got {shown(path)}.")
    pixels = _bytes(image, 4 if len(image) == 4 else 3)
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, quality=95, compress_level=PNG_EFFORT)


def _bytes(image: Tensor, channels: int = 3) -> npt.NDArray[np.uint8]:
    """Pixels, (H, W, C), 0 to 255, of an image, (C, H, W), in [0, 1]."""
    if image.ndim != 3 or image.shape[0] != channels or 0 in image.shape:
        raise ValueError(f"an image must be (3, H, W), got {tuple(image.shape)}.")
    image = image.detach().cpu()
    if not image.isfinite().all():
        raise ValueError("an image must be finite, got NaN or infinity.")
    # channel by channel, since a large image's copies in float32 are large too
    levels = [channel.float().clamp(0, 1).mul_(255).round_().byte() for channel in image]
    return torch.stack(levels, dim=-1).numpy()


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn what decoders raise into a MediaError of one line."""
    try:
        yield
    except MediaError:
        raise
    except PermissionError as error:
        raise MediaError(f"{shown(path)} cannot be read: permission denied.") from error
    except UnidentifiedImageError as error:
        raise MediaError(f"{shown(path)} is damaged or cut short: its header is broken.") from error
    except Exception as error:  # on damaged bytes decoders raise a dozen unrelated types
        reason = on_one_line(error) or type(error).__name__
        raise MediaError(f"{shown(path)} cannot be decoded: {reason[:200]}") from error


def _part(max_frames: int | None, start: int, stride: int) -> slice:
    """The wanted frames.

    Raises:
        ValueError: if an argument is out of range.
    """
    check_whole("start", start, 0)
    check_whole("stride", stride)
    if max_frames is None:
        return slice(start, None, stride)
    check_whole("max_frames", max_frames)
    return slice(start, start + stride * max_frames, stride)


def _too_late(path: Path, start: int) -> MediaError:
    return MediaError(f"{shown(path)} has no frame {start}; choose a smaller start.")


def _info(path: Path, part: slice) -> MediaInfo:
    """What can be said of the whole; of a folder, only the images of this part are looked at."""
    if _is_folder(path):
        images = _images(path)
        return MediaInfo("folder", *_common_size(images[part]), len(images), None, _name(path))
    kind = _kind(path)
    if kind in STILLS:
        still = stills.look(path)
        what: Literal["animation", "image"] = "animation" if still.frames > 1 else "image"
        return MediaInfo(what, still.height, still.width, still.frames, None, _name(path))
    return MediaInfo("video", *clips.look(path, kind), _name(path))


def _is_folder(path: Path) -> bool:
    """Whether it is a folder rather than a file.

    Raises:
        MediaError: if it is neither.
    """
    try:
        path.stat()
    except PermissionError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise MediaError(f"{shown(path)} does not exist.") from error
    if path.is_dir():
        return True
    if not path.is_file():
        raise MediaError(f"{shown(path)} is neither a file nor a folder.")
    return False


def _kind(path: Path) -> Kind:
    """What the file is, after a look at its structure."""
    with path.open("rb") as file:
        head = file.read(16)
        if not head:
            raise MediaError(f"{shown(path)} is empty (0 bytes).")
        kind = sniff(head)
        if kind is None:
            raise MediaError(f"{shown(path)} is not media that can be read here: {READABLE}.")
        missing = flaw(file, kind)
    if missing:
        raise MediaError(
            f"{shown(path)} is damaged or cut short: {missing}; copy or export it again."
        )
    return kind


def _images(folder: Path) -> list[Path]:
    """The images of a folder in natural order."""
    files = [path for path in folder.iterdir() if path.is_file() and path.name[:1] != "."]
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        found = f"the first of {len(files)} files is {shown(min(files).name)}" if files else "empty"
        raise MediaError(f"folder {shown(folder)} has no png, jpg, webp, tif or bmp ({found}).")
    return sorted(images, key=lambda path: natural(path.name))


def _common_size(images: list[Path]) -> tuple[int, int]:
    """Height and width that all images have; 0 x 0 of none."""
    sizes = [] if images else [(0, 0)]
    for path in images:
        with _one_line(path):
            if _kind(path) not in STILLS:
                raise MediaError(f"{shown(path)} is a video within a folder of images.")
            sizes.append(stills.look(path)[:2])
        if sizes[-1] != sizes[0]:
            (height, width), (other_height, other_width) = sizes[0], sizes[-1]
            raise MediaError(
                f"all images of a folder must have one size: {shown(images[0].name)} is "
                f"{width}x{height}, {shown(path.name)} is {other_width}x{other_height}."
            )
    return sizes[0]


def _name(path: Path) -> str:
    return path.resolve().name or str(path.resolve())


def _pictures(path: Path, info: MediaInfo, part: slice) -> Iterator[Picture]:
    """The wanted frames, in order, each with the time at which it is shown."""
    if info.kind == "video":
        frames = clips.read_frames(path, _kind(path), part)
        yield from _flat((_layers(pixels), time) for pixels, time in frames)
    elif info.kind == "folder":
        for image in _images(path)[part]:
            with _one_line(image):
                yield from _flat(stills.read_frames(image))
    else:
        yield from _flat(stills.read_frames(path, part))


def _layers(pixels: clips.Pixels) -> stills.Picture:
    """A video's picture, (H, W, 3), or (H, W, 4) with opacity."""
    colour = pixels[..., :3]
    if pixels.shape[-1] == 3 or pixels[..., 3].min() == 255:
        return stills.Picture(colour, None)
    return stills.Picture(colour, np.divide(pixels[..., 3], 255, dtype=np.float32))


def _flat(pictures: Iterator[tuple[stills.Picture, float | None]]) -> Iterator[Picture]:
    """Pictures laid over white."""
    for picture, time in pictures:
        yield picture.over(), time


def _check_room(path: Path, pictures: list[Picture], max_bytes: int) -> None:
    needed = len(pictures) * pictures[-1][0].size * 4
    if needed > max_bytes:
        height, width = pictures[-1][0].shape[:2]
        raise MediaError(
            f"{shown(path)} needs more than {max_bytes / GIBIBYTE:.1f} GiB of memory "
            f"({width}x{height}, {len(pictures)} frames so far); choose a smaller max_frames."
        )


def _check_sizes(path: Path, pictures: list[Picture]) -> None:
    shapes = {pixels.shape for pixels, _ in pictures}
    if len(shapes) > 1:
        sizes = ", ".join(sorted(f"{width}x{height}" for height, width, _ in shapes))
        raise MediaError(f"{shown(path)} changes its size on the way: {sizes}.")


def _tensor(pictures: list[Picture]) -> Tensor:
    height, width, _ = pictures[0][0].shape
    frames = torch.empty(len(pictures), 3, height, width)
    for frame, (pixels, _) in zip(frames, pictures, strict=True):
        whole = torch.tensor(pixels).permute(2, 0, 1)
        frame.copy_(whole)
        if whole.dtype == torch.uint8:
            frame.div_(255)
    return frames


def _rate(pictures: list[Picture], info: MediaInfo, stride: int, still_fps: float) -> float:
    """Mean rate of these frames, as near to it as can be written again."""
    rate = _own_rate(pictures, info, stride, still_fps)
    possible = min(max(rate, SLOWEST), FASTEST)
    if possible != rate:
        log.warning("%s has %g frames a second; %g are taken.", info.name, rate, possible)
    return possible


def _own_rate(pictures: list[Picture], info: MediaInfo, stride: int, still_fps: float) -> float:
    """Mean rate of these frames; the header's own where their times agree with it."""
    if info.kind in ("folder", "image"):
        return still_fps
    stated = info.fps / stride if info.fps else still_fps
    first, last = pictures[0][1], pictures[-1][1]
    if first is None or last is None or not last > first:
        return stated
    measured = (len(pictures) - 1) / (last - first)
    return stated if math.isclose(measured, stated, rel_tol=RATE_TOLERANCE) else measured
