"""Facts about kernels. The contract tests run over every exported Kernel class."""

import subprocess
import sys
from functools import partial
from inspect import isabstract
from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from csd_lab import distill
from csd_lab.distill import (
    IMQ,
    RBF,
    Bandwidth,
    Identity,
    Kernel,
    Mean,
    Radial,
    effective_neighbours,
    mean_affinity,
)
from csd_lab.distill.kernels import squared_distances

from .helpers import randn

BANDWIDTHS = {
    "official": Bandwidth("official"),
    "offdiagonal": Bandwidth("offdiagonal"),
    "svgd2016": Bandwidth("svgd2016"),
    "fixed": Bandwidth("fixed", value=3.0),
    "scaled": Bandwidth(scale=4.0),
}


def kernels() -> dict[str, Kernel]:
    found = {}
    for name, cls in vars(distill).items():
        if isinstance(cls, type) and issubclass(cls, Kernel) and not isabstract(cls):
            if issubclass(cls, Radial):
                found |= {f"{name}-{rule}": cls(h) for rule, h in BANDWIDTHS.items()}
            else:
                found[name] = cls()
    return found


KERNELS = kernels()
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
radial = [kernel for kernel in KERNELS.values() if isinstance(kernel, Radial)]
every_radial = pytest.mark.parametrize("kernel", radial)
particles = partial(
    hnp.arrays,
    dtype="float32",
    shape=hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6),
    elements=st.floats(-8, 8, width=16),
)
examples = settings(max_examples=25, deadline=None)


def assert_finite(kernel: Kernel, x: Tensor) -> None:
    output = kernel(x)
    assert all(torch.isfinite(tensor).all() for tensor in output)


# --- the contract ------------------------------------------------------------------------------


def test_all_kernels_are_found() -> None:
    assert {type(kernel) for kernel in KERNELS.values()} >= {RBF, IMQ, Identity, Mean}


@every_kernel
@examples
@given(x=particles())
def test_is_a_positive_semidefinite_symmetric_matrix_with_diagonal_one(kernel, x) -> None:
    matrix = kernel(torch.from_numpy(x).double()).matrix
    assert torch.equal(matrix, matrix.T)
    assert torch.equal(matrix.diagonal(), torch.ones(len(x), dtype=torch.float64))
    assert torch.linalg.eigvalsh(matrix).min() > -1e-9
    assert matrix.min() >= 0
    assert matrix.max() <= 1


