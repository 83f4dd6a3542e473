"""Small real media, made on the spot."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

Pixels = np.ndarray


def moving(frames: int = 6, height: int = 48, width: int = 64) -> Tensor:
    """A smooth colourful clip, (F, 3, H, W), in which every frame and every side differs."""
    t = torch.linspace(0, 1, frames)[:, None, None]
    y = torch.linspace(0, 1, height)[None, :, None].expand(frames, height, width)
    x = torch.linspace(0, 1, width)[None, None, :].expand(frames, height, width)
    return torch.stack([x, y, t.expand_as(x)], dim=1).contiguous()


def pixels(frames: Tensor) -> Iterator[Pixels]:
    """8-bit pictures, (H, W, C), of frames, (F, C, H, W), in [0, 1]."""
    for frame in frames:
        yield (frame * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def encode(
    path: Path,
    frames: Tensor,
    codec: str,
    fps: Fraction | int = 8,
    times: list[int] | None = None,
    layout: str = "yuv420p",
    movflags: str = "",
    **options: str,
) -> Path:
    """Write a video with any codec and container; ``times`` in milliseconds, if given.

    Frames are (F, 3, H, W), or (F, 4, H, W) with opacity, which ``layout`` may keep.
    """
    muxing = {"movflags": movflags} if movflags else {}
    with av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = frames.shape[2:]
        stream.pix_fmt = layout
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(pixels(frames)):
            layers = "rgba" if picture.shape[-1] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(picture, format=layers)
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def keep_first(path: Path, seconds: float) -> Path:
    """Shorten an mp4 by its edit list alone; all frames stay in the file and in its header."""
    data = bytearray(path.read_bytes())
    scale = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)[0]
    struct.pack_into(">I", data, data.index(b"elst") + 12, round(seconds * scale))
    path.write_bytes(data)
    return path


def save_images(folder: Path, frames: Tensor, names: list[str]) -> Path:
    """Write each frame under its name; the suffix says in which format."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture, name in zip(pixels(frames), names, strict=True):
        Image.fromarray(picture).save(folder / name, quality=95)
    return folder
