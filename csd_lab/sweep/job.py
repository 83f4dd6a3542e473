"""One job: its folder, who holds it, and how an attempt at it begins and ends."""

import os
import shutil
import signal
import socket
import threading
import time
import traceback as tracebacks
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, final

from filelock import FileLock, Timeout

from csd_lab.files import remove_partial
from csd_lab.run_folder import RunFolder
from csd_lab.sweep.progress import Progress, read_progress
from csd_lab.sweep.status import State, Status, read_status, write_status
from csd_lab.text import on_one_line

HEARTBEAT = 5.0
"""Seconds between two signs of life."""

SILENCE = 60.0
"""Seconds after which a process of another machine, that gave no sign of life, counts as dead."""

PATIENCE = 2.0
"""Seconds for which a claim tries to get the lock: whoever only looks holds it for an instant."""

NOT_OUTPUTS = ("status.json", "progress.json", "job.lock", "output.log", "run.log")
"""Files of a job's life, which are there before it has made anything."""

NOT_RESULTS = ("checkpoints", "previews", "wandb")
"""Folders that may be deleted to save room; the job stays done."""


class RunningElsewhereError(ValueError):
    """Another process runs the job."""


class Ending(NamedTuple):
    """How an attempt ended.

    Attributes:
        code: 0 done, 1 failed, 2 wrong settings, 128 + n stopped by signal n.
        error: one line; "" if done.
        traceback: of a failure; "" if there is none.
    """

    code: int
    error: str = ""
    traceback: str = ""

    @property
    def state(self) -> State:
        """What the job is after it."""
        if self.code == 0:
            return State.DONE
        return State.INTERRUPTED if self.code > 128 else State.FAILED


@final
class JobFolder:
    """A job's folder.

    Args:
        root: its path; need not exist yet.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.files = RunFolder(root)

    def __repr__(self) -> str:
        return f"JobFolder({str(self.root)!r})"

    def status(self, held: bool = False) -> Status | None:
        """What became of the job, checked against what is there; None if it is no job yet.

        "running" becomes "interrupted" if its process is gone, "done" if an output is.

        Args:
            held: whether the caller holds the job; whatever process is named is gone then.
        """
        status = read_status(self.files.status)
        if status is None:
            return None
        if status.state is State.RUNNING and (held or not self._lives(status)):
            # the process may have written its ending after it was read, and before it let go
            status = read_status(self.files.status) or status
            if status.state is State.RUNNING:
                return died(status)
        if status.state is State.DONE and (missing := self.missing(status)):
            return replace(status, state=State.INTERRUPTED, error=f"{missing[0]} is missing.")
        return status

    def progress(self) -> Progress | None:
        """How far the job is; None if it never said."""
        return read_progress(self.files.progress)

    def missing(self, status: Status) -> list[str]:
        """Outputs that the status names and that are not there, or not as they were."""
        return [
            name
            for name, size in status.outputs.items()
            if not (self.root / name).is_file() or (self.root / name).stat().st_size != size
        ]

    def outputs(self) -> dict[str, int]:
        """What there is of what a run writes, by its path in the folder, with its size in bytes.

        Files that others put there are not the job's.
        """
        config = [self.files.config] if self.files.config.is_file() else []
        made = {path.relative_to(self.root): path for path in (*config, *self.files.written)}
        return {
            name.as_posix(): path.stat().st_size
            for name, path in sorted(made.items())
            if name.parts[0] not in NOT_RESULTS
        }

    @contextmanager
    def hold(self, patience: float = PATIENCE) -> Iterator[None]:
        """Hold the job in this process for the length of a block; nobody else can run it then.

        Raises:
            RunningElsewhereError: if somebody holds it.
            OSError: if the folder cannot be written.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.files.lock)
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            raise RunningElsewhereError(self._holder(read_status(self.files.status))) from None
        try:
            status = read_status(self.files.status)
            if status is not None and status.state is State.RUNNING and speaks(status):
                raise RunningElsewhereError(self._holder(status))
            yield
        finally:
            lock.release()

    @contextmanager
    def attempt(self, launch: str = "") -> Iterator["Attempt"]:
        """Hold the job for a block that runs it, and record what becomes of it.

        The block says how it ended by :meth:`Attempt.end`; if an exception leaves it, that is how.

        Args:
            launch: id of the launch that this belongs to; "" for a single run.

        Yields:
            The attempt, not begun yet.

        Raises:
            RunningElsewhereError: if another process runs the job.
            OSError: if the folder cannot be written.
        """
        with self.hold():
            attempt = Attempt(self, launch)
            try:
                yield attempt
            except BaseException as error:
                with suppress(OSError):  # the error that there is says more than this one
                    attempt.end(ending_of(error))
                raise
            finally:
                attempt.stop_heart()

    def bury(self, pid: int, code: int, error: str) -> None:
        """Record that the process which ran the job ended without a word; nothing if it had one.

        Args:
            pid: of the process.
            code: its exit code, as a shell would tell it.
            error: one line.

        Raises:
            OSError: if that cannot be written; the job reads as interrupted all the same.
        """
        with suppress(RunningElsewhereError), self.hold():
            status = read_status(self.files.status)
            if status is not None and status.state is State.RUNNING and status.pid == pid:
                self.put(died(status, code, error))

    def discard(self) -> None:
        """Delete the folder of a job that was refused, unless it holds what somebody made."""
        own = (*NOT_OUTPUTS, ".hydra")
        here = self.root.resolve() == Path.cwd()
        if here or any(path.name not in own for path in self.root.glob("*")):
            return
        with suppress(RunningElsewhereError, OSError), self.hold(patience=0):
            shutil.rmtree(self.root)

    def put(self, status: Status) -> None:
        """Write a status; only for who holds the job.

        Raises:
            OSError: if it cannot be written.
        """
        write_status(self.files.status, status)

    def _lives(self, status: Status) -> bool:
        """Whether the process that runs the job is alive."""
        return speaks(status) or self._is_held()

    def _is_held(self) -> bool:
        if not self.files.lock.is_file():
            return False
        try:
            with FileLock(self.files.lock, timeout=0):
                return False
        except (Timeout, OSError):
            return True

    def _holder(self, status: Status | None) -> str:
        who = f" (process {status.pid} on {status.host})" if status and status.pid else ""
        return f"{str(self.root)!r} is being run by another process{who}; wait for it or stop it."


