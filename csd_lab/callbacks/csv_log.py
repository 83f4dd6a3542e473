"""metrics.csv: the scalars of every step, one row a step."""

import csv
from argparse import Namespace
from functools import cached_property
from pathlib import Path
from typing import Any, final

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from csd_lab.checks import check_whole
from csd_lab.files import atomic_path
from csd_lab.run_folder import RunFolder


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv in order of steps; empty if there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@final
class CsvLog(Logger):
    """Writes scalars over steps to ``metrics.csv``.

    A run that goes on from a checkpoint first drops the rows of the steps that it will do again,
    so that the file of a resumed run equals that of an uninterrupted one.

    Args:
        folder: the run's folder.
        flush_every: steps between two writes of the file.

    Raises:
        ValueError: if ``flush_every`` is not positive.
    """

    def __init__(self, folder: Path | str, flush_every: int = 10) -> None:
        super().__init__()
        check_whole("flush_every", flush_every)
        self.path = RunFolder(folder).steps
        self.flush_every = flush_every
        self._unwritten: set[int] = set()

    @cached_property
    def _rows(self) -> dict[int, dict[str, str]]:
        """By step; those of a run that goes on, read when the first one is logged."""
        return {int(row["step"]): row for row in read_rows(self.path)}

    @property
    def name(self) -> str:
        """The kind of logger."""
        return "csv"

    @property
    def version(self) -> int:
        """There is one file a run."""
        return 0

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Put the scalars of a step into its row."""
        if step is None:
            raise ValueError("step must be given: rows are named by it.")
        for later in [s for s in self._rows if s > step]:
            del self._rows[later]
        values = {key: f"{value:.9g}" for key, value in metrics.items() if key != "epoch"}
        self._rows.setdefault(step, {"step": str(step)}).update(values)
        self._unwritten.add(step)

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """The resolved config has a file of its own; nothing to do."""

    @rank_zero_only
    def save(self) -> None:
        """Write all rows if enough are new; the trainer calls this after every step."""
        if len(self._unwritten) >= self.flush_every:
            self.flush()

    @rank_zero_only
    def flush(self) -> None:
        """Write all rows, whole or not at all."""
        self._unwritten.clear()
        rows = [self._rows[step] for step in sorted(self._rows)]
        columns = ["step", *sorted({key for row in rows for key in row} - {"step"})]
        with atomic_path(self.path) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        del status
        if self._rows:
            self.flush()
