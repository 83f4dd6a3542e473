"""Methods that sample: against diffusers' own pipelines, against each other, and exact answers."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPanoramaPipeline,
)

from csd_lab.baselines import (
    SCHEDULERS,
    DiffusersScheduler,
    InstructPix2Pix,
    MultiDiffusion,
    SyncTweedies,
    sample_images,
)
from csd_lab.baselines.schedulers import draws_noise
from csd_lab.canvas import WindowGrid
from csd_lab.distill import ClassifierFree, DualGuidance, VariancePreserving, particle_noise
from csd_lab.priors import GaussianMixture, pipeline_folder
from csd_lab.priors.instruct_pix2pix import InstructPix2Pix as Prior
from csd_lab.priors.stable_diffusion import StableDiffusion
from csd_lab.types import Conditioning

EMBEDDED = pipeline_folder.ASSETS / "instruct_pix2pix"
DDIM = DiffusersScheduler("DDIMScheduler")
STOCHASTIC = ("DDPMScheduler", "EulerAncestralDiscreteScheduler")
DETERMINISTIC = [name for name in SCHEDULERS if name not in STOCHASTIC]


@pytest.fixture(scope="module")
def prior(tiny_ip2p_folder: Path) -> Prior:
    return Prior(tiny_ip2p_folder, dtype="float32", device="cpu")


def images(n: int = 3, side: int = 16) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def noise_for(n: int, mode: str = "independent", seed: int = 7) -> torch.Tensor:
    return particle_noise(seed, 0, torch.arange(n), (4, 8, 8), mode)


def ip2p(scheduler=DDIM, steps=5, mode="independent") -> InstructPix2Pix:
    return InstructPix2Pix(DualGuidance(4.0, 1.5), scheduler, steps, mode, seed=7)


def sampled_by_diffusers(folder: Path, frames, scheduler, steps, noise, text=4.0):
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = scheduler(pipeline.scheduler.config)
    return pipeline(
        ["make it night"] * len(frames),
        frames,
        steps,
        text,
        1.5,
        latents=noise,
        output_type="pt",
    ).images


@pytest.mark.parametrize(
    "scheduler",
    [
        *(DiffusersScheduler(name) for name in DETERMINISTIC),
        DiffusersScheduler("DDIMScheduler", timestep_spacing="trailing"),
    ],
    ids=[*DETERMINISTIC, "DDIMScheduler, trailing"],
)
@pytest.mark.parametrize("mode", ["independent", "shared"])
def test_frames_equal_those_of_diffusers_pipeline(tiny_ip2p_folder, prior, scheduler, mode):
    frames, noise = images(), noise_for(3, mode)
    expected = sampled_by_diffusers(tiny_ip2p_folder, frames, scheduler, 10, noise)
    edited = sample_images(ip2p(scheduler, 10), prior, frames, "make it night", noise)
    torch.testing.assert_close(edited, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_frames_of_a_network_that_predicts_velocities_equal_those_of_its_pipeline(
    tiny_ip2p_folder, tmp_path, name
):
    """Also where a scheduler steps to levels of noise between those of training, as Euler's."""
    folder = shutil.copytree(tiny_ip2p_folder, tmp_path / "velocity")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prediction_type": "v_prediction"}))
    frames, noise, scheduler = images(), noise_for(3), DiffusersScheduler(name)
    expected = sampled_by_diffusers(folder, frames, scheduler, 10, noise)
    velocity = Prior(folder, dtype="float32", device="cpu")
    edited = sample_images(ip2p(scheduler, 10), velocity, frames, "make it night", noise)
    torch.testing.assert_close(edited, expected, rtol=0, atol=1e-4)


@pytest.mark.skipif(
    not (EMBEDDED / "model_index.json").is_file(), reason="the embedded prior is not trained yet"
)
def test_frames_of_the_embedded_prior_equal_those_of_diffusers_pipeline():
    prior = Prior(dtype="float32", device="cpu")
    frames = images(2, 8 * prior.size_multiple)
    shape = tuple(prior.encode(frames).shape[1:])
    noise = particle_noise(0, 0, torch.arange(2), shape)
    expected = sampled_by_diffusers(EMBEDDED, frames, DDIMScheduler.from_config, 10, noise)
    edited = sample_images(ip2p(steps=10), prior, frames, "make it night", noise)
    torch.testing.assert_close(edited, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["DDIMScheduler", *STOCHASTIC])
