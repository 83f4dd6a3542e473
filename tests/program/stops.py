"""A callback that stops a run as a user would."""

import os
import signal
from typing import Any

import pytorch_lightning as pl


class StopAfter(pl.Callback):
    """Sends SIGTERM to its own process after so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.steps - 1:
            os.kill(os.getpid(), signal.SIGTERM)


class Killed(pl.Callback):
    """Stands for what is killed while it writes."""

    def on_train_end(self, trainer: pl.Trainer, *args: Any) -> None:
        raise MemoryError("gone")
