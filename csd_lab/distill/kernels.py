"""Kernels between particles, and the repulsion that they give.

A kernel compares N particles x_1 ... x_N, points of R^D, and gives

    matrix_ij   = k(x_i, x_j)
    repulsion_i = sum_j grad_{x_j} k(x_j, x_i)

the two ingredients of Stein variational gradient descent (Liu & Wang 2016, arXiv 1608.04471,
equation 8). A radial kernel k = phi(d^2), d = ||x_i - x_j||, has
grad_{x_j} k(x_j, x_i) = 2 phi'(d^2) (x_j - x_i). With the matrix P_ij = phi'(d_ij^2) <= 0

    repulsion_i = 2 (P x)_i - 2 (sum_j P_ij) x_i

which is one matrix product: O(N D + N^2) memory, and never the N x N x D differences. As phi
falls with distance, the repulsion points AWAY from the other particles.

The bandwidth h is a constant of each call: no derivative is taken through it, as in the paper.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import log
from typing import Literal, NamedTuple, final, get_args

import torch
from torch import Tensor

from csd_lab.checks import check_choice, check_positive

Rule = Literal["official", "offdiagonal", "svgd2016", "fixed"]


class KernelOutput(NamedTuple):
    """What a kernel says of N particles, in float32 or the particles' higher precision.

    Attributes:
        matrix: k(x_i, x_j), (N, N), symmetric.
        repulsion: row i is sum_j grad_{x_j} k(x_j, x_i), (N, D).
        bandwidth: the h in use, in units of squared distance, (); 0 where the kernel is no
            function of distance, or the particles gave none and the kernel is the identity.
    """

    matrix: Tensor
    repulsion: Tensor
    bandwidth: Tensor


class Kernel(ABC):
    """A kernel. Calling it checks and prepares the particles; subclasses ``evaluate``.

    A kernel with a distance of its own (of features, say) evaluates that, and takes its
    repulsion from autograd, under ``torch.enable_grad``: distillers call kernels without.
    """

    @final
    def __call__(self, x: Tensor) -> KernelOutput:
        """Compares the particles.

        Args:
            x: particles, (N, D), N >= 1, any floating type. N = 1 and identical particles are
                legal.

        Returns:
            Matrix, repulsion and bandwidth. Half precision is computed in float32, whatever
            autocast says.

        Raises:
            ValueError: x is no (N, D) floating-point tensor with N >= 1.
        """
        if x.ndim != 2 or x.shape[0] < 1 or not x.is_floating_point():
            raise ValueError(
                "x must be a floating-point tensor of shape (N, D) with N >= 1, "
                f"got {tuple(x.shape)} of {x.dtype}: flatten each particle to a row"
            )
        with full_precision(x):
            return self.evaluate(at_least_float32(x))

    @abstractmethod
    def evaluate(self, x: Tensor) -> KernelOutput:
        """The kernel of x, (N, D), in float32 or float64."""


@final
@dataclass(frozen=True)
class Bandwidth:
    """The bandwidth h of a radial kernel, in units of squared distance.

        official     lower median of all N x N squared distances, the N zeros of the diagonal
                     included, / ln(N + 1): CSD's own code. 0 for N <= 2.
        offdiagonal  lower median over the pairs i < j, / ln(N + 1).
        svgd2016     median of all N x N, the mean of the two middle values, / ln(N + 1): Liu &
                     Wang's own code, whose exp(-d^2 / 2h'^2) has h'^2 = h / 2.
        fixed        ``value``.

    The factor 1 / ln(N + 1) makes the N neighbours at the median distance weigh as much together
    as a particle itself: N exp(-median / h) ~ 1.

    Args:
        rule: which of the four.
        scale: multiplies h, > 0.
        value: h of the rule ``fixed``, > 0; None with the others.
    """

    rule: Rule = "offdiagonal"
    scale: float = 1.0
    value: float | None = None

    def __post_init__(self) -> None:
        check_choice("rule", self.rule, get_args(Rule))
        check_positive("scale", self.scale)
        if (self.rule == "fixed") != (self.value is not None):
            raise ValueError(
                "value must be a number with rule='fixed' and None with the other rules, "
                f"got rule={self.rule!r}, value={self.value!r}"
            )
        if self.value is not None:
            check_positive("value", self.value)

    def __call__(self, squared: Tensor) -> Tensor:
        """The h of squared distances (N, N): a 0-d tensor, 0 where they give none."""
        if self.value is not None:
            return squared.new_tensor(self.scale * self.value)
        if squared.shape[0] < 2:
            return squared.new_zeros(())
        return self.scale * self._median(squared) / log(squared.shape[0] + 1)

    def _median(self, squared: Tensor) -> Tensor:
        if self.rule == "official":
            return squared.median()
        if self.rule == "offdiagonal":
            return squared[torch.ones_like(squared, dtype=torch.bool).triu(1)].median()
        # torch's median is the lower middle value; that of the negatives is the upper one
        return (squared.median() - (-squared).median()) / 2


class Profile(NamedTuple):
    """A radial kernel and its derivatives with respect to the squared distance, each (N, N)."""

    value: Tensor
    first: Tensor
    second: Tensor


class Radial(Kernel):
    """A kernel of the Euclidean distance: a subclass is its profile phi(d^2).

    Where the bandwidth is 0 (fewer than two distinct particles, or a median at 0) the kernel is
    the identity, its limit for distinct particles: N independent particles.

    Args:
        bandwidth: gives h.
    """

    def __init__(self, bandwidth: Bandwidth) -> None:
        self.bandwidth = bandwidth

    @abstractmethod
    def profile(self, squared: Tensor, h: Tensor) -> Profile:
        """phi, phi' and phi'' at squared distances (N, N) and bandwidth h > 0; phi(0) = 1."""

    @final
    def evaluate(self, x: Tensor) -> KernelOutput:
        """The kernel of x, (N, D), in float32 or float64."""
        x = x - x.mean(0)
        squared = squared_distances(x)
        h = self.bandwidth(squared.detach())
        if h == 0:
            return _constant(torch.eye(x.shape[0], dtype=x.dtype, device=x.device), x)
        value, first, _ = self.profile(squared, h)
        # The diagonal contributes x_i - x_i = 0: without it, nothing large has to cancel.
        slope = (2 * first).fill_diagonal_(0)
        repulsion = torch.addcmul(slope @ x, slope.sum(1, keepdim=True), x, value=-1)
        return KernelOutput(value, repulsion, h)


