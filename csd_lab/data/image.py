"""Images to edit, of any size: a user's own file, or a panorama of the procedural world.

An image is a canvas, and windows of it are the particles. Where they lie is known once the prior's
latents are: whoever builds the module calls :meth:`CanvasData.lay_windows` with its grid. Without
one the whole image is the one particle. Other prompts may hold in some regions of it.
"""

from abc import ABC
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import torch
from PIL import ImageColor
from torch import Tensor
from torch.utils.data import IterableDataset

from csd_lab import world
from csd_lab.canvas import PromptedRegion, WindowGrid, region_masks
from csd_lab.checks import check_text, check_whole
from csd_lab.data.base import EditData, expanded
from csd_lab.data.batches import FrameBatches
from csd_lab.data.checks import check_batch_size, check_instruction, check_texts, in_turn
from csd_lab.data.containers import MediaError, shown
from csd_lab.data.fit import Detail, Side
from csd_lab.data.media import MediaInfo, probe, read_image
from csd_lab.data.opacity import Opacity
from csd_lab.data.stills import Colour
from csd_lab.data.windows import WindowBatches
from csd_lab.types import EditTask, Windows

WIDEST = 16
"""Heights that a panorama of the world is wide at most."""


class CanvasData(EditData, ABC):
    """One image of any size, whose windows are the particles; ``batch_size`` counts windows."""

    kind = "image"
    suited = "image or panorama for one image, whose windows are the particles"
    _grid: WindowGrid | None = None

    @final
    @property
    def inputs(self) -> dict[str, Any]:
        """The image, (1, 3, h, w), whether it is a ring, and the shares that are the user's."""
        return {"frames": self.frames, "wrap": self.wrap, "visible": self.fit.visible}

    @final
    def lay_windows(self, grid: WindowGrid, scale: int, moving: bool = False) -> None:
        """Take the windows of steps from this grid.

        Args:
            grid: windows over the latents of :attr:`frames`.
            scale: pixels of these a latent, along each axis.
            moving: whether a step's windows are shifted.

        Raises:
            ValueError: if a batch cannot be filled with different windows.
        """
        check_batch_size(self.batch_size, len(grid), "the image's", "windows")
        self._grid = grid
        self.windows = self._in_pixels(grid, scale)._replace(moving=moving)

    @final
    def batches(self, start: Callable[[], int]) -> IterableDataset[Tensor]:
        """Batches of window ids, (B,), int64."""
        if self._grid is None:
            return FrameBatches(1, None, self.seed, start)
        return WindowBatches(self._grid, self.batch_size, self.seed, start)

    def _in_pixels(self, grid: WindowGrid, scale: int) -> Windows:
        """The windows on the user's image, without what the frames were extended by."""
        fit = self.fit
        corners = torch.cat([grid.origins, grid.origins + torch.tensor(grid.window)], dim=1) * scale
        (height, width), (down, across) = fit.size, fit.scale
        boxes = (corners / torch.tensor([down, across, down, across])).round().long()
        boxes[:, 2].clamp_(max=height)
        if grid.wrap:  # ends may be rounded apart: of 49 pixels, 24.5 to 24 and 73.5 to 74
            boxes[:, 3] = torch.minimum(boxes[:, 3], boxes[:, 1] + width)
        else:
            boxes[:, 3].clamp_(max=width)
        return Windows(boxes, grid.wrap)


