"""Runs as they are read from their folders: what was set, how it ended, what it gave.

A folder that cannot be read, or whose run did not finish, becomes a record with the reason; none is
left out in silence.
"""

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from csd_lab.notes import MetricNote
from csd_lab.run_folder import RunFolder
from csd_lab.sweep import JobFolder, State, Status
from csd_lab.sweep.identity import says_how
from csd_lab.text import natural, on_one_line

RunState = Literal["done", "running", "waiting", "interrupted", "failed", "unreadable"]
Value = str | int | float | bool | None
"""A setting: a leaf of the config; lists are their JSON text."""

NOT_SETTINGS = ("hydra", "logger", "sweep", "resume", "started_in")
"""Roots of a config that do not say what a run computes."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SECONDS = "seconds"
"""A metric of our own: how long a run took."""


class RunRecord(NamedTuple):
    """One run.

    Attributes:
        name: its folder, relative to the folder that all runs of a reading share.
        folder: its files.
        state: "done" if all results are there; statistics are made of such runs only.
        reason: why it is not done, one line; "" if it is.
        traceback: of a failed run, if it left one.
        config: resolved settings by dotted key; a group's choice stands under the group's name
            (``method``: ``csd_edit``), its settings below (``method.noise``).
        metrics: final values by name; undefined ones are NaN.
        notes: what these mean, by the same names.
    """

    name: str
    folder: RunFolder
    state: RunState
    reason: str = ""
    traceback: str = ""
    config: Mapping[str, Value] = {}
    metrics: Mapping[str, float] = {}
    notes: Mapping[str, MetricNote] = {}

    def curves(self) -> dict[str, tuple[list[int], list[float]]]:
        """Scalars over steps from metrics.csv: by name, the steps that have a value, and those.

        Empty if there is no such file, or it cannot be read.
        """
        try:
            with self.folder.steps.open(newline="", encoding="utf-8") as file:
                return _columns(csv.reader(file))
        except (OSError, ValueError, csv.Error):
            return {}


def load_runs(paths: Iterable[Path | str] | Path | str) -> list[RunRecord]:
    """Read all runs in and below some folders.

    Args:
        paths: sweep folders, run folders, or any folders that hold them; one or several.

    Returns:
        A record for each run, in natural order of names ("2" before "10"); each run once.

    Raises:
        ValueError: if a path is no folder, or there is no run at all.
    """
    given = [Path(paths)] if isinstance(paths, Path | str) else [Path(path) for path in paths]
    for path in given:
        if not path.is_dir():
            raise ValueError(f"folders must be those of runs or of sweeps, got {str(path)!r}.")
    roots = sorted({root.resolve() for path in given for root in _run_folders(path)})
    if not roots:
        names = ", ".join(repr(str(path)) for path in given)
        raise ValueError(
            f"there are no runs in {names}: a run's folder has a config.yaml or a status.json."
        )
    shared = Path(os.path.commonpath([root.parent for root in roots]))
    records = [_read_run(root, root.relative_to(shared).as_posix()) for root in roots]
    return sorted(records, key=lambda record: natural(record.name))


def records_table(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """A row a run: run, state, reason, all settings by dotted key, all metrics by name.

    Every row has all columns, with None where a run lacks one, so that
    ``pandas.DataFrame(records_table(runs))`` is the data frame of the runs.
    """
    columns = dict.fromkeys(key for run in runs for key in (*run.config, *run.metrics))
    return [
        {"run": run.name, "state": run.state, "reason": run.reason}
        | {key: run.metrics.get(key, run.config.get(key)) for key in columns}
        for run in runs
    ]


def flatten(config: Mapping[str, Any]) -> dict[str, Value]:
    """A resolved config as leaves by dotted key, in order; choices under their groups' names."""
    choices = config.get("choices")
    flat: dict[str, Value] = {}
    if isinstance(choices, Mapping):
        flat.update((str(group), _leaf(choice)) for group, choice in choices.items())
    for root, value in config.items():
        if root != "choices" and root not in NOT_SETTINGS:
            flat.update(_leaves(str(root), value))
    return {name: value for name, value in flat.items() if not says_how(name)}


