"""Sweeps of the program in this process."""

import pytest
from running import Outcome, run_here
from sweep_runs import LIGHT

from csd_lab.sweep import SweepFolder


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    """Calls `csd-lab -m` in an empty folder, in this process, one job after the other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str, light: tuple[str, ...] = LIGHT) -> Outcome:
        command = ("-m", "sweep.name=s", "hydra/launcher=basic", *light, *arguments)
        return Outcome(run_here(*command), *capsys.readouterr())

    return call


@pytest.fixture
def folder(tmp_path):
    """The folder of that sweep."""
    return SweepFolder(tmp_path / "outputs" / "sweeps" / "s")
