"""A progress bar over steps, with speed, time left and the latest scalars."""

import sys
from typing import Any, final

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@final
class StepProgress(pl.callbacks.ProgressBar):
    """Shows how far training is; on a terminal as a live bar, else as a line now and then.

    Args:
        scalars: names of the logged scalars to show, those that exist.
        lines: how many lines a whole run prints where there is no terminal.
    """

    def __init__(
        self,
        scalars: tuple[str, ...] = ("gradient_norm", "effective_neighbours"),
        lines: int = 10,
    ) -> None:
        super().__init__()
        self.scalars = tuple(scalars)
        self.lines = lines
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._enabled = True

    def disable(self) -> None:
        """Show nothing (Lightning calls this on all ranks but the first)."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar again."""
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar at the present step."""
        del pl_module
        if not self._enabled:
            return
        console = Console(file=sys.stderr)
        self._progress = Progress(
            TextColumn("editing"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[scalars]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            "", total=trainer.max_steps, completed=trainer.global_step, speed="", scalars=""
        )

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Advance by one step."""
        del args
        if self._progress is None:
            return
        scalars = self._scalars(trainer)
        speed = self._progress.tasks[0].finished_speed or self._progress.tasks[0].speed
        rate = f"{speed:.1f} steps/s" if speed else ""
        self._progress.update(
            self._task, completed=trainer.global_step, speed=rate, scalars=scalars
        )
        interval = max(1, trainer.max_steps // self.lines)
        if self._progress.disable and trainer.global_step % interval == 0:
            line = f"step {trainer.global_step}/{trainer.max_steps}  {rate}  {scalars}"
            print(line, file=sys.stderr, flush=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        del trainer, pl_module
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the error stands below it."""
        del trainer, pl_module, exception
        self._close()

    def _scalars(self, trainer: pl.Trainer) -> str:
        metrics = trainer.callback_metrics
        return "  ".join(
            f"{name} {float(metrics[name]):.3g}" for name in self.scalars if name in metrics
        )

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
