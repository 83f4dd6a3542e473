"""Who holds a job, and what is left when the holder dies, with real processes."""

import json
import signal
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest
from running import wait_for

from csd_lab.files import PARTIAL
from csd_lab.sweep import Ending, JobFolder, RunningElsewhereError, State, Status, SweepFolder
from csd_lab.sweep import job as job_module
from csd_lab.sweep.launches import Launch, wants
from csd_lab.sweep.status import read_status, write_status


def holder(folder: JobFolder, *, beats: float = 5.0) -> subprocess.Popen:
    """A process that has begun the job and waits for a line."""
    program = f"""
        import sys
        from csd_lab.sweep import Ending, JobFolder, job
        job.HEARTBEAT = {beats}
        with JobFolder(sys.argv[1]).attempt("launch") as attempt:
            attempt.begin("abc", ["seed=1"])
            print("begun", flush=True)
            input()
            attempt.end(Ending(0))
        """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(folder.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    return process


def attempt(folder: JobFolder, ending: Ending, launch: str = "") -> Status:
    with folder.attempt(launch) as held:
        held.begin("abc", ["seed=1"])
        held.end(ending)
    return folder.status()


@pytest.fixture
def job(tmp_path):
    return JobFolder(tmp_path / "job")


def test_one_of_two_claimants_has_it(job, monkeypatch):
    monkeypatch.setattr(job_module, "PATIENCE", 0.1)
    process = holder(job)
    assert job.status().state is State.RUNNING
    assert job.status().pid == process.pid
    with pytest.raises(RunningElsewhereError, match=f"process {process.pid}"), job.hold(0.1):
        pass
    process.communicate("end\n")
    assert job.status().state is State.DONE
    with job.hold(0.1):
        pass


def test_many_claimants_at_once_run_it_once(tmp_path):
    program = """
        import sys
        from csd_lab.sweep import Ending, JobFolder, RunningElsewhereError
        input()
        try:
            with JobFolder(sys.argv[1]).attempt() as attempt:
                if attempt.former is None:
                    attempt.begin("abc")
                    with open(sys.argv[1] + "/marker", "a") as file:
                        file.write("once ")
                    attempt.end(Ending(0))
        except RunningElsewhereError:
            pass
        """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    claimants = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(8)]
    for claimant in claimants:
        claimant.stdin.write("go\n")
        claimant.stdin.flush()
    assert [claimant.wait(60) for claimant in claimants] == [0] * 8
    assert (tmp_path / "marker").read_text() == "once "
    assert JobFolder(tmp_path).status().attempts == 1


def test_a_killed_holder_leaves_an_interrupted_job(job):
    process = holder(job)
    process.kill()
    process.wait()
    status = job.status()
    assert status.state is State.INTERRUPTED
    assert f"{process.pid}" in status.error
    assert read_status(job.files.status).state is State.RUNNING  # nobody has written since
    with job.attempt("next") as claim:  # whoever takes it over sees the same
        assert claim.former.state is State.INTERRUPTED
        assert wants(claim.former, "next", retry=True)
    after = attempt(job, Ending(0))
    assert (after.state, after.attempts) == (State.DONE, 2)


def test_the_heart_beats_while_the_job_runs(job):
    process = holder(job, beats=0.05)
    first = job.status().heartbeat
    wait_for(lambda: job.status().heartbeat > first)
    process.communicate("end\n")
    ended = job.status()
    assert ended.started <= first <= ended.ended == ended.heartbeat


def test_a_process_of_another_machine_lives_while_it_says_so(job):
    now = time.time()
    other = Status(State.RUNNING, host="elsewhere", pid=1, started=now - 100, heartbeat=now)
    write_status(job.files.status, other)
    assert job.status().state is State.RUNNING
    with pytest.raises(RunningElsewhereError, match="elsewhere"), job.hold():
        pass
    write_status(job.files.status, replace(other, heartbeat=now - job_module.SILENCE - 1))
    assert job.status().state is State.INTERRUPTED
    assert attempt(job, Ending(0)).state is State.DONE


@pytest.mark.parametrize(
    ("error", "state", "code", "told"),
    [
        (ValueError("two\nlines"), State.FAILED, 1, "two lines"),
        (KeyboardInterrupt(), State.INTERRUPTED, 130, "Stopped by SIGINT."),
        (SystemExit(143), State.INTERRUPTED, 143, "Stopped by SIGTERM."),
    ],
)
def test_an_exception_is_an_ending(job, error, state, code, told):
    def fail():
        raise error

    with pytest.raises(type(error)), job.attempt() as held:
        held.begin("abc") or fail()
    status = job.status()
    assert (status.state, status.exit_code, status.error) == (state, code, told)
    assert ("ValueError" in status.traceback) == isinstance(error, ValueError)


