"""status.json: what became of a job."""

import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, final

from csd_lab.files import atomic_path


class State(StrEnum):
    """What a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@final
@dataclass(frozen=True)
class Status:
    """What became of a job, as its folder tells it.

    Attributes:
        state: what it is; "running" is only true while the lock is held.
        overrides: its own, as typed.
        hash: of its settings.
        launch: id of the launch that ran it last; "" for a single run.
        pid: of the process that runs or ran it; 0: none yet.
        host: name of that process's machine.
        started: when the latest attempt began, in unix seconds; 0: never.
        heartbeat: when its process last said that it lives, in unix seconds.
        ended: when the latest attempt ended, in unix seconds; 0: it has not.
        attempts: how often it was begun.
        exit_code: 0 done, 1 failed, 2 wrong settings, 128 + n ended by signal n; None: unknown.
        error: one line; "" where nothing went wrong.
        traceback: of a failure; "" if there is none.
        outputs: the files that it made, by their path in the folder, and their sizes in bytes.
    """

    state: State
    overrides: tuple[str, ...] = ()
    hash: str = ""
    launch: str = ""
    pid: int = 0
    host: str = ""
    started: float = 0.0
    heartbeat: float = 0.0
    ended: float = 0.0
    attempts: int = 0
    exit_code: int | None = None
    error: str = ""
    traceback: str = ""
    outputs: dict[str, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long the latest attempt took, or has taken when it last said that it lives."""
        return max(0.0, (self.ended or self.heartbeat) - self.started)

    def to_json(self) -> dict[str, Any]:
        """The status in JSON's types."""
        return asdict(self)


def read_status(path: Path) -> Status | None:
    """The status in a file, as it was written; None if there is no such file.

    A damaged file, which no writer of ours leaves, reads as interrupted: the job is then done over.

    Raises:
        OSError: if the file cannot be read.
    """
    try:
        content = json.loads(_text(path))
        known = {item.name for item in fields(Status)}
        values = {key: value for key, value in content.items() if key in known}
        values |= {"state": State(content["state"]), "overrides": tuple(content["overrides"])}
        return Status(**values)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return Status(State.INTERRUPTED, error=f"{path.name} is damaged.")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except OSError:  # another machine has replaced it while it was read
        return path.read_text(encoding="utf-8")


def write_status(path: Path, status: Status) -> None:
    """Put a status into a file, whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(status.to_json(), indent=2), encoding="utf-8")
