"""Clips to edit, as LightningDataModules: a user's own file, or one of the procedural world."""

import difflib
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import final

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader

from csd_lab import world
from csd_lab.data.batches import FrameBatches
from csd_lab.data.checks import check_batch_size, check_fps, check_text, check_whole
from csd_lab.data.fit import Detail, Fit, Side
from csd_lab.data.media import STILL_FPS, Media, MediaInfo, probe, read_media
from csd_lab.types import EditTask


class EditData(pl.LightningDataModule, ABC):
    """A task, its frames as a prior takes them, and batches of frame ids for its steps.

    A subclass supplies :meth:`read`, and looks at what it was given in its constructor as far as
    that is cheap, so that wrong input is told before anything heavy is loaded.

    Args:
        batch_size: frames a step; None: all.
        seed: of the order of the frames; it does not choose the clip.
        resolution: about how long a side of the fitted frames is, in pixels; None: as the source.
        side: which side that is; see :class:`csd_lab.data.fit.Fit`.
        detail: how edited frames come back to the source's size; see there too.
    """

    def __init__(
        self,
        batch_size: int | None = None,
        seed: int = 0,
        resolution: int | None = None,
        side: Side = "short",
        detail: Detail = "resize",
    ) -> None:
        super().__init__()
        check_batch_size(batch_size, None)
        check_whole("seed", seed, 0)
        self.batch_size = batch_size
        self.seed = seed
        self.resolution = resolution
        self.side: Side = side
        self.detail: Detail = detail
        self._multiple = 1

    @abstractmethod
    def read(self) -> EditTask:
        """Make the task; its frames have the size that the user gave."""

    @final
    @cached_property
    def task(self) -> EditTask:
        """The task at the user's size, read when it is first asked for."""
        return self.read()

    @final
    def fit_to(self, multiple: int) -> None:
        """Make the sides of :attr:`frames` multiples of this many pixels, as a prior wants it."""
        self._multiple = multiple

    @final
    @property
    def fit(self) -> Fit:
        """The maps between the user's size and the prior's.

        Raises:
            ValueError: if the frames cannot be fitted.
        """
        height, width = self.task.source.shape[-2:]
        return self.fit_of(height, width)

    @final
    def fit_of(self, height: int, width: int) -> Fit:
        """The maps for frames of this size."""
        return Fit((height, width), self._multiple, self.resolution, self.side, self.detail)

    @final
    @property
    def frames(self) -> Tensor:
        """The source as the prior takes it, (F, 3, h, w), in [0, 1]."""
        return self.fit.apply(self.task.source)

    @final
    def restore(self, edited: Tensor, reference: Tensor | None = None) -> Tensor:
        """Edited frames at the user's size.

        Args:
            edited: (F, 3, h, w), in [0, 1], of the size of :attr:`frames`.
            reference: what these would be without an edit, such as the autoencoded source;
                None: :attr:`frames`. Only ``detail="residual"`` looks at it.

        Returns:
            (F, 3, H, W), in [0, 1], of the size of ``task.source``.
        """
        return self.fit.restore(edited, self.task.source, reference)

    @final
    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batches of frame ids, (B,), int64, without end, from the trainer's present step on."""
        frames = FrameBatches(len(self.task.source), self.batch_size, self.seed, self._next_batch)
        return DataLoader(frames, batch_size=None)

    def _next_batch(self) -> int:
        if self.trainer is None:
            return 0
        return self.trainer.global_step * self.trainer.accumulate_grad_batches


@final
class VideoFile(EditData):
    """A user's own clip: a video, an animation, a folder of images, or a single image.

    Args:
        path: the file or folder.
        prompt: what to do; may be None where ``target_caption`` says what the result shows.
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
        prompt: str | None,
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
        texts = {"source_caption": source_caption, "target_caption": target_caption}
        for name, text in {**texts, "prompt": "" if prompt is None else prompt}.items():
            check_text(name, text)
        if not prompt and not target_caption:
            raise ValueError("prompt must say what to do with the clip, such as 'make it night'.")
        self.path = _expanded(path)
        self.prompt = prompt or ""
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
        self.target = None if target is None else _expanded(target)
        if self.target is not None:
            target_info = probe(self.target, max_frames, start, stride)
            if info.frames is not None and target_info.frames is not None:
                _check_target(_shape(info), _shape(target_info))

    def read(self) -> EditTask:
        """Decode the file."""
        media = self._decode(self.path)
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
class WorldClip(EditData):
    """A clip of the procedural world, whose exact edited frames are known.

    Args:
        clip_seed: which clip; from ``world.HELD_OUT_SEED`` on the embedded prior has not seen it.
        instruction: one of ``world.instructions()``; None: drawn with the clip.
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
        instruction: str | None = None,
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
        _check_instruction(instruction, world.instructions(family=family))
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


def _expanded(path: Path | str) -> Path:
    """The path, with a leading ``~/`` replaced by the user's home."""
    return Path(path).expanduser() if str(path).startswith("~/") else Path(path)


def _shape(info: MediaInfo) -> tuple[int, ...]:
    """Size of the frames, (F, 3, H, W), where their number is known."""
    return info.frames or 0, 3, info.height, info.width


def _check_target(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    """Compare two sizes, (F, 3, H, W) each."""
    if source != target:
        shapes = [f"{shape[0]} frames of {shape[3]} x {shape[2]}" for shape in (source, target)]
        raise ValueError(f"target must have the clip's {shapes[0]}, got {shapes[1]}.")


def _check_instruction(instruction: str | None, known: tuple[str, ...]) -> None:
    if instruction is None or instruction in known:
        return
    near = difflib.get_close_matches(str(instruction)[:200], known, n=1, cutoff=0)
    raise ValueError(
        f"instruction must be one of the world's {len(known)} (csd_lab.world.instructions()), such "
        f"as {near[0]!r}, got {str(instruction)[:200]!r}; other text needs an own clip, data.path"
    )
