r"""Kernels that compare particles by how they look.

A perceptual distance is a squared Euclidean distance of features of a network,
LPIPS(a, b) = |phi(a) - phi(b)|^2, so that any kernel K of :mod:`csd_lab.distill.kernels` compares
particles by it, given their features in the place of the particles:

.. math::
    f_i = \phi(\mathrm{decode}(x_i)), \qquad k(x_i, x_j) = K(f_i, f_j)

as CSD does in three dimensions (Kim et al. 2023, arXiv 2307.04787), where K is the RBF and
k = exp(-LPIPS / h). It is the clean particles x_i that are decoded, and neither x_t, which no
network of images knows, nor the estimates of x_0: where t is large, guidance and 1 / a_t lead these
out of the range of images, and pixels that are clamped have no gradient.

K's own repulsion is a row of feature space for each particle, r_i = sum_j grad_{f_j} K(f_j, f_i).
With J_i the Jacobian of f_i in x_i, what moves particle i is

.. math::
    J_i^T r_i = -\sum_j \nabla_{x_i} k(x_j, x_i)

the steepest descent of its affinity to the others: one vector-Jacobian product a particle, through
the feature network and the decoder; the predictor of noise is not in it. SVGD has
:math:`\sum_j \nabla_{x_j} k(x_j, x_i) = \sum_j J_j^T \nabla_{f_j} K(f_j, f_i)` there, which is
the same where J is one for all particles, as it is for kernels of x itself. Elsewhere the two
differ, and the latter takes N products a particle: N^2 passes back through the networks a step,
for a push that need not lead away from anything in the particle's own features.
"""

from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from csd_lab.distill.kernels import at_least_float32, full_precision, squared_distances

SAME = 1e-6
"""Distance up to which images are one: far above what rounding makes of batches of another size
(1e-12 in float32), and far below what rounding pixels to 8 bits does (4e-4)."""


class ImageEmbedding(Protocol):
    """A perceptual distance as that of points: a frozen network."""

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> rows phi (B, F), differentiable."""

    def to(self, device: torch.device) -> Any:
        """Move the network, if it is not there."""


@runtime_checkable
class ImageDecoder(Protocol):
    """What makes images of particles: a prior."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> images (B, 3, H, W) in [0, 1], differentiable."""

    def images_at_once(self, height: int, width: int) -> int:
        """How many of h x w latents there is memory for."""


@final
class Appearance:
    """What particles look like, as points, and the way back from these.

    Args:
        distance: whose points they are.
    """

    def __init__(self, distance: ImageEmbedding) -> None:
        self.distance = distance

    @torch.no_grad()
    def features(self, prior: Any, x: Tensor) -> Tensor:
        """The points of particles.

        Args:
            prior: decodes them.
            x: clean particles, (N, C, h, w); N may be 0.

        Returns:
            f, (N, F), in float32 or higher.

        Raises:
            ValueError: the prior cannot decode, or the images are none for the distance.
        """
        if not len(x):  # networks take no empty batches, and tell F by an example
            return self.features(prior, x.new_zeros(1, *x.shape[1:]))[:0]
        with full_precision(x):
            return torch.cat([self._look(prior, some) for some in x.split(_at_once(prior, x))])

    def pull_back(self, prior: Any, x: Tensor, rows: Tensor) -> Tensor:
        """J_i^T r_i, a few particles at a time: as much memory as decoding with a gradient takes.

        Args:
            prior: decodes them.
            x: clean particles, (N, C, h, w); N may be 0.
            rows: r, (N, F).

        Returns:
            (N, C, h, w), in float32 or higher.
        """
        if not len(x):
            return at_least_float32(x.detach())
        size = _at_once(prior, x)
        with full_precision(x), torch.enable_grad():
            parts = zip(x.split(size), rows.split(size), strict=True)
            return torch.cat([self._product(prior, some, r) for some, r in parts])

    def _product(self, prior: Any, x: Tensor, rows: Tensor) -> Tensor:
        x = at_least_float32(x.detach()).requires_grad_()
        features = self._look(prior, x)
        (product,) = torch.autograd.grad(features, x, rows.to(features))
        return product

    def _look(self, prior: Any, x: Tensor) -> Tensor:
        self.distance.to(x.device)
        return at_least_float32(self.distance.embed(prior.decode(at_least_float32(x))))


def merged(features: Tensor) -> Tensor:
    """Features of which those of equal images are equal: (N, F), from (N, F).

    What batches of another size round differently would else be a distance, and if there is no
    other, the bandwidth, which the repulsion is divided by.
    """
    squared = squared_distances(features - features.mean(0))
    return features[(squared <= SAME).int().argmax(1)]


def _at_once(prior: Any, x: Tensor) -> int:
    if not isinstance(prior, ImageDecoder):
        raise ValueError(
            "prior must decode images where the kernel compares these, got "
            f"{type(prior).__name__}: choose kernel_space='noisy' or 'clean'"
        )
    return prior.images_at_once(x.shape[2], x.shape[3])
