"""A launch: one command's turn at a sweep. It tries every job that it wants at most once."""

import json
import os
import secrets
import shlex
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, final

from csd_lab.files import atomic_path
from csd_lab.sweep.status import State, Status


@final
@dataclass(frozen=True)
class Launch:
    """One command's turn at a sweep.

    Attributes:
        id: its name; holds when it began, so that a job can tell what happened since.
        command: what was typed, as arguments.
        folder: where it was typed.
        jobs: hashes of the jobs that it wants, in its order.
        host: name of its machine.
        pid: of its process.
    """

    id: str
    command: tuple[str, ...]
    folder: str
    jobs: tuple[str, ...]
    host: str
    pid: int

    @classmethod
    def now(cls, command: Sequence[str], jobs: Sequence[str]) -> Self:
        """A launch that begins now, in this process."""
        name = f"at{time.time_ns() // 1_000_000}x{secrets.token_hex(3)}"
        host, pid = socket.gethostname(), os.getpid()
        return cls(name, tuple(command), str(Path.cwd()), tuple(jobs), host, pid)

    def write(self, path: Path) -> None:
        """Put it into a file, whole or not at all.

        Raises:
            OSError: if it cannot be written.
        """
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The launch in a file; None if there is none that can be read."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            lists = {key: tuple(content[key]) for key in ("command", "jobs")}
            return cls(**(content | lists))
        except (OSError, ValueError, TypeError, KeyError):
            return None


def go_on(command: Sequence[str]) -> str:
    """The command, to be typed again."""
    return shlex.join(["csd-lab", *command[1:]])


def began(launch: str) -> float:
    """When the launch with this id began, in unix seconds; now, if it is none."""
    head = launch.removeprefix("at").partition("x")[0]
    return int(head) / 1000 if head.isdigit() else time.time()


def wants(status: Status | None, launch: str, retry: bool) -> bool:
    """Whether a launch is to try a job.

    Args:
        status: of the job, as it truly is; None if it never was.
        launch: id of the launch.
        retry: whether it tries again what failed before it began.

    Returns:
        False for what is done or runs elsewhere, and for what this launch, or another since it
        began, has tried in vain.
    """
    if status is None or status.state is State.WAITING:
        return True
    if status.state is State.INTERRUPTED:
        return not launch or status.launch != launch
    if status.state is State.FAILED:
        return retry and status.ended < began(launch)
    return False
