"""Runs of the program in this process."""

import sys
from typing import NamedTuple

import pytest
from hydra.core.global_hydra import GlobalHydra

from csd_lab import cli


class Outcome(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def csd_lab(tmp_path, monkeypatch, capsys):
    """Calls the command line in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["csd-lab", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        return Outcome(code, *capsys.readouterr())

    return call
