"""Kernelized Stein discrepancy: how far a sample is from a density whose score is known.

With s = grad log p and a kernel k (Liu, Lee & Jordan 2016, arXiv 1602.03253, theorem 3.6;
Chwialkowski, Strathmann & Gretton 2016, arXiv 1602.02964)

    u(x, y) = s(x)^T s(y) k + s(x)^T grad_y k + s(y)^T grad_x k + trace(grad_x grad_y k)
    KSD^2   = E[u(x, y)], x and y independent draws of the sample's density

which is 0 where that density is p. A radial k = phi(d^2) in D dimensions has

    u(x, y) = s(x)^T s(y) phi - 2 phi' (s(x) - s(y))^T (x - y) - 2 D phi' - 4 d^2 phi''
"""

from typing import Literal, get_args

from torch import Tensor

from csd_lab.checks import check_choice
from csd_lab.distill.kernels import Radial, at_least_float32, full_precision, squared_distances

Statistic = Literal["u", "v"]


def stein_kernel(x: Tensor, score: Tensor, kernel: Radial) -> Tensor:
    """u(x_i, x_j) of the module's head.

    Args:
        x: sample, (N, D).
        score: grad log p at the sample, (N, D).
        kernel: a radial kernel.

    Returns:
        (N, N), symmetric, in float32 or x's higher precision.

    Raises:
        ValueError: the shapes differ, or the sample gives the kernel no bandwidth.
    """
    if x.ndim != 2 or x.shape != score.shape:
        raise ValueError(
            "x and score must both be (N, D), "
            f"got x of {tuple(x.shape)} and score of {tuple(score.shape)}"
        )
    with full_precision(x):
        x, score = at_least_float32(x), at_least_float32(score)
        x = x - x.mean(0)
        squared = squared_distances(x)
        h = kernel.bandwidth(squared)
        if h == 0:
            raise ValueError(
                "bandwidth must be above 0, but this sample's median distance gives 0: "
                "use Bandwidth('fixed', value=...)"
            )
        value, first, second = kernel.profile(squared, h)
        cross = score @ x.T
        along = cross.diagonal()[:, None] + cross.diagonal()[None, :] - cross - cross.T
        slopes = first * (along + x.shape[1]) + 2 * squared * second
        return (score @ score.T) * value - 2 * slopes


def kernelized_stein_discrepancy(
    x: Tensor, score: Tensor, kernel: Radial, statistic: Statistic = "u"
) -> Tensor:
    """Estimate of KSD^2 from a sample.

    To compare values with one another, as along a run, fix the bandwidth.

    Args:
        x: sample, (N, D).
        score: grad log p at the sample, (N, D).
        kernel: a radial kernel.
        statistic: ``u`` is the mean over i != j, without bias (of mean 0 for draws of p, and so
            at times below 0); ``v`` the mean over all pairs, never below 0.

    Returns:
        A 0-d tensor.

    Raises:
        ValueError: ``statistic`` is unknown, the shapes differ, or ``u`` is asked of N = 1.
    """
    check_choice("statistic", statistic, get_args(Statistic))
    u, n = stein_kernel(x, score, kernel), x.shape[0]
    if statistic == "v":
        return u.mean()
    if n < 2:
        raise ValueError(f"x must hold at least 2 points for statistic='u', got {n}: use 'v'")
    return (u.sum() - u.trace()) / (n * (n - 1))
