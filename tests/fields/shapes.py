"""Fields of known shape, in closed form, and cameras around them."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from csd_lab.fields import Radiance, RadianceField, look_at

OPAQUE = 1e4


class Solid(RadianceField):
    """Opaque where ``inside`` says; red where x > 0, green elsewhere; white behind."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside
        self.place = nn.Parameter(torch.zeros(1))  # where it is computed

    def density(self, points: Tensor) -> Tensor:
        return OPAQUE * self.inside(points).float()

    def forward(self, points: Tensor) -> Radiance:
        right = (points[:, :1] > 0).float()
        colour = torch.cat([right, 1 - right, torch.zeros_like(right)], dim=1)
        return Radiance(self.density(points), colour)

    def background(self, directions: Tensor) -> Tensor:
        return torch.ones_like(directions)

    def smoothness(self, generator: torch.Generator | None = None) -> Tensor:
        return torch.zeros(())


def ball(centre: Tensor, radius: float) -> Solid:
    return Solid(lambda points: (points - centre).norm(dim=1) < radius)


def wall() -> Solid:
    """All that lies below z = 0."""
    return Solid(lambda points: points[:, 2] < 0)


def orbit(
    centre: Tensor, radius: float, elevation: float, count: int, up: Tensor, turns: float = 1.0
) -> Tensor:
    """Poses evenly around a point, all looking at it.

    Args:
        centre: the point, (3,).
        radius: distance from it, in world units.
        elevation: above it, in radians.
        count: V, how many poses.
        up: axis of the orbit, (3,).
        turns: how much of a whole turn; the last pose stands one step before its end.

    Returns:
        (V, 3, 4).
    """
    axis = normalize(up, dim=0)
    helper = torch.eye(3)[int(axis.abs().argmin())]
    first = normalize(torch.linalg.cross(axis, helper), dim=0)
    second = torch.linalg.cross(axis, first)
    angle = torch.arange(count)[:, None] * (2 * math.pi * turns / count)
    flat = angle.cos() * first + angle.sin() * second
    offset = math.cos(elevation) * flat + math.sin(elevation) * axis
    return look_at(centre + radius * offset, centre, axis)
