r"""Scenes of 3D Gaussians, rasterised by gsplat on a CUDA device.

``pip install 'csd-lab[gsplat]'``. Kerbl et al. 2023, arXiv 2308.04079. G Gaussians with means
mu_g, covariances :math:`R_g \operatorname{diag}(s_g^2) R_g^T`, opacities o_g and colours c_g, seen
sorted by depth,

.. math::
    C(p) = \sum_g c_g \alpha_g(p) \prod_{h < g} (1 - \alpha_h(p)) + (1 - O(p))\, c_\text{behind},

with :math:`\alpha_g(p)` the opacity times the projected Gaussian. Colours do not depend on the
direction, and no Gaussian comes or goes while a scene is fitted: their number is a setting. A whole
image is rasterised at once, so pixels are best drawn from one view a step.
"""

import importlib
import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from csd_lab.checks import check_whole
from csd_lab.fields.bounds import Bounds
from csd_lab.fields.cameras import Cameras
from csd_lab.fields.field import Panorama
from csd_lab.fields.rendering import Rendering
from csd_lab.fields.scene import Scene, View

PACE = 0.1
"""Half sides of the inner cube by which Gaussians move for each unit of their parameters: with one
learning rate for all, the same for which a grid learns, places change ten times as slowly."""
TURN = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
"""From cameras that look along -z with y up to gsplat's, which look along +z with y down."""
UNBUILT = (
    "field=gsplat needs gsplat's CUDA code, which could not be built: install a CUDA toolkit, or a "
    "wheel of gsplat that brings it"
)
Rasterise = Callable[..., tuple[Tensor, Tensor, object]]
"""Colours and depths (K, H, W, 4) and opacities (K, H, W, 1) of K views; see :meth:`_images`."""


def gaussian_scene(
    bounds: Bounds, count: int = 50_000, background_height: int = 32, seed: int = 0
) -> "GaussianScene":
    """Gaussians where a scene lies.

    Args:
        bounds: of the scene.
        count: G, how many.
        background_height: rows of the panorama behind all.
        seed: of their first places, >= 0.

    Raises:
        ValueError: there is no CUDA device or no gsplat, or an argument is out of range.
    """
    if not torch.cuda.is_available():
        raise ValueError("field=gsplat needs a CUDA device, and there is none; take field=grid")
    check_whole("count", count)
    return GaussianScene(bounds, count, background_height, seed, _gsplat())


def _gsplat() -> Rasterise:
    """Its ``rasterization``, with the CUDA code that importing it builds, if no wheel brings it."""
    try:
        import gsplat
    except ImportError as error:
        raise ValueError("field=gsplat needs gsplat: pip install 'csd-lab[gsplat]'") from error
    try:
        code = importlib.import_module("gsplat.cuda._backend")._C
    except Exception as error:  # a build can fail in any way
        raise ValueError(f"{UNBUILT}: {error}") from error
    if code is None:
        raise ValueError(UNBUILT)
    rasterization: Rasterise = gsplat.rasterization
    return rasterization


@final
class GaussianScene(Scene):
    """G Gaussians before a panorama.

    Args:
        bounds: of the scene; half of the Gaussians begin in its inner cube, half farther out.
        count: G.
        background_height: rows of the panorama.
        seed: of their first places.
        rasterise: gsplat's ``rasterization``.
    """

    views_at_once = 1
    unit: Tensor

    def __init__(
        self, bounds: Bounds, count: int, background_height: int, seed: int, rasterise: Rasterise
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        offset = torch.rand(count, 3, generator=generator) * 2 - 1
        farther = torch.where(torch.arange(count) % 2 == 0, 1.0, 3.0)[:, None]
        size = bounds.scale * (8 / count) ** (1 / 3)
        self.rasterise = rasterise
        self.near, self.far = bounds.near, bounds.far
        self.register_buffer("unit", torch.tensor(PACE * bounds.scale))
        self.means = nn.Parameter((bounds.centre / bounds.scale + farther * offset) / PACE)
        self.scales = nn.Parameter(torch.full((count, 3), math.log(size)))
        self.turns = nn.Parameter(torch.randn(count, 4, generator=generator))
        self.opacities = nn.Parameter(torch.full((count,), -2.0))
        self.colours = nn.Parameter(torch.zeros(count, 3))
        self.panorama = Panorama(background_height)

    @property
    def randomness(self) -> int:
        """Nothing is random."""
        return 0

    def smoothness(self, generator: torch.Generator | None = None) -> Tensor:
        """That of the panorama."""
        del generator
        return self.panorama.smoothness()

    def pixels(
        self,
        cameras: Cameras,
        ids: Tensor,
        rows: Tensor,
        columns: Tensor,
        noise: Tensor | None = None,
    ) -> Rendering:
        """What is seen at the pixels that hold these places."""
        del noise
        chosen, place = ids.unique(return_inverse=True)
        colour, depth, opacity = self._images(cameras, chosen)
        at = tuple(index.to(colour.device) for index in (place, rows.long(), columns.long()))
        directions = cameras.rays(ids, rows, columns).directions.to(colour)
        behind = self.panorama(directions)
        seen = opacity[at]
        light = colour[at] + (1 - seen)[:, None] * behind
        return Rendering(light, seen, depth[at], seen[:, None], depth[at][:, None])

    @torch.no_grad()
    def view(self, cameras: Cameras, index: int) -> View:
        """A camera's whole image."""
        return View.of([self.rendering(cameras, index)], cameras)

    def _images(self, cameras: Cameras, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Colours (K, H, W, 3) before the panorama, depths along rays, opacities (K, H, W).

        Raises:
            ValueError: a lens distorts.
        """
        if bool(cameras.distortion[ids].any()):
            raise ValueError(
                "cameras must not distort with field=gsplat, which knows pinholes alone: undistort "
                "the images, or take field=grid"
            )
        device = self.means.device
        poses = torch.eye(4).repeat(len(ids), 1, 1)
        poses[:, :3] = cameras.poses[ids]
        lenses = torch.eye(3).repeat(len(ids), 1, 1)
        lenses[:, 0, 0], lenses[:, 1, 1] = cameras.focal[ids].unbind(dim=1)
        lenses[:, :2, 2] = cameras.centre[ids]
        lenses = lenses.to(device)
        seen, opacity, _ = self.rasterise(
            means=self.means * self.unit,
            quats=self.turns,
            scales=self.scales.exp(),
            opacities=self.opacities.sigmoid(),
            colors=self.colours.sigmoid(),
            viewmats=torch.linalg.inv(poses @ TURN).to(device),
            Ks=lenses,
            width=cameras.width,
            height=cameras.height,
            near_plane=self.near,
            far_plane=self.far,
            render_mode="RGB+ED",
        )
        covered = opacity[..., 0]
        depth = seen[..., 3] * _longer(lenses, cameras.height, cameras.width)
        return seen[..., :3], torch.where(covered > 1e-10, depth, self.far), covered


def _longer(lenses: Tensor, height: int, width: int) -> Tensor:
    """Distance along the ray for a unit of depth along the axis, (K, H, W), of lenses (K, 3, 3)."""
    place = torch.arange(max(height, width), device=lenses.device) + 0.5
    u = (place[:width] - lenses[:, 0, 2:]) / lenses[:, 0, :1]
    v = (place[:height] - lenses[:, 1, 2:]) / lenses[:, 1, 1:2]
    return (1 + u[:, None].square() + v[:, :, None].square()).sqrt()
