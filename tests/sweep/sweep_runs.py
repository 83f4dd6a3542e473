"""Sweeps of the program in processes of their own."""

import subprocess
import sys
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
