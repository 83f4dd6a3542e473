"""Edits by captions with a tiny random network, or the embedded one; and fits that are resumed."""

from functools import cache
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from csd_lab import world
from csd_lab.baselines import DiffusersScheduler, ScheduledSampler, sample_images
from csd_lab.particles import VideoParticles
from csd_lab.priors.stable_diffusion import StableDiffusion
from csd_lab.types import EditTask

DDIM = DiffusersScheduler("DDIMScheduler")
SOURCE, TARGET = "a red cat", "a blue cat"
"""Captions of as many words, short enough for a tokenizer of single letters."""


@cache
def tiny(folder: Path, max_batch: int = 64) -> StableDiffusion:
    """A network that is trained on nothing, whose attention matters all the more."""
    prior = StableDiffusion(folder, dtype="float32", device="cpu", max_batch=max_batch)
    with torch.no_grad():
        for name, weights in prior.unet.named_parameters():
            if ".to_q." in name or ".to_k." in name:
                weights.mul_(4)  # else all attention is even
            if ".to_out.0.weight" in name:
                weights.mul_(4)
    return prior


@cache
def embedded() -> StableDiffusion:
    return StableDiffusion(dtype="float32", device="cpu")


def images(n: int = 3, side: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def edit(
    sampler: ScheduledSampler, prior, frames, target: str = TARGET, source: str = SOURCE
) -> torch.Tensor:
    """Edited frames."""
    noise = torch.zeros_like(prior.encode(frames))
    return sample_images(sampler, prior, frames, target, noise, source_prompt=source)


def coded(prior, frames) -> torch.Tensor:
    """What frames are after encoding and decoding."""
    with torch.no_grad():
        return prior.decode(prior.encode(frames))


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


def world_clip(frames: int = 3) -> EditTask:
    """A clip that the embedded prior has not seen."""
    return world.edit_task(world.HELD_OUT_SEED + 2001, frames=frames)


def fit(make, prior, frames, steps: int, stop: int | None = None, checkpoint=None):
    """Latents after a fit with the sampler that ``make`` makes, and the trainer."""
    module = VideoParticles(
        frames,
        TARGET,
        SOURCE,
        prior=prior,
        distiller=make(),
        timesteps=None,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
    )
    trainer = pl.Trainer(
        max_steps=stop or steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader([torch.arange(len(frames))] * steps, batch_size=None)
    trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
    return module.latents.detach(), trainer


def check_resumed_run(make, prior, frames, steps: int, stop: int, folder: Path) -> None:
    """Fails unless a run that was stopped and resumed equals one that was not, bit for bit."""
    whole, _ = fit(make, prior, frames, steps)
    _, trainer = fit(make, prior, frames, steps, stop)
    trainer.save_checkpoint(folder / "last.ckpt")
    resumed, _ = fit(make, prior, frames, steps, checkpoint=folder / "last.ckpt")
    assert torch.equal(resumed, whole)
    assert whole.isfinite().all()
