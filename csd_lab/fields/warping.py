r"""Where the pixels of one view are seen in another, from depth.

A pixel of the view v' with the ray o' + t d sees a point at the distance D' along it. From the
view v, whose camera is at o with the axes R, this point lies along

.. math::
    q = d + \frac{1}{D'} (o' - o),

since the point is o + D' q. Its place in v is the projection of o + q, and with the distance z(q)
of o + q along the optical axis, the point's own inverse distance along that axis is
r = 1 / (D' z(q)). The sky is at D' = infinity: then q = d and r = 0, and nothing else changes.

What v itself sees there is at the inverse distance s, read bilinearly between the pixels of v, of
which each has s = 1 / (D z(d)). Inverse distances along the axis are linear in the image of any
plane, so this is exact on flat surfaces, however obliquely they are seen (but for the outer half of
the outermost pixels); across an edge it lies between the two sides, of which neither then matches.
The point is visible if it lies in front of
the camera and inside the image, and

.. math::
    |s - r| \leq \tau r, \qquad \text{for the sky: } \sum_k b_k [D_k = \infty] \geq 1 - \tau,

with the bilinear weights b of the four pixels around.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from csd_lab.checks import check_positive
from csd_lab.fields.cameras import Cameras
from csd_lab.types import Flow


def flow(
    cameras: Cameras, depth: Tensor, opacity: Tensor | None = None, tolerance: float = 0.05
) -> Flow:
    """The flow from each view to the one before it.

    Args:
        cameras: V of them, each a neighbour of the next.
        depth: distances along the rays of pixels' middles, (V, H, W), in world units, above 0;
            infinite where there is the sky.
        opacity: in [0, 1], (V, H, W); what is below half is taken for sky, whatever its depth.
            None: depth alone decides.
        tolerance: by how much, relatively, the depth that a view sees may differ from the one that
            it should see, above 0; see the module.

    Returns:
        The flow of V - 1 pairs; 0 in the grid where not visible.

    Raises:
        ValueError: an argument has a wrong shape or is out of range.
    """
    check_positive("tolerance", tolerance)
    inverse = _inverse_depth(cameras, depth, opacity)
    grid = inverse.new_zeros(len(cameras) - 1, cameras.height, cameras.width, 2)
    visible = torch.zeros_like(grid[..., 0], dtype=torch.bool)
    for index in range(len(cameras) - 1):
        grid[index], visible[index] = _pair(cameras, inverse, index, tolerance)
    return Flow(grid, visible)


def enlarged(found: Flow, height: int, width: int) -> Flow:
    """A flow between the same views at another size, in pixels.

    Places are read bilinearly; a pixel is visible where all that it is read from are.
    """
    size = (height, width)
    if found.visible.shape[1:] == size:
        return found
    options: dict[str, Any] = {"size": size, "mode": "bilinear", "align_corners": False}
    grid = interpolate(found.grid.permute(0, 3, 1, 2), **options).permute(0, 2, 3, 1)
    visible = interpolate(found.visible[:, None].to(grid), **options)[:, 0] > 1 - 1e-4
    return Flow(torch.where(visible[..., None], grid, 0), visible)


def _inverse_depth(cameras: Cameras, depth: Tensor, opacity: Tensor | None) -> Tensor:
    """1 / D of all pixels, (V, H, W), 0 for the sky, checked, where the cameras are."""
    shape = (len(cameras), cameras.height, cameras.width)
    for name, values in (("depth", depth), ("opacity", opacity)):
        if values is not None and values.shape != shape:
            raise ValueError(
                f"{name} must be {shape}, as the cameras' images, got {tuple(values.shape)}"
            )
    if opacity is not None:
        depth = torch.where(opacity < 0.5, torch.inf, depth)
    if not bool((depth > 0).all()):
        raise ValueError(f"depth must be above 0, got {float(depth.min()):g}")
    return 1 / depth.to(cameras.poses)


def _pair(cameras: Cameras, inverse: Tensor, index: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """Grid, (H, W, 2), and visibility, (H, W), of the view after ``index`` in that view."""
    origin = cameras.poses[index, :, 3]
    rays = cameras.image_rays(index + 1)
    near = inverse[index + 1].flatten()
    towards = rays.directions + near[:, None] * (rays.origins - origin)
    places, along = cameras.project(origin + towards, index)
    grid = 2 * places / places.new_tensor([cameras.width, cameras.height]) - 1

    expected = near / along
    seen, sky = _read(cameras, inverse, index, grid)
    same = torch.where(
        near > 0, (seen - expected).abs() <= tolerance * expected, sky >= 1 - tolerance
    )
    visible = (along > 0) & (grid.abs() <= 1).all(dim=1) & same
    grid = torch.where(visible[:, None], grid, 0)
    size = (cameras.height, cameras.width)
    return grid.view(*size, 2), visible.view(size)


def _read(cameras: Cameras, inverse: Tensor, index: int, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse distances along a view's optical axis, and shares of sky, at P places: (P,) each."""
    rays = cameras.image_rays(index)
    _, along = cameras.project(rays.origins + rays.directions, index)
    axial = inverse[index] / along.view(cameras.height, cameras.width)
    maps = torch.stack([axial, (axial == 0).to(axial)])[None]
    read = grid_sample(maps, grid[None, None], padding_mode="border", align_corners=False)
    return read[0, 0, 0], read[0, 1, 0]
