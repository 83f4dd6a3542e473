"""Whatever is killed: the same command again, and the results are those of an undisturbed sweep."""

import json
import os
import signal

import psutil
import pytest
import torch
from running import wait_for
from sweep_runs import start

from csd_lab.sweep import State, SweepFolder

pytestmark = pytest.mark.slow

JOBS = ("seed=0,1,2", "trainer.max_steps=60", "callbacks.checkpoint.every=5")
LONG = ("trainer.max_steps=100000", "callbacks.checkpoint.every=5")
"""Jobs that never end by themselves."""


def sweep_of(where):
    return SweepFolder(where / "outputs" / "sweeps" / "s")


def statuses(where):
    return {job.root.name: status for job, status in sweep_of(where).jobs()}


def busy(where, jobs=1, steps=6):
    """The pids of jobs that have written a checkpoint, once there are so many."""
    found = [
        status.pid
        for job, status in sweep_of(where).jobs()
        if status.state is State.RUNNING
        and job.files.checkpoint.is_file()
        and (progress := job.progress()) is not None
        and progress.step >= steps
    ]
    return found if len(found) >= jobs else None


def results(where):
    """All that a sweep computed, by job."""
    return {
        job.root.name: (
            torch.load(job.files.checkpoint, weights_only=True)["state_dict"]["latents"],
            job.files.steps.read_text(),
            json.loads(job.files.results.read_text())["metrics"],
            job.files.edited.read_bytes(),
        )
        for job, status in sweep_of(where).jobs()
        if status.state is State.DONE
    }


def same(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(a[name][0], b[name][0]) and a[name][1:] == b[name][1:] for name in a
    )


def end(process):
    out, _ = process.communicate(timeout=500)
    return process.returncode, out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a sweep that nobody disturbs computes."""
    where = tmp_path_factory.mktemp("undisturbed")
    code, out = end(start(where, *JOBS))
    assert code == 0, out
    found = results(where)
    assert len(found) == 3
    return found


def test_a_killed_worker_and_a_killed_launcher_change_no_result(tmp_path, undisturbed):
    launcher = start(tmp_path, *JOBS)
    victim = wait_for(lambda: busy(tmp_path), launcher)[0]
    os.kill(victim, signal.SIGKILL)
    code, out = end(launcher)
    assert code == 1
    assert "Killed by SIGKILL" in out
    killed = next(s for s in statuses(tmp_path).values() if s.state is not State.DONE)
    assert (killed.state, killed.exit_code) == (State.INTERRUPTED, 137)
    assert sum(s.state is State.DONE for s in statuses(tmp_path).values()) == 2  # it went on

    again = start(tmp_path, *JOBS, "seed=0,1,2,3")
    wait_for(lambda: busy(tmp_path), again)
    workers = [s.pid for s in statuses(tmp_path).values() if s.state is State.RUNNING]
    again.kill()
    again.wait()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers))
    stopped = [s for s in statuses(tmp_path).values() if s.pid in workers]
    assert {s.exit_code for s in stopped} <= {0, 143}  # they stopped by themselves, or were through
    assert all(s.ended > 0 for s in stopped)
    code, out = end(start(tmp_path, *JOBS))
    assert code == 0, out
    found = results(tmp_path)
    assert same({name: found[name] for name in undisturbed}, undisturbed)


def test_two_launches_at_once_share_the_work(tmp_path, undisturbed):
    def launches():
        return {status.launch for status in statuses(tmp_path).values() if status.launch}

    first = start(tmp_path, *JOBS)
    wait_for(lambda: busy(tmp_path), first)
    held = [psutil.Process(first.pid), *psutil.Process(first.pid).children(recursive=True)]
    for process in held:  # until the second has come, however long that takes
        process.suspend()
    second = start(tmp_path, *JOBS)
    wait_for(lambda: len(launches()) == 2, second)
    for process in held:
        process.resume()
    assert [end(process)[0] for process in (first, second)] == [0, 0]
    assert {status.attempts for status in statuses(tmp_path).values()} == {1}
    assert len(launches()) == 2
    assert same(results(tmp_path), undisturbed)


def test_a_stopped_launch_stops_its_jobs_with_a_checkpoint(tmp_path):
    launcher = start(tmp_path, *LONG, "seed=0,1,2")
    wait_for(lambda: busy(tmp_path, jobs=2), launcher)
    launcher.send_signal(signal.SIGINT)
    code, out = end(launcher)
    assert code == 130, out
    found = list(statuses(tmp_path).values())
    codes = sorted(s.exit_code for s in found if s.state is State.INTERRUPTED)
    assert codes == [130, 130]
    assert [s.state for s in found].count(State.WAITING) == 1
    for job, status in sweep_of(tmp_path).jobs():
        if status.state is State.INTERRUPTED:
            steps = json.loads(job.files.results.read_text())["steps"]
            assert torch.load(job.files.checkpoint, weights_only=True)["global_step"] == steps
    assert "Go on with: " in out


def test_a_launch_takes_over_what_another_leaves(tmp_path):
    """Its exit code is that of the whole sweep, jobs of others included."""
    first = start(tmp_path, *LONG, "seed=0")
    wait_for(lambda: busy(tmp_path), first)
    began = sweep_of(tmp_path).latest
    second = start(tmp_path, *LONG, "seed=0")
    wait_for(lambda: sweep_of(tmp_path).latest != began, second)
    ((job, status),) = sweep_of(tmp_path).jobs()
    os.kill(status.pid, signal.SIGKILL)
    code, out = end(first)
    assert code in (1, 143), out  # 143: it was still there to see the other one stop
    wait_for(lambda: job.status().attempts == 2 and busy(tmp_path, steps=1), second)
    assert job.status().pid != status.pid
    second.send_signal(signal.SIGTERM)
    assert end(second)[0] == 143
    assert job.status().state is State.INTERRUPTED
