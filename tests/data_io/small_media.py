"""Small real media, made on the spot."""

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
    """8-bit pictures, (H, W, 3), of frames, (F, 3, H, W), in [0, 1]."""
    for frame in frames:
        yield (frame * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def encode(
    path: Path,
    frames: Tensor,
    codec: str,
    fps: Fraction | int = 8,
    times: list[int] | None = None,
    **options: str,
) -> Path:
    """Write a video with any codec and container; ``times`` in milliseconds, if given."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = frames.shape[2:]
        stream.pix_fmt = "yuv420p"
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(pixels(frames)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def save_images(folder: Path, frames: Tensor, names: list[str]) -> Path:
    """Write each frame under its name; the suffix says in which format."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture, name in zip(pixels(frames), names, strict=True):
        Image.fromarray(picture).save(folder / name, quality=95)
    return folder