def _run_folders(path: Path) -> Iterator[Path]:
    for place, below, files in os.walk(path):
        folder = RunFolder(place)
        marks = (folder.config, folder.status, folder.results, folder.log)
        if any(mark.name in files for mark in marks):
            below.clear()
            yield folder.root
        below[:] = [name for name in below if not name.startswith(".")]


def _read_run(root: Path, name: str) -> RunRecord:
    folder = RunFolder(root)
    record = RunRecord(name, folder, "unreadable")
    try:
        job = JobFolder(root)
        status = job.status()
        record = record._replace(traceback=status.traceback if status else "")
        if folder.config.is_file():
            record = record._replace(config=flatten(_read_config(folder.config)))
        state, reason = _state(job, status, record.config)
        values, notes = _metrics(_read_json(folder.results), status, state)
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        return record._replace(reason=on_one_line(f"cannot be read: {error}"))
    return record._replace(state=state, reason=reason, metrics=values, notes=notes)


def _read_config(path: Path) -> Mapping[str, Any]:
    content = yaml.load(path.read_text(encoding="utf-8"), LOADER)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path.name} is no mapping of settings")
    return content


def _read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file; {} if it is not there."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return content


def _state(
    job: JobFolder, status: Status | None, config: Mapping[str, Value]
) -> tuple[RunState, str]:
    """How a run stands, and why it is not done."""
    if status is None:
        return _state_without_status(job.files, config)
    progress = job.progress()
    place = f"step {progress.step} of {progress.steps}" if progress else "no step done"
    match status.state:
        case State.DONE if not job.files.results.is_file():
            return "unreadable", f"{job.files.results.name} is missing"
        case State.DONE:
            return "done", ""
        case State.WAITING:
            return "waiting", "has not started"
        case State.RUNNING:
            return "running", place
        case State.FAILED:
            return "failed", f"{on_one_line(status.error or '') or 'see run.log'} ({place})"
        case State.INTERRUPTED:
            return (
                "interrupted",
                f"{on_one_line(status.error or '') or 'its process has ended'} ({place})",
            )


def _state_without_status(folder: RunFolder, config: Mapping[str, Value]) -> tuple[RunState, str]:
    """The same for runs that left no status.json: judged by their results."""
    if not folder.config.is_file():
        return "failed", f"never began: it has no {folder.config.name}; see {folder.log.name}"
    if not folder.results.is_file():
        return "interrupted", f"it has no {folder.results.name}; see {folder.log.name}"
    wanted = config.get("trainer.max_steps")
    steps = _read_json(folder.results).get("steps")
    if isinstance(wanted, int) and isinstance(steps, int) and steps < wanted:
        return "interrupted", f"stopped after {steps} of {wanted} steps"
    return "done", ""


def _metrics(
    results: Mapping[str, Any], status: Status | None, state: RunState
) -> tuple[dict[str, float], dict[str, MetricNote]]:
    """Final values and their notes; the run's seconds among them where one attempt made it."""
    given = results.get("metrics") or {}
    values = {str(name): math.nan if v is None else float(v) for name, v in given.items()}
    notes = {str(name): MetricNote(**note) for name, note in (results.get("notes") or {}).items()}
    if state == "done" and status and status.attempts == 1 and status.ended > status.started > 0:
        values[SECONDS] = status.seconds
        notes[SECONDS] = MetricNote("Wall clock of the run, its start included.", False, "s")
    return values, notes


def _columns(rows: Iterator[list[str]]) -> dict[str, tuple[list[int], list[float]]]:
    names = next(rows, [])
    place = names.index("step")
    columns: dict[str, tuple[list[int], list[float]]] = {
        name: ([], []) for name in names if name != "step"
    }
    for row in rows:
        step = int(row[place])
        for name, text in zip(names, row, strict=True):
            if text and name != "step":
                steps, values = columns[name]
                steps.append(step)
                values.append(float(text))
    return columns


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Value]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _leaves(f"{prefix}.{key}", below)
    else:
        yield prefix, _leaf(value)


def _leaf(value: Any) -> Value:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
