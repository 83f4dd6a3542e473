"""Runs of the program in this process."""

import pytest
from running import Outcome, run_here


@pytest.fixture
def csd_lab(tmp_path, monkeypatch, capsys):
    """Calls the command line in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        return Outcome(run_here(*arguments), *capsys.readouterr())

    return call
