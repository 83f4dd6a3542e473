"""Facts about what learns the particles' own distribution, and about the residual that uses it."""

import pytest
import torch
from torch import Tensor

from csd_lab.distill import (
    RBF,
    Bandwidth,
    ClassifierFree,
    CollaborativeScoreDistillation,
    DualGuidance,
    Learner,
    NoiseResidual,
    Query,
    ScoreDistillation,
    SigmaSquared,
    VariancePreserving,
    VariationalResidual,
)
from csd_lab.distill.noise import particle_noise, timestep_generator, weights_generator
from csd_lab.types import Blend, Conditioning

from .helpers import ClosedForm, Linear, randn

SCHEDULE = VariancePreserving.scaled_linear()
T = torch.tensor(300)
X, NOISE, IMAGE = (randn(3, 4, 5, 6, seed=seed) for seed in range(3))
CONDITIONING = Conditioning(("A", "B", "C"), "", "", IMAGE)
ARGUMENTS = (ClosedForm(), X, None, CONDITIONING, NOISE, T)


class Given(Learner):
    """Estimates what it is given, or what a predictor says."""

    schedule = SCHEDULE

    def __init__(self, predict) -> None:
        super().__init__(1e-4)
        self.predict = predict
        self.asked: list[Query] = []

    def predict_noise(self, queries, t: Tensor) -> list[Tensor]:
        self.asked += queries
        return self.predict(queries, t)


def variational(scale: float, learner: Learner) -> VariationalResidual:
    return VariationalResidual(ClassifierFree(scale), lambda _: learner)


@pytest.mark.parametrize("collaborative", [False, True])
def test_a_learner_that_always_found_the_noise_would_make_it_sds(collaborative) -> None:
    def distil(rule):
        if not collaborative:
            return ScoreDistillation(rule, SigmaSquared())
        return CollaborativeScoreDistillation(rule, RBF(Bandwidth()), SigmaSquared())

    found = distil(variational(3.0, Given(lambda *_: [NOISE])))(*ARGUMENTS).gradient
    assert torch.equal(found, distil(NoiseResidual(ClassifierFree(3.0)))(*ARGUMENTS).gradient)


def test_a_learner_that_is_the_prior_leaves_guidance_alone() -> None:
    """eps_w - eps(y) = (s - 1) (eps(y) - eps(n)), nothing at s = 1."""
    learner = Given(ClosedForm().predict_noise)
    delta = ScoreDistillation(variational(3.0, learner), SigmaSquared()).residual(*ARGUMENTS).delta
    x_t = SCHEDULE.add_noise(X, NOISE, T)
    queries = [Query(x_t, CONDITIONING.prompt, IMAGE), Query(x_t, "", IMAGE)]
    y, n = ClosedForm().predict_noise(queries, T)
    torch.testing.assert_close(delta, 2 * (y - n))
    rule = variational(1.0, learner)
    assert not ScoreDistillation(rule, SigmaSquared()).residual(*ARGUMENTS).delta.any()


def test_it_is_asked_once_for_each_particle_with_text_and_image() -> None:
    learner = Given(ClosedForm().predict_noise)
    rule = VariationalResidual(DualGuidance(7.5, 1.5), lambda _: learner)
    ScoreDistillation(rule, SigmaSquared()).residual(*ARGUMENTS)
    (query,) = learner.asked
    assert query.text == CONDITIONING.prompt
    assert query.image is IMAGE
    shares = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    blend = CONDITIONING._replace(prompt=Blend(("A", "B"), shares))
    learner.asked.clear()
    learner.estimate(X, blend, T)
    assert [len(query.x_t) for query in learner.asked] == [2, 2]


def test_one_learner_of_a_prior_is_made_and_kept() -> None:
    rule = VariationalResidual(ClassifierFree(1.0), lambda prior: Linear())
    prior = ClosedForm()
    assert rule.learner(prior) is rule.learner(prior)
    assert rule.learner(prior) is not rule.learner(ClosedForm())
    assert NoiseResidual(ClassifierFree(1.0)).learner(ClosedForm()) is None


def test_errors_are_mean_squares_and_know_nothing_of_the_particles_gradient() -> None:
    learner = Linear(0.75, -0.25).double()
    x = X.clone().requires_grad_()
    errors = learner.errors(x, CONDITIONING, NOISE, T)
    x_t = SCHEDULE.add_noise(X, NOISE, T)
    expected = (0.75 * x_t - 0.25 - NOISE).square().flatten(1).mean(1)
    torch.testing.assert_close(errors, expected, rtol=1e-6, atol=0)
    errors.sum().backward()
    assert x.grad is None
    slope = (2 * (0.75 * x_t - 0.25 - NOISE) * x_t).flatten(1).mean(1).sum()
    torch.testing.assert_close(learner.scale.grad, slope, rtol=1e-6, atol=0)


def test_it_learns_the_best_estimate_for_gaussian_particles() -> None:
    """Of x ~ N(0, 1) the expected noise is b_t x_t, whatever t."""
    learner = Linear(0.0, 1.0, rate=0.02).double()
    optimizer, x = learner.optimizer(), randn(64, 4, 8, 8, seed=9)
    for step in range(300):
        errors = learner.errors(x, Conditioning(""), randn(64, 4, 8, 8, seed=100 + step), T)
        errors.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert learner.scale.item() == pytest.approx(float(SCHEDULE.sigma(T)), abs=0.02)
    assert learner.offset.item() == pytest.approx(0, abs=0.02)


def test_the_streams_of_learning_are_its_own() -> None:
    ids, shape = torch.arange(3), (2, 2)
    distil, learn = (
        particle_noise(1, 2, ids, shape, purpose=purpose) for purpose in ("distil", "learn")
    )
    assert torch.equal(distil, particle_noise(1, 2, ids, shape))
    assert not (distil == learn).any()
    draws = [timestep_generator(1, 2, purpose).random() for purpose in ("distil", "learn")]
    draws.append(weights_generator(1).random())
    assert len(set(draws)) == 3
    assert draws[2] == weights_generator(1).random() != weights_generator(2).random()
