"""Scenes to edit: captures of posed views, a user's own or of the procedural world."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from csd_lab import world
from csd_lab.checks import check_text, check_whole
from csd_lab.data.base import EditData, expanded
from csd_lab.data.batches import FrameBatches
from csd_lab.data.captures import Capture, read_capture
from csd_lab.data.checks import check_batch_size, check_fps, check_instruction
from csd_lab.data.fit import Side, side_length
from csd_lab.data.world_capture import SceneEdit, scene_edit
from csd_lab.fields import Cameras, PosedViews
from csd_lab.types import EditTask

MOST_BYTES = 8 * 2**30
"""That the followed views, and those that show the result, each take in memory."""


class SceneData(EditData, ABC):
    """Views of one scene: those that are followed, and those held out that show the result.

    The task's frames are the views held out, in their order; of a capture that holds out none, all
    of them.

    Args:
        views: followed in a step; None: all.
        seed: of their order; it does not choose what is edited.
        resolution: about how long a side of the fitted views is, in pixels; None: as captured.
        side: which side that is; see :class:`csd_lab.data.fit.Fit`.
    """

    kind = "views"
    suited = "scene or reconstruction for a capture, whose views a scene is to show"

    def __init__(
        self,
        views: int | None = None,
        seed: int = 0,
        resolution: int | None = None,
        side: Side = "short",
    ) -> None:
        super().__init__(views, seed, resolution, side)
        self._hold = 1

    @property
    @abstractmethod
    def capture(self) -> Capture:
        """The views at the user's size, read when they are first asked for."""

    @final
    @property
    def followed(self) -> PosedViews:
        """The views that are followed, as the prior takes them.

        Raises:
            ValueError: if they are too many to be held in memory.
        """
        return self._chosen(~self.capture.held_out)

    @final
    @property
    def inputs(self) -> dict[str, Any]:
        """The views that are followed, and the cameras of those that are shown."""
        return {"views": self.followed, "shown": self.shown}

    @final
    @property
    def shown(self) -> Cameras:
        """The cameras of the task's frames, of images as the prior takes them."""
        return self._cameras().select(self.shown_ids)

    @final
    @property
    def shown_ids(self) -> Tensor:
        """Which views are the task's frames, (F,), int64."""
        held_out = self.capture.held_out
        chosen = held_out if bool(held_out.any()) else torch.ones_like(held_out)
        return chosen.nonzero()[:, 0]

    @final
    def hold(self, steps: int) -> None:
        """Give the same batch for this many steps running."""
        check_whole("steps", steps)
        self._hold = steps

    @final
    def batches(self, start: Callable[[], int]) -> IterableDataset[Tensor]:
        """Batches of ids of followed views, (B,), int64."""
        count = int((~self.capture.held_out).sum())
        return _Held(FrameBatches(count, self.batch_size, self.seed), self._hold, start)

    def _chosen(self, which: Tensor) -> PosedViews:
        ids, fit = which.nonzero()[:, 0], self.fit
        _check_room(len(ids), *fit.fitted)
        images = torch.stack([fit.apply(self.capture.images[i]) for i in ids.tolist()])
        return PosedViews(images, self._cameras().select(ids))

    def _shown_images(self) -> Tensor:
        """The task's frames at the user's size, (F, 3, H, W)."""
        _check_room(len(self.shown_ids), self.capture.cameras.height, self.capture.cameras.width)
        return torch.stack([self.capture.images[i] for i in self.shown_ids.tolist()])

    def _cameras(self) -> Cameras:
        return self.capture.cameras.resized(*self.fit.fitted)


def _check_room(views: int, height: int, width: int) -> None:
    if (needed := 12 * views * height * width) > MOST_BYTES:
        raise ValueError(
            f"{views} views of {width} x {height} pixels need {needed / 2**30:.1f} GiB, more than "
            f"the {MOST_BYTES / 2**30:.0f} that are taken; choose a smaller data.resolution."
        )


