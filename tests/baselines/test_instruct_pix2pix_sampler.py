"""Per-frame sampling against diffusers' own pipeline, and against an exact target."""

from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UniPCMultistepScheduler,
)

from csd_lab.baselines.instruct_pix2pix import InstructPix2PixSampler
from csd_lab.distill import VariancePreserving, particle_noise
from csd_lab.distill.guidance import ClassifierFree, DualGuidance
from csd_lab.priors import GaussianMixture, pipeline_folder
from csd_lab.priors.instruct_pix2pix import InstructPix2Pix
from csd_lab.priors.stable_diffusion import StableDiffusion

EMBEDDED = pipeline_folder.ASSETS / "instruct_pix2pix"


@pytest.fixture(scope="module")
def prior(tiny_ip2p_folder: Path) -> InstructPix2Pix:
    return InstructPix2Pix(tiny_ip2p_folder, dtype="float32", device="cpu")


def images(n: int = 3, side: int = 16) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def sampled_by_diffusers(folder: Path, frames, prompt, scheduler, text, image, steps, noise):
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = scheduler(pipeline.scheduler.config)
    return pipeline(
        [prompt] * len(frames),
        frames,
        steps,
        text,
        image,
        latents=noise,
        output_type="pt",
    ).images


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler.from_config,
        partial(DDIMScheduler.from_config, timestep_spacing="trailing"),
        DPMSolverMultistepScheduler.from_config,
        EulerDiscreteScheduler.from_config,
        HeunDiscreteScheduler.from_config,
        PNDMScheduler.from_config,
        UniPCMultistepScheduler.from_config,
    ],
)
@pytest.mark.parametrize("mode", ["independent", "shared"])
def test_frames_equal_those_of_diffusers_pipeline(tiny_ip2p_folder, prior, scheduler, mode):
    frames = images()
    noise = particle_noise(7, 0, torch.arange(3), (4, 8, 8), mode)
    expected = sampled_by_diffusers(
        tiny_ip2p_folder, frames, "make it night", scheduler, 4.0, 1.5, 10, noise
    )
    sampler = InstructPix2PixSampler(prior, DualGuidance(4.0, 1.5), scheduler, 10, mode, seed=7)
    torch.testing.assert_close(sampler(frames, "make it night"), expected, rtol=0, atol=1e-4)


@pytest.mark.skipif(
    not (EMBEDDED / "model_index.json").is_file(), reason="the embedded prior is not trained yet"
)
def test_frames_of_the_embedded_prior_equal_those_of_diffusers_pipeline():
    prior = InstructPix2Pix(dtype="float32", device="cpu")
    frames = images(2, 8 * prior.size_multiple)
    shape = tuple(prior.encode(frames).shape[1:])
    noise = particle_noise(0, 0, torch.arange(2), shape)
    expected = sampled_by_diffusers(
        EMBEDDED, frames, "make it night", DDIMScheduler.from_config, 3.0, 1.5, 10, noise
    )
    sampler = InstructPix2PixSampler(prior, DualGuidance(3.0, 1.5), steps=10)
    torch.testing.assert_close(sampler(frames, "make it night"), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler.from_config,
        DDPMScheduler.from_config,
        EulerAncestralDiscreteScheduler.from_config,
    ],
)
def test_a_frames_edit_does_not_depend_on_the_others(prior, scheduler):
    """Also with samplers that draw noise in their steps."""
    frames = images()
    sampler = InstructPix2PixSampler(prior, DualGuidance(3.0, 1.5), scheduler, 5, seed=1)
    together = sampler(frames, "make it night")
    alone = sampler(frames[1:2], "make it night", ids=torch.tensor([1]))
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-4)
    torch.testing.assert_close(sampler(frames, "make it night"), together, rtol=0, atol=0)


@pytest.mark.parametrize(
    "scheduler", [DDIMScheduler.from_config, EulerAncestralDiscreteScheduler.from_config]
)
def test_equal_frames_get_equal_edits_with_shared_noise_only(prior, scheduler):
    frames = images(1).expand(3, -1, -1, -1)
    edited = {
        mode: InstructPix2PixSampler(prior, DualGuidance(3.0, 1.5), scheduler, 5, mode)(frames, "a")
        for mode in ("shared", "independent")
    }
    torch.testing.assert_close(edited["shared"][0], edited["shared"][2], rtol=0, atol=1e-4)
    assert (edited["independent"][0] - edited["independent"][2]).abs().max() > 1e-2


def test_three_network_samples_a_frame_and_step(tiny_ip2p_folder):
    prior = InstructPix2Pix(tiny_ip2p_folder)
    InstructPix2PixSampler(prior, DualGuidance(3.0, 1.5), steps=5)(images(), "a")
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
    edited = InstructPix2PixSampler(prior, ClassifierFree(1.0), steps=500)(frames, "")
    gain = s**2 / (s**2 + tau**2)
    assert edited.mean().item() == pytest.approx(m + gain * (0.6 - m), abs=0.01)
    assert edited.std().item() == pytest.approx((gain * tau**2) ** 0.5, rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"steps must be 1 \.\.\. 1000.*got 0"),
        ({"steps": 1001}, r"steps must be 1 \.\.\. 1000.*got 1001"),
        ({"noise": "none"}, "noise must be one of independent, shared; got 'none'"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_samplers_are_refused(prior, options, message):
    with pytest.raises(ValueError, match=message):
        InstructPix2PixSampler(prior, DualGuidance(3.0, 1.5), **options)


def test_a_prior_without_image_condition_is_refused(tiny_sd_folder):
    sampler = InstructPix2PixSampler(StableDiffusion(tiny_sd_folder), ClassifierFree(3.0), steps=2)
    with pytest.raises(ValueError, match="StableDiffusion does not"):
        sampler(images(), "a")
