"""A process that calls one function, can be stopped and killed, and stops if its parent dies."""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple, final

from csd_lab.text import on_one_line


class Outcome(NamedTuple):
    """What became of a call.

    Attributes:
        value: what the function returned; None if it did not.
        error: one line; "" if it returned.
        code: exit code as a shell tells it: 128 + n if signal n killed the process.
    """

    value: Any
    error: str
    code: int


@final
class Worker:
    """A process that calls one function; a session of its own, out of reach of Ctrl-C.

    Args:
        context: how processes are made.
        function: of a module's top level.
        *arguments: its arguments; they must be picklable.
        environment: environment variables to set before.
    """

    def __init__(
        self,
        context: BaseContext,
        function: Callable[..., Any],
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._connection, theirs = context.Pipe(duplex=False)
        call = (theirs, dict(environment or {}), function, arguments)
        self._process = context.Process(target=_call, args=call)  # type: ignore[attr-defined]
        self._process.start()
        theirs.close()
        self._answer: tuple[Any, str] | None = None

    @property
    def pid(self) -> int:
        """Its process's id."""
        return int(self._process.pid)

    @property
    def handles(self) -> tuple[Connection, int]:
        """What becomes ready for :func:`~multiprocessing.connection.wait` when the call is over."""
        return self._connection, self._process.sentinel

    def outcome(self) -> Outcome:
        """Wait for the end of the call and of the process."""
        wait(self.handles)
        with suppress(EOFError, OSError, pickle.UnpicklingError):
            if self._connection.poll():
                self._answer = self._connection.recv()
        self._process.join()
        self._connection.close()
        number = self._process.exitcode or 0
        code = number if number >= 0 else 128 - number
        if self._answer is not None:
            return Outcome(*self._answer, code)
        return Outcome(None, last_words(code), code)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, if there still is one."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process and all that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.send_signal(signal.SIGKILL)


def last_words(code: int) -> str:
    """What an exit code says of a process that said nothing itself, as one line."""
    if code <= 128:
        return f"The process ended without a word, with exit code {code}."
    number = code - 128
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    hint = " (as the system does where memory runs out)" if number == signal.SIGKILL else ""
    return f"Killed by {name}{hint}."


def _call(
    connection: Connection,
    environment: Mapping[str, str],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    """In the new process: call the function and send what it returns."""
    os.setsid()
    os.environ.update(environment)
    threading.Thread(target=_follow_parent, name="parent", daemon=True).start()
    try:
        answer = (function(*arguments), "")
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        answer = (None, on_one_line(error) or type(error).__name__)
    with suppress(BrokenPipeError):  # the parent is gone; what counts is in the job's folder
        connection.send(answer)
    if answer[1]:
        raise SystemExit(1)


def _follow_parent() -> None:
    """Stop this process, as SIGTERM does, when the one that made it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
