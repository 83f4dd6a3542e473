"""Runs one stage with Lightning: averaged weights, checkpoints that survive a kill, progress."""

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, final

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, WeightAveraging
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from prior_training.stages import Stage


class Batches(Protocol):
    """Training and validation batches, each a function of its index alone."""

    def train(self, index: int) -> Any:
        """Return a training batch."""

    def validation(self) -> list[Any]:
        """Return the held-out batches."""


class FitOptions(NamedTuple):
    """How stages run.

    Attributes:
        folder: where checkpoints and logs go.
        devices: processes (on CPU, one thread each) or GPUs; a batch is a process's.
        accelerator: Lightning's name of the hardware.
        strategy: Lightning's name of the way that processes work together.
        precision: Lightning's name of the number format.
        ema: decay of the averaged weights, which are what is kept.
        checkpoint_every: steps between checkpoints.
        validate_every: steps between validations.
    """

    folder: Path
    devices: int = 1
    accelerator: str = "auto"
    strategy: str = "auto"
    precision: str = "bf16-mixed"
    ema: float = 0.999
    checkpoint_every: int = 250
    validate_every: int = 1000


@final
class KeepFinalState(pl.Callback):
    """Writes the checkpoint once more at the end, before the averaged weights take over.

    Args:
        path: where to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        """Write it."""
        trainer.save_checkpoint(self.path)


@final
class Stream(IterableDataset):
    """The training batches from the trainer's present step on, split between processes."""

    def __init__(self, batches: Batches, trainer: pl.Trainer, steps: int) -> None:
        super().__init__()
        self.batches, self.trainer, self.steps = batches, trainer, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        for step in range(self.trainer.global_step, self.steps):
            yield self.batches.train(step * self.trainer.world_size + self.trainer.global_rank)


@final
class Feed(pl.LightningDataModule):
    """Gives a stage's batches to the trainer."""

    def __init__(self, batches: Batches, steps: int) -> None:
        super().__init__()
        self.batches, self.steps = batches, steps

    def train_dataloader(self) -> DataLoader:
        """Return the stream of training batches."""
        return DataLoader(Stream(self.batches, self.trainer, self.steps), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        """Return the held-out batches."""
        return DataLoader(self.batches.validation(), batch_size=None)


@torch.no_grad()
def average(
    decay: float, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int
) -> None:
    """Move averaged weights towards the present ones, faster at the start.

    The decay grows as (1 + n) / (10 + n): otherwise a short stage would keep its random start.

    Args:
        decay: of the long run.
        averaged: weights, changed in place.
        current: weights.
        count: number n of averages so far.
    """
    share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
    for mean, value in zip(averaged, current, strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, share)
        else:
            mean.copy_(value)


def checkpoint_path(folder: Path, name: str) -> Path:
    """Return where a stage keeps its latest state."""
    return folder / f"{name}.ckpt"


def fit(module: Stage, batches: Batches, name: str, options: FitOptions) -> None:
    """Train a stage, from its checkpoint on if there is one; leaves the averaged weights in it.

    Args:
        module: the stage.
        batches: its data.
        name: names its checkpoint and its log.
        options: how to run.
    """
    latest = checkpoint_path(options.folder, name)
    keeper = ModelCheckpoint(
        options.folder,
        filename=name,
        every_n_train_steps=options.checkpoint_every,
        enable_version_counter=False,
    )
    trainer = pl.Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        strategy=options.strategy,
        precision=options.precision,
        max_epochs=-1,
        max_steps=module.budget.steps,
        val_check_interval=min(options.validate_every, module.budget.steps),
        num_sanity_val_steps=0,
        log_every_n_steps=50,
        use_distributed_sampler=False,
        enable_model_summary=False,
        callbacks=[
            keeper,
            KeepFinalState(latest),
            WeightAveraging(use_buffers=False, multi_avg_fn=partial(average, options.ema)),
            pl.callbacks.TQDMProgressBar(refresh_rate=25),
        ],
        logger=CSVLogger(options.folder, name=f"log/{name}"),
        default_root_dir=options.folder,
    )
    module.train()  # networks that come from a folder are in evaluation mode
    feed = Feed(batches, module.budget.steps)
    warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")  # `Stream` is
    warnings.filterwarnings("ignore", message=".*`__len__` could be inaccurate.*")
    trainer.fit(module, feed, ckpt_path=str(latest) if latest.is_file() else None)


def load_averaged(module: Stage, folder: Path, name: str) -> bool:
    """Load a stage's averaged weights from its latest checkpoint.

    Returns:
        Whether there was a checkpoint.
    """
    path = checkpoint_path(folder, name)
    if not path.is_file():
        return False
    state = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["state_dict"])
    return True
