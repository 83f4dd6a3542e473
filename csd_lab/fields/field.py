r"""Radiance fields: density and colour at every point of space, and a background behind it.

All of space is seen as a cube. With a scene's centre m and scale r, x = (p - m) / r is taken to

.. math::
    \mathrm{contract}(x) = \begin{cases}
      x & \lVert x \rVert_\infty \le 1 \\
      \Big(2 - \frac{1}{\lVert x \rVert_\infty}\Big) \frac{x}{\lVert x \rVert_\infty}
        & \text{else}
    \end{cases} \;\in (-2, 2)^3

(Barron et al. 2022, arXiv 2111.12077, with the maximum norm, so that the cube is filled). What is
near has half of the cube along each axis, and everything farther away the rest.

A grid over the cube holds a density per length in the cube. Lengths of the world shrink by
:math:`1 / \lVert x \rVert_\infty^2` outwards, and so does the density there,

.. math::
    \sigma(p) = \frac{\sigma_\text{grid}}{r}\, \min(1, \lVert x \rVert_\infty^{-2}),

so that what is yet unknown is not taken to lie far away, where pieces of rays are long.

Of v nodes a side with values g, smoothness is a mean over neighbours along each axis,

.. math::
    S = \sum_{a \in \{x, y, z\}} \frac{1}{v^2 (v - 1)} \sum_n (g_{n + a} - g_n)^2,

of density, plus the mean of that of the three colours, plus the same of the background's pixels.
The grid's is estimated without bias from one of K slabs of nodes, K times its share, as
Fridovich-Keil et al. 2022 (arXiv 2112.05131) do: going through all of a grid for a thousand rays
would cost more than the rays.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate, pad, softplus

from csd_lab.checks import check_positive, check_whole

EMPTIEST = 1e-5
"""Of a node's density, relative to the scale of densities: an optimiser can still raise it."""
THIN = -6.0
"""What nodes begin with: thin enough that no fog stays before the cameras, which only views from
elsewhere would show; thick enough that something near is found before all is painted far away."""
SLABS = 8
"""K: one of so many slabs of a grid is looked at when smoothness is estimated."""


class Radiance(NamedTuple):
    """What a field holds at P points.

    Attributes:
        density: sigma >= 0, (P,), per world unit.
        colour: (P, 3), in [0, 1].
    """

    density: Tensor
    colour: Tensor


class RadianceField(nn.Module, ABC):
    """Densities and colours, differentiable in the field's parameters."""

    @abstractmethod
    def density(self, points: Tensor) -> Tensor:
        """Density alone at points (P, 3) of the world: (P,), per world unit."""

    @abstractmethod
    def forward(self, points: Tensor) -> Radiance:
        """Density and colour at points (P, 3) of the world."""

    @abstractmethod
    def background(self, directions: Tensor) -> Tensor:
        """Colour of what lies behind everything, in directions (R, 3): (R, 3), in [0, 1]."""

    @abstractmethod
    def smoothness(self, generator: torch.Generator | None = None) -> Tensor:
        """Mean square of what neighbouring parameters differ by, ().

        Args:
            generator: draws, on the CPU, a part by which it is estimated; None: all is looked at.
        """


def contract(x: Tensor) -> Tensor:
    """Points of space (P, 3), in units of the scene, as points of the cube (-2, 2)^3."""
    norm = x.abs().amax(dim=1, keepdim=True).clamp(min=1)
    return (2 - 1 / norm) * x / norm


def expand(y: Tensor) -> Tensor:
    """The inverse of :func:`contract`; the cube's faces, which are infinitely far, come near."""
    norm = y.abs().amax(dim=1, keepdim=True).clamp(1, 2 - 1e-3)
    return y / (norm * (2 - norm))


