"""Whole recorded trajectories of the official image and region modes, by the module itself."""

import pytest
import torch
from distill.recorded import Trajectory, assert_close, by_itself, csd_edit
from small_fits import fit

from csd_lab.canvas import PromptedRegion, Strip
from csd_lab.distill import Constant, TimestepSampler
from csd_lab.distill.residuals import Particles, Residual, ResidualRule
from csd_lab.particles import CanvasParticles
from csd_lab.particles import base as particles_base
from csd_lab.priors.base import Prior


class ClosedFormPrior(Prior):
    """The closed form that stands in for the network, and latents that are given."""

    def __init__(self, run):
        super().__init__(
            schedule=run.prior.schedule,
            scheduler_config={},
            latent_channels=4,
            latent_scale=1,
            size_multiple=1,
            max_batch=64,
            native_size=(64, 64),
        )
        self.form, self.latents = run.prior, run.source()

    def encode(self, images, noise=None, wrap=False):
        return self.latents.clone()

    def decode(self, latents, wrap=False):
        return latents[:, :3].clamp(0, 1)

    def condition(self, images, wrap=False):
        return self.latents.clone()

    def _embed(self, text):
        return torch.tensor([self.form.texts[text]])

    def _noise(self, batch, t):
        return self.form.evaluate(
            batch.x_t, batch.image, batch.text[..., None, None], float(t) / 1000
        )


class Given(TimestepSampler):
    """The recorded timesteps."""

    def __init__(self, timesteps):
        super().__init__(20, 501)
        self.timesteps = timesteps

    def upper(self, step):
        return self.high

    def __call__(self, seed, step):
        return self.timesteps[step]


class NoiseForEachPrompt(ResidualRule):
    """The official region mode: each prompt of a window has noise of its own."""

    def __init__(self, rule, run):
        super().__init__(rule.guidance)
        self.rule, self.run, self.step = rule, run, 0

    def __call__(self, prior, particles):
        x, source, conditioning, _, t = particles
        draws = [self.run.noise(self.step, k, (2, 4, 64, 64)) for k in range(len(x))]
        self.step += 1
        parts = []
        for index, text in enumerate(conditioning.prompt.texts[:2]):
            noise = torch.stack([draw[index] for draw in draws])
            one = Particles(x, source, conditioning._replace(prompt=text), noise, t)
            parts.append(self.rule(prior, one))
        shares = conditioning.prompt.weights.T[:2, :, None, None, None]
        delta = sum(share * part.delta for share, part in zip(shares, parts, strict=True))
        return Residual(delta, parts[0].x_t, parts[0].x_0)


def follow(run, distiller, regions=()):
    settings = run.settings
    module = CanvasParticles(
        torch.zeros(1, 3, settings["h"], settings["w"]),
        "A",
        stride=settings["stride"],
        regions=regions,
        prior=ClosedFormPrior(run),
        distiller=distiller,
        timesteps=Given(run.timesteps),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=settings["lr"]),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(
            optimizer, settings["decay_iter"], settings["decay_rate"]
        ),
    )
    fit(module, run.drawn.tolist())
    assert_close(module.latents.detach(), run.final)
    return module


def test_the_image_mode(monkeypatch):
    run = Trajectory("image_svgd")

    def recorded(seed, step, ids, shape, *args, **options):
        return torch.cat([run.noise(step, k, (1, *shape)) for k in range(len(ids))])

    monkeypatch.setattr(particles_base, "particle_noise", recorded)
    module = follow(run, csd_edit(*run.scales))
    assert module.prior.samples_evaluated == 5 * 4 * 5  # steps, windows, samples


def test_the_region_mode():
    """Without a kernel, for which the official code leaves out w(t)."""
    run = Trajectory("region2_plain")
    distiller = by_itself(*run.scales, Constant())
    distiller.rule = NoiseForEachPrompt(distiller.rule, run)
    regions = [PromptedRegion(text, Strip(k, 2)) for k, text in enumerate(run.settings["prompts"])]
    follow(run, distiller, regions)


def test_the_record_is_another_with_other_noise():
    run = Trajectory("image_svgd")
    with pytest.raises(AssertionError):
        follow(run, csd_edit(*run.scales))