def test_a_frames_edit_does_not_depend_on_the_others(prior, name):
    """Also with schedulers that draw noise in their steps."""
    frames, noise, sampler = images(), noise_for(3), ip2p(DiffusersScheduler(name))
    together = sample_images(sampler, prior, frames, "a", noise)
    alone = sample_images(sampler, prior, frames[:1], "a", noise[:1])
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-4)
    again = sample_images(sampler, prior, frames, "a", noise)
    torch.testing.assert_close(again, together, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerAncestralDiscreteScheduler"])
def test_equal_frames_get_equal_edits_with_shared_noise_only(prior, name):
    frames = images(1).expand(3, -1, -1, -1)
    edited = {
        mode: sample_images(
            ip2p(DiffusersScheduler(name), mode=mode), prior, frames, "a", noise_for(3, mode)
        )
        for mode in ("shared", "independent")
    }
    torch.testing.assert_close(edited["shared"][0], edited["shared"][2], rtol=0, atol=1e-4)
    assert (edited["independent"][0] - edited["independent"][2]).abs().max() > 1e-2


def test_each_time_that_views_come_in_hand_steps_draw_other_noise():
    schedule = VariancePreserving.scaled_linear()
    mixture = GaussianMixture(torch.zeros(1, 4, 2, 2), schedule, scales=1.0, image_noise=1.0)
    sampler = InstructPix2Pix(DualGuidance(1.0, 1.0), DiffusersScheduler(STOCHASTIC[0]), 3, seed=7)
    noise, texts = torch.ones(2, 4, 2, 2), Conditioning("", image=torch.zeros(2, 4, 2, 2))

    def sampled() -> torch.Tensor:
        x = sampler.start(noise, noise, texts)
        return x - sampler(mixture, x, noise, texts, noise, sampler.timestep(0)).gradient

    sampler.bind(mixture)
    first, second = sampled(), sampled()
    assert not torch.isclose(first, second).any()
    state = sampler.state_dict()
    again = sampled()
    sampler.load_state_dict(state)
    assert torch.equal(sampled(), again)
    sampler.bind(mixture)
    assert torch.equal(sampled(), first)


def test_three_network_samples_a_frame_and_step(tiny_ip2p_folder):
    prior = Prior(tiny_ip2p_folder)
    sample_images(ip2p(steps=5), prior, images(), "a", noise_for(3))
    assert prior.samples_evaluated == 3 * 3 * 5


def test_samples_follow_the_exact_conditional_distribution():
    """Of a Gaussian x ~ N(m, s^2) seen with noise tau: mean and variance by Bayes' rule.

    The bounds of images are far enough away to cut off next to nothing.
    """
    shape, m, s, tau = (3, 4, 4), 0.5, 0.2, 0.4
    prior = GaussianMixture(
        torch.full((1, *shape), m, dtype=torch.float64),
        VariancePreserving.scaled_linear(),
        scales=s,
        image_noise=tau,
    )
    frames = torch.full((200, *shape), 0.6, dtype=torch.float64)
    noise = particle_noise(0, 0, torch.arange(200), shape, dtype=torch.float64)
    sampler = InstructPix2Pix(ClassifierFree(1.0), DDIM, 500)
    edited = sample_images(sampler, prior, frames, "", noise)
    gain = s**2 / (s**2 + tau**2)
    assert edited.mean().item() == pytest.approx(m + gain * (0.6 - m), abs=0.01)
    assert edited.std().item() == pytest.approx((gain * tau**2) ** 0.5, rel=0.03)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_only_these_schedulers_draw_noise(prior, name):
    scheduler = DiffusersScheduler(name)(prior.scheduler_config)
    scheduler.set_timesteps(5)
    assert draws_noise(scheduler) is (name in STOCHASTIC)


def on_canvas(sampler, prior, grid, noise, prompt, seed=None) -> torch.Tensor:
    """The canvas that windows give whose gradients are averaged, as ``CanvasParticles`` does."""
    sampler.bind(prior)
    ids = torch.arange(len(grid))
    conditioning = Conditioning(prompt)
    x = sampler.start(torch.zeros_like(noise), noise, conditioning)
    of_windows = grid.crop(noise, ids) if seed is None else noise_for(len(grid), seed=seed)
    for step in range(sampler.steps):
        t = sampler.timestep(step)
        windows = grid.crop(x, ids)
        gradient = sampler(prior, windows, windows, conditioning, of_windows, t).gradient
        x = x - grid.average(grid.lay(gradient, ids), ids)
    return x


@pytest.mark.parametrize("wrap", [False, True])
def test_multidiffusion_equals_diffusers_panorama_pipeline(tiny_sd_folder, wrap):
    """Which takes all latents to be 8 pixels wide, also those of this tiny pipeline."""
    noise = torch.randn(1, 4, 64, 128, generator=torch.Generator().manual_seed(1))
    pipeline = StableDiffusionPanoramaPipeline.from_pretrained(tiny_sd_folder)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        "a forest",
        height=64 * 8,
        width=128 * 8,
        num_inference_steps=4,
        guidance_scale=5.0,
        latents=noise,
        output_type="latent",
        circular_padding=wrap,
    ).images
    prior = StableDiffusion(tiny_sd_folder, dtype="float32", device="cpu")
    grid = WindowGrid(64, 128, (64, 64), (8, 8), wrap)
    sampler = MultiDiffusion(ClassifierFree(5.0), DDIM, 4)
    torch.testing.assert_close(
        on_canvas(sampler, prior, grid, noise, "a forest"), expected, rtol=0, atol=1e-4
    )


