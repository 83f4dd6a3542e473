"""Clips to edit, as LightningDataModules: a user's own file, or one of the procedural world."""

from abc import ABC
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

from torch import Tensor
from torch.utils.data import IterableDataset

from csd_lab import world
from csd_lab.checks import check_text, check_whole
from csd_lab.data.base import EditData, expanded
from csd_lab.data.batches import FrameBatches
from csd_lab.data.checks import check_batch_size, check_fps, check_instruction, check_texts, in_turn
from csd_lab.data.fit import Detail, Side
from csd_lab.data.media import STILL_FPS, Media, MediaInfo, probe, read_media
from csd_lab.types import EditTask


class ClipData(EditData, ABC):
    """A clip, whose frames are the particles."""

    kind = "clip"
    suited = (
        "video for a clip, whose frames are the particles; windows are for one image (data=image), "
        "scenes for posed views (data=capture) or a text (data=text)"
    )

    @final
    @property
    def inputs(self) -> dict[str, Any]:
        """Frames, (F, 3, h, w)."""
        return {"frames": self.frames, "wrap": self.wrap}

    @final
    def batches(self, start: Callable[[], int]) -> IterableDataset[Tensor]:
        """Batches of frame ids, (B,), int64."""
        return FrameBatches(len(self.task.source), self.batch_size, self.seed, start)


@final
class VideoFile(ClipData):
    """A user's own clip: a video, an animation, a folder of images, or a single image.

    Args:
        path: the file or folder.
        prompt: what to do, or several things, one after the other; may be None where
            ``target_caption`` says what the result shows.
        source_caption: what the source shows; "" if unknown.
        target_caption: what the result shows; "" if unknown.
        target: file or folder of the exactly edited clip, frame by frame, where it is known; the
            result is measured against it. ``start``, ``stride`` and ``max_frames`` hold for it too.
        max_frames: how many frames at most; None: all.
        start: first frame.
        stride: take each ``stride``-th frame.
        still_fps: frames a second of media without a rate of their own.
        batch_size: frames a step; None: all.
        seed: of the order of the frames.
        resolution: about how long a side of the fitted frames is, in pixels; None: as the source.
        side: which side that is.
        detail: how edited frames come back to the source's size.

    Raises:
        MediaError: if the file cannot be used.
        ValueError: if another argument is out of range.
    """

    def __init__(
        self,
        path: Path | str,
        prompt: str | Sequence[str] | None,
        source_caption: str = "",
        target_caption: str = "",
        target: Path | str | None = None,
        max_frames: int | None = None,
        start: int = 0,
        stride: int = 1,
        still_fps: float = STILL_FPS,
        batch_size: int | None = None,
        seed: int = 0,
        resolution: int | None = None,
        side: Side = "short",
        detail: Detail = "resize",
    ) -> None:
        super().__init__(batch_size, seed, resolution, side, detail)
        check_text("path", str(path) if isinstance(path, Path) else path)
        check_texts(prompt, source_caption, target_caption)
        self.path = expanded(path)
        self.prompt = world.IN_TURN.join(in_turn(prompt))
        self.source_caption = source_caption
        self.target_caption = target_caption
        self.max_frames = max_frames
        self.start = start
        self.stride = stride
        self.still_fps = still_fps
        check_fps("still_fps", still_fps)
        info = probe(self.path, max_frames, start, stride)
        self.fit_of(info.height, info.width)
        check_batch_size(batch_size, info.frames)
        self.target = None if target is None else expanded(target)
        if self.target is not None:
            target_info = probe(self.target, max_frames, start, stride)
            _check_target(_shape(info), _shape(target_info))

    def read(self) -> EditTask:
        """Decode the file."""
        media = self._decode(self.path)
        check_batch_size(self.batch_size, len(media.frames))  # its header may have said more
        target = None if self.target is None else self._decode(self.target).frames
        if target is not None:
            _check_target(tuple(media.frames.shape), tuple(target.shape))
        captions = (self.target_caption,) if target is not None and self.target_caption else ()
        return EditTask(
            source=media.frames,
            instruction=self.prompt,
            source_caption=self.source_caption,
            target_caption=self.target_caption,
            targets=None if target is None else target[None],
            target_captions=captions,
            fps=media.fps,
            name=media.name,
        )

    def _decode(self, path: Path) -> Media:
        return read_media(path, self.max_frames, self.start, self.stride, still_fps=self.still_fps)


@final
class WorldClip(ClipData):
    """A clip of the procedural world, whose exact edited frames are known.

    Args:
        clip_seed: which clip; from ``world.HELD_OUT_SEED`` on the embedded prior has not seen it.
        instruction: one of ``world.instructions()``, or several, one after the other; None: drawn
            with the clip.
        family: draw an instruction of this family; None: of any.
        frames: number of frames.
        size: height and width, in pixels.
        fps: frames a second.
        batch_size: frames a step; None: all.
        seed: of the order of the frames.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        clip_seed: int,
        instruction: str | Sequence[str] | None = None,
        family: str | None = None,
        frames: int = 8,
        size: int = 64,
        fps: float = 8.0,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed)
        check_whole("clip_seed", clip_seed, 0)
        check_whole("frames", frames)
        check_whole("size", size)
        check_fps("fps", fps)
        check_batch_size(batch_size, frames)
        check_instruction(instruction, world.instructions(family=family))
        self.clip_seed = clip_seed
        self.instruction = instruction
        self.family = family
        self.length = frames
        self.size = size
        self.fps = fps

    def read(self) -> EditTask:
        """Render the clip and all right answers."""
        return world.edit_task(
            self.clip_seed, self.instruction, self.family, self.length, self.size, self.fps
        )


def _shape(info: MediaInfo) -> tuple[int | None, ...]:
    """Size of the frames, (F, 3, H, W); F is None of a video, as its header may be wrong."""
    return None if info.kind == "video" else info.frames, 3, info.height, info.width


def _check_target(source: tuple[int | None, ...], target: tuple[int | None, ...]) -> None:
    """Compare two sizes, (F, 3, H, W) each; no numbers of frames if one F is None."""
    counted = None not in (source[0], target[0])
    if source[1:] != target[1:] or (counted and source[0] != target[0]):
        shapes = [
            f"{shape[0] if counted else ''} frames of {shape[3]} x {shape[2]}".lstrip()
            for shape in (source, target)
        ]
        raise ValueError(
            f"target must have the clip's {shapes[0]}, got {shapes[1]}; cut or scale it to match."
        )
