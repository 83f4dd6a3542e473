"""Facts about kernels that compare particles by how they look, on small networks in float64."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from csd_lab.distill import (
    IMQ,
    RBF,
    Bandwidth,
    ClassifierFree,
    CollaborativeScoreDistillation,
    Identity,
    Mean,
    NoiseResidual,
    Residual,
    ScoreDistillation,
    SigmaSquared,
    SourceResidual,
    VariancePreserving,
)
from csd_lab.distill.perceptual import Appearance, merged
from csd_lab.types import Conditioning

from .helpers import ClosedForm, randn

SCHEDULE = VariancePreserving.scaled_linear()
T = torch.tensor(300)
RULE = SourceResidual(ClassifierFree(3.0))
KERNELS = {"rbf": RBF(Bandwidth()), "imq": IMQ(Bandwidth(scale=2.0))}
all_kernels = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


class Embedding:
    """phi(images): mixed pixels, bent unless it is linear. Remembers the sizes of its batches."""

    def __init__(self, linear: bool = False) -> None:
        self.linear = linear
        self.mix = randn(3 * 5 * 6, 40, seed=11) / 10
        self.seen: list[int] = []
        self.with_gradient: list[int] = []

    def embed(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        if torch.is_grad_enabled():
            self.with_gradient.append(len(images))
        mixed = images.flatten(1) @ self.mix.to(images)
        return mixed if self.linear else torch.tanh(mixed) + 0.3 * mixed**2

    def to(self, device: torch.device) -> None:
        assert device == torch.device("cpu")


class Decoding(ClosedForm):
    """The predictor with the known answers, which also makes images of its latents."""

    def __init__(self, linear: bool = False, at_once: int = 100) -> None:
        super().__init__(SCHEDULE)
        self.linear, self.at_once = linear, at_once
        self.colours = randn(3, 4, seed=12)

    def decode(self, latents: Tensor) -> Tensor:
        images = torch.einsum("bchw,rc->brhw", latents, self.colours.to(latents))
        return images if self.linear else torch.sigmoid(images)

    def images_at_once(self, height: int, width: int) -> int:
        assert (height, width) == (5, 6)
        return self.at_once


def csd(kernel=KERNELS["rbf"], distance=None, **options) -> CollaborativeScoreDistillation:
    distance = distance or Embedding()
    return CollaborativeScoreDistillation(
        RULE, kernel, SigmaSquared(), kernel_space="perceptual", distance=distance, **options
    )


def arguments(x: Tensor, prior=None, order=slice(None)) -> tuple:
    n = len(x)
    source, noise, image = (randn(n, 4, 5, 6, seed=seed).to(x)[order] for seed in (1, 2, 3))
    conditioning = Conditioning("A", "src", "C", image)
    return (prior or Decoding(), x[order], source, conditioning, noise, T)


def repelled(distiller, prior, x: Tensor) -> Tensor:
    """The repulsion of particles, (N, D)."""
    still = Residual(torch.zeros_like(x), x, x, distiller.appearance.features(prior, x))
    return distiller.pull_back(prior, x, still).flatten(1)


def affinities(kernel, h: Tensor, distance, prior):
    """k of two particles at bandwidth h."""

    def pair(a: Tensor, b: Tensor) -> Tensor:
        f, g = (distance.embed(prior.decode(x[None]))[0] for x in (a, b))
        return kernel.profile((f - g).square().sum(), h).value

    return pair


# --- the formula -------------------------------------------------------------------------------


@all_kernels
@pytest.mark.parametrize("normalize", ["n", "row"])
@pytest.mark.parametrize("scale", ["paper", "sigma"])
def test_the_gradient_equals_a_naive_double_loop(kernel, normalize, scale) -> None:
    x, factor, distance, prior = randn(5, 4, 5, 6), 1.7, Embedding(), Decoding()
    options = {"normalize": normalize, "repulsion": factor, "repulsion_scale": scale}
    distiller = csd(kernel, distance, **options)
    delta = distiller.residual(*arguments(x, prior)).delta
    outcome = distiller(*arguments(x, prior))
    pair = affinities(kernel, outcome.kernel.bandwidth, distance, prior)
    b_t = SCHEDULE.sigma(T)
    for i in range(5):
        total, weights = torch.zeros_like(x[0]), 0.0
        for j in range(5):
            x_i = x[i].clone().requires_grad_()
            k = pair(x[j], x_i)
            (grad,) = torch.autograd.grad(k, x_i)
            total += k.detach() * delta[j] + factor * (b_t if scale == "sigma" else 1) * grad
            weights += k.item()
        expected = b_t**2 * total / (5 if normalize == "n" else weights)
        torch.testing.assert_close(outcome.gradient[i], expected)


@all_kernels
def test_of_features_that_are_linear_the_repulsion_is_that_of_svgd(kernel) -> None:
    """sum_j grad_{x_j} k(x_j, x_i), with the gradient taken of the other particle."""
    x, distance, prior = randn(5, 4, 5, 6), Embedding(linear=True), Decoding(linear=True)
    distiller = csd(kernel, distance)
    h = kernel(distiller.appearance.features(prior, x)).bandwidth
    slope = torch.func.grad(affinities(kernel, h, distance, prior))
    expected = [sum(slope(x[j], x[i]) for j in range(5) if j != i) for i in range(5)]
    found = repelled(distiller, prior, x)
    torch.testing.assert_close(found, torch.stack(expected).flatten(1))
    assert found.norm() > 0


def test_identical_features_and_particles_give_the_kernel_of_the_particles() -> None:
    """phi(decode(x)) = x: the same as comparing the clean particles themselves."""

    class Pixels:
        def embed(self, images: Tensor) -> Tensor:
            return images.flatten(1)

        def to(self, device: torch.device) -> None:
            pass

    class Plain(Decoding):
        def decode(self, latents: Tensor) -> Tensor:
            return latents

    x, prior = randn(5, 4, 5, 6), Plain()
    distiller = csd(distance=Pixels())
    expected = RBF(Bandwidth())(x.flatten(1))
    torch.testing.assert_close(repelled(distiller, prior, x), expected.repulsion)
    found = distiller(*arguments(x, prior)).kernel
    torch.testing.assert_close(found.matrix, expected.matrix)
    torch.testing.assert_close(found.bandwidth, expected.bandwidth)


@all_kernels
def test_a_step_along_the_repulsion_lowers_the_affinity(kernel) -> None:
    """To first order by the square of its length."""
    x, distance, prior = randn(4, 4, 5, 6), Embedding(), Decoding()
    distiller = csd(kernel, distance)
    push = repelled(distiller, prior, x).view_as(x)
    h = kernel(distiller.appearance.features(prior, x)).bandwidth
    pair = affinities(kernel, h, distance, prior)
    for i in range(4):

        def affinity(x_i: Tensor, i: int = i) -> Tensor:
            return sum(pair(x[j], x_i) for j in range(4) if j != i)

        step = 1e-4 * push[i]
        fall = (affinity(x[i] + step) - affinity(x[i] - step)) / 2
        assert float(fall) == pytest.approx(-float((step * push[i]).sum()), rel=1e-4)
        assert fall < 0


def test_two_particles_without_residual_come_to_look_different() -> None:
    x, distiller, prior = randn(2, 4, 5, 6), csd(), Decoding()
    before = distiller.appearance.features(prior, x)
    still = Residual(torch.zeros_like(x), x, x, before)
    still = still._replace(repulsion=distiller.pull_back(prior, x, still))
    after = distiller.appearance.features(
        prior, x - 0.01 * distiller.combine(still, SCHEDULE, T).gradient
    )
    assert (after[1] - after[0]).norm() > (before[1] - before[0]).norm()


# --- reductions --------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [RBF(Bandwidth()), IMQ(Bandwidth()), Identity(), Mean()])
def test_one_particle_is_plain_score_distillation(kernel) -> None:
    x = randn(1, 4, 5, 6)
    plain = ScoreDistillation(RULE, SigmaSquared())(*arguments(x)).gradient
    assert torch.equal(csd(kernel)(*arguments(x)).gradient, plain)


def test_identical_particles_do_not_repel() -> None:
    x = randn(1, 4, 5, 6).expand(4, -1, -1, -1)
    outcome = csd()(*arguments(x))
    assert outcome.gradient.isfinite().all()
    assert outcome.scalars["repulsion_norm"] == 0


def test_features_of_equal_images_are_made_equal_and_others_are_kept() -> None:
    features = randn(5, 30)
    features[3] = features[1] + 1e-5 * randn(30, seed=1)
    together = merged(features)
    assert torch.equal(together[3], features[1])
    assert torch.equal(together[[0, 1, 2, 4]], features[[0, 1, 2, 4]])
    rounded = features[:1] + 1e-6 * randn(4, 30, seed=2)
    assert RBF(Bandwidth())(rounded).repulsion.norm() > 1e4
    assert RBF(Bandwidth())(merged(rounded)).repulsion.norm() == 0


def test_is_permutation_equivariant() -> None:
    x, order = randn(5, 4, 5, 6), torch.tensor([3, 0, 4, 2, 1])
    gradient = csd()(*arguments(x)).gradient
    torch.testing.assert_close(csd()(*arguments(x, order=order)).gradient, gradient[order])


@pytest.mark.parametrize("bounds", [(0, 2, 5), (0, 1, 2, 5), (0, 5, 5), (0, 0, 5)])
def test_processes_that_share_the_particles_get_the_same_gradient(bounds) -> None:
    """Also where one of them has none."""
    x, distiller = randn(5, 4, 5, 6), csd()
    shares = [slice(*pair) for pair in pairwise(bounds)]
    prior = Decoding()
    parts = [distiller.residual(*arguments(x, prior, share)) for share in shares]
    fields = zip(*(part[:4] for part in parts), strict=True)
    gathered = Residual(*(torch.cat(tensors) for tensors in fields))
    pulled = [distiller.pull_back(prior, x[s], gathered, s.start) for s in shares]
    gathered = gathered._replace(repulsion=torch.cat(pulled))
    gradient = distiller.combine(gathered, SCHEDULE, T).gradient
    torch.testing.assert_close(gradient, distiller(*arguments(x)).gradient)


# --- the networks ------------------------------------------------------------------------------


def test_no_more_images_are_looked_at_together_than_the_prior_says() -> None:
    x, distance = randn(5, 4, 5, 6), Embedding()
    gradient = csd(distance=distance)(*arguments(x, Decoding(at_once=2))).gradient
    assert distance.seen == [2, 2, 1] * 2
    assert distance.with_gradient == [2, 2, 1]
    torch.testing.assert_close(gradient, csd()(*arguments(x)).gradient)


@pytest.mark.parametrize("kernel", [RBF(Bandwidth()), Mean()])
def test_nothing_goes_back_where_nothing_repels(kernel) -> None:
    distance = Embedding()
    outcome = csd(kernel, distance, repulsion=0.0 if isinstance(kernel, RBF) else 1.0)(
        *arguments(randn(4, 4, 5, 6))
    )
    assert distance.with_gradient == []
    assert outcome.scalars["repulsion_norm"] == 0
    assert (outcome.gradient != 0).any()


def test_no_gradient_is_left() -> None:
    x = randn(3, 4, 5, 6).requires_grad_()
    outcome = csd()(*arguments(x))
    assert not outcome.gradient.requires_grad
    assert not any(value.requires_grad for value in outcome.scalars.values())
    assert x.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_gradient_has_the_particles_dtype_and_is_finite(dtype) -> None:
    x = randn(5, 4, 5, 6).to(dtype)
    outcome = csd()(*arguments(x))
    assert outcome.gradient.dtype == dtype
    assert outcome.gradient.isfinite().all()
    exact = csd()(*arguments(x.double()))
    torch.testing.assert_close(
        outcome.kernel.matrix.double(), exact.kernel.matrix, atol=1e-4, rtol=0
    )


# --- errors ------------------------------------------------------------------------------------


def test_space_and_distance_belong_together() -> None:
    rest = (RULE, Mean(), SigmaSquared())
    with pytest.raises(ValueError, match=r"^distance must be a perceptual distance.*got None"):
        CollaborativeScoreDistillation(*rest, kernel_space="perceptual")
    for space in ("noisy", "clean"):
        with pytest.raises(ValueError, match=rf"^distance must be None .*'{space}'.*Embedding"):
            CollaborativeScoreDistillation(*rest, kernel_space=space, distance=Embedding())


def test_a_prior_must_decode() -> None:
    with pytest.raises(ValueError, match=r"prior must decode images .* got ClosedForm"):
        csd()(*arguments(randn(2, 4, 5, 6), ClosedForm()))


def test_the_way_back_of_no_particles_is_none_of_them() -> None:
    appearance, x = Appearance(Embedding()), randn(0, 4, 5, 6)
    assert appearance.features(Decoding(), x).shape == (0, 40)
    assert appearance.pull_back(Decoding(), x, randn(0, 40)).shape == x.shape


def test_a_residual_of_another_kind_is_mixed_by_the_same_kernel() -> None:
    """The features are of the particles, whatever is subtracted from the estimate."""
    x = randn(4, 4, 5, 6)
    against_noise = CollaborativeScoreDistillation(
        NoiseResidual(ClassifierFree(3.0)),
        KERNELS["rbf"],
        SigmaSquared(),
        kernel_space="perceptual",
        distance=Embedding(),
    )
    one, other = (each(*arguments(x)).kernel for each in (csd(), against_noise))
    assert torch.equal(one.matrix, other.matrix)
