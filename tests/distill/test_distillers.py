"""Facts about score distillation, alone and collaborative."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from csd_lab.distill import (
    IMQ,
    RBF,
    Bandwidth,
    ClassifierFree,
    CollaborativeScoreDistillation,
    Constant,
    Distiller,
    DualGuidance,
    Identity,
    Kernel,
    Mean,
    NoiseResidual,
    PosteriorResidual,
    Query,
    Residual,
    ResidualRule,
    ScoreDistillation,
    SigmaSquared,
    SourceResidual,
    VariancePreserving,
    VariationalResidual,
    surrogate_loss,
)
from csd_lab.types import Blend, Conditioning

from .helpers import ClosedForm, Linear, randn

SCHEDULE = VariancePreserving.scaled_linear()
T = torch.tensor(300)
GUIDANCE = DualGuidance(7.5, 1.5)
RULES = {
    "noise": NoiseResidual(GUIDANCE),
    "source": SourceResidual(GUIDANCE),
    "posterior": PosteriorResidual(GUIDANCE, stride=20),
    "variational": VariationalResidual(GUIDANCE, lambda _: Linear(scale=0.5, offset=0.25)),
}
KERNELS = {
    "rbf": RBF(Bandwidth()),
    "imq": IMQ(Bandwidth()),
    "identity": Identity(),
    "mean": Mean(),
}
all_rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
all_kernels = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


class Scene:
    """Particles with everything that distils them."""

    def __init__(self, n: int = 5, dtype: torch.dtype = torch.float64) -> None:
        self.x, self.source, self.noise, self.image = (
            randn(n, 4, 5, 6, seed=seed).to(dtype) for seed in range(4)
        )
        self.texts = ("A", "B", "C", "A", "B")[:n]
        self.prior = ClosedForm()

    def at(self, index: Tensor | slice) -> "Scene":
        part = Scene(0)
        for name in ("x", "source", "noise", "image"):
            setattr(part, name, getattr(self, name)[index])
        order = torch.arange(len(self.x))[index].tolist()
        part.texts = tuple(self.texts[i] for i in order)
        return part

    def arguments(self) -> tuple:
        conditioning = Conditioning(self.texts, "src", "C", self.image)
        return (self.prior, self.x, self.source, conditioning, self.noise, T)

    def gradient(self, distiller: Distiller) -> Tensor:
        return distiller(*self.arguments()).gradient


def csd(rule: ResidualRule, kernel: Kernel, **options) -> CollaborativeScoreDistillation:
    return CollaborativeScoreDistillation(rule, kernel, SigmaSquared(), **options)


def sds(rule: ResidualRule) -> ScoreDistillation:
    return ScoreDistillation(rule, SigmaSquared())


# --- reductions --------------------------------------------------------------------------------


@all_rules
@all_kernels
@pytest.mark.parametrize("normalize", ["n", "row"])
def test_one_particle_is_plain_score_distillation(rule, kernel, normalize) -> None:
    scene = Scene(1)
    distiller = csd(rule, kernel, normalize=normalize)
    assert torch.equal(scene.gradient(distiller), scene.gradient(sds(rule)))


@all_rules
def test_the_identity_kernel_is_plain_score_distillation_over_n(rule) -> None:
    scene = Scene()
    expected = scene.gradient(sds(rule))
    torch.testing.assert_close(scene.gradient(csd(rule, Identity())), expected / 5)
    torch.testing.assert_close(scene.gradient(csd(rule, Identity(), normalize="row")), expected)


@all_rules
@pytest.mark.parametrize("normalize", ["n", "row"])
def test_the_mean_kernel_gives_all_particles_the_mean_gradient(rule, normalize) -> None:
    scene = Scene()
    mean = scene.gradient(sds(rule)).mean(0, keepdim=True).expand_as(scene.x)
    torch.testing.assert_close(scene.gradient(csd(rule, Mean(), normalize=normalize)), mean)


@all_rules
@all_kernels
@pytest.mark.parametrize("space", ["noisy", "clean"])
def test_is_permutation_equivariant(rule, kernel, space) -> None:
    scene, order = Scene(), torch.tensor([3, 0, 4, 2, 1])
    distiller = csd(rule, kernel, kernel_space=space)
    torch.testing.assert_close(
        scene.at(order).gradient(distiller), scene.gradient(distiller)[order]
    )


@all_rules
@all_kernels
def test_processes_that_share_the_particles_get_the_same_gradient(rule, kernel) -> None:
    scene, distiller = Scene(), csd(rule, kernel)
    parts = [distiller.residual(*scene.at(part).arguments()) for part in (slice(0, 2), slice(2, 5))]
    assert all(part.features is None for part in parts)
    fields = zip(*(part[:3] for part in parts), strict=True)
    gathered = Residual(*(torch.cat(tensors) for tensors in fields))
    gradient = distiller.combine(gathered, SCHEDULE, T).gradient
    torch.testing.assert_close(gradient, scene.gradient(distiller))


def test_an_unchanged_particle_with_the_sources_text_has_no_residual() -> None:
    scene = Scene()
    prior, x, _, conditioning, noise, t = scene.arguments()
    conditioning = conditioning._replace(source_prompt=conditioning.prompt)
    residual = sds(RULES["source"]).residual(prior, x, x, conditioning, noise, t)
    assert not residual.delta.any()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(5, 3) / 3, r"weights of shape \(5, 2\), got \(5, 3\)"),
        (torch.ones(5, 2), "add up to 1 for each particle, got sums from 2 to 2"),
        (torch.tensor([[2.0, -1.0]]).expand(5, 2), "must have weights >= 0"),
    ],
)
def test_shares_of_prompts_are_checked(weights, message) -> None:
    prior, x, source, conditioning, noise, t = Scene().arguments()
    blended = conditioning._replace(prompt=Blend(("A", "B"), weights))
    with pytest.raises(ValueError, match=message):
        sds(RULES["source"]).residual(prior, x, source, blended, noise, t)


# --- signs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["noisy", "clean"])
@pytest.mark.parametrize("normalize", ["n", "row"])
@pytest.mark.parametrize("kernel", [RBF(Bandwidth()), IMQ(Bandwidth())])
def test_two_particles_without_residual_move_apart(kernel, normalize, space) -> None:
    x = randn(2, 4, 5, 6)
    distiller = csd(RULES["noise"], kernel, normalize=normalize, kernel_space=space)
    still = Residual(torch.zeros_like(x), x, x)
    moved = x - 0.1 * distiller.combine(still, SCHEDULE, T).gradient
    assert (moved[1] - moved[0]).norm() > (x[1] - x[0]).norm()
    apart = torch.cosine_similarity((moved - x)[1].flatten(), (x[1] - x[0]).flatten(), dim=0)
    assert apart == pytest.approx(1)


@all_kernels
def test_a_residual_that_all_share_is_descended(kernel) -> None:
    x, delta = randn(3, 4, 5, 6), randn(1, 4, 5, 6, seed=1).expand(3, 4, 5, 6)
    distiller = csd(RULES["noise"], kernel, repulsion=0.0)
    gradient = distiller.combine(Residual(delta, x, x), SCHEDULE, T).gradient
    assert ((gradient * delta).flatten(1).sum(1) > 0).all()


# --- the formula -------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", ["n", "row"])
@pytest.mark.parametrize("scale", ["paper", "sigma"])
def test_the_gradient_equals_a_naive_double_loop(normalize, scale) -> None:
    x_t, delta, h, factor = randn(5, 4, 5, 6), randn(5, 4, 5, 6, seed=1), 70.0, 1.7
    kernel = RBF(Bandwidth("fixed", value=h))
    options = {"normalize": normalize, "repulsion": factor, "repulsion_scale": scale}
    outcome = csd(RULES["noise"], kernel, **options).combine(
        Residual(delta, x_t, torch.full_like(x_t, torch.nan)), SCHEDULE, T
    )
    b_t = SCHEDULE.sigma(T)
    for i in range(5):
        total, weights = torch.zeros_like(x_t[0]), 0.0
        for j in range(5):
            x_j = x_t[j].clone().requires_grad_()
            k = torch.exp(-((x_j - x_t[i]) ** 2).sum() / h)
            (grad,) = torch.autograd.grad(k, x_j)
            total += k.detach() * delta[j] - factor * (b_t if scale == "sigma" else 1) * grad
            weights += k.item()
        expected = b_t**2 * total / (5 if normalize == "n" else weights)
        torch.testing.assert_close(outcome.gradient[i], expected)


def test_repulsion_0_leaves_the_attraction() -> None:
    x_t, delta = randn(4, 4, 5, 6), randn(4, 4, 5, 6, seed=1)
    kernel = RBF(Bandwidth())
    outcome = csd(RULES["noise"], kernel, repulsion=0.0).combine(
        Residual(delta, x_t, x_t), SCHEDULE, T
    )
    expected = SCHEDULE.sigma(T) ** 2 * (outcome.kernel.matrix @ delta.flatten(1)) / 4
    torch.testing.assert_close(outcome.gradient.flatten(1), expected)
    assert outcome.scalars["repulsion_norm"] == 0


def test_the_kernel_compares_noisy_or_clean_particles() -> None:
    scene = Scene()
    _, x, _, _, noise, t = scene.arguments()
    x_t = SCHEDULE.add_noise(x, noise, t)
    for space in ("noisy", "clean"):
        distiller = csd(RULES["noise"], RBF(Bandwidth()), kernel_space=space)
        residual = distiller.residual(*scene.arguments())
        torch.testing.assert_close(residual.x_t, x_t)
        # x_t = a_t x_0 + b_t (e + delta)
        again = SCHEDULE.add_noise(residual.x_0, noise + residual.delta, t)
        torch.testing.assert_close(again, x_t)
        points = residual.x_0 if space == "clean" else residual.x_t
        expected = RBF(Bandwidth())(points.flatten(1))
        outcome = distiller.combine(residual, SCHEDULE, t)
        torch.testing.assert_close(outcome.kernel.matrix, expected.matrix)


def test_the_residuals_equal_their_formulas() -> None:
    scene = Scene()
    prior, x, source, _, noise, t = scene.arguments()

    def estimate(particles: Tensor, text: str | tuple[str, ...]) -> Tensor:
        x_t = SCHEDULE.add_noise(particles, noise, t)
        branches = [(text, scene.image), ("C", scene.image), ("C", None)]
        y, n, o = prior.predict_noise([Query(x_t, *branch) for branch in branches], t)
        return o + 1.5 * (n - o) + 7.5 * (y - n)

    psi, chi = RULES["posterior"].coefficients(SCHEDULE, t)
    against_source = estimate(x, scene.texts) - estimate(source, "src")
    expected = {
        "noise": estimate(x, scene.texts) - noise,
        "source": against_source,
        "posterior": psi * (x - source) + chi * against_source,
        "variational": estimate(x, scene.texts) - (0.5 * SCHEDULE.add_noise(x, noise, t) + 0.25),
    }
    for name, rule in RULES.items():
        delta, x_t, x_0, *_ = sds(rule).residual(*scene.arguments())
        clean = SCHEDULE.remove_noise(x_t, estimate(x, scene.texts), t)
        torch.testing.assert_close(x_0, clean)
        torch.testing.assert_close(delta, expected[name])
        weighted = SCHEDULE.sigma(t) ** 2 * expected[name]
        torch.testing.assert_close(scene.gradient(sds(rule)), weighted)


# --- the network -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "source_prompt", "samples"),
    [
        (SourceResidual(DualGuidance(7.5, 1.5)), "", 5),
        (SourceResidual(DualGuidance(7.5, 1.5)), "src", 6),
        (SourceResidual(DualGuidance(7.5, 1.0)), "", 3),
        (SourceResidual(ClassifierFree(7.5)), "", 3),
        (NoiseResidual(DualGuidance(7.5, 1.5)), "", 3),
        (NoiseResidual(ClassifierFree(7.5)), "", 2),
        (NoiseResidual(ClassifierFree(1.0)), "", 1),
    ],
)
def test_network_samples_a_particle_and_step(rule, source_prompt, samples) -> None:
    scene = Scene()
    prior, x, source, _, noise, t = scene.arguments()
    conditioning = Conditioning("A", source_prompt, "", scene.image)
    csd(rule, RBF(Bandwidth()))(prior, x, source, conditioning, noise, t)
    assert prior.calls == 1
    assert prior.samples == samples * len(x)


class Trainable(nn.Module):
    """A predictor whose gradients anyone could ask for."""

    schedule = SCHEDULE

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 3, padding=1, dtype=torch.float64)

    def predict_noise(self, queries: Sequence[Query], t: Tensor) -> list[Tensor]:
        assert not torch.is_grad_enabled()
        return [self.layer(query.x_t) for query in queries]


@all_rules
@pytest.mark.parametrize("collaborative", [False, True])
def test_no_gradient_goes_into_the_prior_or_through_it(rule, collaborative) -> None:
    distiller = csd(rule, RBF(Bandwidth())) if collaborative else sds(rule)
    prior, scene = Trainable(), Scene()
    _, x, source, conditioning, noise, t = scene.arguments()
    x.requires_grad_()
    outcome = distiller(prior, x, source, conditioning, noise, t)
    assert not outcome.gradient.requires_grad
    assert not any(value.requires_grad for value in outcome.scalars.values())
    surrogate_loss(x, outcome.gradient).backward()
    assert torch.equal(x.grad, outcome.gradient)
    assert all(parameter.grad is None for parameter in prior.parameters())


# --- output ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("collaborative", [False, True])
def test_the_gradient_has_the_particles_shape_and_dtype(dtype, collaborative) -> None:
    scene = Scene(dtype=dtype)
    distiller = csd(RULES["source"], RBF(Bandwidth())) if collaborative else sds(RULES["source"])
    gradient = scene.gradient(distiller)
    assert gradient.shape == scene.x.shape
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


def test_scalars_of_collaboration() -> None:
    scene = Scene()
    outcome = csd(RULES["source"], RBF(Bandwidth()))(*scene.arguments())
    matrix, repulsion, h = outcome.kernel
    scalars = {name: value.item() for name, value in outcome.scalars.items()}
    w = SCHEDULE.sigma(T).item() ** 2
    assert all(value.shape == () for value in outcome.scalars.values())
    assert scalars == {
        "gradient_norm": pytest.approx(outcome.gradient.flatten(1).norm(dim=1).mean().item()),
        "attraction_norm": pytest.approx(
            (outcome.gradient.flatten(1) + w * repulsion / 5).norm(dim=1).mean().item()
        ),
        "repulsion_norm": pytest.approx(w * repulsion.norm(dim=1).mean().item() / 5),
        "bandwidth": h.item(),
        "effective_neighbours": pytest.approx(
            (matrix.sum(1) ** 2 / (matrix**2).sum(1)).mean().item()
        ),
        "mean_affinity": pytest.approx((matrix.sum().item() - 5) / 20),
    }


def test_scalars_of_plain_distillation() -> None:
    outcome = sds(RULES["source"])(*Scene().arguments())
    assert outcome.kernel is None
    assert outcome.scalars.keys() == {"gradient_norm"}


def test_a_nan_is_not_hidden() -> None:
    scene = Scene()
    scene.x[1, 0, 0, 0] = torch.nan
    assert scene.gradient(sds(RULES["noise"]))[1].isnan().any()
    assert scene.gradient(csd(RULES["noise"], RBF(Bandwidth()))).isnan().any()


# --- surrogate loss ----------------------------------------------------------------------------


def test_the_surrogate_carries_a_gradient_through_any_map() -> None:
    theta, wanted = randn(3, 2).requires_grad_(), randn(3, 1, 4, 5, seed=1)
    basis = randn(2, 20, seed=2)
    surrogate_loss((theta @ basis).view(3, 1, 4, 5), wanted).backward()
    torch.testing.assert_close(theta.grad, wanted.flatten(1) @ basis.T)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_surrogates_gradient_is_exact(dtype) -> None:
    x = (1000 * randn(3, 4, 8, 8)).to(dtype).requires_grad_()
    wanted = (1000 * randn(3, 4, 8, 8, seed=1)).to(dtype)
    surrogate_loss(x, wanted.requires_grad_()).backward()
    assert torch.equal(x.grad, wanted)
    assert wanted.grad is None


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"normalize": "rows"}, "normalize must be one of n, row, got 'rows'"),
        ({"repulsion": float("nan")}, "repulsion must be a finite number, got nan"),
        ({"repulsion_scale": "alpha"}, "repulsion_scale must be one of paper, sigma, got 'alpha'"),
        ({"kernel_space": "pixels"}, "kernel_space must be one of noisy, clean, perceptual, got"),
    ],
)
def test_options_are_checked(option, message) -> None:
    with pytest.raises(ValueError, match=message):
        csd(RULES["noise"], Mean(), **option)


def test_shapes_are_checked() -> None:
    distiller = ScoreDistillation(RULES["source"], Constant())
    prior, x, source, conditioning, noise, t = Scene().arguments()
    with pytest.raises(ValueError, match="source must be the clean source particles"):
        distiller(prior, x, None, conditioning, noise, t)
    with pytest.raises(ValueError, match="source must have the shape of x"):
        distiller(prior, x, source[:2], conditioning, noise, t)
    with pytest.raises(ValueError, match="noise must have the shape of x"):
        distiller(prior, x, source, conditioning, noise[:1], t)
    with pytest.raises(ValueError, match=r"x must be \(N, C, h, w\)"):
        distiller(prior, x[0], source, conditioning, noise, t)
    with pytest.raises(ValueError, match=r"conditioning\.image must have one image a particle"):
        distiller(prior, x, source, conditioning._replace(image=x[:2]), noise, t)
    with pytest.raises(ValueError, match=r"conditioning\.prompt must be .* each of the 5, got 2"):
        distiller(prior, x, source, conditioning._replace(prompt=("A", "A")), noise, t)
    with pytest.raises(ValueError, match="gradient must have the shape of x"):
        surrogate_loss(x, x[:1])
