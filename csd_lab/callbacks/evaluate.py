"""Measures the result of a run, and keeps the figures in metrics.json."""

import json
import math
from typing import Any, final

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from csd_lab.callbacks.every import check_every, is_turn
from csd_lab.callbacks.result import measurable
from csd_lab.callbacks.turns import first_rank_alone
from csd_lab.files import atomic_path
from csd_lab.metrics import MetricSuite
from csd_lab.run_folder import RunFolder


@final
class Evaluate(pl.Callback):
    """Evaluates the edited frames when training ends, and each ``every`` steps if wanted.

    Args:
        suite: the metrics.
        every: steps between two evaluations on the way; None: only at the end.

    Raises:
        ValueError: if ``every`` is not positive.
    """

    def __init__(self, suite: MetricSuite, every: int | None = None) -> None:
        check_every(every)
        self.suite = suite
        self.every = every

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object
    ) -> None:
        """Log the metrics on the way."""
        del args
        if not is_turn(trainer.global_step, self.every):
            return
        with first_rank_alone(trainer) as first:
            if first:
                result = measurable(trainer, pl_module)
                values = self.suite.evaluate(result)
                for logger in trainer.loggers:
                    logger.log_metrics(values, step=trainer.global_step - 1)

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write metrics.json: the figures (null where undefined), and why others are not there."""
        result = measurable(trainer, pl_module)
        values = self.suite.evaluate(result)
        content = {
            "steps": trainer.global_step,
            "metrics": {name: v if math.isfinite(v) else None for name, v in values.items()},
            "notes": {name: self.suite.metrics[name].note._asdict() for name in values},
            "skipped": self.suite.skipped(result),
        }
        with atomic_path(RunFolder(trainer.default_root_dir).results) as path:
            path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def results_after(folder: RunFolder, step: int) -> dict[str, Any]:
    """What metrics.json says; {} if there is none, or it is of a former attempt's other steps."""
    if not folder.results.is_file():
        return {}
    content: dict[str, Any] = json.loads(folder.results.read_text(encoding="utf-8"))
    return content if content["steps"] == step else {}