@every_kernel
@examples
@given(x=particles(), offset=st.floats(-100, 100))
def test_is_translation_invariant(kernel, x, offset) -> None:
    # on a raster: particles that are all but equal would differ by rounding once they are moved
    x = (torch.from_numpy(x).double() * 1024).round() / 1024
    here, there = kernel(x), kernel(x + offset)
    torch.testing.assert_close(there.matrix, here.matrix, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(there.repulsion, here.repulsion, rtol=1e-6, atol=1e-9)


@every_kernel
@examples
@given(x=particles(), dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
def test_is_finite_in_every_precision(kernel, x, dtype) -> None:
    output = kernel(torch.from_numpy(x).to(dtype))
    assert all(torch.isfinite(tensor).all() for tensor in output)
    assert output.matrix.dtype == output.repulsion.dtype == torch.float32


@every_kernel
def test_shapes_and_dtypes(kernel) -> None:
    output = kernel(randn(5, 7))
    assert output.matrix.shape == (5, 5)
    assert output.repulsion.shape == (5, 7)
    assert output.bandwidth.shape == ()
    assert {tensor.dtype for tensor in output} == {torch.float64}


@every_kernel
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(kernel, dtype) -> None:
    x = 300 * randn(4, 9).to(dtype)  # squared distances are beyond float16
    for half, single in zip(kernel(x), kernel(x.float()), strict=True):
        assert torch.equal(half, single)


@every_kernel
def test_autocast_changes_nothing(kernel) -> None:
    x = randn(6, 32).float()
    expected = kernel(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for inside, outside in zip(kernel(x), expected, strict=True):
            assert torch.equal(inside, outside)


@every_kernel
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_particles_are_legal(kernel, n) -> None:
    assert_finite(kernel, randn(n, 4).float())
    assert kernel(randn(n, 4)).matrix.shape == (n, n)


@every_kernel
@pytest.mark.parametrize("offset", [0.0, 1e-3, 1e4])
@pytest.mark.parametrize("distinct", [0, 1, 2])
def test_identical_particles_are_legal(kernel, offset, distinct) -> None:
    x = randn(1, 300).float().repeat(7, 1) + offset
    x[:distinct] += randn(distinct, 300, seed=1).float()
    assert_finite(kernel, x)


@every_kernel
def test_one_particle_has_kernel_one_and_no_repulsion(kernel) -> None:
    output = kernel(randn(1, 5))
    assert output.matrix.item() == 1
    assert not output.repulsion.any()


@every_kernel
def test_is_permutation_equivariant(kernel) -> None:
    x, order = randn(6, 5), torch.tensor([3, 0, 5, 1, 4, 2])
    output, permuted = kernel(x), kernel(x[order])
    torch.testing.assert_close(permuted.matrix, output.matrix[order][:, order])
    torch.testing.assert_close(permuted.repulsion, output.repulsion[order])
    torch.testing.assert_close(permuted.bandwidth, output.bandwidth)


@every_kernel
def test_repulsion_equals_autograd(kernel) -> None:
    """Of a translation-invariant k, sum_j grad_{x_j} k(x_j, x_i) = -1/2 grad_{x_i} sum_jl k_jl."""
    x = randn(6, 5).requires_grad_()
    output = kernel(x)
    expected = torch.zeros_like(x)
    if output.matrix.requires_grad:
        (gradient,) = torch.autograd.grad(output.matrix.sum(), x)
        expected = -gradient / 2
    torch.testing.assert_close(output.repulsion.detach(), expected, rtol=1e-10, atol=1e-12)


@every_kernel
def test_repulsions_add_up_to_zero(kernel) -> None:
    total = kernel(randn(6, 5)).repulsion.sum(0)
    torch.testing.assert_close(total, torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-12)


@every_kernel
def test_a_nan_is_not_hidden(kernel) -> None:
    x = randn(4, 3)
    x[1, 2] = torch.nan
    output = kernel(x)
    if isinstance(kernel, Radial):
        assert output.matrix.isnan().any()
        assert output.repulsion.isnan().any()


@every_kernel
@pytest.mark.parametrize(
    "x", [torch.zeros(3), torch.zeros(2, 3, 4), torch.zeros(0, 4), torch.zeros(2, 3, dtype=int)]
)
def test_only_rows_of_floating_point_are_legal(kernel, x) -> None:
    with pytest.raises(ValueError, match=r"x must be .* \(N, D\) with N >= 1, got"):
        kernel(x)


# --- each kernel against the formula -----------------------------------------------------------

FORMULAS = {
    RBF: lambda a, b, h: torch.exp(-((a - b) ** 2).sum() / h),
    IMQ: lambda a, b, h: (1 + ((a - b) ** 2).sum() / h) ** -0.5,
}


@pytest.mark.parametrize("kernel", [kernel for kernel in radial if type(kernel) in FORMULAS])
def test_the_fast_form_equals_a_naive_double_loop(kernel) -> None:
    x = randn(5, 3)
    output = kernel(x)
    formula = FORMULAS[type(kernel)]
    matrix, repulsion = torch.zeros(5, 5, dtype=x.dtype), torch.zeros_like(x)
    for i in range(5):
        for j in range(5):
            x_j = x[j].clone().requires_grad_()
            k = formula(x_j, x[i], output.bandwidth)
            matrix[i, j] = k.detach()
            repulsion[i] += torch.autograd.grad(k, x_j)[0]
    torch.testing.assert_close(output.matrix, matrix, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(output.repulsion, repulsion, rtol=1e-10, atol=1e-13)


@every_radial
def test_the_profiles_derivatives_are_autograds(kernel) -> None:
    squared = torch.linspace(0, 9, 10, dtype=torch.float64).requires_grad_()
    value, first, second = kernel.profile(squared, torch.tensor(2.5))
    (gradient,) = torch.autograd.grad(value.sum(), squared, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient.sum(), squared)
    assert value[0] == 1
    torch.testing.assert_close(first, gradient)
    torch.testing.assert_close(second, curvature)


def test_rbf_by_hand() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])  # d^2 = 25
    matrix, repulsion, h = RBF(Bandwidth("fixed", value=25.0))(x)
    torch.testing.assert_close(matrix, torch.tensor([[1.0, exp(-1)], [exp(-1), 1.0]]))
    # (2/h) (x_0 - x_1) k: particle 0 is pushed away from particle 1
    torch.testing.assert_close(repulsion[0], 2 / 25 * torch.tensor([-3.0, -4.0]) * exp(-1))
    assert h == 25


def test_imq_by_hand() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    matrix, repulsion, h = IMQ(Bandwidth("fixed", value=25.0))(x)
    torch.testing.assert_close(matrix[0, 1], torch.tensor(2**-0.5))
    # (1/h) (x_0 - x_1) k^3
    torch.testing.assert_close(repulsion[0], 1 / 25 * torch.tensor([-3.0, -4.0]) * 2**-1.5)
    assert h == 25


def test_identity_and_mean_by_hand() -> None:
    x = randn(3, 2)
    assert torch.equal(Identity()(x).matrix, torch.eye(3, dtype=x.dtype))
    assert torch.equal(Mean()(x).matrix, torch.ones(3, 3, dtype=x.dtype))
    assert not Identity()(x).repulsion.any()
    assert not Mean()(x).repulsion.any()


# --- bandwidths --------------------------------------------------------------------------------

# Points 0, 1, 3 on a line: squared distances 1, 9, 4; with the diagonal 0 0 0 1 1 4 4 9 9.
LINE = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)
# Points 0, 1: the full matrix is 0 0 1 1, lower median 0, averaged median 1/2.
PAIR = LINE[:2]


@pytest.mark.parametrize(
    ("rule", "x", "median"),
    [
        ("official", LINE, 1.0),
        ("offdiagonal", LINE, 4.0),
        ("svgd2016", LINE, 1.0),
        ("official", PAIR, 0.0),
        ("offdiagonal", PAIR, 1.0),
        ("svgd2016", PAIR, 0.5),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_bandwidth_by_hand(rule, x, median, scale) -> None:
    h = Bandwidth(rule, scale=scale)(squared_distances(x - x.mean(0)))
    assert h.item() == pytest.approx(scale * median / log(len(x) + 1))


def test_offdiagonal_median_is_the_lower_one_of_the_pairs() -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)  # 1 4 9 16 36 49
    assert Bandwidth()(squared_distances(x)).item() == pytest.approx(9 / log(5))


def test_fixed_bandwidth_is_the_value() -> None:
    squared = squared_distances(randn(4, 3))
    assert Bandwidth("fixed", value=2.0)(squared) == 2
    assert Bandwidth("fixed", scale=3.0, value=2.0)(squared) == 6


@pytest.mark.parametrize("rule", ["official", "offdiagonal", "svgd2016"])
@pytest.mark.parametrize("cls", [RBF, IMQ])
def test_the_kernel_of_fewer_than_two_distinct_particles_is_the_identity(cls, rule) -> None:
    for n in (1, 2, 5):
        x = randn(1, 300).float().repeat(n, 1)
        output = cls(Bandwidth(rule))(x)
        assert torch.equal(output.matrix, torch.eye(n))
        assert not output.repulsion.any()
        assert output.bandwidth == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "mediam"}, "rule must be one of official, offdiagonal, svgd2016, fixed, got"),
        ({"rule": "fixed"}, "value must be a number with rule='fixed'"),
        ({"rule": "official", "value": 1.0}, "value must be a number with rule='fixed'"),
        ({"rule": "fixed", "value": 0.0}, "value must be a finite number above 0, got 0.0"),
        ({"scale": -1.0}, "scale must be a finite number above 0, got -1.0"),
        ({"scale": float("nan")}, "scale must be a finite number above 0, got nan"),
    ],
)
def test_bandwidth_arguments_are_checked(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        Bandwidth(**arguments)


# --- numerics ----------------------------------------------------------------------------------


def test_distances_are_exact_where_they_must_be_and_precise_elsewhere() -> None:
    x = 0.1 * randn(24, 16384).float()
    squared = squared_distances(x - x.mean(0))
    assert torch.equal(squared.diagonal(), torch.zeros(24))
    assert squared.min() >= 0
    exact = torch.cdist(x.double(), x.double()).square()
    torch.testing.assert_close(squared.double(), exact, rtol=3e-6, atol=0)


def test_distances_within_rounding_are_zero() -> None:
    x = (randn(1, 4096) + 1e-6 * randn(20, 4096, seed=1)).float()
    assert not squared_distances(x).any()


@every_kernel
def test_an_offset_common_to_all_particles_costs_no_precision(kernel) -> None:
    x = randn(12, 4096).float()
    shifted = (x + 64) - 64  # what survives the rounding at 64, exactly
    near, far = kernel(shifted), kernel(x + 64)
    torch.testing.assert_close(far.matrix, near.matrix, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(far.repulsion, near.repulsion, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("cls", [RBF, IMQ])
def test_the_repulsion_of_far_particles_is_precise(cls) -> None:
    """The kernel between particles is e^-15 for the RBF: the diagonal must not drown the rest."""
    x = randn(6, 64)
    h = squared_distances(x).max().item() / 15
    exact, single = (cls(Bandwidth("fixed", value=h))(y).repulsion for y in (x, x.float()))
    error = (single.double() - exact).norm(dim=1) / exact.norm(dim=1)
    assert error.max() < 1e-5


MEMORY = """
from pathlib import Path
import torch
from csd_lab.distill import RBF, Bandwidth
def peak():  # ru_maxrss would hold the peak of the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("VmHWM"))
x = torch.randn(1024, 4 * 64 * 64)
before = peak()
output = RBF(Bandwidth())(x)
print(before, peak())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_1024_particles_of_4x64x64_fit_in_one_and_a_half_gigabytes() -> None:
    command = [sys.executable, "-c", MEMORY]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = (1024 * int(word) for word in run.stdout.split())
    assert after < 1.5e9
    assert after - before < 5 * 1024 * 16384 * 4  # fewer than five copies of the particles


# --- diagnostics -------------------------------------------------------------------------------


def test_effective_neighbours_and_mean_affinity_of_the_extremes() -> None:
    eye, ones = torch.eye(5), torch.ones(5, 5)
    assert effective_neighbours(eye) == 1
    assert effective_neighbours(ones) == 5
    assert mean_affinity(eye) == 0
    assert mean_affinity(ones) == 1
    assert mean_affinity(torch.ones(1, 1)) == 0
