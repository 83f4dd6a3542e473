"""Convex solids and where straight lines pass through them.

Each solid answers two questions in its own frame (y up, standing on y = 0): over which stretch of
a ray's length does the ray run inside it (`span`), and what is the outward normal at a surface
point (`normal`). Visibility needs the start of the stretch, a soft shadow its length.
"""

import math
from typing import NamedTuple, final

import torch
from torch import Tensor

Vector = tuple[Tensor, Tensor, Tensor]


class Rays(NamedTuple):
    """A bundle of rays: six tensors that broadcast to (R,), directions of unit length."""

    ox: Tensor
    oy: Tensor
    oz: Tensor
    dx: Tensor
    dy: Tensor
    dz: Tensor

    def placed(self, x: float, z: float, yaw: float) -> "Rays":
        """Return the rays as seen from an object at (x, 0, z), turned by ``yaw``."""
        c, s = math.cos(yaw), math.sin(yaw)
        ox, oz = self.ox - x, self.oz - z
        return Rays(
            c * ox + s * oz,
            self.oy,
            c * oz - s * ox,
            c * self.dx + s * self.dz,
            self.dy,
            c * self.dz - s * self.dx,
        )

    def select(self, which: Tensor | slice) -> "Rays":
        """Return some of the rays, of a bundle with one common origin."""
        return Rays(*self[:3], self.dx[which], self.dy[which], self.dz[which])

    def point(self, distance: Tensor) -> Vector:
        """Return the points at a distance (R,) along the rays."""
        return (
            self.ox + distance * self.dx,
            self.oy + distance * self.dy,
            self.oz + distance * self.dz,
        )


@final
class Sphere(NamedTuple):
    """A ball of a radius around (0, height, 0)."""

    height: float
    radius: float

    def span(self, rays: Rays) -> tuple[Tensor, Tensor]:
        """Return where rays enter and leave, (R,) each; enter > leave where they miss."""
        oy = rays.oy - self.height
        b = rays.ox * rays.dx + oy * rays.dy + rays.oz * rays.dz
        c = rays.ox * rays.ox + oy * oy + rays.oz * rays.oz - self.radius**2
        inside = b * b - c
        root = inside.clamp(min=0).sqrt()
        return torch.where(inside > 0, -b - root, math.inf), root - b

    def normal(self, point: Vector) -> Vector:
        """Return outward unit normals at surface points."""
        x, y, z = point
        return x / self.radius, (y - self.height) / self.radius, z / self.radius


@final
class Frustum(NamedTuple):
    """A round frustum about the y axis; a cone for top = 0, a cylinder for bottom = top."""

    low: float
    high: float
    bottom: float
    top: float

    def span(self, rays: Rays) -> tuple[Tensor, Tensor]:
        """Return where rays enter and leave, (R,) each; enter > leave where they miss."""
        slope = (self.bottom - self.top) / (self.high - self.low)
        # Radius along the ray: r0 + r1 t. Inside the mantle: x^2 + z^2 <= (r0 + r1 t)^2.
        r0 = self.bottom - slope * (rays.oy - self.low)
        r1 = -slope * rays.dy
        a = rays.dx * rays.dx + rays.dz * rays.dz - r1 * r1
        a = torch.where(a.abs() < 1e-7, torch.full_like(a, 1e-7), a)
        b = rays.ox * rays.dx + rays.oz * rays.dz - r0 * r1
        c = rays.ox * rays.ox + rays.oz * rays.oz - r0 * r0
        inside = b * b - a * c
        root = inside.clamp(min=0).sqrt()
        one, two = (-b - root) / a, (-b + root) / a
        first, second = torch.minimum(one, two), torch.maximum(one, two)
        # a < 0: the ray is steeper than the mantle and inside it before the first or after
        # the second crossing, on the nappe where the radius is positive.
        steep, upward = a < 0, rays.dy > 0
        enter = torch.where(steep, torch.where(upward, -math.inf, second), first)
        leave = torch.where(steep, torch.where(upward, first, math.inf), second)
        enter = torch.where((inside > 0) | steep, enter, math.inf)
        dy = torch.where(rays.dy.abs() < 1e-7, torch.full_like(rays.dy, 1e-7), rays.dy)
        floor, lid = (self.low - rays.oy) / dy, (self.high - rays.oy) / dy
        enter = torch.maximum(enter, torch.minimum(floor, lid))
        return enter, torch.minimum(leave, torch.maximum(floor, lid))

    def normal(self, point: Vector) -> Vector:
        """Return outward unit normals at surface points (of the mantle, or of the two discs)."""
        x, y, z = point
        rise, run = self.high - self.low, self.bottom - self.top
        length = math.hypot(rise, run)
        radius = (x * x + z * z).sqrt().clamp(min=1e-6)
        up = ((y > self.high - 1e-4) & (radius < self.top - 1e-3)).to(x.dtype)
        down = ((y < self.low + 1e-4) & (radius < self.bottom - 1e-3)).to(x.dtype)
        side = (rise / length) * (1 - up - down) / radius
        return x * side, (run / length) * (1 - up - down) + up - down, z * side


