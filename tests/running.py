"""The program in this process, and waiting for what other processes do."""

import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import pytest
from hydra.core.global_hydra import GlobalHydra

from csd_lab import cli

Value = TypeVar("Value")


class Outcome(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


def run_here(*arguments: str) -> int:
    """Call the command line in this process; its exit code."""
    GlobalHydra.instance().clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["csd-lab", *arguments])
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 1
    return 0


def wait_for(
    condition: Callable[[], Value],
    process: subprocess.Popen | None = None,
    seconds: float = 600.0,
) -> Value:
    """The first true value of a condition, while a process runs if one is given."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    raise TimeoutError("It did not come true in time.")
