"""What happens around the steps: stopping, checkpoints, measures, media, the run's page."""

from csd_lab.callbacks.atomic_checkpoints import AtomicCheckpoints
from csd_lab.callbacks.checkpoint import GracefulStop, LastCheckpoint
from csd_lab.callbacks.csv_log import CsvLog
from csd_lab.callbacks.diagnostics import KernelDiagnostics
from csd_lab.callbacks.evaluate import Evaluate, results_after
from csd_lab.callbacks.guard import NonFiniteGradientError, NonFiniteGuard
from csd_lab.callbacks.media import Preview, WriteMedia
from csd_lab.callbacks.page import write_page
from csd_lab.callbacks.progress import StepProgress
from csd_lab.callbacks.progress_file import ProgressFile
from csd_lab.callbacks.scene import WriteScene
from csd_lab.callbacks.stein import SteinDiscrepancy
from csd_lab.callbacks.wandb_log import (
    WandbLog,
    WandbResult,
    finish_abandoned_wandb,
    finish_wandb,
)

__all__ = [
    "AtomicCheckpoints",
    "CsvLog",
    "Evaluate",
    "GracefulStop",
    "KernelDiagnostics",
    "LastCheckpoint",
    "NonFiniteGradientError",
    "NonFiniteGuard",
    "Preview",
    "ProgressFile",
    "SteinDiscrepancy",
    "StepProgress",
    "WandbLog",
    "WandbResult",
    "WriteMedia",
    "WriteScene",
    "finish_abandoned_wandb",
    "finish_wandb",
    "results_after",
    "write_page",
]
