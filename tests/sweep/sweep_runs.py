"""Sweeps of the program in processes of their own."""

import subprocess
import sys
import time
from pathlib import Path

LIGHT = ("experiment=colours", "data.frames=3", "metrics=pixels", "callbacks.preview=null")


def start(where: Path, *arguments: str) -> subprocess.Popen:
    """Start `csd-lab -m` in a process of its own, two jobs at once."""
    command = [sys.executable, "-m", "csd_lab.cli", "-m", "sweep.name=s", *LIGHT]
    return subprocess.Popen(
        [*command, "hydra.launcher.jobs=2", *arguments],
        cwd=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, seconds: float = 300.0, while_runs: subprocess.Popen | None = None):
    """The first true value of a condition."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        if while_runs is not None and while_runs.poll() is not None:
            raise AssertionError(while_runs.communicate()[0])
        time.sleep(0.02)
    raise AssertionError("It did not come true in time.")
