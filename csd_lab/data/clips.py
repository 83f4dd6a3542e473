"""Video files, read and written with PyAV (FFmpeg)."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from csd_lab.data.containers import Kind, MediaError, is_fragmented, shown

log = logging.getLogger(__name__)

Layers = Literal["rgb24", "rgba"]
Pixels = npt.NDArray[np.uint8]

BT709, UNKNOWN, LIMITED = 1, 2, 1
"""Numbers of ITU-T H.273 for colour primaries, transfer, matrix; and FFmpeg's for the range."""
HDR = {16: "PQ", 18: "HLG"}
"""Transfers of ITU-T H.273 that reach beyond the white of sRGB."""
HD_LINES = 720
ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "12", "preset": "medium"},
    "libopenh264": {"b": "8M"},
    "libvpx-vp9": {"crf": "12", "b": "0", "row-mt": "1"},
    "mpeg4": {"qscale": "2"},
}
"""Encoders for mp4 in order of preference; browsers play all but the last."""


class Track(NamedTuple):
    """What the header of a video says.

    Attributes:
        height: of the upright picture, in pixels.
        width: of the upright picture, in pixels.
        frames: number of stored frames, of which an edit list may hide some; None if the header
            does not say.
        fps: mean frames a second; None if the header does not say.
    """

    height: int
    width: int
    frames: int | None
    fps: float | None


@contextmanager
def _opened(path: Path, kind: Kind) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first moving picture (a cover image is none).

    FFmpeg gets an open file and the format's name, so that nothing in a path or in the file's
    first bytes makes it guess a protocol or follow a playlist.
    """
    with (
        path.open("rb") as file,
        av.open(file, mode="r", format=kind, metadata_errors="replace") as container,
    ):
        streams = [
            stream
            for stream in container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]
        if not streams:
            raise MediaError(f"{shown(path)} has no video stream, only sound or data.")
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def look(path: Path, kind: Kind) -> Track:
    """Size, length and rate of a video, with its first frame decoded as a check."""
    with _opened(path, kind) as (container, stream):
        rate = stream.average_rate
        frames = _stored_frames(path, kind, stream)
        for frame in container.decode(stream):
            height, width = _upright(frame, "rgb24").shape[:2]
            return Track(height, width, frames, float(rate) if rate else None)
    raise MediaError(f"{shown(path)} has no frame.")


def _stored_frames(path: Path, kind: Kind, stream: VideoStream) -> int | None:
    """Number of frames by the header, if it says: of fragments it counts the first at most."""
    if kind == "mov":
        with path.open("rb") as file:
            if is_fragmented(file):
                return None
    return stream.frames or None


def read_frames(path: Path, kind: Kind, part: slice) -> Iterator[tuple[Pixels, float | None]]:
    """The wanted frames of a video in order of time, each with its second if the file says it.

    Pictures are turned and mirrored as the file says; pixels are taken as square. Files without a
    tag of their colour matrix are read as BT.709 from 720 lines on and as BT.601 below, as browsers
    do. HDR is read as it is, flat and dark, and a line of the log says so. Opacity is read where
    the codec has it, but not that of VP8 and VP9, nor the fourth byte of uncompressed AVIs, which
    is mere filling.

    Returns:
        Pixels, (H, W, 3), or (H, W, 4) with an opacity that colours are not multiplied by; each
        with its second, None if unknown.
    """
    with _opened(path, kind) as (container, stream):
        filled = kind == "avi" and stream.codec_context.name == "rawvideo"
        frames = islice(container.decode(stream), part.start, part.stop, part.step)
        for index, frame in enumerate(frames):
            if index == 0:
                _tell_hdr(frame, path)
            layers: Layers = "rgba" if _has_opacity(frame) and not filled else "rgb24"
            yield _upright(frame, layers), None if frame.pts is None else frame.time


def _tell_hdr(frame: av.VideoFrame, path: Path) -> None:
    if frame.color_trc in HDR:
        log.warning(
            "%s is HDR (%s), which is read as it is, flat and dark; convert it to SDR first.",
            shown(path),
            HDR[frame.color_trc],
        )


def _has_opacity(frame: av.VideoFrame) -> bool:
    return any(part.is_alpha for part in frame.format.components)


def read_deep(path: Path, kind: Literal["png_pipe", "tiff_pipe"]) -> npt.NDArray[np.uint16]:
    """An image of 16 bits a channel as it is stored, (H, W, 4): red, green, blue and opacity.

    Grey comes as three equal channels, and what is opaque with an opacity of 65535.

    Args:
        path: of the file.
        kind: FFmpeg's name for what it is.
    """
    with path.open("rb") as file, av.open(file, mode="r", format=kind) as container:
        for frame in container.decode(container.streams.video[0]):
            return frame.to_ndarray(format="rgba64le").astype(np.uint16, copy=False)
    raise MediaError(f"{shown(path)} holds no picture.")


def _upright(frame: av.VideoFrame, layers: Layers) -> Pixels:
    options: dict[str, Any] = {}
    if frame.colorspace == UNKNOWN and min(frame.width, frame.height) >= HD_LINES:
        options["src_colorspace"] = "ITU709"
    pixels = frame.to_ndarray(format=layers, **options).astype(np.uint8, copy=False)
    return _shown(pixels, *_display_matrix(frame))


def _display_matrix(frame: av.VideoFrame) -> tuple[float, float, float, float]:
    """a, b, c, d of (x', y') = (a x + c y, b x + d y), which takes stored to upright places."""
    stored = frame.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(cast(bytes, stored), np.int32)[:5] / 2**16
    return a, b, c, d


def _shown(pixels: Pixels, a: float, b: float, c: float, d: float) -> Pixels:
    """Pixels, (H, W, C), turned and mirrored as a display matrix says, to whole quarters."""
    across, down = a, d
    if abs(b) > abs(a):
        pixels, across, down = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


def write_frames(path: Path, frames: Iterator[Pixels], height: int, width: int, fps: float) -> None:
    """Write an mp4 that browsers play: H.264 (or the best encoder here), 4:2:0, BT.709.

    4:2:0 needs even sides: an odd side is extended by one copied row or column.

    Args:
        path: where to.
        frames: pictures, (height, width, 3).
        height: in pixels.
        width: in pixels.
        fps: frames a second.

    Raises:
        RuntimeError: if this PyAV was built without any of the encoders.
    """
    encoder = _encoder()
    odd = [(0, height % 2), (0, width % 2), (0, 0)]
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = cast(VideoStream, container.add_stream(encoder, rate=rate))
        stream.options = dict(ENCODERS[encoder])
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        tags = stream.codec_context
        tags.colorspace = tags.color_primaries = tags.color_trc = BT709
        tags.color_range = LIMITED
        for pixels in frames:
            even = np.ascontiguousarray(np.pad(pixels, odd, mode="edge"))
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _encoder() -> str:
    for name in ENCODERS:
        if name in av.codec.codecs_available:
            return name
    raise RuntimeError(
        f"this PyAV has none of the encoders {', '.join(ENCODERS)}; install its PyPI wheel."
    )
