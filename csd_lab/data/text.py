"""A text alone: a scene is to be made that shows it."""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from csd_lab.checks import check_positive, check_whole
from csd_lab.data.base import EditData
from csd_lab.data.batches import FrameBatches
from csd_lab.data.checks import check_fps
from csd_lab.fields import Blob, Bounds, Cameras, RandomViews, Scene, grid_of
from csd_lab.types import EditTask


@final
class TextScene(EditData):
    """A caption, and a scene that shows nothing of it yet.

    The task's source is that scene as cameras evenly around it see it; batches hold the ids
    0 ... N - 1 of the views that a step is to draw.

    Args:
        prompt: what the scene is to show.
        scene: makes an empty scene for its bounds, of a grid.
        views: draws the cameras of a step.
        start: what the scene begins with.
        extent: as far from the middle as cameras that saw all of the scene would stand, as a
            share of the mean distance of ``views``, > 0: below 1 for more detail in the middle.
        frames: views of the task, evenly around the scene.
        fps: at which they are played.
        size: height and width of images, in pixels, but for rounding to what the prior takes.
        seed: of the batches.

    Raises:
        ValueError: an argument is out of range.
    """

    kind = "text"
    suited = (
        "text_to_3d for a text alone: it comes with data=text, and with all that suits it by "
        "experiment=text_to_3d"
    )

    def __init__(
        self,
        prompt: str,
        scene: Callable[[Bounds], Scene],
        views: RandomViews,
        start: Blob,
        extent: float = 0.65,
        frames: int = 12,
        fps: float = 8.0,
        size: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(seed=seed, resolution=size)
        if not isinstance(prompt, str):
            raise ValueError(
                "prompt must be one text that says what the scene is to show, such as "
                f"prompt='a red ball on grass under a blue sky', got {prompt!r}."
            )
        check_whole("frames", frames)
        check_fps("fps", fps)
        check_positive("extent", extent)
        self.prompt = prompt
        self.views = views
        self.frames_shown = frames
        self.fps = fps
        self.size = size
        self._scene = scene
        self._start = start
        self._bounds = Bounds(torch.zeros(3), extent * sum(views.distance) / 2)

    def scene(self) -> Scene:
        """A new scene as it is before the first step.

        Raises:
            ValueError: it is not made of a grid.
        """
        scene = self._scene(self._bounds)
        grid_of(scene).fill(self._start, self._start.grey)
        return scene

    @property
    def inputs(self) -> dict[str, Any]:
        """An empty scene, its cameras, those of the views that are shown, and the text."""
        about = {"scene": self.scene(), "views": self.views, "shown": self.shown}
        return {**about, "prompt": self.prompt}

    @property
    def shown(self) -> Cameras:
        """The cameras of the task's frames, of images as the prior takes them."""
        return self._around(*self.fit.fitted)

    def batches(self, start: Callable[[], int]) -> IterableDataset[Tensor]:
        """Batches of all ids, (N,), int64."""
        return FrameBatches(self.views.count, None, self.seed, start)

    def read(self) -> EditTask:
        """The scene before the first step, and what it is to show."""
        seen = self.scene().views(
            self._around(self.size, self.size), torch.arange(self.frames_shown)
        )
        return EditTask(seen, "", target_caption=self.prompt, fps=self.fps, name="scene")

    def _around(self, height: int, width: int) -> Cameras:
        return self.views.orbit(self.frames_shown).cameras(height, width)
