"""The diffusion priors against plain diffusers, on tiny networks with random weights."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
)

from csd_lab.baselines import SCHEDULERS, DiffusersScheduler
from csd_lab.distill.guidance import Query
from csd_lab.priors import pipeline_folder
from csd_lab.priors.instruct_pix2pix import InstructPix2Pix
from csd_lab.priors.latent_diffusion import choose_dtype
from csd_lab.priors.stable_diffusion import StableDiffusion

T = torch.tensor(321)
EXACT = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def prior(tiny_ip2p_folder: Path) -> InstructPix2Pix:
    return InstructPix2Pix(tiny_ip2p_folder, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def pipeline(tiny_ip2p_folder: Path) -> StableDiffusionInstructPix2PixPipeline:
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(tiny_ip2p_folder)
    for network in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        network.requires_grad_(False)
    return pipeline


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(n: int = 3, height: int = 16, width: int = 12) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def queries() -> list[Query]:
    x = [normal(n, 4, 8, 8, seed=n) for n in (2, 3, 1)]
    return [
        Query(x[0], "make it night", normal(2, 4, 8, 8, seed=5)),
        Query(x[1], ("a", "b", ""), None),
        Query(x[2], "", normal(1, 4, 8, 8, seed=6)),
    ]


def one_by_one(pipeline, query: Query, t: torch.Tensor = T) -> torch.Tensor:
    """The unet on one sample at a time, as diffusers' pipeline would call it."""
    estimates = []
    for i, x_t in enumerate(query.x_t):
        text = query.text if isinstance(query.text, str) else query.text[i]
        embedding = pipeline._encode_prompt(text, "cpu", 1, False)
        sample = x_t[None]
        if pipeline.unet.config.in_channels == 8:
            image = torch.zeros_like(x_t) if query.image is None else query.image[i]
            sample = torch.cat([sample, image[None]], dim=1)
        estimates.append(pipeline.unet(sample, t, encoder_hidden_states=embedding).sample)
    return torch.cat(estimates)


@pytest.mark.parametrize("max_batch", [1, 4, 64])
@pytest.mark.parametrize("options", [{}, {"attention": "plain"}, {"channels_last": True}])
def test_estimates_equal_the_network_on_one_sample_at_a_time(
    tiny_ip2p_folder, pipeline, max_batch, options
):
    prior = InstructPix2Pix(
        tiny_ip2p_folder, dtype="float32", device="cpu", max_batch=max_batch, **options
    )
    for query, estimate in zip(queries(), prior.predict_noise(queries(), T), strict=True):
        torch.testing.assert_close(estimate, one_by_one(pipeline, query), **EXACT)
    assert prior.samples_evaluated == 6


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_estimates_equal_the_network_on_one_sample_at_a_time(tiny_ip2p_folder, pipeline):
    prior = InstructPix2Pix(tiny_ip2p_folder, dtype="float32", device="cpu", compile=True)
    for query, estimate in zip(queries(), prior.predict_noise(queries(), T), strict=True):
        torch.testing.assert_close(estimate, one_by_one(pipeline, query), **EXACT)


def test_text_to_image_estimates_equal_the_network_on_one_sample_at_a_time(tiny_sd_folder):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd_folder)
    prior = StableDiffusion(tiny_sd_folder, dtype="float32", device="cpu")
    asked = [Query(query.x_t, query.text, None) for query in queries()]
    for query, estimate in zip(asked, prior.predict_noise(asked, T), strict=True):
        embedding = [
            pipeline.encode_prompt(text, "cpu", 1, False)[0]
            for text in ((query.text,) * 9 if isinstance(query.text, str) else query.text)
        ]
        expected = [
            pipeline.unet(x[None], T, encoder_hidden_states=e).sample
            for x, e in zip(query.x_t, embedding, strict=False)
        ]
        torch.testing.assert_close(estimate, torch.cat(expected).detach(), **EXACT)
    assert prior.condition(images()) is None
    with pytest.raises(ValueError, match="image must be None"):
        prior.predict_noise(queries(), T)


def test_a_velocity_is_converted_to_noise(tiny_ip2p_folder, tmp_path, pipeline):
    folder = shutil.copytree(tiny_ip2p_folder, tmp_path / "velocity")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prediction_type": "v_prediction"}))
    prior = InstructPix2Pix(folder, dtype="float32", device="cpu")
    query = queries()[0]
    (noise,) = prior.predict_noise([query], T)
    velocity = one_by_one(pipeline, query)
    # x_0 and eps of diffusers' own sampler from the same output
    a, b = prior.schedule.alpha(T), prior.schedule.sigma(T)
    torch.testing.assert_close(noise, (a * velocity + b * query.x_t).float(), **EXACT)
    x_0 = DDIMScheduler.from_pretrained(folder / "scheduler")
    x_0.set_timesteps(1000)
    expected = x_0.step(velocity, 321, query.x_t).pred_original_sample
    torch.testing.assert_close(prior.schedule.remove_noise(query.x_t, noise, T), expected, **EXACT)


