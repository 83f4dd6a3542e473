"""Checkpoints a run, and stops it at a step boundary when it is asked to stop."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, final

import pytorch_lightning as pl

from csd_lab.callbacks.every import check_every, is_turn
from csd_lab.run_folder import RunFolder

Handler = Callable[[int, FrameType | None], Any] | int | None


@final
class LastCheckpoint(pl.callbacks.Checkpoint):
    """Keeps one checkpoint, the latest; it replaces the former in one move.

    Args:
        every: steps between two checkpoints; the end of training is always saved.

    Raises:
        ValueError: if ``every`` is not positive.
    """

    def __init__(self, every: int = 20) -> None:
        check_every(every)
        self.every = every

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Save each ``every`` steps."""
        del args
        if is_turn(trainer.global_step, self.every):
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the final state, also of a run that was asked to stop."""
        del pl_module
        self.save(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save the last state if it is good; there is none before the first step."""
        del exception
        trained = (p for p in pl_module.parameters() if p.requires_grad)
        if trainer.global_step > 0 and all(bool(p.isfinite().all()) for p in trained):
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Write the checkpoint now."""
        trainer.save_checkpoint(RunFolder(trainer.default_root_dir).checkpoint)


@final
class GracefulStop(pl.Callback):
    """Turns SIGINT and SIGTERM into a stop after the present step.

    A second signal of the same kind acts as if there were no such callback.

    Attributes:
        received: the signal that stopped the run, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._former: dict[int, Handler] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put our handlers in place of Lightning's, which would raise in the middle of a step."""
        del pl_module

        def stop(number: int, frame: FrameType | None) -> None:
            del frame
            self.received = signal.Signals(number)
            trainer.should_stop = True
            signal.signal(number, self._former[number])

        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.getsignal(number)
            signal.signal(number, stop)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the former handlers back."""
        del trainer, pl_module, stage
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former.clear()
