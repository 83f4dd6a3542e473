"""What is told when a launch of a sweep has ended."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from csd_lab.sweep.folder import SweepFolder
from csd_lab.sweep.status import State
from csd_lab.sweep.table import Row, table_of

OFFLINE = "wandb/offline-run-*"
"""Where wandb keeps, in a run's folder, what it logs offline."""


def report(
    rows: Sequence[Row],
    folder: SweepFolder,
    console: Console,
    lost: Mapping[str, str],
    command: str,
    metric: str | None = None,
) -> bool:
    """Show the table, what went wrong with which overrides, and how to go on.

    Args:
        rows: the jobs of the launch.
        folder: the sweep's.
        console: where to show it.
        lost: errors that could not be written into their job's folder, by the job's name; "": of
            the launcher.
        command: that goes on with the sweep.
        metric: name of the figure to show; None: the first that a job has.

    Returns:
        Whether all jobs are done.
    """
    console.print(table_of(rows, metric))
    for row in rows:
        failure = "" if row.status.state is State.DONE else row.status.error
        if error := lost.get(row.name) or failure:
            text = Text(f"{row.status.state}: {' '.join(row.status.overrides)}\n")
            text.append(f"  {error}\n  {folder.root / row.name}")
            console.print(text, soft_wrap=True)
    if "" in lost:
        console.print(Text(lost[""], style="bold red"), soft_wrap=True)
    unfinished = [row for row in rows if row.status.state is not State.DONE]
    if unfinished:
        console.print(f"{len(unfinished)} of {len(rows)} jobs are not done.", highlight=False)
        console.print(Text(f"Go on with: {command}"), soft_wrap=True)
    console.print(Text(f"Sweep: {folder.root}"), soft_wrap=True)
    if not_uploaded(folder.root.glob(f"*/{OFFLINE}")):
        place = f"{shlex.quote(str(folder.root))}/*/wandb"
        console.print(Text(f"wandb was offline; upload with: wandb sync {place}"), soft_wrap=True)
    return not unfinished


def not_uploaded(parts: Iterable[Path]) -> list[Path]:
    """Those of wandb's offline parts that it has not sent since; it leaves a mark in the others."""
    return [part for part in parts if not any(part.glob("*.synced"))]