def test_the_schedule_is_the_pipelines(prior, pipeline):
    expected = pipeline.scheduler.alphas_cumprod
    t = [torch.tensor(t) for t in range(1000)]
    found = torch.stack([prior.schedule.alpha(each) ** 2 for each in t])
    torch.testing.assert_close(found.float(), expected)


def test_embeddings_are_forgotten_when_the_network_moves(tiny_sd_folder):
    prior = StableDiffusion(tiny_sd_folder, dtype="float32", device="cpu")
    assert prior.embed("a").dtype == torch.float32
    prior.to(torch.float64)
    assert prior.embed(("a", "b")).dtype == torch.float64


def test_a_schedule_that_ends_in_pure_noise_stays_finite(tiny_ip2p_folder, tmp_path):
    folder = shutil.copytree(tiny_ip2p_folder, tmp_path / "zero")
    file = folder / "scheduler" / "scheduler_config.json"
    changes = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    prior = InstructPix2Pix(folder)
    assert 0 < prior.schedule.alpha(torch.tensor(999)) < 1e-3
    x = images()
    for name in SCHEDULERS:
        sampler = DiffusersScheduler(name, timestep_spacing="trailing")
        scheduler = sampler(prior.scheduler_config | {"prediction_type": "epsilon"})
        scheduler.set_timesteps(5)
        assert scheduler.step(x, scheduler.timesteps[0], x).prev_sample.isfinite().all()


@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, DPMSolverMultistepScheduler])
def test_no_sampler_clips_latents_whatever_scheduler_a_pipeline_has(
    kind, tiny_ip2p_folder, tmp_path
):
    folder = shutil.copytree(tiny_ip2p_folder, tmp_path / "other")
    kind(beta_schedule="scaled_linear").save_pretrained(folder / "scheduler")
    config = InstructPix2Pix(folder).scheduler_config
    for name in SCHEDULERS:
        options = DiffusersScheduler(name)(config).config
        assert not options.get("clip_sample")
        assert not options.get("thresholding")


def test_sides_and_channels_are_those_of_the_networks(prior):
    assert (prior.latent_scale, prior.size_multiple, prior.latent_channels) == (2, 4, 4)


def test_latents_equal_diffusers(prior, pipeline):
    x = images()
    posterior = pipeline.vae.encode(pipeline.image_processor.preprocess(x)).latent_dist
    torch.testing.assert_close(prior.encode(x), 0.5 * posterior.mean, **EXACT)
    noise = normal(3, 4, 8, 6)
    sampled = posterior.mean + posterior.std * noise
    torch.testing.assert_close(prior.encode(x, noise), 0.5 * sampled, **EXACT)


def test_decoded_images_equal_diffusers(prior, pipeline):
    latents = normal(3, 4, 8, 6)
    decoded = pipeline.vae.decode(latents / 0.5).sample
    expected = pipeline.image_processor.postprocess(decoded, output_type="pt")
    torch.testing.assert_close(prior.decode(latents), expected, **EXACT)
    assert prior.decode(100 * latents).min() >= 0
    assert prior.decode(100 * latents).max() <= 1


@pytest.mark.parametrize(("scale", "factor"), [("unscaled", 1.0), ("official", 0.5)])
def test_the_image_condition_is_the_posteriors_mode(tiny_ip2p_folder, pipeline, scale, factor):
    prior = InstructPix2Pix(tiny_ip2p_folder, condition_scale=scale, device="cpu")
    x = images()
    expected = pipeline.prepare_image_latents(2 * x - 1, 3, 1, torch.float32, "cpu", False)
    torch.testing.assert_close(prior.condition(x), factor * expected, **EXACT)


def test_chunks_do_not_change_encoding_and_decoding(tiny_ip2p_folder, prior):
    one = InstructPix2Pix(tiny_ip2p_folder, dtype="float32", device="cpu", max_batch=2)
    x, noise, latents = images(5), normal(5, 4, 8, 6), normal(5, 4, 8, 6)
    torch.testing.assert_close(one.encode(x), prior.encode(x), **EXACT)
    torch.testing.assert_close(one.encode(x, noise), prior.encode(x, noise), **EXACT)
    torch.testing.assert_close(one.decode(latents), prior.decode(latents), **EXACT)


def test_large_images_are_coded_few_at_once(tiny_ip2p_folder, prior):
    assert prior.images_at_once(8, 6) == 64
    assert prior.images_at_once(256, 256) == 2  # of 512 x 512 pixels
    assert prior.images_at_once(1000, 1000) == 1
    assert InstructPix2Pix(tiny_ip2p_folder, device="cpu", max_batch=3).images_at_once(8, 6) == 3


def test_decoding_has_the_gradient_of_diffusers(prior, pipeline):
    ours, theirs = normal(3, 4, 8, 6).requires_grad_(), normal(3, 4, 8, 6).requires_grad_()
    weights = normal(3, 3, 16, 12, seed=1)
    (prior.decode(ours) * weights).sum().backward()
    images = (pipeline.vae.decode(theirs / 0.5).sample / 2 + 0.5).clamp(0, 1)
    (images * weights).sum().backward()
    assert ours.grad.abs().sum() > 0
    torch.testing.assert_close(ours.grad, theirs.grad, **EXACT)
    assert all(parameter.grad is None for parameter in prior.parameters())


