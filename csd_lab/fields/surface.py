r"""The surface of a radiance field, as a mesh.

The surface is where

.. math::
    \sigma = \frac{\ln 2}{\Delta}, \qquad \text{so that} \quad
    \alpha = 1 - e^{-\sigma\Delta} = \frac12 :

what a ray meets there stops half of it within a length :math:`\Delta`, below which a field resolves
nothing, such as the distance of its own nodes. The density is taken at the nodes of a cubic grid,
and the surface is found by marching cubes (Lewiner et al. 2003), whose vertices lie on the grid's
edges, at the places between two nodes where the density, taken as linear, has that value. It is
left open where it meets the sides of the cube. Pieces of few nodes, which fields leave in the air
where no view contradicts them, can be left out.
"""

import math
from typing import NamedTuple

import torch
from skimage.measure import label, marching_cubes
from torch import Tensor

from csd_lab.checks import check_positive, check_whole
from csd_lab.fields.field import RadianceField

CHUNK = 2**18
"""Points at which the field is asked at once."""


class Mesh(NamedTuple):
    """Triangles with a colour at each vertex.

    Attributes:
        vertices: (P, 3), in world units.
        faces: the vertices of each triangle, (T, 3), int64; counterclockwise as seen from outside.
        colours: of the vertices, (P, 3), in [0, 1].
    """

    vertices: Tensor
    faces: Tensor
    colours: Tensor


@torch.no_grad()
def surface(
    field: RadianceField,
    centre: Tensor,
    half: float,
    resolution: int,
    within: float | None = None,
    smallest: int = 1,
) -> Mesh | None:
    """The surface of a field within a cube, on the CPU.

    Args:
        field: the field.
        centre: of the cube, (3,), in world units.
        half: half its side, in world units, > 0.
        resolution: nodes along each side, >= 2.
        within: Delta, in world units, > 0; None: the distance of the grid's nodes.
        smallest: dense nodes, connected along the axes, that a piece must have, >= 1.

    Returns:
        The mesh; None where nothing is dense enough and large enough, or all is.

    Raises:
        ValueError: an argument is out of range.
    """
    check_positive("half", half)
    check_whole("resolution", resolution, 2)
    check_whole("smallest", smallest)
    if within is not None and not within > 0:
        raise ValueError(f"within must be above 0, got {within}")
    cell = 2 * half / (resolution - 1)
    level = math.log(2) / (within or cell)
    corner = centre.cpu() - half
    density = _densities(field, corner, cell, resolution)
    density[_crumbs(density > level, smallest)] = 0
    if not float(density.min()) < level < float(density.max()):
        return None
    vertices, faces, _, _ = marching_cubes(density.numpy(), level, gradient_direction="ascent")
    places = corner + cell * torch.from_numpy(vertices.copy())
    return Mesh(places, torch.from_numpy(faces.copy()).long(), _colours(field, places))


def _densities(field: RadianceField, corner: Tensor, cell: float, resolution: int) -> Tensor:
    """Densities at the nodes, indexed by x, y and z: (R, R, R)."""
    steps = cell * torch.arange(resolution)
    y, z = torch.meshgrid(steps, steps, indexing="ij")
    slices = []
    for x in steps:
        points = corner + torch.stack([x.expand(y.shape), y, z], dim=2).flatten(0, 1)
        slices.append(_asked(field, points)[0].view(y.shape))
    return torch.stack(slices)


def _crumbs(dense: Tensor, smallest: int) -> Tensor:
    """Which dense nodes, (R, R, R), bool, are of pieces of fewer than ``smallest``."""
    pieces = torch.from_numpy(label(dense.numpy(), connectivity=1))
    return dense & (pieces.flatten().bincount() < smallest)[pieces]


def _colours(field: RadianceField, places: Tensor) -> Tensor:
    """The field's colours at places (P, 3)."""
    return _asked(field, places)[1].clamp(0, 1)


def _asked(field: RadianceField, points: Tensor) -> tuple[Tensor, Tensor]:
    """Densities and colours at points (P, 3), in chunks: (P,), (P, 3)."""
    device = next(field.parameters()).device
    parts = [field(chunk.to(device)) for chunk in points.split(CHUNK)]
    density = torch.cat([part.density.cpu() for part in parts])
    return density, torch.cat([part.colour.cpu() for part in parts])