def test_done_means_that_the_outputs_are_there(job):
    with job.attempt() as held:
        held.begin("abc")
        job.files.results.write_text("{}")
        job.files.plots.mkdir()
        (job.files.plots / "kernel.png").write_bytes(b"123")
        job.files.checkpoint.parent.mkdir()
        job.files.checkpoint.write_bytes(b"large")
        job.files.output.write_text("said")
        (job.root / "notes.md").write_text("a user's own")
        held.end(Ending(0))
    assert job.status().outputs == {"metrics.json": 2, "plots/kernel.png": 3}
    (job.root / "notes.md").unlink()
    job.files.checkpoint.unlink()  # to save room
    assert job.status().state is State.DONE
    (job.files.plots / "kernel.png").write_bytes(b"12")
    assert job.status().state is State.INTERRUPTED
    assert job.status().error == "plots/kernel.png is missing."


def test_an_attempt_removes_what_killed_writers_left_where_a_run_writes(job):
    left = [place / f"{PARTIAL}0123456789abcdef.x" for place in job.files.places]
    for path in (*left, job.files.checkpoint):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    attempt(job, Ending(0))
    assert not any(path.exists() for path in left)
    assert job.files.checkpoint.is_file()


def test_an_attempt_that_is_withdrawn_never_was(job):
    done = attempt(job, Ending(0))
    with job.attempt() as held:
        held.begin("abc")
        held.withdraw()
        held.end(Ending(2, "refused"))
    assert job.status() == done


def test_a_damaged_status_is_an_interrupted_job(job):
    job.root.mkdir()
    job.files.status.write_text('{"state": "done", "over')
    assert job.status().state is State.INTERRUPTED
    assert "damaged" in job.status().error


def test_status_of_a_newer_version_can_be_read(job):
    content = attempt(job, Ending(0)).to_json() | {"colour": "green"}
    job.files.status.write_text(json.dumps(content))
    assert job.status().state is State.DONE


def test_what_a_launch_wants():
    launch = Launch.now(["csd-lab"], ["abc"]).id
    before, after = time.time() - 100, time.time() + 100
    cases = [
        (None, True, True),
        (Status(State.WAITING), True, True),
        (Status(State.RUNNING), True, False),
        (Status(State.DONE), True, False),
        (Status(State.INTERRUPTED, launch="other"), True, True),
        (Status(State.INTERRUPTED, launch=launch), True, False),
        (Status(State.FAILED, ended=before), True, True),
        (Status(State.FAILED, ended=before), False, False),
        (Status(State.FAILED, ended=after), True, False),
    ]
    assert [wants(status, launch, retry) for status, retry, _ in cases] == [c[2] for c in cases]


def test_retry_and_prune(tmp_path, monkeypatch):
    monkeypatch.setattr(job_module, "PATIENCE", 0.1)
    folder = SweepFolder(tmp_path)
    for name, code in (("a", 0), ("b", 1), ("c", 128 + signal.SIGTERM), ("d", 1)):
        attempt(folder.job(name), Ending(code))
    process = holder(folder.job("e"))
    assert [path.name for path in folder.prune([State.FAILED, State.RUNNING])] == ["b", "d"]
    assert [path.name for path in folder.prune([], keep=["a", "b"])] == ["c", "d"]
    assert not folder.delete(folder.job("e").root, [State.RUNNING])
    assert not folder.delete(folder.job("a").root, [State.WAITING])  # done since it was asked
    assert folder.delete(folder.job("d").root, [State.FAILED])
    assert [job.root.name for job in folder.retry()] == ["b"]
    states = {job.root.name: status.state for job, status in folder.jobs()}
    assert states == {
        "a": State.DONE,
        "b": State.WAITING,
        "c": State.INTERRUPTED,
        "e": State.RUNNING,
    }
    assert folder.job("b").status().attempts == 1
    process.kill()
    process.wait()
    assert [path.name for path in folder.prune([State.INTERRUPTED])] == ["c", "e"]


def test_the_host_of_a_claim_is_this_one(job):
    assert attempt(job, Ending(0)).host == socket.gethostname()