@final
class Attempt:
    """An attempt at a job that this process holds; made by :meth:`JobFolder.attempt`.

    Attributes:
        former: what the job was before; None if it was none.
    """

    def __init__(self, folder: JobFolder, launch: str) -> None:
        self.former = folder.status(held=True)
        self._folder = folder
        self._status = Status(
            State.RUNNING, launch=launch, pid=os.getpid(), host=socket.gethostname()
        )
        self._begun = False
        self._progress: bytes | None = None
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None

    def begin(self, identity: str, overrides: Sequence[str] = ()) -> None:
        """Say that the job runs, and go on saying that its process lives.

        Args:
            identity: hash of the job's settings.
            overrides: the job's own, as typed.

        Raises:
            OSError: if that cannot be written.
        """
        for place in self._folder.files.places:
            remove_partial(place)
        with suppress(FileNotFoundError):
            self._progress = self._folder.files.progress.read_bytes()
            self._folder.files.progress.unlink()
        now = time.time()
        former = self.former
        same = former is not None and former.hash == identity
        self._status = replace(
            self._status,
            launch=self._status.launch or (former.launch if former and same else ""),
            hash=identity,
            overrides=tuple(overrides),
            started=now,
            heartbeat=now,
            attempts=1 + (former.attempts if former else 0),
        )
        self._folder.put(self._status)
        self._begun = True
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._heart.start()

    def end(self, ending: Ending) -> None:
        """Say how the job ended; what is done records its outputs. Only the first ending counts.

        Raises:
            OSError: if that cannot be written; the job then reads as interrupted.
        """
        if not self._begun:
            return
        self.stop_heart()
        self._begun = False
        now = time.time()
        self._folder.put(
            replace(
                self._status,
                state=ending.state,
                heartbeat=now,
                ended=now,
                exit_code=ending.code,
                error=ending.error,
                traceback=ending.traceback,
                outputs=self._folder.outputs() if ending.state is State.DONE else {},
            )
        )

    def withdraw(self) -> None:
        """Leave the job as it was found, since nothing was run.

        Raises:
            OSError: if that cannot be written.
        """
        if not self._begun:
            return
        self.stop_heart()
        self._begun = False
        if self.former is None:
            self._folder.files.status.unlink(missing_ok=True)
        else:
            if self._progress is not None:
                self._folder.files.progress.write_bytes(self._progress)
            self._folder.put(self.former)

    def stop_heart(self) -> None:
        """Give no more signs of life."""
        self._stop.set()
        if self._heart is not None:
            self._heart.join()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            with suppress(OSError):  # a full disk is told by who has something to say
                self._folder.put(replace(self._status, heartbeat=time.time()))


def died(status: Status, code: int | None = None, error: str = "") -> Status:
    """The status of a job whose process ended without a word.

    Args:
        status: what it said last.
        code: its exit code, as a shell would tell it; None: unknown.
        error: one line; "": that it is gone.
    """
    return replace(
        status,
        state=State.INTERRUPTED,
        ended=status.heartbeat,
        exit_code=code,
        error=error or f"Process {status.pid} on {status.host} is gone.",
    )


def speaks(status: Status) -> bool:
    """Whether the process is of another machine and gave a sign of life lately.

    Locks do not reach over every network's file system, signs of life do.
    """
    return status.host != socket.gethostname() and time.time() - status.heartbeat < SILENCE


def ending_of(error: BaseException) -> Ending:
    """The ending that an exception is.

    Exceptions that ask the process to stop make an interruption, all others a failure.
    """
    if isinstance(error, KeyboardInterrupt):
        return Ending(128 + signal.SIGINT, "Stopped by SIGINT.")
    if not isinstance(error, Exception):
        code = error.code if isinstance(error, SystemExit) else None
        if isinstance(code, int) and code > 128:
            return Ending(code, f"Stopped by {signal.Signals(code - 128).name}.")
        return Ending(128 + signal.SIGTERM, f"Stopped by {type(error).__name__}.")
    text = on_one_line(error) or type(error).__name__
    return Ending(1, text, "".join(tracebacks.format_exception(error)))
