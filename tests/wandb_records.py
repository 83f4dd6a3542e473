"""What offline runs hold, read back with wandb's own reader (`wandb leet inspect`)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

GOOD, BAD = 0.01, 1e30
"""Learning rates: with the second, frames leave all bounds, and the job fails."""

COMMAND = (
    *("-m", "hydra/launcher=basic", "sweep.name=three", "logger=wandb"),
    *("experiment=colours", "data.frames=3", "metrics=pixels", "trainer.max_steps=4"),
    *("callbacks.evaluate.every=2", "callbacks.diagnostics.every=1"),
    *("method=csd,sds", f"optimizer.optimizer.lr={GOOD},{BAD}", "seed=0"),
)


class Part(NamedTuple):
    """One opening of a run: a resumed run has several parts.

    Attributes:
        folder: of the part, which holds its media in files/.
        run: how it was opened: id, group, job type, name, tags, project, config.
        history: logged rows.
        summary: final values.
        metrics: definitions of axes and summaries, by name.
        exit_code: None if it was not ended.
    """

    folder: Path
    run: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    metrics: dict[str, dict[str, Any]]
    exit_code: int | None

    @property
    def config(self) -> dict[str, Any]:
        return self.run["config"]["update"]

    def media(self, name: str) -> Path:
        """The file behind a logged video or picture."""
        return self.folder / "files" / self.summary[f"{name}.path"]

    def curve(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of the rows that have the value; NaN is text to the reader."""
        return [(row["step"], float(row[name])) for row in self.history if name in row]


def parts(folder: Path) -> list[Part]:
    """All parts of the run in a folder, in order of their opening."""
    return [read(file) for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"))]


def read(file: Path) -> Part:
    records = _inspect(file)
    runs = [record["run"] for record in records if record["type"] == "run"]
    defined = [record["metric"] for record in records if record["type"] == "metric"]
    codes = [record["exit"].get("exit_code", 0) for record in records if record["type"] == "exit"]
    summary: dict[str, Any] = {}
    for record in records:
        if record["type"] == "summary":
            summary |= record["summary"].get("update", {})
    return Part(
        folder=file.parent,
        run=runs[0],
        history=[record["history"]["item"] for record in records if record["type"] == "history"],
        summary=summary,
        metrics={metric.get("name") or metric["glob_name"]: metric for metric in defined},
        exit_code=codes[0] if codes else None,
    )


def _inspect(file: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]
