"""Stein variational gradient descent (Liu & Wang 2016, arXiv 1608.04471).

The direction of steepest ascent that moves N particles to a density p, in the unit ball of the
kernel's space (algorithm 1 of the paper):

    direction_i = 1/N sum_j [ k(x_j, x_i) grad_{x_j} log p(x_j) + grad_{x_j} k(x_j, x_i) ]
                = attraction_i + repulsion_i

The attraction shares scores in proportion to affinity; the repulsion keeps particles apart.
N = 1 is gradient ascent, the identity kernel N independent ascents (over N), the mean kernel
gives every particle the mean score.

Normalised by ``row``, both sums are divided by sum_j k(x_j, x_i) in the place of N: an average
over neighbours, whose size does not shrink with N where the particles are far apart.
"""

from typing import Literal, NamedTuple, get_args

from torch import Tensor

from csd_lab.checks import check_choice
from csd_lab.distill.kernels import Kernel, KernelOutput, full_precision

Normalize = Literal["n", "row"]


class SteinDirection(NamedTuple):
    """The two parts of the direction, in the ascent sense, normalised.

    Attributes:
        attraction: kernel-averaged scores, (N, D).
        repulsion: kernel gradients, (N, D).
        kernel: what the kernel gave (its repulsion not normalised).
    """

    attraction: Tensor
    repulsion: Tensor
    kernel: KernelOutput


def stein_direction(
    x: Tensor, score: Tensor, kernel: Kernel, normalize: Normalize = "n"
) -> SteinDirection:
    """Attraction and repulsion of each particle.

    Args:
        x: particles, (N, D).
        score: grad log p at the particles, (N, D).
        kernel: compares the particles.
        normalize: ``n`` divides by N (the paper), ``row`` by sum_j k(x_j, x_i).

    Returns:
        Both parts, in float32 or x's higher precision.

    Raises:
        ValueError: the shapes of x and score differ, or ``normalize`` is unknown.
    """
    check_choice("normalize", normalize, get_args(Normalize))
    if x.shape != score.shape:
        raise ValueError(
            "score must have the shape of x, one score a particle, "
            f"got {tuple(score.shape)} for x of {tuple(x.shape)}"
        )
    return shared_scores(kernel(x), score, normalize)


def shared_scores(output: KernelOutput, score: Tensor, normalize: Normalize) -> SteinDirection:
    """Attraction and repulsion of particles that a kernel has compared, in whatever space.

    Args:
        output: what it gave, with a repulsion of the particles, (N, D).
        score: grad log p at the particles, (N, D).
        normalize: ``n`` or ``row``.
    """
    with full_precision(score):
        attraction = output.matrix @ score.to(output.matrix.dtype)
        total = len(score) if normalize == "n" else output.matrix.sum(1, keepdim=True)
        return SteinDirection(attraction / total, output.repulsion / total, output)


def svgd_direction(x: Tensor, score: Tensor, kernel: Kernel) -> Tensor:
    """The direction of SVGD, in the ascent sense: add a small multiple of it to x.

    Args:
        x: particles, (N, D).
        score: grad log p at the particles, (N, D).
        kernel: compares the particles.

    Returns:
        (N, D), with the paper's mean over N.
    """
    direction = stein_direction(x, score, kernel)
    return direction.attraction + direction.repulsion
