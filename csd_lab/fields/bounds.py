r"""Where a scene lies, from the cameras that look at it.

Camera v stands at o_v and looks along the unit vector a_v. The point that is nearest to all lines
of sight,

.. math::
    m = \arg\min_p \sum_v \lVert (I - a_v a_v^T)(p - o_v) \rVert^2
      + \varepsilon \lVert p - \bar p \rVert^2, \qquad
    \bar p = \operatorname{mean}_v (o_v + \ell a_v),

is the scene's centre, where the small second part decides what parallel lines leave open, with
:math:`\ell` the cameras' spread. Distances are measured in the mean distance R from cameras to m.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from csd_lab.fields.cameras import Cameras

NEAR, SCALE, LINEAR, FAR = 0.075, 0.75, 2.0, 50.0
"""In mean distances of the cameras from the centre: see :class:`Bounds`."""


class Bounds(NamedTuple):
    """Where a scene lies, in world units.

    Attributes:
        centre: m, (3,).
        radius: R, mean distance of the cameras from it.
    """

    centre: Tensor
    radius: float

    @property
    def near(self) -> float:
        """Where rays begin to see."""
        return NEAR * self.radius

    @property
    def scale(self) -> float:
        """Half the side of the cube that is seen in full detail."""
        return SCALE * self.radius

    @property
    def linear(self) -> float:
        """Up to where rays are cut evenly."""
        return LINEAR * self.radius

    @property
    def far(self) -> float:
        """Where rays end."""
        return FAR * self.radius


def bounds_of(cameras: Cameras) -> Bounds:
    """Where the scene of these cameras lies."""
    poses = cameras.poses.double()
    places, axes = poses[:, :, 3], -poses[:, :, 2]
    spread = (places - places.mean(dim=0)).norm(dim=1).mean().clamp(min=1e-3)
    guess = (places + spread * axes).mean(dim=0)
    across = torch.eye(3).double() - axes[:, :, None] * axes[:, None, :]
    weight = 1e-3 * len(cameras)
    left = across.sum(dim=0) + weight * torch.eye(3).double()
    right = (across @ places[:, :, None]).sum(dim=0)[:, 0] + weight * guess
    centre = torch.linalg.solve(left, right)
    return Bounds(centre.float(), float((places - centre).norm(dim=1).mean()))
