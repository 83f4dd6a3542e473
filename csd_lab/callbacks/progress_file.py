"""Writes how far a run is, for the table of its sweep."""

import time
from contextlib import suppress
from typing import final

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from csd_lab.checks import check_not_negative
from csd_lab.run_folder import RunFolder
from csd_lab.sweep.progress import Progress, write_progress


@final
class ProgressFile(pl.Callback):
    """Keeps progress.json.

    Args:
        every: seconds between two writings at least.

    Raises:
        ValueError: if ``every`` is negative.
    """

    def __init__(self, every: float = 1.0) -> None:
        check_not_negative("every", every)
        self.every = every
        self._began = (0.0, 0)
        self._written = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write where the run goes on."""
        del pl_module
        self._began = (time.monotonic(), trainer.global_step)
        self._write(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        """Write now and then."""
        del args
        if time.monotonic() - self._written >= self.every:
            self._write(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the last step."""
        del pl_module
        self._write(trainer)

    @rank_zero_only
    def _write(self, trainer: pl.Trainer) -> None:
        self._written = time.monotonic()
        seconds = self._written - self._began[0]
        steps = trainer.global_step - self._began[1]
        progress = Progress(
            step=trainer.global_step,
            steps=int(trainer.max_steps),
            time=time.time(),
            speed=steps / seconds if seconds > 0 else 0.0,
            scalars={k: float(v) for k, v in trainer.callback_metrics.items() if k != "step"},
        )
        with suppress(OSError):  # onlookers can do without
            write_progress(RunFolder(trainer.default_root_dir).progress, progress)
