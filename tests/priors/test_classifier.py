"""Facts about guidance by a classifier, with one that is exact."""

import pytest
import torch

from csd_lab.distill import (
    ClassifierFree,
    Constant,
    NoiseResidual,
    Query,
    ScoreDistillation,
    VariancePreserving,
)
from csd_lab.priors import GaussianMixture
from csd_lab.priors.classifier import ClassifierGuidance, MixtureClassifier
from csd_lab.types import Conditioning

SCHEDULE = VariancePreserving.scaled_linear()
WEIGHTS = [0.5, 0.3, 0.2]
PROMPTS = {"first": [1, 0, 0], "second": [0, 1, 0], "third": [0, 0, 1], "last two": [0, 1, 3]}
times = pytest.mark.parametrize("t", [0, 100, 500, 999])


def randn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


X_T = randn(4, 2, 3, 3, seed=1)


@pytest.fixture
def mixture():
    factor = randn(3, 18, 18, seed=2) / 5
    covariances = factor @ factor.mT + 0.2 * torch.eye(18)
    return GaussianMixture(
        randn(3, 2, 3, 3), SCHEDULE, covariances=covariances, weights=WEIGHTS, prompts=PROMPTS
    )


def guided(mixture, scale, max_batch=1024):
    mixture.max_batch = max_batch
    return ClassifierGuidance(mixture, MixtureClassifier(mixture), scale)


@times
@pytest.mark.parametrize("text", PROMPTS)
def test_at_scale_one_it_is_the_conditional_prior_by_bayes_rule(mixture, text, t):
    t, query = torch.tensor(t), [Query(X_T, text, None)]
    (found,) = guided(mixture, 1.0).predict_noise(query, t)
    (expected,) = mixture.predict_noise(query, t)
    torch.testing.assert_close(found, expected)
    score = -SCHEDULE.sigma(t) * mixture.score(X_T, t, text)
    torch.testing.assert_close(found, score)
    assert not torch.allclose(found, mixture.predict_noise([Query(X_T, "", None)], t)[0])


@times
def test_the_classifier_gives_the_posterior_of_the_components(mixture, t):
    names = ["first", "second", "third"]
    classifier, t = MixtureClassifier(mixture), torch.tensor(t)
    logs = torch.stack([classifier.log_prob(X_T, (name,) * 4, t) for name in names], dim=1)
    posterior = torch.tensor(WEIGHTS, dtype=torch.float64) * logs.exp()
    torch.testing.assert_close(posterior.sum(1), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 4.0])
def test_it_is_linear_in_its_scale(mixture, scale):
    t = torch.tensor(300)
    (nothing,) = mixture.predict_noise([Query(X_T, "", None)], t)
    (full,) = mixture.predict_noise([Query(X_T, "second", None)], t)
    (found,) = guided(mixture, scale).predict_noise([Query(X_T, "second", None)], t)
    torch.testing.assert_close(found, nothing + scale * (full - nothing))


def test_each_particle_follows_its_own_text_and_none_without(mixture):
    t, texts = torch.tensor(300), ("first", "", "third", "first")
    for max_batch in (1, 3, 1024):
        prior = guided(mixture, 1.0, max_batch)
        found, alone = prior.predict_noise([Query(X_T, texts, None), Query(X_T, "", None)], t)
        torch.testing.assert_close(found, mixture.predict_noise([Query(X_T, texts, None)], t)[0])
        torch.testing.assert_close(alone, mixture.predict_noise([Query(X_T, "", None)], t)[0])
        assert prior.samples_evaluated == 8


def test_guidance_without_a_classifier_on_top_multiplies_the_scale(mixture):
    conditioning, noise = Conditioning("second"), randn(4, 2, 3, 3, seed=3)

    def gradient(scale, on_top):
        rule = NoiseResidual(ClassifierFree(on_top))
        arguments = (X_T, None, conditioning, noise, torch.tensor(300))
        return ScoreDistillation(rule, Constant())(guided(mixture, scale), *arguments).gradient

    torch.testing.assert_close(gradient(1.5, 2.0), gradient(3.0, 1.0))


def test_an_image_condition_reaches_the_prior(mixture):
    means = randn(3, 2, 3, 3)
    prior = GaussianMixture(means, SCHEDULE, scales=0.3, prompts=PROMPTS, image_noise=0.5)
    t, image = torch.tensor(300), randn(4, 2, 3, 3, seed=4)
    wrapped = ClassifierGuidance(prior, MixtureClassifier(prior), 0.0)
    (found,) = wrapped.predict_noise([Query(X_T, "first", image)], t)
    torch.testing.assert_close(found, prior.predict_noise([Query(X_T, "", image)], t)[0])
    assert torch.equal(wrapped.condition(image), image)


def test_nothing_is_recorded_and_the_scale_is_checked(mixture):
    x_t = X_T.clone().requires_grad_()
    (found,) = guided(mixture, 1.0).predict_noise([Query(x_t, "first", None)], torch.tensor(300))
    assert not found.requires_grad
    assert x_t.grad is None
    with pytest.raises(ValueError, match="scale must be a finite number, got inf"):
        guided(mixture, float("inf"))
