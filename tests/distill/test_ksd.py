"""Facts about the kernelized Stein discrepancy."""

import pytest
import torch
from torch import Tensor

from csd_lab.distill import IMQ, RBF, Bandwidth, kernelized_stein_discrepancy
from csd_lab.distill.ksd import stein_kernel

from .helpers import randn

KERNELS = [RBF(Bandwidth("fixed", value=1.7)), IMQ(Bandwidth("fixed", value=1.7)), RBF(Bandwidth())]
FORMULAS = {
    RBF: lambda squared, h: torch.exp(-squared / h),
    IMQ: lambda squared, h: (1 + squared / h) ** -0.5,
}


def by_definition(x: Tensor, y: Tensor, s_x: Tensor, s_y: Tensor, kernel, h: Tensor) -> Tensor:
    """u(x, y) with all derivatives of k by autograd."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    k = FORMULAS[type(kernel)](((x - y) ** 2).sum(), h)
    k_x, k_y = torch.autograd.grad(k, (x, y), create_graph=True)
    trace = sum(torch.autograd.grad(k_x[d], y, retain_graph=True)[0][d] for d in range(len(x)))
    return (s_x @ s_y * k + s_x @ k_y + s_y @ k_x + trace).detach()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_closed_form_equals_autograd_in_a_naive_double_loop(kernel) -> None:
    n = 5
    x, score = randn(n, 3), randn(n, 3, seed=1)
    h = kernel(x).bandwidth
    u = torch.zeros(n, n, dtype=x.dtype)
    for i in range(n):
        for j in range(n):
            u[i, j] = by_definition(x[i], x[j], score[i], score[j], kernel, h)
    torch.testing.assert_close(stein_kernel(x, score, kernel), u, rtol=1e-10, atol=1e-12)
    v = kernelized_stein_discrepancy(x, score, kernel, "v")
    torch.testing.assert_close(v, u.mean())
    unbiased = kernelized_stein_discrepancy(x, score, kernel, "u")
    off = ~torch.eye(n, dtype=torch.bool)
    torch.testing.assert_close(unbiased, u[off].mean())


@pytest.mark.parametrize("kernel", KERNELS[:2])
def test_exact_samples_have_mean_zero(kernel) -> None:
    """Draws of N(0, I): the U-statistic averages to 0 within 4 standard errors."""
    values = torch.stack(
        [kernelized_stein_discrepancy(x, -x, kernel) for x in randn(400, 40, 2, seed=2)]
    )
    error = values.std() / len(values) ** 0.5
    assert values.mean().abs() < 4 * error
    assert error < 0.003
    # and the draws of another density do not: N(0.5, I), N(0, 1.5^2 I)
    for other in (randn(400, 40, 2, seed=3) + 0.5, 1.5 * randn(400, 40, 2, seed=3)):
        values = torch.stack([kernelized_stein_discrepancy(x, -x, kernel) for x in other])
        assert values.mean() > 20 * error


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_v_statistic_is_never_negative(kernel) -> None:
    for seed in range(20):
        x, score = randn(6, 2, seed=seed), randn(6, 2, seed=100 + seed)
        assert kernelized_stein_discrepancy(x, score, kernel, "v") >= 0


def test_the_v_statistic_of_one_point_by_hand() -> None:
    """u(x, x) = |s|^2 + 2 D / h for the RBF."""
    x, score = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 0.0, 2.0]])
    value = kernelized_stein_discrepancy(x, score, RBF(Bandwidth("fixed", value=2.0)), "v")
    assert value == pytest.approx(5 + 2 * 3 / 2)


def test_half_precision_and_autocast() -> None:
    x = randn(6, 4).half()
    expected = kernelized_stein_discrepancy(x.float(), -x.float(), KERNELS[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert kernelized_stein_discrepancy(x, -x, KERNELS[0]) == expected


def test_arguments_are_checked() -> None:
    x, kernel = randn(3, 2), KERNELS[0]
    with pytest.raises(ValueError, match="statistic must be one of u, v, got 'w'"):
        kernelized_stein_discrepancy(x, x, kernel, "w")
    with pytest.raises(ValueError, match="must hold at least 2 points for statistic='u', got 1"):
        kernelized_stein_discrepancy(x[:1], x[:1], kernel)
    with pytest.raises(ValueError, match=r"x and score must both be \(N, D\)"):
        kernelized_stein_discrepancy(x, x[:2], kernel)
    with pytest.raises(ValueError, match="bandwidth must be above 0"):
        kernelized_stein_discrepancy(x[:1].repeat(3, 1), x, RBF(Bandwidth()))
