"""Runs of the program in processes of their own."""

import subprocess
import sys
from pathlib import Path


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start the command line in a process of its own."""
    command = [sys.executable, "-m", "csd_lab.cli", *arguments]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