@final
class ImageFile(CanvasData):
    """A user's own image of any size: png, jpg, webp, tif, bmp.

    Args:
        path: the file.
        prompt: what to do, or several things, one after the other; may be None where
            ``target_caption`` says what the result shows, or there are regions.
        source_caption: what the source shows; "" if unknown.
        target_caption: what the result shows; "" if unknown.
        target: file of the exactly edited image, where it is known; the result is measured
            against it.
        regions: where other prompts hold.
        wrap: the image is a ring of 360 degrees, whose left and right edges meet.
        background: what a transparent image is laid over to be edited, as CSS names colours
            ("white", "#336699"). The result has the opacity of the source.
        batch_size: windows a step; None: all.
        seed: of the order of the windows.
        resolution: about how long a side of the fitted image is, in pixels; None: as the source.
        side: which side that is.
        detail: how the edited image comes back to the source's size.

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
        regions: Sequence[PromptedRegion] = (),
        wrap: bool = False,
        background: str = "white",
        batch_size: int | None = None,
        seed: int = 0,
        resolution: int | None = None,
        side: Side = "short",
        detail: Detail = "resize",
    ) -> None:
        super().__init__(batch_size, seed, resolution, side, detail, wrap)
        check_text("path", str(path) if isinstance(path, Path) else path)
        prompts = [*(region.prompt for region in regions), *in_turn(prompt)]
        check_texts(prompts, source_caption, target_caption)
        self.path = expanded(path)
        self.prompt = ("; " if regions else world.IN_TURN).join(prompts)
        self.source_caption = source_caption
        self.target_caption = target_caption
        self.background = _colour(background)
        info = _probe_one(self.path)
        self.fit_of(info.height, info.width)
        self.target = None if target is None else expanded(target)
        if self.target is not None:
            _check_target(info, _probe_one(self.target))

    def read(self) -> EditTask:
        """Decode the file."""
        photo = read_image(self.path, self.background)
        if photo.alpha is not None:
            self.opacity = Opacity(photo.alpha, self.background)
        targets = None
        if self.target is not None:
            targets = read_image(self.target, self.background).image[None, None]
        return EditTask(
            source=photo.image[None],
            instruction=self.prompt,
            source_caption=self.source_caption,
            target_caption=self.target_caption,
            targets=targets,
            target_captions=(self.target_caption,) if self.target and self.target_caption else (),
            name=photo.name,
        )


@final
class WorldPanorama(CanvasData):
    """A wide panorama of the procedural world, whose exact edited pixels are known.

    Args:
        scene_seed: which scene; from ``world.HELD_OUT_SEED`` on the embedded prior has not seen it.
        instruction: one of ``world.instructions()``, where "the ball" means every ball, or
            several, one after the other; None: drawn with the scene, or, where there are regions,
            nothing beside theirs.
        family: draw an instruction of this family; None: of any.
        height: in pixels.
        width: in pixels; from 1 to 16 heights.
        wrap: go round exactly once, as a ring.
        regions: where other instructions hold, each of which has one right answer.
        batch_size: windows a step; None: all.
        seed: of the order of the windows.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        scene_seed: int,
        instruction: str | Sequence[str] | None = None,
        family: str | None = None,
        height: int = 64,
        width: int = 512,
        wrap: bool = False,
        regions: Sequence[PromptedRegion] = (),
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, seed, wrap=wrap)
        check_whole("scene_seed", scene_seed, 0)
        check_whole("height", height)
        check_whole("width", width)
        if not height <= width <= WIDEST * height:
            raise ValueError(
                f"width must be from 1 to {WIDEST} heights ({height} to {WIDEST * height} pixels "
                f"here), got {width}."
            )
        check_instruction(instruction, world.instructions(family=family))
        check_instruction([region.prompt for region in regions], world.instructions(many=False))
        self.regions = tuple(regions)
        self.scene_seed = scene_seed
        self.instruction = instruction
        self.family = family
        self.height = height
        self.width = width

    def read(self) -> EditTask:
        """Render the panorama and all right answers."""
        if self.regions:
            return self._read_regions()
        return world.panorama_task(
            self.scene_seed, self.instruction, self.family, self.height, self.width, self.wrap
        )

    def _read_regions(self) -> EditTask:
        areas = [region.area for region in self.regions]
        masks = region_masks(areas, self.height, self.width, wrap=self.wrap)
        beside = world.IN_TURN.join(in_turn(self.instruction))
        prompts = [*(region.prompt for region in self.regions), beside]
        return world.region_task(self.scene_seed, prompts, masks, self.wrap)


def _colour(name: str) -> Colour:
    """Red, green and blue, in [0, 1], of a colour as CSS names it."""
    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except (ValueError, AttributeError, TypeError):
        raise ValueError(
            f"background must be a colour such as white, black or '#336699', got {name!r}."
        ) from None
    return red / 255, green / 255, blue / 255


def _probe_one(path: Path) -> MediaInfo:
    """What can be said of a file that must be one image.

    Raises:
        MediaError: if it is something else, or cannot be read.
    """
    info = probe(path)
    if info.kind != "image":
        what = {"folder": "a folder", "animation": "an animation", "video": "a video"}[info.kind]
        raise MediaError(f"{shown(path)} is {what}, not a single image; take data=file for it.")
    return info


def _check_target(source: MediaInfo, target: MediaInfo) -> None:
    sizes = [f"{info.width} x {info.height}" for info in (source, target)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"target must have the image's size, {sizes[0]}, got {sizes[1]}.")
