"""Facts of particles beside which something learns."""

import pytest
import torch
from pytorch_lightning.plugins import MixedPrecision
from small_fits import fit
from torch import nn
from torch.amp import GradScaler

from csd_lab.callbacks import NonFiniteGradientError, NonFiniteGuard
from csd_lab.distill import (
    ClassifierFree,
    Learner,
    NoiseResidual,
    ScoreDistillation,
    SigmaSquared,
    UniformTimesteps,
    VariancePreserving,
    VariationalResidual,
    particle_noise,
)
from csd_lab.distill.noise import timestep_generator
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


class Watched(Linear):
    """Keeps the noisy particles and timesteps that it learns from."""

    def __init__(self) -> None:
        super().__init__()
        self.lessons = []

    def predict_noise(self, queries, t):
        if torch.is_grad_enabled():
            self.lessons.append((queries[0].x_t, t))
        return super().predict_noise(queries, t)


def test_it_learns_from_random_numbers_of_its_own():
    module, _ = fit(particles(lambda _: Watched()), [ALL] * 4)
    begun = module.source_latents
    levels = [int(t) for _, t in module.learner.lessons]
    assert levels == [timestep_generator(0, k, "learn").integers(1000) for k in range(4)]
    x_t, t = module.learner.lessons[0]
    noise = particle_noise(0, 0, ALL, tuple(begun.shape[1:]), purpose="learn")
    torch.testing.assert_close(x_t, SCHEDULE.add_noise(begun, noise, t))


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
    assert len(saved["lessons"]["optimizer"]["state"]) == len(weights)


def test_the_next_prompt_is_learnt_anew():
    module = particles(prompt=["first", "second"], steps_per_prompt=2)
    alone, _ = fit(particles(), [ALL])
    fit(module, [ALL] * 3)
    # one step of Adam from the start, whatever was learnt before
    moved = (learnt(module) - learnt(particles())).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, RATE), rtol=1e-2, atol=1e-4)
    assert not torch.equal(learnt(module), learnt(alone))


class Halved(Linear):
    """The same in half precision on the way, as a network is."""

    def __init__(self, spoilt_call=None) -> None:
        super().__init__()
        self.gradients = []
        self.spoilt_call = spoilt_call

    def predict_noise(self, queries, t):
        estimates = [estimate.half() for estimate in super().predict_noise(queries, t)]
        for estimate in estimates:
            if estimate.requires_grad:
                estimate.register_hook(self._met)
        return [estimate.float() for estimate in estimates]

    def _met(self, gradient):
        self.gradients.append(gradient.clone())
        spoilt = len(self.gradients) == self.spoilt_call
        return torch.full_like(gradient, torch.inf) if spoilt else gradient


def scaling():
    """A trainer's own scale, as on a CUDA device."""
    return MixedPrecision("16-mixed", "cpu", GradScaler("cpu"))


@pytest.mark.parametrize("options", [{}, {"plugins": [scaling]}], ids=["alone", "16-mixed"])
def test_gradients_are_scaled_where_they_are_half(options):
    """What the estimate's gradient is without a scale is 2 (eps_phi - e') / (N D)."""
    options = {name: [make() for make in made] for name, made in options.items()}
    module, _ = fit(particles(lambda _: Halved()), [ALL], **options)
    (gradient,) = module.learner.gradients
    size = gradient.float().abs().mean() / 2**16
    assert 0.1 < size * FRAMES * 3 * SIZE**2 / 2 < 2
    plain, _ = fit(particles(), [ALL])
    torch.testing.assert_close(learnt(module), learnt(plain), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"plugins": [scaling]}], ids=["alone", "16-mixed"])
def test_a_gradient_that_overflows_is_left_out_and_the_scale_falls(options):
    options = {name: [make() for make in made] for name, made in options.items()}
    module, trainer = fit(particles(lambda _: Halved(2)), [ALL] * 3, **options)
    met = module.learner.gradients
    assert learnt(module).isfinite().all()
    assert module.latents.isfinite().all()
    assert met[2].float().norm() < 0.7 * met[0].float().norm()
    assert trainer.global_step == 3
    two, _ = fit(particles(lambda _: Halved()), [ALL] * 2)
    three, _ = fit(particles(lambda _: Halved()), [ALL] * 3)
    moved, of_two, of_three = (
        (learnt(m) - learnt(particles())).abs().mean() for m in (module, two, three)
    )
    assert moved < (of_two + of_three) / 2


def test_an_error_that_is_not_finite_is_told():
    class Lost(Linear):
        def predict_noise(self, queries, t):
            estimates = super().predict_noise(queries, t)
            if torch.is_grad_enabled():
                estimates[0] = estimates[0].clone()
                estimates[0][2] = torch.nan
            return estimates

    with pytest.raises(NonFiniteGradientError, match=r"learns .* step 0, for particle 2"):
        fit(particles(lambda _: Lost()), [ALL], callbacks=[NonFiniteGuard()])