def test_synchronised_windows_of_one_noise_are_multidiffusion(tiny_sd_folder):
    noise = torch.randn(1, 4, 8, 20, generator=torch.Generator().manual_seed(1))
    prior = StableDiffusion(tiny_sd_folder, dtype="float32", device="cpu")
    grid = WindowGrid(8, 20, (8, 8), (4, 4))
    options = ClassifierFree(5.0), DiffusersScheduler("DDIMScheduler", set_alpha_to_one=True), 6
    averaged = on_canvas(MultiDiffusion(*options), prior, grid, noise, "a forest")
    synchronised = on_canvas(SyncTweedies(*options), prior, grid, noise, "a forest")
    torch.testing.assert_close(synchronised, averaged, rtol=0, atol=1e-3)
    apart = on_canvas(SyncTweedies(*options), prior, grid, noise, "a forest", seed=3)
    assert (apart - averaged).abs().max() > 0.1


@pytest.mark.parametrize("kind", [MultiDiffusion, SyncTweedies])
@pytest.mark.parametrize("name", STOCHASTIC)
def test_noise_in_steps_is_refused_where_windows_are_averaged(prior, kind, name):
    sampler = kind(DualGuidance(3.0, 1.5), DiffusersScheduler(name), 5)
    with pytest.raises(ValueError, match=rf"sampler must be deterministic.*{name}"):
        sampler.bind(prior)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"noise": "none"}, "noise must be one of independent, shared, got 'none'"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_samplers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        InstructPix2Pix(DualGuidance(3.0, 1.5), DDIM, **{"steps": 5} | options)


@pytest.mark.parametrize(
    ("scheduler", "steps", "message"),
    [
        (DDIM, 1001, r"steps must be 1 \.\.\. 1000.*got 1001"),
        (HeunDiscreteScheduler.from_config, 5, "once a step; HeunDiscreteScheduler takes 9"),
        (PNDMScheduler.from_config, 5, "once a step; PNDMScheduler"),
    ],
)
def test_schedulers_that_do_not_fit_are_refused(prior, scheduler, steps, message):
    with pytest.raises(ValueError, match=message):
        ip2p(scheduler, steps).bind(prior)


def test_a_prior_without_image_condition_is_refused(tiny_sd_folder):
    with pytest.raises(ValueError, match="StableDiffusion does not"):
        ip2p().bind(StableDiffusion(tiny_sd_folder))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(DiffusersScheduler, "DDIM"), "name must be one of DDIMScheduler.*got 'DDIM'"),
        (partial(DiffusersScheduler, "DDIMScheduler", eat=1), "option of DDIM.*got 'eat'"),
    ],
)
def test_unknown_schedulers_and_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
