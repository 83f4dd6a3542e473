"""Renders a radiance field along rays, in two passes."""

from typing import final

import torch
from torch import Tensor

from csd_lab.fields.cameras import Rays
from csd_lab.fields.field import RadianceField
from csd_lab.fields.rendering import Rendering, composite, cut, resample, stretch


@final
class Renderer:
    """Two passes of volume rendering: the first finds where something is, the second looks there.

    Args:
        near: where rays begin to see, in world units, >= 0.
        far: where they end.
        linear: up to where pieces are of one length; see :func:`csd_lab.fields.rendering.stretch`.
        coarse: pieces of the first pass, >= 2.
        fine: pieces of the second pass, >= 2.
        chunk: rays that are rendered together at most where no gradient is wanted, >= 1.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        near: float,
        far: float,
        linear: float,
        coarse: int = 64,
        fine: int = 48,
        chunk: int = 4096,
    ) -> None:
        if not 0 <= near < linear < far:
            raise ValueError(
                "near, linear and far must have 0 <= near < linear < far, got "
                f"{near}, {linear} and {far}"
            )
        for name, value, least in (("coarse", coarse, 2), ("fine", fine, 2), ("chunk", chunk, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.near, self.far, self.linear = near, far, linear
        self.coarse, self.fine, self.chunk = coarse, fine, chunk

    @property
    def randomness(self) -> int:
        """Random numbers that a ray takes."""
        return self.coarse + 1 + self.fine + 1

    def __call__(self, field: RadianceField, rays: Rays, noise: Tensor | None = None) -> Rendering:
        """What rays see of a field, differentiable in its parameters.

        Args:
            field: the field.
            rays: R of them.
            noise: uniform in [0, 1), (R, ``randomness``), moves the places at which rays are cut;
                None: fixed places.
        """
        first, second = (
            (None, None) if noise is None else noise.split([self.coarse + 1, self.fine + 1], dim=1)
        )
        places = cut(len(rays.origins), self.coarse, first)
        edges = self._stretched(places.to(rays.origins))
        with torch.no_grad():
            points = _middles(rays, edges)
            density = field.density(points.flatten(0, 1)).view(points.shape[:2])
            seen = composite(density, torch.zeros_like(points), edges, torch.zeros(1, 3).to(edges))
        edges = resample(edges, seen.weights, self.fine, second)
        points = _middles(rays, edges)
        radiance = field(points.flatten(0, 1))
        return composite(
            radiance.density.view(points.shape[:2]),
            radiance.colour.view(points.shape),
            edges,
            field.background(rays.directions),
        )

    def _stretched(self, places: Tensor) -> Tensor:
        return stretch(places, self.near, self.far, self.linear)


def _middles(rays: Rays, edges: Tensor) -> Tensor:
    """The middle of every piece, (R, S, 3)."""
    middle = (edges[:, 1:] + edges[:, :-1]) / 2
    return rays.origins[:, None] + middle[..., None] * rays.directions[:, None]