def test_coding_is_differentiable_and_the_rest_is_not(prior):
    x = images().requires_grad_()
    prior.encode(x).square().sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0
    assert not prior.condition(x).requires_grad
    assert not prior.embed("a").requires_grad
    query = Query(normal(1, 4, 8, 8).requires_grad_(), "a", None)
    assert not prior.predict_noise([query], T)[0].requires_grad


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 16, 16), (1, 3, 15, 16), (1, 3, 16, 13)])
def test_images_of_another_shape_are_refused(prior, shape):
    with pytest.raises(ValueError, match="images must be"):
        prior.encode(torch.zeros(shape))


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 1e-4), ("bfloat16", 3e-2)])
def test_a_samples_estimate_does_not_depend_on_the_batch(tiny_ip2p_folder, dtype, rounding):
    prior = InstructPix2Pix(tiny_ip2p_folder, dtype=dtype, device="cpu")
    x, image = normal(6, 4, 8, 8), normal(6, 4, 8, 8, seed=1)
    (together,) = prior.predict_noise([Query(x, "a", image)], T)
    for i in range(6):
        (alone,) = prior.predict_noise([Query(x[i : i + 1], "a", image[i : i + 1])], T)
        torch.testing.assert_close(alone, together[i : i + 1], rtol=rounding, atol=rounding)


def test_half_precision_stays_near(tiny_ip2p_folder, prior):
    half = InstructPix2Pix(tiny_ip2p_folder, dtype="bfloat16", device="cpu")
    assert half.unet.dtype == torch.bfloat16
    assert half.vae.dtype == half.text_encoder.dtype == torch.float32
    for exact, near in zip(
        prior.predict_noise(queries(), T), half.predict_noise(queries(), T), strict=True
    ):
        assert near.dtype == torch.float32
        assert (near - exact).norm() < 0.02 * exact.norm()


def test_autocast_around_a_prior_does_not_change_its_precision(prior):
    with torch.autocast("cpu", torch.bfloat16):
        inside = (prior.predict_noise(queries(), T)[0], prior.encode(images()))
    outside = (prior.predict_noise(queries(), T)[0], prior.encode(images()))
    for x, y in zip(inside, outside, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)


def test_the_automatic_type_is_one_of_the_fast_ones():
    assert choose_dtype("auto", torch.device("cuda")) == torch.float16
    assert choose_dtype("auto", torch.device("mps")) == torch.float32
    assert choose_dtype("auto", torch.device("cpu")) in (torch.bfloat16, torch.float32)


def test_a_long_text_is_cut_as_in_diffusers_and_the_log_says_so(prior, pipeline, caplog):
    text = "make it night " * 100
    with caplog.at_level(logging.WARNING, logger="csd_lab.priors.latent_diffusion"):
        embedding = prior.embed(text)
        prior.embed(text)
    assert len([r for r in caplog.records if "longer than 16 tokens" in r.message]) == 1
    torch.testing.assert_close(embedding, pipeline._encode_prompt(text, "cpu", 1, False), **EXACT)


@pytest.mark.parametrize("text", ["", "make it night", 'quotes " and\nlines', "夜にする", "<b>&"])
def test_embeddings_equal_diffusers(prior, pipeline, text):
    expected = pipeline._encode_prompt(text, "cpu", 1, False)
    torch.testing.assert_close(prior.embed(text), expected, **EXACT)


@pytest.mark.parametrize(
    ("kind", "pipeline_class"),
    [
        (InstructPix2Pix, StableDiffusionInstructPix2PixPipeline),
        (StableDiffusion, StableDiffusionPipeline),
    ],
)
def test_the_embedded_prior_is_a_genuine_pipeline(kind, pipeline_class):
    folder = pipeline_folder.ASSETS / kind.embedded
    if not (folder / "model_index.json").is_file():
        pytest.skip("the embedded prior is not trained yet")
    pipeline = pipeline_class.from_pretrained(folder)
    prior = kind(dtype="float32", device="cpu")
    sides = (2, 3, 8 * prior.size_multiple, 8 * prior.size_multiple)
    frames = torch.rand(sides, generator=torch.Generator().manual_seed(0))
    scale = pipeline.vae.config.scaling_factor
    with torch.no_grad():
        expected = pipeline.vae.encode(2 * frames - 1).latent_dist.mean * scale
        torch.testing.assert_close(prior.encode(frames), expected, **EXACT)
    x_t = torch.randn_like(expected)
    query = Query(x_t, "make it night", prior.condition(frames))
    (estimate,) = prior.predict_noise([query], T)
    tokens = pipeline.tokenizer(
        "make it night",
        padding="max_length",
        max_length=pipeline.tokenizer.model_max_length,
        return_tensors="pt",
    )
    with torch.no_grad():
        text = pipeline.text_encoder(tokens.input_ids)[0].expand(2, -1, -1)
        sample = x_t if query.image is None else torch.cat([x_t, query.image], dim=1)
        expected = pipeline.unet(sample, T, encoder_hidden_states=text).sample
    torch.testing.assert_close(estimate, expected, **EXACT)
