"""Weights & Biases: online where somebody is logged in, else offline and without a question."""

import json
import os
import sys
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl
import wandb
import yaml
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from csd_lab.run_folder import RunFolder


def wandb_logger(folder: Path | str, project: str = "csd_lab", **settings: Any) -> WandbLogger:
    """A logger that never asks and never waits for a network that is not there.

    Args:
        folder: the run's folder; wandb keeps its files there.
        project: name of the project.
        **settings: of :func:`wandb.init`, such as ``group``, ``job_type``, ``name`` or ``tags``.

    Returns:
        A logger in the mode that ``WANDB_MODE`` names; without it, online if somebody is logged
        in, else offline.
    """
    offline = os.environ.get("WANDB_MODE") == "offline" or not wandb.login(prompt=False)
    if offline:
        settings["mode"] = "offline"
    return WandbLogger(project=project, save_dir=str(folder), **settings)


@final
class WandbResult(pl.Callback):
    """Gives the run's config, media and final figures to wandb; must stand behind their writers."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the resolved config."""
        del pl_module
        for logger in wandb_loggers(trainer):
            config = yaml.safe_load(RunFolder(trainer.default_root_dir).config.read_text())
            logger.experiment.config.update(config, allow_val_change=True)

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what lies in the run's folder."""
        del pl_module
        folder = RunFolder(trainer.default_root_dir)
        for logger in wandb_loggers(trainer):
            run = logger.experiment
            if folder.results.is_file():  # a run may do without the evaluation
                run.summary.update(json.loads(folder.results.read_text())["metrics"])
            media: dict[str, Any] = {
                "side_by_side": wandb.Video(str(folder.side_by_side), format="mp4"),
                "contact_sheet": wandb.Image(str(folder.contact_sheet)),
            }
            for plot in sorted(folder.plots.glob("*.png")):
                media[f"plots/{plot.stem}"] = wandb.Image(str(plot))
            run.log(media)


def finish_wandb(trainer: pl.Trainer, exit_code: int) -> None:
    """End the trainer's wandb runs with the exit code that the program will have.

    Args:
        trainer: whose loggers to end.
        exit_code: 0 marks the run as finished, any other as failed.
    """
    for logger in wandb_loggers(trainer):
        run = logger.experiment
        folder, offline = Path(run.dir).parent, run.offline
        run.finish(exit_code=exit_code)
        if offline:
            print(f"wandb is offline; upload with: wandb sync {folder}", file=sys.stderr)


def wandb_loggers(trainer: pl.Trainer) -> list[WandbLogger]:
    """The trainer's wandb loggers."""
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
