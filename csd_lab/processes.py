"""Several processes of this machine as one: a supervisor and its ranks.

The supervisor starts K ranks by torch's own elastic launcher and waits. What it adds is how they
end, since a job must end as a whole, and soon:

    a rank dies, or raises     the others are ended, and the error says which rank and why
    SIGTERM, SIGINT            are passed on to the ranks, which stop when they are ready to
    a second signal            the ranks are killed
    the supervisor is killed   the ranks are killed at once: whoever takes the job up next must
                               not find them still writing

Imports nothing of the package.
"""

import ctypes
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NamedTuple, TypeVar, final

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from csd_lab.text import on_one_line

Result = TypeVar("Result")

STOPS = (signal.SIGTERM, signal.SIGINT)
"""The signals that ask a program to stop."""

TICK = 0.1
"""Seconds between two looks at the ranks."""

ECHO = 1.0
"""Seconds within which a second signal is taken for the first one, come by another way: a terminal
signals all of its processes, and some of them pass it on."""

REMINDER = 1.0
"""Seconds between two signals to a rank that was asked to stop: one that comes before a rank
listens would be lost."""

PR_SET_PDEATHSIG = 1


@final
class RankFailedError(RuntimeError):
    """A rank died or raised, and the others were ended.

    Args:
        note: of the rank; without an error if it was killed.
        ranks: how many there were.
        reason: what happened to it; completes "Rank 1 of 2 ...".

    Attributes:
        rank: which.
        error: the name of the exception's type; "" if it was killed.
        message: the exception's, in a line.
        details: the traceback.
    """

    def __init__(self, note: "Note", ranks: int, reason: str) -> None:
        super().__init__(f"Rank {note.rank} of {ranks} {reason}")
        self.rank = note.rank
        self.error = note.error
        self.message = note.message
        self.details = note.details


@final
class RanksStoppedError(RuntimeError):
    """The ranks were asked to stop by a signal, and ended without a result.

    Attributes:
        received: the signal.
    """

    def __init__(self, received: signal.Signals) -> None:
        super().__init__(f"Stopped by {received.name}.")
        self.received = received


def supervise(
    function: Callable[..., Result],
    *arguments: Any,
    ranks: int,
    patience: float = 1800.0,
    grace: float = 10.0,
) -> Result:
    """Call a function in several processes at once, as the ranks of one group.

    Each rank finds RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in its environment,
    as under torchrun, so that ``torch.distributed.init_process_group()`` and Lightning know what
    to do. Signals are passed on only if this is the main thread.

    Args:
        function: of a module's top level, called in each rank.
        *arguments: its arguments; they must be picklable.
        ranks: how many, >= 1.
        patience: seconds that the ranks have to stop after a signal before they are killed.
        grace: seconds that the others have to end after one failed before they are killed.

    Returns:
        What rank 0 returned.

    Raises:
        ValueError: ``ranks`` is below 1.
        RankFailedError: a rank died or raised.
        RanksStoppedError: a signal stopped the ranks before they had a result.
    """
    if ranks < 1:
        raise ValueError(f"ranks must be at least 1, got {ranks!r}.")
    before = children()
    with (
        TemporaryDirectory(prefix="csd_lab_ranks_") as notes,
        quiet_launcher(),
        ThreadPoolExecutor(1, "ranks") as thread,  # whose end would be the ranks' end, too
        heard_signals() as heard,
    ):
        started = elastic_launch(settings(ranks, notes), rank_main)
        future = thread.submit(started, os.getpid(), Path(notes), function, arguments)
        watch = RankWatch(before, patience, grace)
        try:
            while not future.done():
                watch.look(heard)
                time.sleep(TICK)
        except BaseException:
            watch.kill()
            raise
        return outcome(future, Path(notes), watch, heard, ranks)


def settings(ranks: int, folder: str) -> LaunchConfig:
    """One try on this machine alone, at a port that the system chooses."""
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=TICK,
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(log_dir=folder),
    )


@final
class RankWatch:
    """Passes signals on, and kills ranks that do not end.

    It only looks at the ranks and never waits for them, since the launcher does, in another thread.

    Args:
        before: children of this process that are no ranks.
        patience: seconds to stop in, after a signal.
        grace: seconds to end in, after another rank failed.

    Attributes:
        killed: ranks that were killed from here, by their process ids.
    """

    def __init__(self, before: set[BaseProcess], patience: float, grace: float) -> None:
        self.before = before
        self.patience = patience
        self.grace = grace
        self.killed: set[int] = set()
        self.processes: set[BaseProcess] = set()
        self._deadline = float("inf")
        self._reminder = 0.0

    def look(self, heard: list[signal.Signals]) -> None:
        """One look at the ranks.

        Args:
            heard: the signals that came so far.
        """
        self.processes |= children() - self.before
        now = time.monotonic()
        if any(exit_code(process) for process in self.processes):
            self._deadline = min(self._deadline, now + self.grace)
        if heard:
            self._deadline = min(self._deadline, now + self.patience)
        if now > self._deadline or len(heard) > 1:
            self.kill()
        elif heard and now > self._reminder:
            self._send(heard[0])
            self._reminder = now + REMINDER

    def kill(self) -> None:
        """Kill the ranks that are still there."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for process in self.processes:
            if process.pid is not None and exit_code(process) is None:
                if number == signal.SIGKILL:
                    self.killed.add(process.pid)
                with suppress(ProcessLookupError):  # it ended just now
                    os.kill(process.pid, number)

    def ends(self) -> dict[int, int]:
        """Exit codes by process id of ranks that did not end well, and not by a signal from here.

        A negative code is that of a signal.
        """
        codes = {p.pid: exit_code(p) or 0 for p in self.processes if p.pid}
        return {
            pid: code
            for pid, code in codes.items()
            if code and -code not in STOPS and pid not in self.killed
        }


def children() -> set[BaseProcess]:
    """The processes that were started from this one and not waited for yet.

    ``multiprocessing.active_children`` waits for those that have ended. Of two threads that wait
    for one process at the same time one may find it gone without an exit code, and take that for a
    failure.
    """
    return set(multiprocessing.process._children)  # type: ignore[attr-defined]


def exit_code(process: BaseProcess) -> int | None:
    """The exit code of a process that somebody has waited for, else None; it is not waited for."""
    started = process._popen  # type: ignore[attr-defined]
    code: int | None = None if started is None else started.returncode
    return code


class Note(NamedTuple):
    """What a rank leaves for its supervisor.

    Attributes:
        rank: whose.
        pid: its process id.
        failed: when it raised, in unix seconds; infinity if it did not.
        error: the name of the exception's type; "" if it raised none.
        message: the exception's, in a line.
        details: the traceback.
    """

    rank: int
    pid: int
    failed: float = float("inf")
    error: str = ""
    message: str = ""
    details: str = ""

    def write(self, folder: Path) -> None:
        """Put the note into the supervisor's folder, whole or not at all."""
        path = folder / f"{self.rank}.part"
        path.write_text(json.dumps(self._asdict()), encoding="utf-8")
        path.replace(path.with_suffix(".note"))


