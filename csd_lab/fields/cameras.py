r"""Pinhole cameras, and the one convention for them.

The world's frame is right-handed. A camera's own frame has x to the right, y up, and z backward: it
looks along its own -z, as in OpenGL, Blender and nerfstudio. A pose is the camera-to-world matrix
[R | o], whose columns are these axes and the camera's place, in world units.

Pixels are counted from the top left; the centre of the one in row i and column j is at
(j + 1/2, i + 1/2). With focal lengths f and principal point c in pixels, its ray is

.. math::
    u = \frac{j + 1/2 - c_x}{f_x}, \quad v = \frac{i + 1/2 - c_y}{f_y}, \quad
    d = \frac{R\,(u', -v', -1)^T}{\lVert (u', -v', -1) \rVert},

where (u', v') = (u, v) without distortion. With OpenCV's, (u, v) is what a lens makes of (u', v'),

.. math::
    (u, v) = (1 + k_1 r^2 + k_2 r^4) (u', v')
      + (2 p_1 u' v' + p_2 (r^2 + 2 u'^2),\; p_1 (r^2 + 2 v'^2) + 2 p_2 u' v'),
    \qquad r^2 = u'^2 + v'^2,

which is inverted by iteration.
"""

import math
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import normalize

ITERATIONS = 20
"""Of the inversion of a distortion; each shrinks the error by about the distortion itself."""


class Rays(NamedTuple):
    """Half lines.

    Attributes:
        origins: where they begin, (R, 3), in world units.
        directions: of unit length, (R, 3).
    """

    origins: Tensor
    directions: Tensor


