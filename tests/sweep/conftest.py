"""Sweeps of the program in this process."""

import sys
from typing import NamedTuple

import pytest
from hydra.core.global_hydra import GlobalHydra
from sweep_runs import LIGHT

from csd_lab import cli
from csd_lab.sweep import SweepFolder


class Outcome(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    """Calls `csd-lab -m` in an empty folder, in this process, one job after the other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str, light: tuple[str, ...] = LIGHT) -> Outcome:
        GlobalHydra.instance().clear()
        command = ["csd-lab", "-m", "sweep.name=s", "hydra/launcher=basic", *light, *arguments]
        monkeypatch.setattr(sys, "argv", command)
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture
def folder(tmp_path):
    """The folder of that sweep."""
    return SweepFolder(tmp_path / "outputs" / "sweeps" / "s")
