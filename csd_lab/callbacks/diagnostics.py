"""What the kernel does: recorded while training, drawn at its end."""

from typing import Any, final

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from csd_lab.callbacks.csv_log import CsvLog, read_rows
from csd_lab.callbacks.every import check_every, is_turn
from csd_lab.particles import ParticleModule
from csd_lab.report import plot_kernels, plot_scalars
from csd_lab.run_folder import RunFolder


@final
class KernelDiagnostics(pl.Callback):
    """Keeps the kernel matrix of some steps and draws it, with the scalars over steps.

    The matrices travel with the checkpoint, so that a resumed run shows its whole life.

    Args:
        every: steps between two kept matrices; the first step is always kept.

    Raises:
        ValueError: if ``every`` is not positive.
    """

    def __init__(self, every: int = 20) -> None:
        check_every(every)
        self.every = every
        self.matrices: dict[int, Tensor] = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        """Keep the matrix of this step if it is its turn."""
        del args
        if not isinstance(pl_module, ParticleModule):
            return
        step = pl_module.latest
        kernel = step.distillation.kernel
        last = trainer.global_step == trainer.max_steps
        if kernel is not None and (is_turn(step.number, self.every) or last):
            self.matrices[step.number] = kernel.matrix.detach().float().cpu()

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the plots."""
        del pl_module
        folder = RunFolder(trainer.default_root_dir)
        for logger in trainer.loggers:
            if isinstance(logger, CsvLog):
                logger.flush()  # the trainer has it write its last steps only later
        folder.plots.mkdir(parents=True, exist_ok=True)
        if self.matrices:
            plot_kernels(folder.plots / "kernel.png", self.matrices)
        plot_scalars(folder.plots / "scalars.png", read_rows(folder.steps))

    def state_dict(self) -> dict[str, Any]:
        """The kept matrices."""
        return {"matrices": self.matrices}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the kept matrices."""
        self.matrices = {int(k): torch.as_tensor(v) for k, v in state_dict["matrices"].items()}