@final
class Polytope(NamedTuple):
    """The points p with n . p <= c for each plane (nx, ny, nz, c), n of unit length."""

    planes: tuple[tuple[float, float, float, float], ...]

    def span(self, rays: Rays) -> tuple[Tensor, Tensor]:
        """Return where rays enter and leave, (R,) each; enter > leave where they miss."""
        enter = leave = None
        for plane in self.planes:
            along = _dot(plane, (rays.dx, rays.dy, rays.dz))
            along = torch.where(along.abs() < 1e-7, torch.full_like(along, 1e-7), along)
            crossing = (plane[3] - _dot(plane, (rays.ox, rays.oy, rays.oz))) / along
            into = torch.where(along < 0, crossing, -math.inf)
            out = torch.where(along < 0, math.inf, crossing)
            enter = into if enter is None else torch.maximum(enter, into)
            leave = out if leave is None else torch.minimum(leave, out)
        if enter is None or leave is None:
            raise ValueError("planes must be at least one, got none")
        return enter, leave

    def normal(self, point: Vector) -> Vector:
        """Return the unit normal of the nearest plane at surface points."""
        excess = torch.stack([_dot(plane, point) - plane[3] for plane in self.planes])
        table = torch.tensor(self.planes, dtype=excess.dtype, device=excess.device)
        chosen = table[excess.argmax(dim=0)]
        return chosen[:, 0], chosen[:, 1], chosen[:, 2]


Solid = Sphere | Frustum | Polytope


def cuboid(half_x: float, half_z: float, high: float) -> Polytope:
    """Return a cuboid of height ``high`` that stands on y = 0."""
    return Polytope(
        (
            (1.0, 0.0, 0.0, half_x),
            (-1.0, 0.0, 0.0, half_x),
            (0.0, 0.0, 1.0, half_z),
            (0.0, 0.0, -1.0, half_z),
            (0.0, 1.0, 0.0, high),
            (0.0, -1.0, 0.0, 0.0),
        )
    )


def roof(half_x: float, half_z: float, low: float, high: float, gable: bool) -> Polytope:
    """Return a roof between two heights: a pyramid, or a gable whose ridge runs along z."""
    rise = high - low
    length = math.hypot(rise, half_x)
    planes = [
        (side * rise / length, half_x / length, 0.0, (rise * half_x + half_x * low) / length)
        for side in (1.0, -1.0)
    ]
    if gable:
        planes += [(0.0, 0.0, side, half_z) for side in (1.0, -1.0)]
    else:
        length = math.hypot(rise, half_z)
        planes += [
            (0.0, half_z / length, side * rise / length, (rise * half_z + half_z * low) / length)
            for side in (1.0, -1.0)
        ]
    return Polytope((*planes, (0.0, -1.0, 0.0, -low)))


def _dot(plane: tuple[float, float, float, float], vector: Vector) -> Tensor:
    """Return n . v, leaving out components of n that are zero."""
    total: Tensor | None = None
    for weight, component in zip(plane[:3], vector, strict=True):
        if weight:
            term = weight * component
            total = term if total is None else total + term
    if total is None:
        raise ValueError(f"plane must have a normal that is not zero, got {plane}")
    return total
