"""Facts of particles beside which something learns."""

import pytest
import torch
from small_fits import fit
from torch import nn

from csd_lab.distill import (
    ClassifierFree,
    Learner,
    NoiseResidual,
    ScoreDistillation,
    SigmaSquared,
    UniformTimesteps,
    VariancePreserving,
    VariationalResidual,
)
from csd_lab.particles import VideoParticles
from csd_lab.priors import GaussianMixture
from csd_lab.priors.low_rank import LowRank
from csd_lab.priors.stable_diffusion import StableDiffusion

SCHEDULE = VariancePreserving.scaled_linear()
FRAMES, SIZE, RATE = 5, 4, 1e-2
ALL = torch.arange(FRAMES)


class Linear(Learner):
    """eps = scale x_t + offset, with an offset for each number of a particle."""

    schedule = SCHEDULE

    def __init__(self) -> None:
        super().__init__(RATE)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.offset = nn.Parameter(torch.zeros(3, SIZE, SIZE))

    def predict_noise(self, queries, t):
        return [self.scale * query.x_t + self.offset for query in queries]


def particles(learner=lambda _: Linear(), prior=None, prompt="anything", **options):
    guidance = ClassifierFree(1.0)
    rule = NoiseResidual(guidance) if learner is None else VariationalResidual(guidance, learner)
    if prior is None:
        means = torch.stack([torch.full((3, SIZE, SIZE), c) for c in (0.3, 0.7)])
        prior = GaussianMixture(means, SCHEDULE, scales=0.1)
    size = SIZE * prior.size_multiple
    return VideoParticles(
        torch.rand(FRAMES, 3, size, size, generator=torch.Generator().manual_seed(1)),
        prompt,
        prior=prior,
        distiller=ScoreDistillation(rule, SigmaSquared()),
        timesteps=UniformTimesteps(20, 500),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.5, momentum=0.9),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5),
        seed=0,
        **options,
    )


def learnt(module):
    return torch.cat([p.detach().flatten() for p in module.learner.parameters()])


def test_each_has_an_optimiser_of_its_own():
    module, trainer = fit(particles(), [ALL])
    (group,) = trainer.optimizers[0].param_groups
    assert [id(p) for p in group["params"]] == [id(module.latents)]
    # the first step of Adam is the rate itself, along the gradient's sign; decay is small
    moved = (learnt(module) - learnt(particles())).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, RATE), rtol=1e-2, atol=1e-4)


def test_the_step_of_the_particles_is_that_of_the_residual_alone():
    """The learner's loss adds nothing to the gradient of the particles."""
    module, _ = fit(particles(), [ALL])
    gradient = module.latest.distillation.gradient
    torch.testing.assert_close(module.latents, module.source_latents - 0.5 * gradient)


def test_particles_meet_the_same_with_and_without():
    with_it, _ = fit(particles(), [ALL])
    without, _ = fit(particles(None), [ALL])
    assert without.learner is None
    assert with_it.latest.timestep == without.latest.timestep
    assert torch.equal(with_it.latest.residual.x_t, without.latest.residual.x_t)


def test_batches_are_learnt_from_by_their_mean():
    """Twice the same particles teach what they teach once."""
    once, _ = fit(particles(), [ALL] * 3)
    twice, _ = fit(particles(), [torch.cat([ALL, ALL])])
    one, _ = fit(particles(), [ALL])
    torch.testing.assert_close(learnt(twice), learnt(one))
    assert not torch.equal(learnt(once), learnt(one))


def test_the_error_falls_while_particles_stand_still():
    module = particles()
    module._optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    noise = torch.randn(FRAMES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))

    def error():
        x, t = module.latents.detach(), torch.tensor(300)
        return module.learner.errors(x, module.conditioning(ALL), noise, t).mean()

    module.encode_source()
    before = error()
    fit(module, [ALL] * 60)
    assert error() < 0.8 * before


@pytest.mark.parametrize("kind", ["two numbers", "low rank"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, tiny_sd_folder, kind):
    def new():
        if kind == "two numbers":
            return particles()
        prior = StableDiffusion(tiny_sd_folder, dtype="float32", device="cpu")
        return particles(lambda prior: LowRank(prior, learning_rate=RATE), prior)

    whole, _ = fit(new(), [ALL] * 6)
    half, trainer = fit(new(), [ALL] * 6, steps=3)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    resumed, _ = fit(new(), [ALL] * 6, checkpoint=path)
    assert torch.equal(whole.latents, resumed.latents)
    assert torch.equal(learnt(whole), learnt(resumed))
    assert not torch.equal(learnt(whole), learnt(half))


def test_a_checkpoint_holds_what_was_learnt_and_no_more_of_the_prior(tmp_path, tiny_sd_folder):
    prior = StableDiffusion(tiny_sd_folder, dtype="float32", device="cpu")
    module, trainer = fit(particles(LowRank, prior), [ALL])
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    weights = [f"learner.weights.{i}" for i in range(len(module.learner.weights))]
    assert set(saved["state_dict"]) == {"latents", *weights}
    assert len(saved["lessons"]["state"]) == len(weights)


def test_the_next_prompt_is_learnt_anew():
    module = particles(prompt=["first", "second"], steps_per_prompt=2)
    alone, _ = fit(particles(), [ALL])
    fit(module, [ALL] * 3)
    # one step of Adam from the start, whatever was learnt before
    moved = (learnt(module) - learnt(particles())).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, RATE), rtol=1e-2, atol=1e-4)
    assert not torch.equal(learnt(module), learnt(alone))
