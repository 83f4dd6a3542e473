"""Looks at the jobs of a sweep while they run, and tells what happens to them when it happens."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self, final

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from csd_lab.sweep.job import JobFolder
from csd_lab.sweep.status import State
from csd_lab.sweep.table import Row, duration, figure, first_figure, row_of, table_of

ROWS_AROUND = 8
"""Lines of a terminal that are not for rows of the table."""


@final
class Watch:
    """Shows jobs while they run: on a terminal as a table, else as a line whenever one changes.

    Args:
        jobs: which to watch.
        console: where to show them.
        metric: name of the figure to show; None: the first that a job has.
        every: seconds between two looks.

    Raises:
        ValueError: if ``every`` is not positive.
    """

    def __init__(
        self,
        jobs: Sequence[JobFolder],
        console: Console,
        metric: str | None = None,
        every: float = 1.0,
    ) -> None:
        if every <= 0:
            raise ValueError(f"every must be positive, got {every}.")
        self.jobs = jobs
        self.console = console
        self.metric = metric
        self.every = every
        self._rows: dict[str, Row] = {}
        self._told: dict[str, tuple[State, int]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self.look(silent=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.look()

    @property
    def rows(self) -> list[Row]:
        """The jobs as they were at the last look."""
        return list(self._rows.values())

    def look(self, silent: bool = False) -> None:
        """Look at all jobs that are not done, and tell what has changed.

        Args:
            silent: tell nothing.
        """
        for job in self.jobs:
            former = self._rows.get(job.root.name)
            if former is not None and former.status.state is State.DONE:
                continue
            try:
                status = job.status()
            except OSError:  # such as of a file that another machine replaces: look again later
                continue
            if status is None:
                continue
            row = row_of(job, status)
            self._rows[row.name] = row
            event = (status.state, status.attempts)
            if self._told.get(row.name) != event and not silent:
                self._tell(job, row)
            self._told[row.name] = event

    def _tell(self, job: JobFolder, row: Row) -> None:
        status = row.status
        text = Text(f"{row.name} {' '.join(status.overrides)}: ")
        if status.state is State.FAILED:
            text.append(f"failed: {status.error}", style="bold red").append(f" ({job.root})")
        elif status.state is State.INTERRUPTED:
            text.append(f"interrupted: {status.error}", style="yellow").append(f" ({job.root})")
        elif self.console.is_terminal:
            return
        elif status.state is State.DONE:
            metric = self.metric or first_figure([row])
            text.append(f"done in {duration(status.seconds)}  {metric or ''} {figure(row, metric)}")
        else:
            text.append(status.state)
        self.console.print(text, soft_wrap=True)

    def _run(self) -> None:
        with ExitStack() as stack:
            show: Callable[[], None] = lambda: None  # noqa: E731
            if self.console.is_terminal:
                live = Live(console=self.console, auto_refresh=False, transient=True)
                stack.enter_context(live)
                show = lambda: live.update(self._table(), refresh=True)  # noqa: E731
            while not self._stop.is_set():
                began = time.monotonic()
                self.look()
                show()
                self._stop.wait(max(self.every, 5 * (time.monotonic() - began)))

    def _table(self) -> Table:
        return table_of(self.rows, self.metric, max(5, self.console.height - ROWS_AROUND))
