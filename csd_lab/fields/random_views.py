r"""Cameras around a scene that nobody captured: drawn anew for every step.

A camera at azimuth a, elevation e and distance r from the origin looks at it from

.. math::
    o = r\,(\cos e \sin a,\; \sin e,\; \cos e \cos a),

with y up: at a = 0 it stands at +z, in front of the scene. The N views of a step lie all around it,
one in each of N equal sectors, the whole turned by a share u of the circle that all of them share:

.. math::
    a_i = 2\pi\,\Big(u + \frac{i + u_i}{N}\Big), \qquad i = 0, \dots, N - 1.

Elevation, distance and angle of view are drawn evenly from ranges. All of this is a function of
(seed, step, i), so that no layout of processes and no interruption changes it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from csd_lab.checks import check_whole
from csd_lab.fields.cameras import Cameras, look_at
from csd_lab.streams import Stream, numpy_generator

Range = tuple[float, float]


class OrbitViews(NamedTuple):
    """Where cameras stand that look at the origin.

    Attributes:
        azimuth: a, (N,), in degrees, in [0, 360).
        elevation: e, (N,), in degrees.
        distance: r, (N,), in world units.
        angle: vertical angle of view, (N,), in degrees.
    """

    azimuth: Tensor
    elevation: Tensor
    distance: Tensor
    angle: Tensor

    def cameras(self, height: int, width: int) -> Cameras:
        """The cameras, with images of this size in pixels."""
        a, e = self.azimuth.deg2rad(), self.elevation.deg2rad()
        direction = torch.stack([e.cos() * a.sin(), e.sin(), e.cos() * a.cos()], dim=1)
        poses = look_at(
            self.distance[:, None] * direction, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0])
        )
        focal = height / (2 * (self.angle.deg2rad() / 2).tan())
        return Cameras(poses, focal[:, None].expand(-1, 2), height, width)


@final
class RandomViews:
    """Draws the cameras of every step.

    Args:
        count: N, views a step, >= 1.
        elevation: lowest and highest, in degrees, in (-90, 90).
        distance: nearest and farthest, in world units, > 0.
        angle: narrowest and widest vertical angle of view, in degrees, in (0, 180).

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        count: int = 4,
        elevation: Range = (3.0, 12.0),
        distance: Range = (4.0, 5.0),
        angle: Range = (47.0, 51.0),
    ) -> None:
        check_whole("count", count)
        self.count = count
        self.elevation = _range("elevation", elevation, -90, 90)
        self.distance = _range("distance", distance, 0, math.inf)
        self.angle = _range("angle", angle, 0, 180)

    def draw(self, seed: int, step: int, ids: Tensor) -> OrbitViews:
        """The views ``ids``, (n,), each in 0 ... N - 1, of a step."""
        place = (Stream.ORBIT_CAMERAS, seed, step)
        turn = numpy_generator(*place, self.count).random()
        rows = [numpy_generator(*place, i).random(4) for i in ids.tolist()]
        u = torch.from_numpy(np.reshape(rows, (-1, 4)))
        azimuth = 360 * ((turn + (ids.cpu() + u[:, 0]) / self.count) % 1)
        parts = [
            low + (high - low) * u[:, k]
            for k, (low, high) in enumerate((self.elevation, self.distance, self.angle), start=1)
        ]
        return OrbitViews(*(part.float() for part in (azimuth, *parts)))

    def orbit(self, count: int) -> OrbitViews:
        """Views evenly all around from the front on, in the middle of all ranges."""
        azimuth = torch.arange(count) * (360 / count)
        middles = (sum(part) / 2 for part in (self.elevation, self.distance, self.angle))
        return OrbitViews(azimuth, *(torch.full((count,), middle) for middle in middles))


def _range(name: str, value: Range, least: float, most: float) -> Range:
    """The two numbers.

    Raises:
        ValueError: they are none, or out of range.
    """
    pair = tuple(value) if isinstance(value, Sequence) else (value,)
    numbers = [v for v in pair if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(pair) != 2 or len(numbers) != 2 or not least < pair[0] <= pair[1] < most:
        raise ValueError(
            f"{name} must be two numbers, lowest first, above {least:g} and below {most:g}, got "
            f"{list(pair)}"
        )
    return float(pair[0]), float(pair[1])
