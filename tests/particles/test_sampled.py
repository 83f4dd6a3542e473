"""Facts of particles that are sampled instead of distilled, with exact priors."""

from functools import partial

import pytest
import torch
from small_fits import fit

from csd_lab.baselines import (
    SCHEDULERS,
    DiffusersScheduler,
    InstructPix2Pix,
    MultiDiffusion,
    SyncTweedies,
    sample_images,
)
from csd_lab.distill import (
    ClassifierFree,
    DualGuidance,
    NoiseResidual,
    ScoreDistillation,
    SigmaSquared,
    VariancePreserving,
    particle_noise,
)
from csd_lab.distill.guidance import Query
from csd_lab.particles import CanvasParticles, VideoParticles
from csd_lab.particles.base import placed
from csd_lab.priors import GaussianMixture

SIZE, STEPS, FRAMES = 4, 6, 3
ALL = torch.arange(FRAMES)


def prior():
    means = torch.tensor([0.3, 0.7])[:, None, None, None].expand(-1, 3, SIZE, SIZE).contiguous()
    schedule = VariancePreserving.scaled_linear()
    prompts = {"dark": [1.0, 0.0], "bright": [0.0, 1.0]}
    return GaussianMixture(means, schedule, scales=0.1, prompts=prompts, image_noise=0.5)


def picture(count=1, height=SIZE, width=SIZE):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def sampled(kind, frames, cls=VideoParticles, scheduler="DDIMScheduler", prompt="dark", **options):
    guidance = DualGuidance(2.0, 1.5)
    sampler = kind(guidance, DiffusersScheduler(scheduler), STEPS, options.get("noise", "shared"))
    options.setdefault("optimizer", partial(torch.optim.SGD, lr=1.0))
    return cls(frames, prompt, prior=prior(), distiller=sampler, timesteps=None, **options)


def every(module):
    return torch.arange(len(module.grid))