def outcome(
    future: Future[dict[int, Any]],
    folder: Path,
    watch: RankWatch,
    heard: list[signal.Signals],
    ranks: int,
) -> Any:
    """What rank 0 returned, or the error that says what went wrong first.

    A rank that ends without a word takes others with it, whose own errors then only say that they
    lost their partner; among ranks that raised, the first one is the cause.
    """
    try:
        return future.result()[0]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.note")]
    notes = [Note(**json.loads(text)) for text in texts]
    ends = watch.ends()
    for note in notes:
        if note.pid in ends and not note.error:
            raise RankFailedError(note, ranks, end_by(ends[note.pid]))
    first = min(notes, key=lambda note: note.failed, default=None)
    if first is not None and first.error:
        raise RankFailedError(first, ranks, f"failed: {first.error}: {first.message}")
    if heard:
        raise RanksStoppedError(heard[0])
    raise RankFailedError(Note(rank, failure.pid), ranks, end_by(failure.exitcode))


def end_by(code: int) -> str:
    """The end of a sentence about a rank that ended with this code, negative for a signal."""
    if code >= 0:
        return f"ended with exit code {code}."
    number = signal.Signals(-code)
    hint = "; memory may have run out" if number == signal.SIGKILL else ""
    return f"was killed by {number.name}{hint}."


@contextmanager
def heard_signals() -> Iterator[list[signal.Signals]]:
    """Collects the signals that ask to stop, in the place of their handlers.

    Yields:
        Those that came so far; always empty outside the main thread.
    """
    heard: list[signal.Signals] = []
    last = float("-inf")
    if threading.current_thread() is not threading.main_thread():
        yield heard
        return

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal last
        del frame
        if time.monotonic() - last > ECHO:
            heard.append(signal.Signals(number))
        last = time.monotonic()

    former = {number: signal.signal(number, hear) for number in STOPS}
    try:
        yield heard
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def quiet_launcher() -> Iterator[None]:
    """Keeps torch's launcher from printing what the errors of this module say."""
    names = [
        n for n in logging.root.manager.loggerDict if n.startswith("torch.distributed.elastic")
    ]
    others = ("torch.multiprocessing.spawn", "torchelastic-events-null")
    loggers = [logging.getLogger(name) for name in (*names, *others)]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def rank_main(
    supervisor: int, folder: Path, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    """What a rank does: see that it dies with its supervisor, call the function, tell of errors.

    Args:
        supervisor: its process id.
        folder: where the supervisor reads notes.
        function: to be called.
        arguments: of the function.

    Returns:
        What the function returned.
    """
    die_with(supervisor)
    for number in STOPS:
        signal.signal(number, signal.SIG_DFL)
    share_cores(int(os.environ["LOCAL_WORLD_SIZE"]))
    note = Note(int(os.environ["RANK"]), os.getpid())
    note.write(folder)
    try:
        value = function(*arguments)
    except BaseException as error:
        note._replace(
            failed=time.time(),
            error=type(error).__name__,
            message=on_one_line(error),
            details=traceback.format_exc(),
        ).write(folder)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # at once: what the group of ranks left half done can hang or crash an exit
    ignore_stops()  # the others may still be at work, and all end together
    return value


def share_cores(ranks: int) -> None:
    """Give each rank its part of the machine's cores, unless OMP_NUM_THREADS says how many."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // ranks))


def ignore_stops() -> None:
    """Take no notice of signals that ask to stop, but where somebody handles them later.

    For a rank between its start and its end: its supervisor reminds it, and ends it in the end.
    """
    for number in STOPS:
        signal.signal(number, take_no_notice)


def take_no_notice(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing; unlike SIG_IGN, programs started from here do not inherit it."""
    del number, frame


def die_with(parent: int) -> None:
    """Make this process die when its parent does, however that dies.

    Linux does it by itself, even while this process hangs in a call. Elsewhere a thread watches.

    Args:
        parent: process id of the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    else:
        threading.Thread(target=watch_parent, name="watch_parent", daemon=True).start()
    if os.getppid() != parent:  # it died before we could ask
        os.kill(os.getpid(), signal.SIGKILL)


def watch_parent() -> None:
    """Wait for the end of the process that started this one, and end this one with it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)
