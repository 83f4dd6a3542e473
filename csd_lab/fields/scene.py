"""A scene that can be looked at: whatever it is made of, cameras see colours, depths, opacities."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Self, final

import torch
from torch import Tensor, nn

from csd_lab.fields.cameras import Cameras, Rays
from csd_lab.fields.field import RadianceField
from csd_lab.fields.renderer import Renderer
from csd_lab.fields.rendering import Rendering

Progress = Callable[[Iterable[int]], Iterable[int]]
"""Goes through steps, and may show how far it is, or stop before their end."""


class PosedViews(NamedTuple):
    """Images of one scene, and the cameras that took them.

    Attributes:
        images: (V, 3, H, W), in [0, 1].
        cameras: V of them, whose images are H x W.
    """

    images: Tensor
    cameras: Cameras


class View(NamedTuple):
    """What one camera sees.

    Attributes:
        colour: (3, H, W), in [0, 1].
        depth: along the rays, (H, W), in world units.
        opacity: (H, W), in [0, 1].
    """

    colour: Tensor
    depth: Tensor
    opacity: Tensor

    @classmethod
    def of(cls, parts: Sequence[Rendering], cameras: Cameras) -> Self:
        """A camera's image from what its rays see, row by row, in consecutive parts."""
        size = (cameras.height, cameras.width)
        colour = torch.cat([part.colour for part in parts]).T.reshape(3, *size).clamp(0, 1)
        depth = torch.cat([part.depth for part in parts]).view(size)
        return cls(colour, depth, torch.cat([part.opacity for part in parts]).view(size))


class Scene(nn.Module, ABC):
    """Something with parameters that cameras see, differentiable in them.

    Attributes:
        views_at_once: pixels of how many views are best asked for together; None: of any number.
    """

    views_at_once: int | None = None

    @property
    @abstractmethod
    def randomness(self) -> int:
        """Random numbers that a pixel takes."""

    @abstractmethod
    def pixels(
        self,
        cameras: Cameras,
        ids: Tensor,
        rows: Tensor,
        columns: Tensor,
        noise: Tensor | None = None,
    ) -> Rendering:
        """What is seen at places of images, differentiable.

        Args:
            cameras: V of them.
            ids: the camera of each place, (R,), int64.
            rows: from the image's top, in pixels, (R,); i + 1/2 is the middle of row i.
            columns: from its left, likewise.
            noise: uniform in [0, 1), (R, ``randomness``); None: nothing is random.
        """

    @abstractmethod
    def smoothness(self, generator: torch.Generator | None = None) -> Tensor:
        """How much neighbouring parts differ, (), differentiable; 0 where that has no meaning.

        Args:
            generator: draws, on the CPU, a part by which it is estimated; None: all is looked at.
        """

    @abstractmethod
    def view(self, cameras: Cameras, index: int) -> View:
        """A camera's whole image, without gradient."""

    @final
    def views(
        self, cameras: Cameras, ids: Tensor | None = None, progress: Progress = iter
    ) -> Tensor:
        """Whole images, without gradient.

        Args:
            cameras: V of them.
            ids: of which, (N,), int64; None: of all.
            progress: goes through their numbers.

        Returns:
            (N, 3, H, W), in [0, 1].
        """
        chosen = range(len(cameras)) if ids is None else ids.tolist()
        return torch.stack([self.view(cameras, index).colour for index in progress(chosen)])

    @final
    def rendering(
        self, cameras: Cameras, index: int, generator: torch.Generator | None = None
    ) -> Rendering:
        """A camera's whole image, row by row, differentiable: R = H x W.

        Args:
            cameras: V of them.
            index: of the camera.
            generator: of what is random about it, on the CPU; None: nothing is.
        """
        places = cameras.pixels(index)
        noise = None
        if generator is not None:
            noise = torch.rand(len(places[0]), self.randomness, generator=generator)
        return self.pixels(cameras, *places, noise)


@final
class FieldScene(Scene):
    """A radiance field, seen by volume rendering.

    Args:
        field: the field.
        renderer: how it is seen.
    """

    def __init__(self, field: RadianceField, renderer: Renderer) -> None:
        super().__init__()
        self.field = field
        self.renderer = renderer

    @property
    def randomness(self) -> int:
        """That of a ray."""
        return self.renderer.randomness

    def pixels(
        self,
        cameras: Cameras,
        ids: Tensor,
        rows: Tensor,
        columns: Tensor,
        noise: Tensor | None = None,
    ) -> Rendering:
        """What rays through these places see; ``noise`` moves where they are cut."""
        rays = self._here(cameras.rays(ids, rows, columns))
        return self.renderer(self.field, rays, None if noise is None else noise.to(rays.origins))

    def smoothness(self, generator: torch.Generator | None = None) -> Tensor:
        """That of the field."""
        return self.field.smoothness(generator)

    @torch.no_grad()
    def view(self, cameras: Cameras, index: int) -> View:
        """A camera's whole image, in chunks of rays."""
        rays = self._here(cameras.image_rays(index))
        chunks = zip(*(each.split(self.renderer.chunk) for each in rays), strict=True)
        return View.of([self.renderer(self.field, Rays(*chunk)) for chunk in chunks], cameras)

    def _here(self, rays: Rays) -> Rays:
        """Rays on the field's device."""
        device = next(self.field.parameters()).device
        return Rays(*(each.to(device) for each in rays))