@final
class _Held(IterableDataset[Tensor]):
    """Batches, each for some steps running; the one of step k follows from k alone."""

    def __init__(self, batches: FrameBatches, hold: int, start: Callable[[], int]) -> None:
        self.batches = batches
        self.hold = hold
        self.start = start

    def __iter__(self) -> Iterator[Tensor]:
        k = self.start()
        while True:
            yield self.batches.batch(k // self.hold)
            k += 1


@final
class CaptureFolder(SceneData):
    """A user's own capture; see :mod:`csd_lab.data.captures` for what is understood.

    Args:
        path: its folder, or its transforms.json.
        prompt: what to do; may be None where ``target_caption`` says what the result shows. With
            neither, nothing is edited: the right answer is the capture itself.
        source_caption: what the scene shows; "" if unknown.
        target_caption: what the result shows; "" if unknown.
        hold_out: each ``hold_out``-th view shows the result, where the capture does not say which
            are for evaluation, at least 2; 0: all views are followed, and all show it.
        skip_missing: leave out views whose images do not exist.
        fps: at which the views held out are played.
        views: followed in a step; None: all.
        seed: of their order.
        resolution: how long a side of the views is, in pixels, where the capture's own is longer;
            None: as long as that. What the prior sees is rounded to what it takes.
        side: which side that is.

    Raises:
        MediaError: if there is nothing at ``path``.
        ValueError: if another argument is out of range.
    """

    def __init__(
        self,
        path: Path | str,
        prompt: str | None,
        source_caption: str = "",
        target_caption: str = "",
        hold_out: int = 8,
        skip_missing: bool = False,
        fps: float = 8.0,
        views: int | None = None,
        seed: int = 0,
        resolution: int | None = None,
        side: Side = "short",
    ) -> None:
        check_batch_size(views, None, name="views")
        super().__init__(views, seed=seed, resolution=resolution, side=side)
        if prompt is not None:
            check_text("prompt", prompt)
        check_text("path", str(path) if isinstance(path, Path) else path)
        for name, text in {
            "source_caption": source_caption,
            "target_caption": target_caption,
        }.items():
            check_text(name, text)
        check_whole("hold_out", hold_out, 0)
        if hold_out == 1:
            raise ValueError("hold_out must be 0 for none or at least 2, got 1: all held out.")
        check_fps("fps", fps)
        if resolution is not None:
            check_whole("resolution", resolution)
        self.path = expanded(path)
        self.prompt = prompt
        self.captions = (source_caption, target_caption)
        self.hold_out = hold_out
        self.skip_missing = skip_missing
        self.fps = fps

    @cached_property
    def capture(self) -> Capture:
        """The views, read when they are first asked for."""
        smaller = (self.resolution, self.side)
        capture = read_capture(self.path, self.hold_out, self.skip_missing, *smaller)
        followed = int((~capture.held_out).sum())
        check_batch_size(self.batch_size, followed, "the capture's", "views", "views")
        return capture

    @property
    def fitted_side(self) -> int:
        """As the capture was read; without a length, borders would be mirrored, where no ray is."""
        return side_length((self.capture.cameras.height, self.capture.cameras.width), self.side)

    def read(self) -> EditTask:
        """The views held out, and what to do."""
        source, target = self.captions
        shown = self._shown_images()
        nothing_to_do = not self.prompt and not target
        return EditTask(
            shown,
            self.prompt or "",
            source,
            target,
            targets=shown[None] if nothing_to_do else None,
            fps=self.fps,
            name=self.capture.name,
        )


@final
class WorldScene(SceneData):
    """Views around a scene of the procedural world; those of its edited states are known exactly.

    Args:
        scene_seed: of the scene; from ``world.HELD_OUT_SEED`` on for evaluation.
        instruction: one of ``world.instructions()``; None: drawn with the scene; "": nothing is
            edited, the right answer is the scene itself.
        count: views that are followed, >= 2.
        held_out: views that show the result: a path around the scene, between the others.
        size: height and width of the views, in pixels.
        fps: at which the views held out are played.
        views: followed in a step; None: all.
        seed: of their order.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        scene_seed: int,
        instruction: str | None = None,
        count: int = 48,
        held_out: int = 24,
        size: int = 64,
        fps: float = 8.0,
        views: int | None = None,
        seed: int = 0,
    ) -> None:
        check_batch_size(views, None, name="views")
        super().__init__(views, seed=seed, resolution=size)
        check_whole("scene_seed", scene_seed, 0)
        if instruction is not None:
            check_text("prompt", instruction)
        check_instruction(instruction or None, world.instructions())
        check_whole("count", count, 2)
        check_whole("held_out", held_out)
        check_fps("fps", fps)
        check_batch_size(views, count, "the scene's", "views", "views")
        self.scene_seed = scene_seed
        self.instruction = instruction
        self.count = count
        self.held_out = held_out
        self.size = size
        self.fps = fps

    @cached_property
    def edit(self) -> SceneEdit:
        """The scene and its right answers, rendered when first asked for."""
        edit = scene_edit(
            self.scene_seed, self.instruction or None, self.count, self.held_out, self.size
        )
        if self.instruction != "":
            return edit
        capture = edit.capture._replace(name=f"scene {self.scene_seed}")
        captions, targets = (edit.source_caption,), torch.stack(list(capture.images))[None]
        return edit._replace(
            capture=capture, instruction="", target_captions=captions, targets=targets
        )

    @property
    def capture(self) -> Capture:
        """The source views."""
        return self.edit.capture

    def read(self) -> EditTask:
        """The views held out, and their right answers."""
        edit, ids = self.edit, self.shown_ids
        return EditTask(
            self._shown_images(),
            edit.instruction,
            edit.source_caption,
            edit.target_captions[0],
            edit.targets[:, ids],
            edit.target_captions,
            self.fps,
            edit.capture.name,
        )
