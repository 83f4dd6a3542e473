r"""Points of a scene's surfaces: what cameras see, put back to where it is.

A pixel whose ray o + t d is stopped for the most part (opacity O > 1/2) at the depth D gives the
point o + D d, with the pixel's colour. All are in the capture's own world.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from csd_lab.fields.cameras import Cameras
from csd_lab.fields.scene import Scene

OPAQUE = 0.5
"""Opacity above which a pixel shows a surface."""


class Points(NamedTuple):
    """Coloured points.

    Attributes:
        places: (P, 3), in world units.
        colours: (P, 3), in [0, 1].
    """

    places: Tensor
    colours: Tensor


@torch.no_grad()
def points_seen(scene: Scene, cameras: Cameras, most: int) -> Points:
    """Points of all cameras' pixels, on the CPU.

    Args:
        scene: what is looked at.
        cameras: V of them.
        most: points at most, >= 1; no view gives more than an equal share of them, of pixels that
            are drawn with a fixed seed.

    Raises:
        ValueError: ``most`` is below 1.
    """
    if most < 1:
        raise ValueError(f"most must be at least 1; got {most}")
    share = math.ceil(most / len(cameras))
    generator = torch.Generator().manual_seed(0)
    parts = [_of_view(scene, cameras, index, share, generator) for index in range(len(cameras))]
    places, colours = (torch.cat(part) for part in zip(*parts, strict=True))
    kept = _drawn(len(places), most, generator)
    return Points(places[kept], colours[kept])


def _of_view(
    scene: Scene, cameras: Cameras, index: int, share: int, generator: torch.Generator
) -> Points:
    """Points of one camera's pixels, ``share`` at most."""
    view = scene.view(cameras, index)
    seen = (view.opacity.flatten() > OPAQUE).cpu().nonzero()[:, 0]
    kept = seen[_drawn(len(seen), share, generator)]
    rays = cameras.image_rays(index)
    depth = view.depth.flatten().cpu()[kept, None]
    colours = view.colour.flatten(1).T.cpu()[kept]
    return Points(rays.origins[kept] + depth * rays.directions[kept], colours)


def _drawn(count: int, most: int, generator: torch.Generator) -> Tensor:
    """Which of ``count`` things are kept, ``most`` of them at most, in their order."""
    return torch.randperm(count, generator=generator)[:most].sort().values
