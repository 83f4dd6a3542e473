"""Processes that call a function, and the places that they are given."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from running import wait_for

from csd_lab.sweep.slots import Place, Slots, cores, wanted_devices
from csd_lab.sweep.worker import Worker, last_words

CONTEXT = multiprocessing.get_context("spawn")


def variable(name):
    return os.environ[name]


def refuse(text):
    raise ValueError(text)


def die(number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(code):
    raise SystemExit(code)


def ignore_everything(path):
    """Start a process that sleeps, ignore all polite signals, and tell both pids."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    path.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
    path.with_suffix(".new").rename(path)
    child.wait()


def test_a_worker_returns_what_its_function_does():
    worker = Worker(CONTEXT, variable, "PLACE", environment={"PLACE": "first"})
    assert worker.outcome() == ("first", "", 0)
    assert "PLACE" not in os.environ


@pytest.mark.parametrize(
    ("function", "argument", "code", "told"),
    [
        (refuse, "two\nlines", 1, "two lines"),
        (die, signal.SIGKILL, 137, "Killed by SIGKILL (as the system does where memory runs out)."),
        (die, signal.SIGSEGV, 139, "Killed by SIGSEGV."),
        (leave, 3, 3, "The process ended without a word, with exit code 3."),
    ],
)
def test_a_worker_that_dies_says_how(function, argument, code, told):
    outcome = Worker(CONTEXT, function, argument).outcome()
    assert (outcome.value, outcome.error, outcome.code) == (None, told, code)


def test_killing_a_worker_kills_what_it_started(tmp_path):
    pids = tmp_path / "pids"
    worker = Worker(CONTEXT, ignore_everything, pids)
    wait_for(pids.is_file)
    own, child = map(int, pids.read_text().split())
    assert own == worker.pid
    worker.send_signal(signal.SIGTERM)
    worker.kill()
    assert worker.outcome().code == 137
    wait_for(lambda: zombie(child))


def zombie(pid):
    """Whether it has ended, though nobody has asked how."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_an_unknown_signal_has_a_number():
    assert last_words(128 + 35) == "Killed by signal 35."


def test_a_gpu_takes_as_many_jobs_as_it_is_said_to():
    slots = Slots(["0", "1"], jobs_per_device=2, jobs=1)
    places = [slots.take(1, on_cpu=False) for _ in range(4)]
    assert sorted(place.devices[0] for place in places) == ["0", "0", "1", "1"]
    assert places[0].devices != places[1].devices  # they are spread
    assert slots.take(1, on_cpu=False) is None
    assert slots.take(1, on_cpu=True) == Place((), 1)
    slots.give_back(places[0])
    assert slots.take(1, on_cpu=False) == places[0]


def test_threads_are_shared_out_among_all_places_of_a_kind(monkeypatch):
    monkeypatch.setattr("csd_lab.sweep.slots.cores", lambda: 16)
    slots = Slots(["0", "1"], jobs_per_device=2, jobs=3)
    assert (slots.threads(Place(("0",), 0)), slots.threads(Place((), 1))) == (4, 5)
    assert Slots(["0"], jobs_per_device=99, jobs=1).threads(Place(("0",), 0)) == 1


def test_a_job_of_several_devices_takes_different_ones():
    slots = Slots(["0", "1", "2"], jobs_per_device=1, jobs=1)
    first = slots.take(2, on_cpu=False)
    assert len(set(first.devices)) == 2
    assert slots.take(2, on_cpu=False) is None
    slots.give_back(first)
    assert set(slots.take(8, on_cpu=False).devices) == {"0", "1", "2"}  # all that there are


def test_without_a_gpu_jobs_share_the_cpu():
    slots = Slots([], jobs_per_device=1, jobs=3)
    assert slots.take(2, on_cpu=False) == Place((), 2)
    assert slots.take(2, on_cpu=False) is None
    assert slots.take(1, on_cpu=False) == Place((), 1)
    assert slots.threads(Place((), 1)) == max(1, cores() // 3)


@pytest.mark.parametrize(("name", "numbers"), [("jobs", (1, 0)), ("jobs_per_device", (0, 1))])
def test_bad_numbers_of_places_are_refused(name, numbers):
    with pytest.raises(ValueError, match=rf"hydra.launcher.{name} must be .* got 0"):
        Slots([], *numbers)


@pytest.mark.parametrize(
    ("devices", "wanted"),
    [
        *((1, 1), (4, 4), ("2", 2), ([0, 3], 2), ([1], 1), (None, 1), ("auto", None), (-1, None)),
        *(("0,1", 2), ("[0,1]", 2), ("[3]", 1), ("1,", 1), ("one", 1)),
    ],
)
def test_devices_that_a_trainer_wants(devices, wanted):
    assert wanted_devices(devices) == wanted


def test_all_devices_are_all_gpus_and_one_process_on_a_cpu():
    assert set(Slots(["0", "1"], 1, 3).take(None, on_cpu=False).devices) == {"0", "1"}
    assert Slots(["0", "1"], 1, 3).take(None, on_cpu=True) == Place((), 1)
    assert Slots([], 1, 3).take(None, on_cpu=False) == Place((), 1)
