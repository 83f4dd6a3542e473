r"""Points of a scene's surfaces: what cameras see, put back to where it is.

A pixel of camera v whose ray o + t d is stopped for the most part (opacity O > 1/2) gives the point
p = o + D d at its depth D, with the pixel's colour. Where a scene is a fog, D is somewhere in it
and another one from each side, so that others must agree: camera w does, if the pixel in which it
sees p is opaque too, and

.. math::
    \big| D_w - \lVert p - o_w \rVert \big| < 0.05\, \lVert p - o_w \rVert .
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from csd_lab.checks import check_not_negative, check_whole
from csd_lab.fields.cameras import Cameras
from csd_lab.fields.scene import Scene, View

OPAQUE = 0.5
"""Opacity above which a pixel shows a surface."""
TOLERANCE = 0.05


class Points(NamedTuple):
    """Coloured points.

    Attributes:
        places: (P, 3), in world units.
        colours: (P, 3), in [0, 1].
    """

    places: Tensor
    colours: Tensor


@torch.no_grad()
def points_seen(scene: Scene, cameras: Cameras, most: int, agree: int = 2) -> Points:
    """Points of all cameras' pixels, on the CPU.

    Args:
        scene: what is looked at.
        cameras: V of them.
        most: points at most, >= 1; no view gives more than an equal share of them, of pixels that
            are drawn with a fixed seed.
        agree: other cameras that must agree on a point, >= 0; not more than there are.

    Raises:
        ValueError: an argument is out of range.
    """
    check_whole("most", most)
    check_not_negative("agree", agree)
    share = math.ceil(most / len(cameras))
    generator = torch.Generator().manual_seed(0)
    parts, depths = [], []
    for index in range(len(cameras)):
        view = View(*(part.cpu() for part in scene.view(cameras, index)))
        parts.append(_of_view(view, cameras, index, share, generator))
        depths.append(view.depth.where(view.opacity > OPAQUE, torch.inf))
    places, colours = (torch.cat(part) for part in zip(*parts, strict=True))
    votes = _votes(places, cameras, torch.stack(depths))
    agreed = (votes > min(agree, len(cameras) - 1)).nonzero()[:, 0]  # each point's own camera too
    kept = agreed[_drawn(len(agreed), most, generator)]
    return Points(places[kept], colours[kept])


def _of_view(
    view: View, cameras: Cameras, index: int, share: int, generator: torch.Generator
) -> Points:
    """Points of one camera's opaque pixels, ``share`` at most."""
    seen = (view.opacity.flatten() > OPAQUE).nonzero()[:, 0]
    kept = seen[_drawn(len(seen), share, generator)]
    rays = cameras.image_rays(index)
    places = rays.origins[kept] + view.depth.flatten()[kept, None] * rays.directions[kept]
    return Points(places, view.colour.flatten(1).T[kept])


def _votes(places: Tensor, cameras: Cameras, depths: Tensor) -> Tensor:
    """How many cameras, whose depths are (V, H, W), agree on each place (P, 3): (P,)."""
    size = torch.tensor([cameras.width, cameras.height])
    votes = torch.zeros(len(places), dtype=torch.int64)
    for index, depth in enumerate(depths):
        pixels, ahead = cameras.project(places, index)
        inside = ((pixels >= 0) & (pixels < size)).all(dim=1) & (ahead > 0)
        column, row = pixels.where(inside[:, None], 0.0).long().unbind(dim=1)
        distance = (places - cameras.poses[index, :, 3]).norm(dim=1)
        votes += inside & ((depth[row, column] - distance).abs() < TOLERANCE * distance)
    return votes


def _drawn(count: int, most: int, generator: torch.Generator) -> Tensor:
    """Which of ``count`` things are kept, ``most`` of them at most, in their order."""
    return torch.randperm(count, generator=generator)[:most].sort().values
