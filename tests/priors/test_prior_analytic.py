"""The Gaussian mixture's closed forms against autograd, sampling and brute force."""

import pytest
import torch

from csd_lab.distill import VariancePreserving
from csd_lab.distill.guidance import ClassifierFree, DualGuidance, Query, Request, guided_noise
from csd_lab.priors import GaussianMixture

SCHEDULE = VariancePreserving.scaled_linear()
SHAPE = (2, 1, 2)
T = torch.tensor(400)


def mixture(kind: str = "scales", **options) -> GaussianMixture:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    if kind == "scales":
        spread = {"scales": torch.rand(3, *SHAPE, generator=generator, dtype=torch.float64) + 0.2}
    elif kind == "one scale each":
        spread = {"scales": torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)}
    else:
        root = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)
        spread = {"covariances": root @ root.mT + 0.1 * torch.eye(4)}
    return GaussianMixture(means, SCHEDULE, weights=[0.5, 0.2, 0.3], **spread, **options)


def points(n: int = 5, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *SHAPE, generator=generator, dtype=torch.float64)


KINDS = ["scales", "one scale each", "covariances"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [None, 0, 400, 999])
@pytest.mark.parametrize("observed", [False, True])
def test_score_is_the_gradient_of_the_log_density(kind, t, observed):
    prior = mixture(kind, image_noise=0.7)
    image = points(seed=2) if observed else None
    x = points().requires_grad_()
    t = None if t is None else torch.tensor(t)
    (expected,) = torch.autograd.grad(prior.log_prob(x, t, image=image).sum(), x)
    torch.testing.assert_close(prior.score(x, t, image=image), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_log_density_is_that_of_torch_distributions(kind):
    prior = mixture(kind)
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64).flatten(1)
    if kind == "covariances":
        root = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)
        covariances = root @ root.mT + 0.1 * torch.eye(4)
    else:
        covariances = prior.variances.diag_embed()
    a, b = SCHEDULE.alpha(T), SCHEDULE.sigma(T)
    components = torch.distributions.MultivariateNormal(
        a * means, a**2 * covariances + b**2 * torch.eye(4)
    )
    weights = torch.distributions.Categorical(torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64))
    expected = torch.distributions.MixtureSameFamily(weights, components)
    x = points()
    torch.testing.assert_close(prior.log_prob(x, T), expected.log_prob(x.flatten(1)))


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_the_mean_of_the_noise_given_the_noisy_particle(kind):
    """E[e | x_t], by importance sampling of clean particles."""
    prior = mixture(kind)
    clean = prior.sample(400_000, generator=torch.Generator().manual_seed(3))
    a, b = SCHEDULE.alpha(T), SCHEDULE.sigma(T)
    x_t = points(3)
    noise = (x_t[:, None] - a * clean) / b
    weight = (-noise.flatten(2).square().sum(-1) / 2).softmax(-1)
    expected = torch.einsum("nm,nm...->n...", weight, noise)
    (estimate,) = prior.predict_noise([Query(x_t, "", None)], T)
    torch.testing.assert_close(estimate, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_moments_of_the_mixture(kind):
    prior = mixture(kind)
    x = prior.sample(200_000, generator=torch.Generator().manual_seed(4)).flatten(1)
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    if prior.basis is None:
        means, covariances = prior.means, prior.variances.diag_embed()
    else:
        means = torch.einsum("kd,ked->ke", prior.means, prior.basis)
        covariances = prior.basis @ prior.variances.diag_embed() @ prior.basis.mT
    mean = weights @ means
    second = torch.einsum("k,kij->ij", weights, covariances + means[:, :, None] * means[:, None])
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(x.mT @ x / len(x), second, rtol=0, atol=0.1)


def test_one_gaussian_has_the_textbook_noise_estimate():
    """For N(m, s^2): eps = b (x_t - a m) / (a^2 s^2 + b^2)."""
    prior = GaussianMixture(torch.full((1, *SHAPE), 2.0), SCHEDULE, scales=0.5)
    x_t = points().float()
    a, b = SCHEDULE.alpha(T), SCHEDULE.sigma(T)
    (estimate,) = prior.predict_noise([Query(x_t, "", None)], T)
    expected = b * (x_t - a * 2) / (a**2 * 0.25 + b**2)
    torch.testing.assert_close(estimate, expected.float())
    assert estimate.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_an_observation_conditions_by_bayes_rule(kind):
    """Log p(x | s) - log p(x) differs from log N(s; x, tau^2) by log p(s), the same for all x."""
    prior = mixture(kind, image_noise=0.7)
    x, seen = points(6), points(1, seed=5).expand(6, *SHAPE)
    likelihood = torch.distributions.Normal(x, 0.7).log_prob(seen).flatten(1).sum(1)
    evidence = likelihood + prior.log_prob(x) - prior.log_prob(x, image=seen)
    torch.testing.assert_close(evidence, evidence[:1].expand(6))


def test_text_selects_the_weights():
    prompts = {"left": [1.0, 0.0, 0.0], "right": [0.0, 0.0, 2.0]}
    prior = mixture(prompts=prompts)
    x = points(2)
    queries = [
        Query(x, "left", None),
        Query(x, "right", None),
        Query(x, ("left", "right"), None),
        Query(x, "", None),
    ]
    left, right, both, default = prior.predict_noise(queries, T)
    torch.testing.assert_close(both, torch.stack([left[0], right[1]]))
    alone = GaussianMixture(
        prior.means[:1].reshape(1, *SHAPE),
        SCHEDULE,
        scales=prior.variances[:1].sqrt().reshape(1, *SHAPE),
    )
    torch.testing.assert_close(left, alone.predict_noise([Query(x, "", None)], T)[0])
    torch.testing.assert_close(default, mixture().predict_noise([Query(x, "any", None)], T)[0])
    with pytest.raises(ValueError, match=r"'', 'left', 'right', got 'up'"):
        prior.embed("up")


def test_guidance_is_the_combination_of_scores():
    prior = mixture(prompts={"left": [1.0, 0.0, 0.0]}, image_noise=0.5)
    x, image = points(), points(seed=7)
    b = SCHEDULE.sigma(T)
    free, dual = guided_noise(
        prior,
        T,
        [
            Request(x, ClassifierFree(3.0).coefficients("left"), None),
            Request(x, DualGuidance(3.0, 1.5).coefficients("left"), image),
        ],
    )
    null, text = prior.score(x, T), prior.score(x, T, "left")
    torch.testing.assert_close(free, -b * (null + 3 * (text - null)))
    seen, full = prior.score(x, T, image=image), prior.score(x, T, "left", image)
    torch.testing.assert_close(dual, -b * (null + 1.5 * (seen - null) + 3 * (full - seen)))


def test_images_are_bounded_latents_and_conditions_where_there_are_conditions():
    x = points()
    for prior, condition in ((mixture(), None), (mixture(image_noise=1.0), x)):
        assert prior.encode(x) is x
        assert torch.equal(prior.decode(x), x.clamp(0, 1))
        assert prior.decode(x.clone().requires_grad_()).requires_grad
        given = prior.condition(x)
        assert given is None if condition is None else torch.equal(given, condition)
    with pytest.raises(ValueError, match="give it image_noise"):
        mixture().predict_noise([Query(x, "", x)], T)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of scales and covariances"),
        ({"scales": 1.0, "covariances": torch.eye(2).expand(3, 2, 2)}, "one of scales"),
        ({"scales": 0.0}, "scales must be above 0"),
        ({"scales": torch.ones(3, 3)}, "scales must be above 0, and a number"),
        ({"scales": torch.ones(2)}, r"scales must be above 0, and a number, \(3,\)"),
        ({"covariances": torch.eye(3).expand(3, 3, 3)}, r"covariances must be \(3, 2, 2\)"),
        ({"covariances": -torch.eye(2).expand(3, 2, 2)}, "positive definite"),
        ({"scales": 1.0, "weights": [1.0]}, "weights must be 3 numbers"),
        ({"scales": 1.0, "prompts": {"a": [-1.0, 1.0, 1.0]}}, "prompts\\['a'\\] must be 3"),
        ({"scales": 1.0, "image_noise": 0.0}, "image_noise must be"),
    ],
)
def test_impossible_mixtures_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(torch.zeros(3, 2), SCHEDULE, **options)