@final
class Cameras:
    """V cameras whose images have one size.

    Args:
        poses: camera to world, (V, 3, 4); the left 3 x 3 part is a rotation.
        focal: focal lengths f_x, f_y in pixels, (V, 2) or (2,).
        centre: principal points c_x, c_y in pixels, (V, 2) or (2,); None: the image's middle.
        height: of the images, in pixels.
        width: of the images, in pixels.
        distortion: k_1, k_2, p_1, p_2 of OpenCV, (V, 4) or (4,); None: none.

    Raises:
        ValueError: a shape or a value is not allowed; names the camera.
    """

    def __init__(
        self,
        poses: Tensor,
        focal: Tensor,
        height: int,
        width: int,
        centre: Tensor | None = None,
        distortion: Tensor | None = None,
    ) -> None:
        if poses.ndim != 3 or poses.shape[1:] != (3, 4) or not len(poses):
            raise ValueError(f"poses must be (V, 3, 4) with V >= 1; got {tuple(poses.shape)}")
        if height < 1 or width < 1:
            raise ValueError(f"height and width must be at least 1; got {height} x {width}")
        _check_rotations(poses[:, :, :3])
        count = len(poses)
        middle = torch.tensor([width / 2, height / 2])
        self.poses = poses.float()
        self.focal = _each("focal", focal, count, 2)
        self.centre = _each("centre", middle if centre is None else centre, count, 2)
        straight = torch.zeros(4)
        self.distortion = _each(
            "distortion", straight if distortion is None else distortion, count, 4
        )
        self.height = height
        self.width = width
        if not bool((self.focal > 0).all()):
            raise ValueError(f"focal must be above 0; got {float(self.focal.min()):g}")

    def __len__(self) -> int:
        return len(self.poses)

    def select(self, ids: Tensor) -> "Cameras":
        """The cameras ``ids``, (N,), in this order."""
        return Cameras(
            self.poses[ids],
            self.focal[ids],
            self.height,
            self.width,
            self.centre[ids],
            self.distortion[ids],
        )

    def resized(self, height: int, width: int) -> "Cameras":
        """The same cameras with images of another size, in pixels."""
        scale = torch.tensor([width / self.width, height / self.height])
        return Cameras(
            self.poses, self.focal * scale, height, width, self.centre * scale, self.distortion
        )

    def rays(self, ids: Tensor, rows: Tensor, columns: Tensor) -> Rays:
        """Rays through places of images.

        Args:
            ids: the camera of each, (R,), int64.
            rows: from the image's top, in pixels, (R,); i + 1/2 is the middle of row i.
            columns: from its left, likewise.

        Returns:
            R rays.
        """
        seen = (torch.stack([columns, rows], dim=1) - self.centre[ids]) / self.focal[ids]
        u, v = _undistorted(seen, self.distortion[ids]).unbind(dim=1)
        local = normalize(torch.stack([u, -v, -torch.ones_like(u)], dim=1), dim=1)
        poses = self.poses[ids]
        # a product would be of half precision under autocast, and miss by pixels
        turned = (poses[:, :, :3] * local[:, None]).sum(dim=2)
        return Rays(poses[:, :, 3], turned)

    def image_rays(self, index: int) -> Rays:
        """Rays through all pixels of one camera's image, row by row: R = height x width."""
        rows, columns = torch.meshgrid(
            torch.arange(self.height) + 0.5, torch.arange(self.width) + 0.5, indexing="ij"
        )
        ids = torch.full((self.height * self.width,), index)
        return self.rays(ids, rows.flatten(), columns.flatten())

    def project(self, points: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Where one camera sees points of the world.

        Args:
            points: (P, 3), in world units.
            index: of the camera.

        Returns:
            Column and row of each in pixels, (P, 2), and its distance along the optical axis,
            (P,), which is negative behind the camera.
        """
        rotation, origin = self.poses[index, :, :3], self.poses[index, :, 3]
        local = (points - origin) @ rotation
        depth = -local[:, 2]
        straight = torch.stack([local[:, 0], -local[:, 1]], dim=1) / depth[:, None]
        seen = _distorted(straight, self.distortion[index].expand(len(points), 4))
        return seen * self.focal[index] + self.centre[index], depth


def look_at(position: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """Poses of cameras that look at something.

    Args:
        position: where they are, (V, 3).
        target: what they look at, (V, 3) or (3,).
        up: which way is up, (3,); not along the line of sight.

    Returns:
        (V, 3, 4).
    """
    backward = normalize(position - target, dim=1)
    right = normalize(torch.linalg.cross(up.expand_as(backward), backward), dim=1)
    above = torch.linalg.cross(backward, right)
    return torch.stack([right, above, backward, position], dim=2)


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


def _each(name: str, value: Tensor, count: int, size: int) -> Tensor:
    """One row a camera, (count, size)."""
    if value.shape not in ((size,), (count, size)):
        raise ValueError(
            f"{name} must be ({count}, {size}) or ({size},), for {count} cameras; got "
            f"{tuple(value.shape)}"
        )
    if not bool(value.isfinite().all()):
        raise ValueError(f"{name} must be finite; got {value.flatten().tolist()[:4]}")
    return value.float().expand(count, size)


def _check_rotations(rotations: Tensor) -> None:
    """Raises ValueError unless all are rotations, to 1e-3."""
    product = rotations.double() @ rotations.double().mT
    off = (product - torch.eye(3)).abs().amax(dim=(1, 2))
    turned = torch.linalg.det(rotations.double())
    for index, (error, determinant) in enumerate(zip(off, turned, strict=True)):
        if not (error < 1e-3 and determinant > 0):
            raise ValueError(
                f"the pose of camera {index} must have a rotation in its left 3 x 3 part; got "
                f"{rotations[index].tolist()}"
            )


def _distorted(straight: Tensor, coefficients: Tensor) -> Tensor:
    """What the lens makes of (u', v'), (R, 2)."""
    k1, k2, p1, p2 = coefficients.unbind(dim=1)
    u, v = straight.unbind(dim=1)
    square = u**2 + v**2
    radial = 1 + k1 * square + k2 * square**2
    return torch.stack(
        [
            u * radial + 2 * p1 * u * v + p2 * (square + 2 * u**2),
            v * radial + p1 * (square + 2 * v**2) + 2 * p2 * u * v,
        ],
        dim=1,
    )


def _undistorted(seen: Tensor, coefficients: Tensor) -> Tensor:
    """The (u', v') of which the lens makes (u, v), (R, 2)."""
    if not bool(coefficients.any()):
        return seen
    straight = seen
    for _ in range(ITERATIONS):
        straight = straight - (_distorted(straight, coefficients) - seen)
    return straight
