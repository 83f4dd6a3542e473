"""A fit of a few steps with everything else left out."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from csd_lab.particles import ParticleModule


def fit(
    module: ParticleModule,
    batches: Sequence[Any],
    checkpoint: Path | None = None,
    steps: int | None = None,
    callbacks: Iterable[pl.Callback] = (),
    **options: Any,
) -> tuple[Any, pl.Trainer]:
    """The module after one step for each batch of ids, or after ``steps``; and its trainer."""
    trainer = pl.Trainer(
        max_steps=steps or len(batches),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )
    loader = DataLoader([torch.as_tensor(ids) for ids in batches], batch_size=None)
    trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=True)
    return module, trainer
