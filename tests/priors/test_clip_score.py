"""Facts about the similarity of CLIP as a prior."""

import pytest
import torch

from csd_lab import world
from csd_lab.distill import (
    ClassifierFree,
    Constant,
    NoiseResidual,
    Query,
    ScoreDistillation,
    SourceResidual,
)
from csd_lab.metrics import OpenClip
from csd_lab.priors.clip_score import clip_score
from csd_lab.types import Conditioning

SCALE, NOISE, T = 500.0, 0.05, torch.tensor(700)


@pytest.fixture(scope="module")
def encoder():
    return OpenClip()


@pytest.fixture(scope="module")
def task():
    return world.edit_task(seed=10**9 + 7, instruction="make it night", frames=2)


@pytest.fixture
def prior(encoder):
    return clip_score(encoder, SCALE, NOISE)


def noise_like(x):
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def similarity(encoder, images, caption):
    return (encoder.features(images.clamp(0, 1)) * encoder.encode_texts([caption])).sum(1)


def test_its_estimate_is_the_gradient_of_the_similarity(prior, encoder, task):
    alpha = (1 - NOISE**2) ** 0.5
    x_t = (alpha * task.source + NOISE * noise_like(task.source)).requires_grad_()
    total = similarity(encoder, x_t / alpha, task.target_caption).sum()
    (slope,) = torch.autograd.grad(total, x_t)
    (found,) = prior.predict_noise([Query(x_t, task.target_caption, None)], T)
    assert slope.abs().max() > 1e-4
    torch.testing.assert_close(found, -SCALE * NOISE * slope, rtol=1e-4, atol=1e-6)


def test_it_knows_nothing_without_a_text(prior, task):
    (found,) = prior.predict_noise([Query(task.source, "", None)], T)
    assert not found.any()
    assert prior.schedule.sigma(torch.tensor(0)) == prior.schedule.sigma(T)


def test_against_the_source_there_is_the_gradient_alone(prior, task):
    """The source's null text has the estimate 0: ascent without a random walk."""
    x, e = task.source, noise_like(task.source)
    distillers = [
        ScoreDistillation(rule(ClassifierFree(1.0)), Constant())
        for rule in (SourceResidual, NoiseResidual)
    ]
    conditioning = Conditioning(task.target_caption)
    dds, sds = (d(prior, x, x, conditioning, e, T).gradient for d in distillers)
    x_t = prior.schedule.add_noise(x, e, T)
    (estimate,) = prior.predict_noise([Query(x_t, task.target_caption, None)], T)
    torch.testing.assert_close(dds, estimate)
    torch.testing.assert_close(sds, estimate - e)


def test_a_small_step_raises_the_similarity_by_what_its_slope_says(prior, encoder, task):
    """To first order by the squared length of the slope."""
    x, caption = task.source.clamp(0.01, 0.99), task.target_caption
    alpha = (1 - NOISE**2) ** 0.5
    (estimate,) = prior.predict_noise([Query(alpha * x, caption, None)], T)
    slope = -alpha * estimate / (SCALE * NOISE)
    step = 1e-3 / slope.flatten(1).norm(dim=1)[:, None, None, None]
    rise = similarity(encoder, x + step * slope, caption) - similarity(encoder, x, caption)
    expected = (step * slope.square()).flatten(1).sum(1)
    torch.testing.assert_close(rise, expected, rtol=0.1, atol=0)


def test_noise_is_checked(encoder):
    for noise in (0.0, 1.0):
        with pytest.raises(ValueError, match="noise must be between 0 and 1"):
            clip_score(encoder, noise=noise)