@pytest.mark.parametrize("noise", ["independent", "shared"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_fit_is_the_sampling_of_images(scheduler, noise):
    frames = picture(FRAMES)
    module, _ = fit(
        sampled(InstructPix2Pix, frames, scheduler=scheduler, noise=noise), [ALL] * STEPS
    )
    sampler = InstructPix2Pix(DualGuidance(2.0, 1.5), DiffusersScheduler(scheduler), STEPS, noise)
    start = particle_noise(0, 0, ALL, (3, SIZE, SIZE), noise)
    expected = sample_images(sampler, prior(), frames, "dark", start)
    torch.testing.assert_close(module.export(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, scheduler):
    make = partial(sampled, InstructPix2Pix, picture(FRAMES), scheduler=scheduler)
    whole, _ = fit(make(), [ALL] * STEPS)
    _, trainer = fit(make(), [ALL] * STEPS, steps=3)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed, _ = fit(make(), [ALL] * STEPS, checkpoint=tmp_path / "last.ckpt")
    assert torch.equal(whole.latents, resumed.latents)


@pytest.mark.parametrize("kind", [MultiDiffusion, SyncTweedies])
@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "UniPCMultistepScheduler"])
def test_a_resumed_canvas_equals_an_uninterrupted_one(tmp_path, kind, scheduler):
    def make():
        return sampled(kind, picture(1, SIZE, 10), CanvasParticles, scheduler, noise="independent")

    ids = [every(make())] * STEPS
    whole, _ = fit(make(), ids)
    _, trainer = fit(make(), ids, steps=3)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed, _ = fit(make(), ids, checkpoint=tmp_path / "last.ckpt")
    assert torch.equal(whole.latents, resumed.latents)


def test_windows_without_overlap_are_sampled_by_themselves():
    image = picture(1, SIZE, 3 * SIZE)
    module = sampled(MultiDiffusion, image, CanvasParticles, overlap=0.0, noise="shared")
    fit(module, [every(module)] * STEPS)
    clip = sampled(InstructPix2Pix, torch.cat(image.split(SIZE, dim=3)), noise="shared")
    fit(clip, [ALL] * STEPS)
    together = torch.cat(list(clip.latents), dim=2)[None]
    torch.testing.assert_close(module.latents, together, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [MultiDiffusion, SyncTweedies])
def test_windows_come_to_the_mode_that_is_asked_for(kind):
    module = sampled(kind, picture(1, SIZE, 10), CanvasParticles, noise="independent")
    fit(module, [every(module)] * STEPS)
    assert module.export().mean().item() == pytest.approx(0.3, abs=0.1)


def test_on_the_way_the_clean_estimate_is_exported():
    module = sampled(InstructPix2Pix, picture(FRAMES))
    fit(module, [ALL] * STEPS, steps=2)
    assert not module.distiller.done
    expected = module.latest.residual.x_0.clamp(0, 1)
    torch.testing.assert_close(module.export(), expected, rtol=0, atol=1e-6)
    assert (module.export() - module.latents.clamp(0, 1)).abs().max() > 0.1


@pytest.mark.parametrize("taper", ["constant", "hann"])
def test_on_the_way_windows_clean_estimates_are_laid_over_each_other(taper):
    module = sampled(
        MultiDiffusion, picture(1, SIZE, 10), CanvasParticles, noise="independent", taper=taper
    )
    fit(module, [every(module)] * STEPS, steps=2)
    total, weights = torch.zeros(1, 3, SIZE, 10), torch.zeros(1, 1, SIZE, 10)
    for clean, (top, left) in zip(
        module.latest.residual.x_0, module.grid.origins.tolist(), strict=True
    ):
        place = (..., slice(top, top + SIZE), slice(left, left + SIZE))
        total[place] += clean * module.grid.weights
        weights[place] += module.grid.weights
    assert weights.unique().numel() > 1
    expected = (total / weights).clamp(0, 1)
    torch.testing.assert_close(module.export(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cls", [VideoParticles, CanvasParticles])
def test_a_negative_prompt_reaches_the_prior(cls):
    """It takes the place of the null text: o + s_I (n - o) + s_T (y - n)."""
    module = sampled(InstructPix2Pix, picture(), cls, negative_prompt="bright")
    plain = sampled(InstructPix2Pix, picture(), cls)
    for made in (module, plain):
        fit(made, [torch.arange(1)] * STEPS, steps=1)
    conditioning, t = module.conditioning(torch.arange(1)), module.latest.timestep
    x_t = torch.randn(1, 3, SIZE, SIZE)
    asked = ("dark", conditioning.image), ("bright", conditioning.image), ("bright", None)
    y, n, o = module.prior.predict_noise([Query(x_t, *branch) for branch in asked], t)
    found = module.distiller.estimate(module.prior, x_t, conditioning, t)
    torch.testing.assert_close(found, o + 1.5 * (n - o) + 2.0 * (y - n))
    assert not torch.allclose(module.latents, plain.latents)


def test_a_later_prompt_is_sampled_from_the_former_ones_result():
    frames = picture(FRAMES)
    both = sampled(
        InstructPix2Pix, frames, prompt=["dark", "bright"], steps_per_prompt=STEPS, noise="shared"
    )
    fit(both, [ALL] * (2 * STEPS))
    first = sampled(InstructPix2Pix, frames, noise="shared")
    fit(first, [ALL] * STEPS)
    second = sampled(InstructPix2Pix, first.export(), prompt="bright", noise="shared")
    fit(second, [ALL] * STEPS)
    torch.testing.assert_close(both.latents, second.latents, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.SGD, lr=0.5),
        partial(torch.optim.SGD, lr=1.0, momentum=0.9),
        partial(torch.optim.Adam, lr=1.0),
    ],
)
def test_only_an_optimizer_of_unit_steps_is_taken(optimizer):
    module = sampled(InstructPix2Pix, picture(FRAMES), optimizer=optimizer)
    with pytest.raises(ValueError, match="optimizer must be unit for a method that samples"):
        fit(module, [ALL])


def test_the_number_of_steps_cannot_change_on_the_way(tmp_path):
    _, trainer = fit(sampled(InstructPix2Pix, picture(FRAMES)), [ALL] * 3)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    other = sampled(InstructPix2Pix, picture(FRAMES))
    other.distiller.steps = STEPS + 1
    with pytest.raises(ValueError, match=r"max_steps must stay as it was, 6"):
        fit(other, [ALL] * STEPS, checkpoint=tmp_path / "last.ckpt")


def test_a_distiller_needs_timesteps():
    distiller = ScoreDistillation(NoiseResidual(ClassifierFree(1.0)), SigmaSquared())
    with pytest.raises(ValueError, match="timesteps must be given"):
        VideoParticles(
            picture(), "dark", prior=prior(), distiller=distiller, timesteps=None, optimizer=None
        )


@pytest.mark.parametrize("kind", [InstructPix2Pix, MultiDiffusion, SyncTweedies])
def test_windows_that_go_on_from_where_they_were_are_not_shifted(kind):
    with pytest.raises(ValueError, match=f"shift must be false .* got true for {kind.__name__}"):
        sampled(kind, picture(height=8, width=12), CanvasParticles, shift=True)


def test_a_saved_state_goes_where_the_particles_are_and_tables_stay():
    """As on a device whose checkpoints are read into the CPU's memory."""
    state = {"taken": 2, "views": torch.zeros(2, 3, 4, 4), "scheduler": {"sigmas": torch.ones(5)}}
    state["scheduler"]["model_outputs"] = [None, torch.zeros(2, 3, 4, 4)]
    there = placed(state, torch.device("meta"))
    assert there["views"].is_meta
    assert there["scheduler"]["model_outputs"][1].is_meta
    assert torch.equal(there["scheduler"]["sigmas"], torch.ones(5))
    assert there["taken"] == 2
