"""Facts about low-rank weights that learn on a frozen prior."""

import pytest
import torch

from csd_lab.distill import ClassifierFree, Constant, Query, ScoreDistillation, VariationalResidual
from csd_lab.priors import low_rank
from csd_lab.priors.colours import colour_mixture
from csd_lab.priors.instruct_pix2pix import InstructPix2Pix
from csd_lab.priors.low_rank import LowRank
from csd_lab.priors.stable_diffusion import StableDiffusion
from csd_lab.types import Conditioning

T = torch.tensor(400)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X, NOISE = randn(3, 4, 8, 8), randn(3, 4, 8, 8, seed=1)
CONDITIONING = Conditioning("a red ball")


@pytest.fixture
def prior(tiny_sd_folder):
    return StableDiffusion(tiny_sd_folder, dtype="float32", device="cpu")


def spoil(learner):
    """Give all weights values as if they had learnt much."""
    with torch.no_grad():
        for seed, weight in enumerate(learner.parameters()):
            weight.copy_(0.3 * randn(*weight.shape, seed=seed))


@pytest.mark.parametrize("kind", ["captions", "instructions"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_before_it_learns_it_is_the_prior_exactly(tiny_sd_folder, tiny_ip2p_folder, kind, dtype):
    captions = kind == "captions"
    make, folder = (
        (StableDiffusion, tiny_sd_folder) if captions else (InstructPix2Pix, tiny_ip2p_folder)
    )
    prior = make(folder, dtype=dtype, device="cpu")
    queries = [Query(X, "a red ball", None if captions else NOISE), Query(X[:1], "", None)]
    before = prior.predict_noise(queries, T)
    learner = LowRank(prior)
    for estimates in (learner.predict_noise(queries, T), prior.predict_noise(queries, T)):
        assert all(torch.equal(a, b) for a, b in zip(estimates, before, strict=True))
    # so that the first residual is guidance alone: none at scale 1
    rule = VariationalResidual(ClassifierFree(1.0), lambda _: learner)
    conditioning = CONDITIONING._replace(image=None if captions else NOISE)
    arguments = (prior, X, None, conditioning, NOISE, T)
    assert not ScoreDistillation(rule, Constant()).residual(*arguments).delta.any()


def test_what_it_learns_leaves_the_prior_as_it_is(prior):
    query = [Query(X, "a red ball", None)]
    weights = {name: p.clone() for name, p in prior.state_dict().items()}
    (before,) = prior.predict_noise(query, T)
    learner = LowRank(prior)
    spoil(learner)
    learner.errors(X, CONDITIONING, NOISE, T).sum().backward()
    learner.optimizer().step()
    assert not torch.equal(learner.predict_noise(query, T)[0], before)
    assert torch.equal(prior.predict_noise(query, T)[0], before)
    learnt = {id(p) for p in learner.parameters()}
    assert all(p.grad is None for p in prior.parameters() if id(p) not in learnt)
    assert all(p.grad.any() for p in learner.parameters())
    state = {k.replace(".base_layer", ""): v for k, v in prior.state_dict().items()}
    assert all(torch.equal(state[name], weight) for name, weight in weights.items())


def test_only_the_weights_that_are_not_zero_at_first_wait_for_the_others(prior):
    """The gradient of A is B times something, and B is zero at first."""
    learner = LowRank(prior)
    learner.errors(X, CONDITIONING, NOISE, T).sum().backward()
    a, b = list(learner.parameters())[::2], list(learner.parameters())[1::2]
    assert not any(weight.grad.any() for weight in a)
    assert all(weight.grad.any() for weight in b)
    assert not any(weight.any() for weight in b)


def test_the_gradient_is_that_of_a_difference(prior):
    learner, step = LowRank(prior), 1e-3
    spoil(learner)
    learner.errors(X, CONDITIONING, NOISE, T).sum().backward()
    slopes = [weight.grad.clone() for weight in learner.parameters()]
    length = torch.stack([slope.square().sum() for slope in slopes]).sum().sqrt()

    def moved(by):
        with torch.no_grad():
            for weight, slope in zip(learner.parameters(), slopes, strict=True):
                weight.add_(slope / length, alpha=by)
            return float(learner.errors(X, CONDITIONING, NOISE, T).sum())

    difference = (moved(step) - moved(-2 * step)) / (2 * step)
    assert difference == pytest.approx(float(length), rel=0.02)


@pytest.mark.parametrize("kind", ["captions", "instructions"])
def test_few_at_once_learn_the_same_in_less_memory(tiny_sd_folder, tiny_ip2p_folder, kind):
    captions = kind == "captions"
    make, folder = (
        (StableDiffusion, tiny_sd_folder) if captions else (InstructPix2Pix, tiny_ip2p_folder)
    )
    x, noise = randn(7, 4, 8, 8), randn(7, 4, 8, 8, seed=1)
    texts = Conditioning(tuple("abcdefg"), image=None if captions else randn(7, 4, 8, 8, seed=2))

    def learnt(max_batch):
        learner = LowRank(make(folder, dtype="float32", device="cpu", max_batch=max_batch))
        spoil(learner)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda saved: kept.append(saved.numel()) or saved, lambda saved: saved
        ):
            errors = learner.errors(x, texts, noise, T)
        errors.mean().backward()
        return errors.detach(), [weight.grad for weight in learner.parameters()], sum(kept)

    errors, slopes, memory = learnt(7)
    torch.testing.assert_close(learnt(7)[0], errors, rtol=0, atol=0)
    in_chunks = learnt(2)
    torch.testing.assert_close(in_chunks[0], errors, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(in_chunks[1], slopes, rtol=1e-3, atol=1e-5)
    assert in_chunks[2] < memory / 50


def test_its_error_falls_on_fixed_particles(prior):
    learner = LowRank(prior, learning_rate=0.02)
    times = [torch.tensor(t) for t in (100, 300, 500, 700, 900)]

    def error():
        with torch.no_grad():
            each = [
                learner.errors(X, CONDITIONING, randn(3, 4, 8, 8, seed=1000 + i), t).mean()
                for i, t in enumerate(times)
            ]
        return float(torch.stack(each).mean())

    optimizer, before = learner.optimizer(), error()
    for step in range(60):
        t = times[step % len(times)]
        learner.errors(X, CONDITIONING, randn(3, 4, 8, 8, seed=step), t).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert error() < 0.95 * before


def test_it_starts_from_its_seed_alone(prior, tiny_sd_folder):
    torch.manual_seed(5)
    first = [p.clone() for p in LowRank(prior, seed=3).parameters()]
    torch.manual_seed(6)
    other = StableDiffusion(tiny_sd_folder, dtype="float32", device="cpu")
    again, different = LowRank(other, seed=3), LowRank(prior, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first, again.parameters(), strict=True))
    assert not torch.equal(first[0], next(iter(different.parameters())))


def test_a_later_learner_takes_its_place(prior):
    query = [Query(X, "a red ball", None)]
    spoil(LowRank(prior))
    expected = prior.predict_noise(query, T)[0]
    later = LowRank(prior, rank=2)
    assert torch.equal(later.predict_noise(query, T)[0], expected)
    assert {weight.shape[0] for weight in list(later.parameters())[::2]} == {2}


def test_without_particles_every_weight_still_takes_part(prior):
    learner = LowRank(prior)
    before = prior.samples_evaluated
    errors = learner.errors(X[:0], CONDITIONING, NOISE[:0], T)
    assert errors.shape == (0,)
    errors.sum().backward()
    assert all(not p.grad.any() for p in learner.parameters())
    assert prior.samples_evaluated == before


def test_arguments_are_checked(prior, monkeypatch):
    with pytest.raises(ValueError, match="rank must be a whole number of at least 1, got 0"):
        LowRank(prior, rank=0)
    with pytest.raises(ValueError, match="learning_rate must be a finite number above 0, got 0"):
        LowRank(prior, learning_rate=0.0)
    with pytest.raises(ValueError, match=r"such as prior=embedded, got GaussianMixture"):
        LowRank(colour_mixture([[0.2, 0.3, 0.4]]))
    monkeypatch.setattr(low_rank, "is_peft_available", lambda: False)
    with pytest.raises(ValueError, match=r"peft is not installed: pip install 'csd-lab\[vsd\]'"):
        LowRank(prior)
