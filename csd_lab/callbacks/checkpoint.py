"""Checkpoints a run, and stops it at a step boundary when it is asked to stop."""

import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, final

import pytorch_lightning as pl
import torch

from csd_lab.callbacks.csv_log import CsvLog
from csd_lab.callbacks.every import check_every, is_turn
from csd_lab.run_folder import RunFolder

Handler = Callable[[int, FrameType | None], Any] | int | None


@final
class LastCheckpoint(pl.callbacks.Checkpoint):
    """Keeps one checkpoint, the latest; it replaces the former in one move.

    A run may be killed at any moment, so a checkpoint of k steps is only written when all else that
    these steps make is: their rows are logged, and of the last step the results are there.

    Args:
        every: steps between two checkpoints; the end of training is always saved.

    Raises:
        ValueError: if ``every`` is not positive.
    """

    def __init__(self, every: int = 20) -> None:
        check_every(every)
        self.every = every
        self._settled = 0

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Save each ``every`` steps, before the next one: only now the last one is logged."""
        del args
        if trainer.global_step != self._settled and is_turn(trainer.global_step, self.every):
            self.save(trainer)
        self._settled = trainer.global_step

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the final state, also of a run that was asked to stop."""
        del pl_module
        self.save(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save the last state if it is good; there is none before the first step.

        What failed after an update, such as the evaluation in the end, is done over from the former
        checkpoint.

        Of several ranks the first one saves without the others: they may be gone, or wait for this
        one in another place. All have the same state.
        """
        del exception
        trained = (p for p in pl_module.parameters() if p.requires_grad)
        step = trainer.global_step
        if step == 0 or step != self._settled or not all(bool(p.isfinite().all()) for p in trained):
            return
        if trainer.world_size == 1:
            self.save(trainer)
        elif trainer.is_global_zero:
            self._flush(trainer)
            state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            trainer.strategy.save_checkpoint(state, self._path(trainer))

    def save(self, trainer: pl.Trainer) -> None:
        """Write the checkpoint now; on several ranks, all must call this."""
        self._flush(trainer)
        trainer.save_checkpoint(self._path(trainer))

    def _flush(self, trainer: pl.Trainer) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, CsvLog):
                logger.flush()

    def _path(self, trainer: pl.Trainer) -> Path:
        return RunFolder(trainer.default_root_dir).checkpoint


@final
class GracefulStop(pl.Callback):
    """Turns SIGINT and SIGTERM into a stop after the present step.

    On several ranks all stop after the same step, whichever heard the signal. On one process a
    second signal of the same kind acts as if there were no such callback; ranks are ended by their
    supervisor, which may signal them again and again.

    Attributes:
        received: the signal that stopped the run, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._agreed = False  # by all ranks, of which one may hear a signal later than another
        self._former: dict[int, Handler] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Note the handlers that there are before Lightning puts its own in their place."""
        del trainer, pl_module, stage
        self._former = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put our handlers in place of Lightning's, which would raise in the middle of a step."""
        del pl_module

        def stop(number: int, frame: FrameType | None) -> None:
            del frame
            self.received = signal.Signals(number)
            if trainer.world_size == 1:
                self._agreed = trainer.should_stop = True
                signal.signal(number, self._former[number])

        for number in self._former:
            signal.signal(number, stop)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Let all ranks know what any of them heard."""
        del args
        if trainer.world_size == 1:
            return
        heard = torch.tensor(self.received or 0, device=trainer.strategy.root_device)
        number = int(trainer.strategy.reduce(heard, reduce_op="max"))
        if number:
            self.received = signal.Signals(number)
            self._agreed = trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Have the state of a stopped run saved first: its sender may not wait for all the rest."""
        del pl_module
        if self._agreed and trainer.global_step < trainer.max_steps:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, LastCheckpoint):
                    callback.save(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the former handlers back."""
        del trainer, pl_module, stage
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former.clear()
