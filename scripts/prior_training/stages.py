"""The LightningModules of the stages: autoencoder, denoiser (both prompts and edits), tiny CLIP."""

import math
import time
from typing import Any, NamedTuple, final

import pytorch_lightning as pl
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from open_clip import CLIP
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss, mse_loss
from transformers import CLIPTextModel

HEAVIEST = 25.0
"""Bound on the weight of a noise level."""


class Budget(NamedTuple):
    """How long and how fast a stage learns.

    Attributes:
        steps: optimiser steps at most.
        minutes: wall clock at most, summed over restarts; None for steps alone, which is
            deterministic. The learning rate follows whichever runs out first.
        lr: highest learning rate.
        warmup: steps of linear warm-up.
        betas: AdamW's decay rates.
        weight_decay: AdamW's.
    """

    steps: int
    minutes: float | None = None
    lr: float = 1.5e-3
    warmup: int = 200
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-3


class Stage(pl.LightningModule):
    """A module that learns within a budget: AdamW, linear warm-up, cosine to zero.

    Args:
        budget: steps, time and learning rate.
    """

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self.budget = budget
        self._seconds = 0.0
        self._started = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW over the parameters that learn."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        b = self.budget
        return torch.optim.AdamW(
            parameters, lr=b.lr, betas=b.betas, weight_decay=b.weight_decay, fused=True
        )

    def on_train_start(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_batch_start(self, *_: Any) -> None:
        """Set the learning rate of the step."""
        progress = min(self.progress(), 1.0)
        warm = min(1.0, (self.global_step + 1) / max(self.budget.warmup, 1))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.budget.lr * warm * 0.5 * (1 + math.cos(math.pi * progress))

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop when the budget is spent."""
        if self.progress() >= 1:
            self.trainer.should_stop = True

    def on_before_optimizer_step(self, _: torch.optim.Optimizer) -> None:
        """Bound the gradient's norm; Lightning's own way refuses the fused AdamW."""
        nn.utils.clip_grad_norm_(self.parameters(), max_norm=1.0)

    def progress(self) -> float:
        """Return the share of the budget that is spent, the same in all processes."""
        share = self.global_step / self.budget.steps
        if self.budget.minutes is None:
            return share
        share = max(share, self._clock() / (60 * self.budget.minutes))
        reduced = self.trainer.strategy.reduce(torch.tensor(share), reduce_op="max")
        return float(reduced)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the time spent so far."""
        checkpoint["seconds"] = self._clock()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the time spent so far."""
        self._seconds = checkpoint["seconds"]

    def _clock(self) -> float:
        """Return seconds of training, earlier runs included."""
        return self._seconds + (time.monotonic() - self._started if self._started else 0.0)


@final
class Autoencoder(Stage):
    """Learns to compress pictures: L1 + 2 MSE + L1 of the gradients / 4 + a little KL.

    Args:
        vae: the network.
        budget: steps, time and learning rate.
        kl: weight of the mean KL divergence of a latent number.
    """

    def __init__(self, vae: AutoencoderKL, budget: Budget, kl: float = 1e-4) -> None:
        super().__init__(budget)
        self.vae = vae
        self.kl = kl

    def training_step(self, images: Tensor) -> Tensor:
        """Return the loss of pictures (B, 3, H, W), uint8."""
        pixels = to_signed(images)
        posterior = self.vae.encode(pixels).latent_dist
        decoded = self.vae.decode(posterior.sample()).sample.float()
        edges = sum(l1_loss(decoded.diff(dim=axis), pixels.diff(dim=axis)) for axis in (-1, -2))
        loss = l1_loss(decoded, pixels) + 2 * mse_loss(decoded, pixels) + 0.25 * edges
        loss = loss + self.kl * posterior.kl().float().mean() / posterior.mean[0].numel()
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, images: Tensor) -> None:
        """Log the PSNR over pictures (B, 3, H, W), uint8, decoded from the posterior's mode."""
        pixels = to_signed(images)
        decoded = self.vae.decode(self.vae.encode(pixels).latent_dist.mode()).sample
        error = (decoded.float().clamp(-1, 1) - pixels).square().mean(dim=(1, 2, 3)) / 4
        self.log("psnr", (-10 * error.log10()).mean(), prog_bar=True, sync_dist=True)


class Latents(NamedTuple):
    """A batch for the denoiser.

    Attributes:
        target: what to denoise, (B, C, h, w).
        tokens: texts, (B, L).
        condition: latents of the sources, zeros where dropped, (B, C, h, w); None without.
    """

    target: Tensor
    tokens: Tensor
    condition: Tensor | None = None


@final
class Denoiser(Stage):
    """Learns the noise in latents, given a text and, for edits, the source's latents.

    The squared error at noise level t weighs 1 / abar_t, as if the network predicted velocities
    (Salimans & Ho 2022), up to a bound: with even weights the highest levels, where colours and
    layout are decided, hardly count, since the noise itself is a good guess of the noise there.

    Args:
        unet: the network; 2C input channels where the batches have conditions.
        text_encoder: the text tower.
        alphas_cumprod: the schedule's cumulative alphas, (T,).
        budget: steps, time and learning rate.
        learn_text: whether the text tower learns too.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text_encoder: CLIPTextModel,
        alphas_cumprod: Tensor,
        budget: Budget,
        learn_text: bool,
    ) -> None:
        super().__init__(budget)
        self.unet = unet
        self.text_encoder = text_encoder.requires_grad_(learn_text)
        self.learn_text = learn_text
        weights = (1 / alphas_cumprod).clamp(max=HEAVIEST)
        self.register_buffer("alphas_cumprod", alphas_cumprod, persistent=False)
        self.register_buffer("weights", weights, persistent=False)

    def training_step(self, batch: Latents) -> Tensor:
        """Return the weighted squared error of the predicted noise, at evenly spread levels."""
        count, levels = len(batch.target), len(self.alphas_cumprod)
        random = self._generator(self.global_step, self.global_rank)
        start = torch.rand((), generator=random, device=self.device)
        spread = (start + torch.arange(count, device=self.device) / count) % 1
        times = (spread * levels).long().clamp(max=levels - 1)
        error = self._error(batch, times, random)
        self.log("loss", error.mean(), prog_bar=True)
        return (self.weights[times] * error).mean()

    def validation_step(self, batch: Latents, batch_idx: int) -> None:
        """Log the error at evenly spread noise levels, with the same noise every time."""
        count, levels = len(batch.target), len(self.alphas_cumprod)
        times = torch.arange(count, device=self.device) * levels // count
        error = self._error(batch, times, self._generator(batch_idx, 0))
        self.log("val_loss", error.mean(), prog_bar=True, sync_dist=True)
        weighted = (self.weights[times] * error).mean()
        self.log("val_weighted", weighted, prog_bar=True, sync_dist=True)

    def _generator(self, step: int, rank: int) -> torch.Generator:
        """Return the random numbers of a step and process, whatever came before."""
        return torch.Generator(self.device).manual_seed(step * 1024 + rank)

    def _error(self, batch: Latents, times: Tensor, random: torch.Generator) -> Tensor:
        """Return each sample's squared error, (B,)."""
        noise = torch.randn(batch.target.shape, generator=random, device=self.device)
        abar = self.alphas_cumprod[times][:, None, None, None]
        noisy = abar.sqrt() * batch.target + (1 - abar).sqrt() * noise
        if batch.condition is not None:
            noisy = torch.cat([noisy, batch.condition], dim=1)
        with torch.set_grad_enabled(self.learn_text and torch.is_grad_enabled()):
            text = self.text_encoder(batch.tokens).last_hidden_state
        estimate = self.unet(noisy, times, text).sample.float()
        return (estimate - noise).square().mean(dim=(1, 2, 3))


class Captioned(NamedTuple):
    """A batch for the tiny CLIP: pictures (B, 3, H, W), uint8, and their captions' tokens."""

    images: Tensor
    tokens: Tensor


@final
class Contrast(Stage):
    """Learns which caption goes with which picture (symmetric cross entropy over the batch).

    Equal captions in a batch share the probability, so that twins are no negatives.

    Args:
        clip: the two towers.
        mean: of the pictures' channels.
        std: of the pictures' channels.
        budget: steps, time and learning rate.
    """

    def __init__(self, clip: CLIP, mean: list[float], std: list[float], budget: Budget) -> None:
        super().__init__(budget)
        self.clip = clip
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def training_step(self, batch: Captioned) -> Tensor:
        """Return the loss of a batch."""
        logits, twins = self._compare(batch)
        target = twins / twins.sum(dim=1, keepdim=True)
        loss = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Captioned) -> None:
        """Log how often the right caption is the nearest of the batch."""
        logits, twins = self._compare(batch)
        right = twins.gather(1, logits.argmax(dim=1, keepdim=True)).mean()
        self.log("accuracy", right, prog_bar=True, sync_dist=True)

    def _compare(self, batch: Captioned) -> tuple[Tensor, Tensor]:
        """Return logits picture by caption, and 1 where the captions are equal, both (B, B)."""
        images = (batch.images.float() / 255 - self.mean) / self.std
        pictures, captions, scale = self.clip(images, batch.tokens)
        twins = (batch.tokens[:, None] == batch.tokens[None]).all(dim=-1).float()
        return scale * pictures.float() @ captions.float().T, twins


def to_signed(images: Tensor) -> Tensor:
    """Return uint8 pictures as numbers in [-1, 1]."""
    return images.float() / 127.5 - 1


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
