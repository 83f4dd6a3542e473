"""A supervisor's ranks end together, and soon, however one of them ends."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import light_ranks
import psutil
import pytest
import rank_cases
import torch
from running import wait_for

from csd_lab.processes import RankFailedError, RanksStoppedError, RankWatch, children, supervise
from csd_lab.run_folder import RunFolder

BOUND = 30.0
"""Seconds within which the end of one rank must have ended all."""


def test_the_result_is_that_of_the_first_rank(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert supervise(light_ranks.behave, "return", ranks=2) == (0, 1.0)
    assert list(tmp_path.iterdir()) == []  # nothing is left in /tmp


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("kill", "Rank 1 of 2 was killed by SIGKILL"),
        ("raise", "Rank 1 of 2 failed: ZeroDivisionError: division by zero"),
        ("exit", "Rank 1 of 2 ended with exit code 7"),
    ],
)
def test_the_end_of_one_rank_is_the_end_of_all(how, message, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RankFailedError, match=message) as caught:
        supervise(light_ranks.behave, how, ranks=2)
    assert caught.value.rank == 1
    assert ("1 / 0" in caught.value.details) == (how == "raise")
    assert multiprocessing.active_children() == []
    assert list(tmp_path.iterdir()) == []


def test_what_fails_in_one_rank_alone_ends_training_with_a_checkpoint(tmp_path):
    start = time.monotonic()
    with pytest.raises(RankFailedError, match="Rank 1 of 2 failed: ArithmeticError: only here"):
        supervise(rank_cases.fail_alone, tmp_path, 2, ranks=2)
    assert time.monotonic() - start < BOUND + 60  # what it takes to start is not bounded
    saved = torch.load(RunFolder(tmp_path).checkpoint, weights_only=True)
    assert saved["global_step"] in (2, 3)  # of the step that was last in order


@pytest.mark.slow
def test_ranks_wait_for_the_first_beyond_the_timeout_of_their_common_work():
    assert supervise(rank_cases.wait_for_the_first, 2, 20.0, ranks=2) == 3


def lingering(folder: Path) -> list[psutil.Process]:
    """The ranks of :func:`light_ranks.linger`, once they are there."""

    def pids() -> list[str]:
        written = [path.read_text() for path in folder.iterdir()]
        return written if len(written) == 2 and all(written) else []

    return [psutil.Process(int(pid)) for pid in wait_for(pids)]


def supervise_lingering(folder: Path) -> None:
    supervise(light_ranks.linger, folder, ranks=2)


def test_no_rank_outlives_its_supervisor(tmp_path):
    supervisor = multiprocessing.get_context("spawn").Process(
        target=supervise_lingering, args=(tmp_path,)
    )
    supervisor.start()
    ranks = lingering(tmp_path)
    supervisor.kill()
    _, alive = psutil.wait_procs(ranks, timeout=10)
    assert alive == []
    supervisor.join()


def test_ranks_that_do_not_stop_are_killed_when_patience_ends(tmp_path):
    def interrupt() -> None:
        lingering(tmp_path)
        os.kill(os.getpid(), signal.SIGTERM)

    former = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(RanksStoppedError, match="SIGTERM") as caught:
        supervise(light_ranks.linger, tmp_path, ranks=2, patience=1.0)
    assert caught.value.received is signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is former
    assert multiprocessing.active_children() == []


def test_looking_at_ranks_leaves_it_to_the_launcher_to_wait_for_them():
    """Two threads that wait for one process may take its good end for a failure."""
    watch = RankWatch(children(), patience=1.0, grace=60.0)
    process = multiprocessing.get_context("spawn").Process(target=os._exit, args=(7,))
    process.start()
    multiprocessing.connection.wait([process.sentinel])
    watch.look([])
    assert watch.processes == {process}
    assert os.waitpid(process.pid, 0) == (process.pid, 7 << 8)


def test_there_is_at_least_one_rank():
    with pytest.raises(ValueError, match="ranks must be at least 1, got 0"):
        supervise(light_ranks.behave, "return", ranks=0)
