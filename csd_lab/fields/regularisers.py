r"""What a scene is held to beside what its renderings should show.

A camera's image has R rays of unit directions d_r. Ray r sees the opacity O_r, in pieces of weights
w_rk (:mod:`csd_lab.fields.rendering`) whose middles are p_rk. With sigma the field's density, the
normal is :math:`n = -\nabla\sigma / \lVert\nabla\sigma\rVert`. A regulariser is the sum over the
images in hand of

.. math::
    \text{sparsity} &= \frac{1}{R} \sum_r \sqrt{O_r^2 + \epsilon}
    & \text{little is there at all} \\
    \text{opacity} &= -\frac{1}{R} \sum_r O_r \log O_r + (1 - O_r) \log(1 - O_r)
    & \text{what is there hides what is behind it} \\
    \text{orientation} &= \frac{1}{R} \sum_{r,k} \bar w_{rk} \max(0,\; n(p_{rk}) \cdot d_r)^2
    & \text{what is seen faces the camera} \\
    \text{smoothness} &= S(\theta)
    & \text{the scene's own measure}

with epsilon = 0.01 as in DreamFusion (Poole et al. 2022, arXiv 2209.14988; 0 makes it the mean
opacity), and a bar for what is taken as a constant, there too. Orientation is Ref-NeRF's (Verbin et
al. 2022, arXiv 2112.03907).

The gradient of sigma is that of differences to the corners :math:`v_j` of a tetrahedron of size h,

.. math::
    \nabla\sigma(p) \approx \frac{1}{4h} \sum_{j=1}^4 v_j\, \sigma(p + h v_j), \qquad
    v_j \in \{(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)\},

exact where sigma is linear, since :math:`\sum_j v_j = 0` and :math:`\sum_j v_j v_j^T = 4 I`: grids
can be differentiated once only, so that no second derivative may be asked for.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from csd_lab.checks import check_not_negative, check_positive
from csd_lab.fields.cameras import Rays
from csd_lab.fields.field import RadianceField
from csd_lab.fields.rendering import Rendering
from csd_lab.fields.scene import FieldScene, Scene

CORNERS = ((1.0, 1.0, 1.0), (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0))


class Look(NamedTuple):
    """One camera's whole image, with all that was found on the way.

    Attributes:
        rays: R of them, on the field's device.
        rendering: what they saw, differentiable.
    """

    rays: Rays
    rendering: Rendering


class Regulariser(ABC):
    """Something that a scene should have little of.

    Args:
        weight: >= 0.

    Raises:
        ValueError: the weight is out of range.
    """

    def __init__(self, weight: float) -> None:
        check_not_negative("weight", weight)
        self.weight = weight

    @final
    def __call__(self, scene: Scene, looks: Sequence[Look]) -> Tensor:
        """The weighted sum over the images in hand, of which there is at least one, ()."""
        return self.weight * self.total(scene, looks)

    @abstractmethod
    def total(self, scene: Scene, looks: Sequence[Look]) -> Tensor:
        """The sum over them, ()."""


@final
class Sparsity(Regulariser):
    """How much is seen of the scene before its background.

    Args:
        weight: >= 0.
        epsilon: >= 0: below its root little is gained by less opacity; 0: the mean opacity.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, weight: float, epsilon: float = 0.01) -> None:
        super().__init__(weight)
        check_not_negative("epsilon", epsilon)
        self.epsilon = epsilon

    def total(self, scene: Scene, looks: Sequence[Look]) -> Tensor:  # noqa: ARG002
        """Sum of the mean of sqrt(O^2 + epsilon), ()."""
        opacity = torch.stack([look.rendering.opacity for look in looks])
        if not self.epsilon:  # a root has no slope at 0
            return opacity.mean(dim=1).sum()
        return (opacity.square() + self.epsilon).sqrt().mean(dim=1).sum()


@final
class OpacityEntropy(Regulariser):
    """How far opacities are from both 0 and 1, in nats; log 2 at most.

    Args:
        weight: >= 0.
    """

    def total(self, scene: Scene, looks: Sequence[Look]) -> Tensor:  # noqa: ARG002
        """Sum of the mean entropy of O, ()."""
        opacity = torch.stack([look.rendering.opacity for look in looks]).clamp(1e-4, 1 - 1e-4)
        entropy = -opacity * opacity.log() - (1 - opacity) * (1 - opacity).log()
        return entropy.mean(dim=1).sum()


@final
class Orientation(Regulariser):
    """How much of what is seen turns its back to the camera.

    Args:
        weight: >= 0.
        step: h, in world units, > 0.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, weight: float, step: float = 0.05) -> None:
        super().__init__(weight)
        check_positive("step", step)
        self.step = step

    def total(self, scene: Scene, looks: Sequence[Look]) -> Tensor:
        """Sum of the mean over rays of sum_k w max(0, n . d)^2, ().

        Raises:
            ValueError: the scene has no density at points.
        """
        if not isinstance(scene, FieldScene):
            raise ValueError(f"scene must be a field to be oriented, got {type(scene).__name__}.")
        return torch.stack([self._one(scene.field, *look) for look in looks]).sum()

    def _one(self, field: RadianceField, rays: Rays, seen: Rendering) -> Tensor:
        points = rays.origins[:, None] + seen.places[..., None] * rays.directions[:, None]
        found = normals(field, points.flatten(0, 1), self.step).view(points.shape)
        away = (found * rays.directions[:, None]).sum(dim=2).clamp(min=0)
        return (seen.weights.detach() * away.square()).sum(dim=1).mean()


@final
class Smoothness(Regulariser):
    """How much neighbouring parts of the scene differ, whoever looks.

    Args:
        weight: >= 0.
    """

    def total(self, scene: Scene, looks: Sequence[Look]) -> Tensor:
        """S once for each image, ()."""
        return len(looks) * scene.smoothness()


def normals(field: RadianceField, points: Tensor, step: float) -> Tensor:
    """Which way surfaces look: against the gradient of the density, differentiable.

    Args:
        field: the field.
        points: of the world, (P, 3).
        step: h, in world units.

    Returns:
        (P, 3), of unit length; 0 where the density is the same all around.
    """
    corners = points.new_tensor(CORNERS)
    around = points[None] + step * corners[:, None]
    density = field.density(around.flatten(0, 1)).view(len(corners), -1)
    # a product would be of half precision under autocast, and turn normals by degrees
    gradient = (density[..., None] * corners[:, None]).sum(dim=0) / (4 * step)
    return -normalize(gradient, dim=1, eps=1e-6)
