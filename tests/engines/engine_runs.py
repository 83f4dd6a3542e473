"""Sweeps of the program in processes of their own, and what they left."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from csd_lab.sweep import State, SweepFolder

LIGHT = (
    "experiment=colours",
    "data.frames=3",
    "data.size=8",
    "metrics=pixels",
    "callbacks.preview=null",
)


def start(where: Path, *arguments: str) -> subprocess.Popen:
    """Start `csd-lab -m` with light jobs in a process group of its own."""
    command = [sys.executable, "-m", "csd_lab.cli", "-m", *LIGHT, *arguments]
    return subprocess.Popen(
        command,
        cwd=where,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen, seconds: float = 900.0) -> str:
    """What a process printed, once it has ended well."""
    out, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, out
    return out


def kill_group(process: subprocess.Popen) -> None:
    """Kill a process and all that it started, at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def statuses(where: Path, name: str) -> dict:
    """What became of the jobs of a sweep, by their names."""
    folder = SweepFolder(where / "outputs" / "sweeps" / name)
    return {job.root.name: status for job, status in folder.jobs()}


def running(where: Path, name: str) -> list:
    """The jobs of a sweep that run, as their statuses."""
    return [s for s in statuses(where, name).values() if s.state is State.RUNNING]


def all_done(where: Path, name: str, count: int) -> bool:
    """Whether a sweep has as many jobs, and all are done."""
    states = [status.state for status in statuses(where, name).values()]
    return states == [State.DONE] * count


def figures(where: Path, name: str) -> dict:
    """The final metrics of the jobs of a sweep, by the jobs' names."""
    paths = (where / "outputs" / "sweeps" / name).glob("*/metrics.json")
    return {path.parent.name: json.loads(path.read_text())["metrics"] for path in paths}
