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

which is inverted by Newton's steps. Lenses are believed as far as (1 + k_1 r^2 + k_2 r^4) r grows
with r: what lies farther out they would fold back into the image.
"""

import math
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import normalize

ITERATIONS = 10
"""Of the inversion of a distortion; each squares the error, once it is small."""
WORST = 0.05
"""Pixels by which the inverse may miss at an image's edge."""


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
            raise ValueError(f"poses must be (V, 3, 4) with V >= 1, got {tuple(poses.shape)}")
        if height < 1 or width < 1:
            raise ValueError(f"height and width must be at least 1, got {height} x {width}")
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
            raise ValueError(f"focal must be above 0, got {float(self.focal.min()):g}")
        self._check_lenses()

    def _check_lenses(self) -> None:
        """Raises ValueError unless rays go through all of each image."""
        if not bool(self.distortion.any()):
            return
        edges = torch.tensor([[0, 0], [0.5, 0], [1, 0], [0, 0.5]])
        places = torch.cat([edges, 1 - edges]) * torch.tensor([self.width, self.height])
        seen = (places - self.centre[:, None]) / self.focal[:, None]
        lenses = self.distortion[:, None].expand(-1, len(places), -1).flatten(0, 1)
        straight = _undistorted(seen.flatten(0, 1), lenses)
        missed = (_distorted(straight, lenses) - seen.flatten(0, 1)).view_as(seen)
        missed = (missed * self.focal[:, None]).norm(dim=2).amax(dim=1)
        beyond = (straight.square().sum(dim=1) > _reach(lenses)).view(seen.shape[:2]).any(dim=1)
        for index, (by, folded) in enumerate(zip(missed.tolist(), beyond.tolist(), strict=True)):
            if folded or not by < WORST:
                raise ValueError(
                    f"the distortion of camera {index} must be one that can be undone up to the "
                    f"image's edge, got {self.distortion[index].tolist()}: undistort the images"
                )

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

    def within(self, pixels: int) -> "Cameras":
        """The same cameras, with smaller images if all of theirs have more than so many pixels."""
        share = math.sqrt(pixels / (len(self) * self.height * self.width))
        if share >= 1:
            return self
        return self.resized(max(1, int(share * self.height)), max(1, int(share * self.width)))

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
        return self.rays(*self.pixels(index))

    def pixels(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """The camera, the row and the column of each of its pixels' middles, row by row: (R,)."""
        rows, columns = torch.meshgrid(
            torch.arange(self.height) + 0.5, torch.arange(self.width) + 0.5, indexing="ij"
        )
        ids = torch.full((self.height * self.width,), index)
        return ids, rows.flatten(), columns.flatten()

    def project(self, points: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Where one camera sees points of the world.

        Args:
            points: (P, 3), in world units.
            index: of the camera.

        Returns:
            Column and row of each in pixels, (P, 2), infinite beyond what the lens can show, and
            its distance along the optical axis, (P,), which is negative behind the camera.
        """
        rotation, origin = self.poses[index, :, :3], self.poses[index, :, 3]
        local = (points - origin) @ rotation
        depth = -local[:, 2]
        straight = torch.stack([local[:, 0], -local[:, 1]], dim=1) / depth[:, None]
        lens = self.distortion[index].expand(len(points), 4)
        places = _distorted(straight, lens) * self.focal[index] + self.centre[index]
        shown = straight.square().sum(dim=1) <= _reach(lens)
        return torch.where(shown[:, None], places, torch.inf), depth


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


def _each(name: str, value: Tensor, count: int, size: int) -> Tensor:
    """One row a camera, (count, size)."""
    if value.shape not in ((size,), (count, size)):
        raise ValueError(
            f"{name} must be ({count}, {size}) or ({size},), for {count} cameras, got "
            f"{tuple(value.shape)}"
        )
    if not bool(value.isfinite().all()):
        raise ValueError(f"{name} must be finite, got {value.flatten().tolist()[:4]}")
    return value.float().expand(count, size)


def _check_rotations(rotations: Tensor) -> None:
    """Raises ValueError unless all are rotations, to 1e-3."""
    product = rotations.double() @ rotations.double().mT
    off = (product - torch.eye(3)).abs().amax(dim=(1, 2))
    turned = torch.linalg.det(rotations.double())
    for index, (error, determinant) in enumerate(zip(off, turned, strict=True)):
        if not (error < 1e-3 and determinant > 0):
            raise ValueError(
                f"the pose of camera {index} must have a rotation in its left 3 x 3 part, got "
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
    k1, k2, p1, p2 = coefficients.unbind(dim=1)
    straight = seen
    for _ in range(ITERATIONS):
        u, v = straight.unbind(dim=1)
        square = u**2 + v**2
        radial, slope = 1 + k1 * square + k2 * square**2, 2 * k1 + 4 * k2 * square
        # the Jacobian, which is symmetric
        uu = radial + slope * u**2 + 2 * p1 * v + 6 * p2 * u
        vv = radial + slope * v**2 + 6 * p1 * v + 2 * p2 * u
        uv = slope * u * v + 2 * p1 * u + 2 * p2 * v
        du, dv = (_distorted(straight, coefficients) - seen).unbind(dim=1)
        step = torch.stack([vv * du - uv * dv, uu * dv - uv * du], dim=1)
        straight = straight - step / (uu * vv - uv**2)[:, None]
    return straight


def _reach(coefficients: Tensor) -> Tensor:
    """The square of r up to which a lens spreads what it shows, (R,); infinite if it always does.

    That is the first s > 0 at which the slope 1 + 3 k_1 s + 5 k_2 s^2 is 0.
    """
    b, a = 3 * coefficients[:, 0], 5 * coefficients[:, 1]
    root = (b**2 - 4 * a).clamp(min=0).sqrt()
    found = 2 / (root - b)  # 2 c / (-b + root): without cancellation, and for a = 0, too
    there = (b**2 >= 4 * a) & (root > b) & ((a < 0) | (b < 0))
    return torch.where(there, found, torch.inf)
