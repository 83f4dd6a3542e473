"""A sweep that logs to wandb, run once for all tests here."""

import subprocess
import sys
from typing import NamedTuple

import pytest
import yaml
from wandb_records import COMMAND, Part, parts

from csd_lab.run_folder import RunFolder


class Job(NamedTuple):
    """A job's folder, config and what wandb has of it."""

    folder: RunFolder
    config: dict
    parts: list[Part]


@pytest.fixture(scope="session")
def sweep(tmp_path_factory):
    """A sweep of four jobs in one process, in a git repository; two of them fail."""
    place = tmp_path_factory.mktemp("sweep")
    for command in (
        ["git", "init", "--quiet"],
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty", "-qm", "x"],
    ):
        subprocess.run(command, cwd=place, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "csd_lab.cli", *COMMAND],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 1, done.stderr
    assert "upload with: wandb sync outputs/sweeps/three/*/wandb\n" in done.stderr + done.stdout
    return place


@pytest.fixture(scope="session")
def jobs(sweep):
    """The jobs by (method, learning rate)."""
    found = {}
    for root in sorted((sweep / "outputs/sweeps/three").glob("*/")):
        config = yaml.safe_load((root / "config.yaml").read_text())
        key = config["choices"]["method"], config["optimizer"]["optimizer"]["lr"]
        found[key] = Job(RunFolder(root), config, parts(root))
    return found
