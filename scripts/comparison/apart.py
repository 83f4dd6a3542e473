"""Measurements in processes of their own, so that peak memory is theirs alone."""

import json
import subprocess
import sys
from collections.abc import Mapping
from resource import RUSAGE_SELF, getrusage


def apart(script: str, *arguments: object) -> dict[str, float]:
    """What ``script --only ...`` gives with :func:`say`, in a process of its own.

    Raises:
        subprocess.CalledProcessError: it fails; what it wrote to standard error has been shown.
    """
    command = [sys.executable, script, "--only", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def say(measured: Mapping[str, float]) -> None:
    """Give figures to the process that asked for them."""
    print(json.dumps(measured))


def peak_megabytes() -> float:
    """Peak memory of this process so far."""
    return getrusage(RUSAGE_SELF).ru_maxrss / 1024
