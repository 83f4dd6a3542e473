"""How the launcher starts jobs, and stops."""

import os
import signal
from types import SimpleNamespace

import pytest
from hydra.core.utils import JobReturn
from hydra_plugins.csd_lab_sweep.launcher import Demand, Dispatch

from csd_lab.sweep import JobFolder
from csd_lab.sweep.slots import Slots


class Job:
    """A process that ends when it is told to, or at once."""

    def __init__(self, name, log):
        self.name, self.log = name, log
        self.handles = [os.open(os.devnull, os.O_RDONLY)]  # ready from the beginning
        self.pid = 0

    def send_signal(self, number):
        self.log.append(f"{signal.Signals(number).name} to {self.name}")

    def outcome(self):
        self.log.append(f"end of {self.name}")
        os.close(self.handles[0])
        return SimpleNamespace(value=JobReturn())


@pytest.mark.parametrize("moment", ["composed", "started"])
def test_no_job_outlives_a_signal_that_comes_while_it_begins(tmp_path, moment):
    log = []

    def demand(overrides):
        if moment == "composed":
            os.kill(os.getpid(), signal.SIGTERM)
        return Demand(JobFolder(tmp_path), 1, True)

    def start(overrides, index, place):
        log.append(f"start of {overrides[0]}")
        if moment == "started":
            os.kill(os.getpid(), signal.SIGTERM)
        return Job(overrides[0], log)

    dispatch = Dispatch(Slots((), 1, 2), start, demand, lambda results: False)
    with pytest.raises(SystemExit) as left:
        dispatch.run([["a"], ["b"]], 0)
    assert left.value.code == 128 + signal.SIGTERM
    begun = ["start of a", "SIGTERM to a", "end of a"]
    assert log == ([] if moment == "composed" else begun)