@final
class RBF(Radial):
    """k = exp(-d^2 / h), the kernel of SVGD (Liu & Wang 2016) and CSD (arXiv 2307.04787)."""

    def profile(self, squared: Tensor, h: Tensor) -> Profile:
        """phi(s) = exp(-s / h)."""
        k = torch.exp(-squared / h)
        return Profile(k, -k / h, k / h**2)


@final
class IMQ(Radial):
    """k = (1 + d^2 / h)^(-1/2), the inverse multiquadric.

    Gorham & Mackey 2017 (arXiv 1703.01717): (c^2 + d^2)^beta with beta = -1/2 and c^2 = h, here
    times c so that k(x, x) = 1. Its slow tails reach far particles, and its Stein discrepancy
    controls convergence where that of the RBF does not.
    """

    def profile(self, squared: Tensor, h: Tensor) -> Profile:
        """phi(s) = (1 + s / h)^(-1/2)."""
        k = torch.rsqrt(1 + squared / h)
        return Profile(k, -(k**3) / (2 * h), 3 * k**5 / (4 * h**2))


@final
class Identity(Kernel):
    """k_ij = 1 if i = j, else 0; no repulsion: N independent particles."""

    def evaluate(self, x: Tensor) -> KernelOutput:
        """The identity matrix, whatever x."""
        return _constant(torch.eye(x.shape[0], dtype=x.dtype, device=x.device), x)


@final
class Mean(Kernel):
    """k_ij = 1; no repulsion: all particles take the mean score."""

    def evaluate(self, x: Tensor) -> KernelOutput:
        """The matrix of ones, whatever x."""
        return _constant(x.new_ones(x.shape[0], x.shape[0]), x)


def _constant(matrix: Tensor, x: Tensor) -> KernelOutput:
    return KernelOutput(matrix, torch.zeros_like(x), matrix.new_zeros(()))


def squared_distances(x: Tensor) -> Tensor:
    """Squared Euclidean distances of rows, by one matrix product.

    Args:
        x: centred rows, (N, D): an offset common to all rows costs precision.

    Returns:
        (N, N): symmetric, 0 on the diagonal, >= 0, in x's precision, whatever autocast says. What
        rounding alone can produce counts as 0, so that identical rows are at distance 0.
    """
    with full_precision(x):
        gram = x @ x.T
    norms = gram.diagonal()
    sums = norms[:, None] + norms[None, :]
    squared = sums - 2 * gram
    rounding = 8 * torch.finfo(x.dtype).eps * sums
    upper = squared.masked_fill(squared <= rounding, 0).triu(1)
    return upper + upper.T


def effective_neighbours(matrix: Tensor) -> Tensor:
    """Mean over i of (sum_j k_ij)^2 / sum_j k_ij^2: 1 (identity) to N (mean); ()."""
    return (matrix.sum(1).square() / matrix.square().sum(1)).mean()


def mean_affinity(matrix: Tensor) -> Tensor:
    """Mean of the kernel matrix (N, N) off its diagonal, (); 0 for N = 1."""
    n = matrix.shape[0]
    return (matrix.sum() - matrix.trace()) / max(n * (n - 1), 1)


def at_least_float32(x: Tensor) -> Tensor:
    """The same tensor, or its float32 copy where x is of half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(x: Tensor) -> torch.autocast:
    """A context in which autocast leaves matrix products on x's device alone."""
    return torch.autocast(x.device.type, enabled=False)