@final
class Panorama(nn.Module):
    """Colours of all directions, twice as many around as from below to above: y is up.

    Args:
        height: rows, >= 1.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, height: int) -> None:
        super().__init__()
        check_whole("background_height", height)
        self.pixels = nn.Parameter(torch.zeros(1, 3, height, 2 * height))

    def forward(self, directions: Tensor) -> Tensor:
        """Colours in directions (R, 3): (R, 3), in [0, 1]."""
        x, y, z = directions.unbind(dim=1)
        around = torch.atan2(x, -z) / torch.pi
        above = y.clamp(-1, 1).asin() / (torch.pi / 2)
        ring = pad(self.pixels, (1, 1, 0, 0), mode="circular")
        width = self.pixels.shape[3]
        places = torch.stack([around * width / (width + 2), -above], dim=1)
        found = grid_sample(ring, places[None, :, None], padding_mode="border", align_corners=False)
        return found[0, :, :, 0].T.sigmoid()

    def smoothness(self) -> Tensor:
        """Mean squares of the differences of neighbouring pixels: ()."""
        return torch.stack([self.pixels.diff(dim=axis).square().mean() for axis in (2, 3)]).sum()


@final
class GridField(RadianceField):
    """Values at the nodes of a cubic grid, linear in between; the background is a panorama.

    Args:
        centre: of the scene, (3,), in world units.
        scale: r, half the side of the cube that is seen in full, in world units.
        resolution: nodes along each side of the grid, >= 2.
        background_height: rows of the panorama.
        density_scale: density of a node with value 1, per ``scale``, in the cube's middle.

    Raises:
        ValueError: an argument is out of range.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        centre: Tensor,
        scale: float,
        resolution: int = 64,
        background_height: int = 32,
        density_scale: float = 25.0,
    ) -> None:
        super().__init__()
        check_whole("resolution", resolution, 2)
        check_positive("scale", scale)
        self.register_buffer("centre", centre.float())
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.density_scale = density_scale
        nodes = (resolution, resolution, resolution)
        values = torch.zeros(1, 4, *nodes)
        values[:, 0] = THIN
        self.values = nn.Parameter(values)
        self.panorama = Panorama(background_height)

    @property
    def resolution(self) -> int:
        """Nodes along each side of the grid."""
        return self.values.shape[-1]

    @property
    def cell(self) -> float:
        """Distance of neighbouring nodes in the inner cube, in world units."""
        return 4 * float(self.scale) / (self.resolution - 1)

    @property
    def densities(self) -> Tensor:
        """Of the nodes, (1, 1, D, H, W), before softplus: a part of the values."""
        return self.values[:, :1]

    @property
    def colours(self) -> Tensor:
        """Of the nodes, (1, 3, D, H, W), before the sigmoid: the rest of the values."""
        return self.values[:, 1:]

    def density(self, points: Tensor) -> Tensor:
        """Density alone at points (P, 3) of the world: (P,), per world unit."""
        places = self._places(points)
        return self._density(_sample(self.densities, places)[:, 0], places)

    def forward(self, points: Tensor) -> Radiance:
        """Density and colour at points (P, 3) of the world."""
        places = self._places(points)
        values = _sample(self.values, places)
        return Radiance(self._density(values[:, 0], places), values[:, 1:].sigmoid())

    def background(self, directions: Tensor) -> Tensor:
        """Colour of the panorama in directions (R, 3): (R, 3), in [0, 1]."""
        seen: Tensor = self.panorama(directions)
        return seen

    def smoothness(self, generator: torch.Generator | None = None) -> Tensor:
        """Mean squares of the differences of neighbouring nodes and panorama's pixels: ().

        A ``generator`` draws the slab of nodes by which it is estimated; None: all are looked at.
        """
        side = self.resolution
        pairs = side**2 * (side - 1)
        first, end, share = 0, side, 1
        if generator is not None:
            slab = int(torch.randint(SLABS, (), generator=generator))
            first, end, share = slab * side // SLABS, (slab + 1) * side // SLABS, SLABS
        nodes = self.values[0, :, first : end + 1]  # with those that the next slab begins with
        own = nodes[:, : end - first]
        steps = (nodes.diff(dim=1), own.diff(dim=2), own.diff(dim=3))
        each = torch.stack([step.square().sum(dim=(1, 2, 3)) for step in steps]).sum(dim=0) / pairs
        return share * (each[0] + each[1:].mean()) + self.panorama.smoothness()

    @torch.no_grad()
    def fill(self, density: Callable[[Tensor], Tensor], grey: float = 0.5) -> None:
        """Give every node the density that a function has there, and all of them one colour.

        Args:
            density: of points (P, 3) of the world: (P,), per world unit, >= 0.
            grey: of red, green and blue, in (0, 1).
        """
        axis = torch.linspace(-2, 2, self.resolution, device=self.centre.device)
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        cube = torch.stack([x, y, z], dim=3).view(-1, 3)
        nodes = expand(cube) * self.scale + self.centre
        thinner = _shrunk(cube).clamp(min=EMPTIEST)
        wanted = density(nodes) * (self.scale / self.density_scale) / thinner
        wanted = wanted.clamp(min=EMPTIEST)
        value = wanted + torch.log(-torch.expm1(-wanted))  # softplus gives it back
        self.densities.copy_(value.view_as(self.densities))
        self.colours.fill_(math.log(grey / (1 - grey)))

    @torch.no_grad()
    def refine(self, resolution: int) -> None:
        """Give the grid another number of nodes; what it holds stays, interpolated.

        The parameters are new ones: make a new optimiser.
        """
        nodes = (resolution, resolution, resolution)
        enlarge = partial(interpolate, size=nodes, mode="trilinear", align_corners=True)
        self.values = nn.Parameter(enlarge(self.values))

    def _density(self, values: Tensor, places: Tensor) -> Tensor:
        """Per world unit, of the grid's values at places of the cube, (P, 3), in [-1, 1]."""
        return softplus(values) * _shrunk(2 * places) * (self.density_scale / self.scale)

    def _places(self, points: Tensor) -> Tensor:
        """Points of the cube, (P, 3), in [-1, 1]: x, y, z."""
        return contract((points - self.centre) / self.scale) / 2


def _shrunk(cube: Tensor) -> Tensor:
    """By what lengths of the world shrink at places of the cube, (P, 3), in [-2, 2]: (P,)."""
    return (2 - cube.abs().amax(dim=1).clamp(min=1)).square()


def _sample(grid: Tensor, places: Tensor) -> Tensor:
    """Values of a grid (1, C, D, H, W) at places (P, 3) in [-1, 1], linear in between: (P, C)."""
    found = grid_sample(grid, places[None, :, None, None], align_corners=True)
    return found[0, :, :, 0, 0].T
