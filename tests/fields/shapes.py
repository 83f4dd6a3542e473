"""Fields of known shape, in closed form."""

import torch
from torch import Tensor, nn

from csd_lab.fields import Radiance, RadianceField

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
