"""What a sweep looks like in a terminal."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from csd_lab.sweep.job import JobFolder
from csd_lab.sweep.progress import Progress
from csd_lab.sweep.status import State, Status

STYLES = {
    State.WAITING: "dim",
    State.RUNNING: "cyan",
    State.DONE: "green",
    State.FAILED: "bold red",
    State.INTERRUPTED: "yellow",
}

ORDER = (State.RUNNING, State.FAILED, State.INTERRUPTED, State.WAITING, State.DONE)
"""What is shown first where there is no room for all."""


@final
class Row(NamedTuple):
    """A job as the table shows it.

    Attributes:
        name: hash of the job.
        status: what it is.
        progress: how far it is; None: unknown.
        metrics: its final figures; empty before the end.
    """

    name: str
    status: Status
    progress: Progress | None
    metrics: Mapping[str, float | None]


def row_of(job: JobFolder, status: Status) -> Row:
    """A job as the table shows it."""
    figures = read_metrics(job) if status.state is State.DONE else {}  # else of a former attempt
    return Row(job.root.name, status, job.progress(), figures)


def read_metrics(job: JobFolder) -> dict[str, float | None]:
    """The final figures of a job; empty if there are none that can be read."""
    try:
        content = json.loads(job.files.results.read_text(encoding="utf-8"))
        return dict(content["metrics"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def differing(overrides: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The overrides by which each job differs from others, as one text.

    Args:
        overrides: those of each job, by its name.
    """
    counts = Counter(o for own in overrides.values() for o in set(own))
    common = {o for o, count in counts.items() if count == len(overrides) > 1}
    return {name: " ".join(o for o in own if o not in common) for name, own in overrides.items()}


def table_of(rows: Sequence[Row], metric: str | None = None, limit: int | None = None) -> Table:
    """The table of a sweep.

    Args:
        rows: its jobs.
        metric: name of the figure to show; None: the first that there is.
        limit: how many rows at most; the others are counted. None: all.
    """
    texts = differing({row.name: row.status.overrides for row in rows})
    metric = metric or first_figure(rows)
    table = Table(box=SIMPLE_HEAD, caption=summary(rows), caption_justify="left")
    table.add_column("job", no_wrap=True)
    table.add_column("overrides", overflow="fold", ratio=1)
    table.add_column("state", no_wrap=True)
    table.add_column("step", justify="right", no_wrap=True)
    table.add_column(metric or "metric", justify="right", no_wrap=True)
    table.add_column("steps/s", justify="right", no_wrap=True)
    shown = rows
    if limit is not None and len(rows) > limit:
        shown = sorted(rows, key=lambda row: ORDER.index(row.status.state))[: max(1, limit - 1)]
    for row in shown:
        table.add_row(
            row.name,
            Text(texts[row.name]),
            Text(row.status.state, style=STYLES[row.status.state]),
            _step(row.progress),
            Text(figure(row, metric)),
            f"{row.progress.speed:.1f}" if row.progress and row.progress.speed else "",
        )
    if len(shown) < len(rows):
        table.add_row("", f"and {len(rows) - len(shown)} more")
    return table


def summary(rows: Sequence[Row]) -> str:
    """How many jobs are what, and for how long the rest will take."""
    counts = Counter(row.status.state for row in rows)
    parts = [f"{counts[state]} {state}" for state in State if counts[state]]
    left = time_left(rows)
    return f"{len(rows)} jobs: {', '.join(parts)}" + (f"; {duration(left)} left" if left else "")


def first_figure(rows: Sequence[Row]) -> str | None:
    """Name of the first final figure that there is, else of the first scalar on the way."""
    final = next((name for row in rows for name in row.metrics), None)
    on_the_way = (row.progress.scalars for row in rows if row.progress)
    return final or next((name for scalars in on_the_way for name in scalars if name != "t"), None)


def figures_of(row: Row) -> dict[str, float | None]:
    """A job's figures by name: the final ones, else the latest on the way."""
    return {**(row.progress.scalars if row.progress else {}), **row.metrics}


def figure(row: Row, metric: str | None) -> str:
    """A job's figure of this name as text; "" if it has none."""
    value = figures_of(row).get(metric or "")
    return "" if value is None else f"{value:.4g}"


def time_left(rows: Sequence[Row]) -> float | None:
    """Seconds until all jobs that wait or run are done, as far as can be told.

    Jobs take as long as those that are done took on average, else as long as the running ones
    seem to need, and as many run at once as do now. None if nothing runs or nothing is known.
    """
    running = [row for row in rows if row.status.state is State.RUNNING]
    done = [row.status.seconds for row in rows if row.status.state is State.DONE]
    known = done or [row.status.seconds / part for row in running if (part := _part(row)) > 0]
    if not running or not known:
        return None
    each = sum(known) / len(known)
    waiting = sum(row.status.state is State.WAITING for row in rows)
    work = each * (waiting + sum(1 - _part(row) for row in running))
    return max(work / len(running), 1.0)


def duration(seconds: float) -> str:
    """A time as a person says it: 50 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _part(row: Row) -> float:
    """Which part of a running job is done, in [0, 1]."""
    return row.progress.step / max(1, row.progress.steps) if row.progress else 0.0


def _step(progress: Progress | None) -> str:
    return f"{progress.step}/{progress.steps}" if progress else ""
