"""What happens around the steps: stopping, checkpoints, measures, media, the run's page."""

from csd_lab.callbacks.checkpoint import GracefulStop, LastCheckpoint
from csd_lab.callbacks.csv_log import CsvLog
from csd_lab.callbacks.diagnostics import KernelDiagnostics
from csd_lab.callbacks.evaluate import Evaluate
from csd_lab.callbacks.guard import NonFiniteGradientError, NonFiniteGuard
from csd_lab.callbacks.media import Preview, WriteMedia
from csd_lab.callbacks.page import write_page
from csd_lab.callbacks.progress import StepProgress
from csd_lab.callbacks.stein import SteinDiscrepancy
from csd_lab.callbacks.wandb_log import WandbResult, finish_wandb, wandb_logger

__all__ = [
    "CsvLog",
    "Evaluate",
    "GracefulStop",
    "KernelDiagnostics",
    "LastCheckpoint",
    "NonFiniteGradientError",
    "NonFiniteGuard",
    "Preview",
    "SteinDiscrepancy",
    "StepProgress",
    "WandbResult",
    "WriteMedia",
    "finish_wandb",
    "wandb_logger",
    "write_page",
]
