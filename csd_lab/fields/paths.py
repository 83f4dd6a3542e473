r"""A smooth closed path through the places of cameras.

Camera v stands at o_v and looks along the unit vector a_v; its own right and up axes are r_v and
u_v. Cameras lean, but seldom roll: up is the mean of their up axes but for what would not be level,

.. math::
    u \propto \Big( \frac1V \sum_v r_v r_v^T + \varepsilon I \Big)^{-1} \bar u .

The path looks at a point T. Seen from there, camera v has the height h_v along u and the place q_v
in the plane across it, at the angle :math:`\varphi_v`. How much of a circle the cameras cover is
told by the widest gap between neighbouring angles.

**Around** (no gap wider than 120 degrees). T is the scene's centre (:mod:`csd_lab.fields.bounds`),
and the path is the ellipse that is nearest to the cameras at their own angles, at their mean
height:

.. math::
    q(\varphi) = c + a \cos\varphi + b \sin\varphi, \qquad
    (c, a, b) = \arg\min \sum_v \lVert q(\varphi_v) - q_v \rVert^2, \qquad h = \bar h .

**To and fro** (else). The axes turn with the places, linearly; their regression says where they
meet, and not farther away than 10 times the cameras' spread :math:`\ell`, for parallel ones never
do:

.. math::
    T = \bar o + \frac{\bar a}{\kappa}, \qquad
    \kappa = \max\Big( -\frac{\sum_v (a_v - \bar a) \cdot (o_v - \bar o)}
      {\sum_v \lVert o_v - \bar o \rVert^2},\; \frac{1}{10 \ell} \Big).

For cameras that look at one point from one distance, T is that point, however far they have gone
around it. The path is an ellipse in angle and height, as wide as the cameras' own spread:

.. math::
    \varphi = \bar\varphi + \sqrt 2\, \sigma_\varphi \cos\psi, \qquad
    h = \bar h + \sqrt 2\, \sigma_h \sin\psi, \qquad
    \lVert q \rVert = \operatorname{mean}_v \lVert q_v \rVert .
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from csd_lab.checks import check_whole
from csd_lab.fields.bounds import bounds_of
from csd_lab.fields.cameras import Cameras, look_at

WIDEST_GAP = 2 * math.pi / 3
"""Between neighbouring cameras that stand around something, in radians."""
LEVEL = 1e-3
"""Epsilon: how much the mean of the up axes counts against what right axes say."""
FARTHEST = 10.0
"""What cameras to and fro look at, in their own spreads."""


class _Seen(NamedTuple):
    """Places about a point: angles (V,), distances from the axis (V,), heights along it (V,)."""

    angle: Tensor
    radius: Tensor
    height: Tensor


def camera_path(cameras: Cameras, count: int) -> Cameras:
    """Cameras along a closed path, which all look at one point.

    Args:
        cameras: V of them; the path's have their mean focal length, and neither distortion nor a
            principal point out of the middle.
        count: of the path's, >= 1; the last stands one step before the first.

    Raises:
        ValueError: ``count`` is below 1.
    """
    check_whole("count", count)
    turn = torch.arange(count).double() * (2 * math.pi / count)
    places, target, up = _around(cameras, turn) or _to_and_fro(cameras, turn)
    poses = look_at(places, target, up).float()
    return Cameras(poses, cameras.focal.mean(dim=0), cameras.height, cameras.width)


def _around(cameras: Cameras, turn: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Places (P, 3) at the angles ``turn``, the point looked at, and up; None: there is a gap."""
    places, up = cameras.poses[:, :, 3].double(), _up(cameras)
    centre = bounds_of(cameras).centre.double()
    frame = _frame(up)
    seen = _seen(places - centre, frame)
    order = seen.angle.sort().values
    gaps = torch.cat([order, order[:1] + 2 * math.pi]).diff()
    if float(gaps.max()) > WIDEST_GAP + 1e-6:
        return None
    flat = seen.radius[:, None] * _circle(seen.angle)
    ellipse = torch.linalg.lstsq(_waves(seen.angle), flat, driver="gelsd").solution
    across = _waves(turn) @ ellipse
    return centre + across @ frame + seen.height.mean() * up, centre, up


def _to_and_fro(cameras: Cameras, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Places (P, 3) at the angles ``turn`` of an ellipse, the point looked at, and up."""
    places, up = cameras.poses[:, :, 3].double(), _up(cameras)
    axes = -cameras.poses[:, :, 2].double()
    middle, axis = places.mean(dim=0), axes.mean(dim=0)
    square = (places - middle).square().sum(dim=1)
    spread = float(square.mean().sqrt().clamp(min=1e-3))
    turning = -((axes - axis) * (places - middle)).sum() / square.sum().clamp(min=1e-12)
    target = middle + axis / turning.clamp(min=1 / (FARTHEST * spread))
    frame = _frame(up)
    seen = _seen(places - target, frame)
    start = (seen.radius[:, None] * _circle(seen.angle)).sum(dim=0)
    first = torch.atan2(start[1], start[0])
    off = torch.remainder(seen.angle - first + math.pi, 2 * math.pi) - math.pi
    angle = first + off.mean() + math.sqrt(2) * off.std(correction=0) * turn.cos()
    height = seen.height.mean() + math.sqrt(2) * seen.height.std(correction=0) * turn.sin()
    across = seen.radius.mean() * _circle(angle) @ frame
    return target + across + height[:, None] * up, target, up


def _up(cameras: Cameras) -> Tensor:
    """Which way is up, of length 1, (3,)."""
    rights, ups = cameras.poses[:, :, 0].double(), cameras.poses[:, :, 1].double()
    mean = ups.mean(dim=0)
    mean = mean if mean.norm() > 1e-3 else ups[0]  # upside down as often as not
    level = rights.T @ rights / len(rights) + LEVEL * torch.eye(3).to(rights)
    return normalize(torch.linalg.solve(level, mean), dim=0)


def _frame(up: Tensor) -> Tensor:
    """Two axes across ``up``, (2, 3)."""
    helper = torch.eye(3).to(up)[int(up.abs().argmin())]
    first = normalize(torch.linalg.cross(up, helper), dim=0)
    return torch.stack([first, torch.linalg.cross(up, first)])


def _seen(offsets: Tensor, frame: Tensor) -> _Seen:
    """Offsets (V, 3) from a point, about the axis across ``frame``."""
    x, y = (offsets @ frame.T).unbind(dim=1)
    up = torch.linalg.cross(frame[0], frame[1])
    return _Seen(torch.atan2(y, x), torch.hypot(x, y), offsets @ up)


def _circle(angle: Tensor) -> Tensor:
    """Points of the unit circle, (P, 2)."""
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def _waves(angle: Tensor) -> Tensor:
    """1, cos and sin of angles, (P, 3)."""
    return torch.cat([torch.ones_like(angle)[:, None], _circle(angle)], dim=1)
