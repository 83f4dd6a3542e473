"""What a sweep looks like."""

import errno
import io
import os

from rich.console import Console

from csd_lab.sweep import Ending, JobFolder, Progress, State, Status
from csd_lab.sweep.progress import read_progress, write_progress
from csd_lab.sweep.table import Row, differing, duration, row_of, summary, table_of, time_left
from csd_lab.sweep.watch import Watch


def row(name, state, step=None, metrics=None, seconds=100.0, seed=0):
    status = Status(state, ("kernel=rbf", f"seed={seed}"), started=1.0, ended=1.0 + seconds)
    return Row(name, status, None if step is None else Progress(step, 100), metrics or {})


def text_of(table, width=120):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def test_only_what_differs_is_shown():
    found = differing(
        {"a": ["kernel=rbf", "seed=0"], "b": ["kernel=rbf", "seed=1"], "c": ["seed=0"]}
    )
    assert found == {"a": "kernel=rbf seed=0", "b": "kernel=rbf seed=1", "c": "seed=0"}
    assert differing({"a": ["kernel=rbf", "seed=0"], "b": ["kernel=rbf", "seed=1"]}) == {
        "a": "seed=0",
        "b": "seed=1",
    }
    assert differing({"a": ["kernel=rbf", "seed=0"]}) == {"a": "kernel=rbf seed=0"}


def test_the_time_that_is_left():
    waiting = [row(str(i), State.WAITING) for i in range(3)]
    done = [row("d", State.DONE, 100, seconds=100)]
    half = [row("r", State.RUNNING, 50, seconds=60)]
    assert time_left(waiting) is None
    assert time_left(done) is None
    assert time_left([*half, *waiting]) == (3 + 0.5) * 120  # as long as it seems to need
    assert time_left([*done, *half, *half, *waiting]) == (3 + 1) * 100 / 2
    assert summary([*done, *half]) == "2 jobs: 1 running, 1 done; 50 s left"
    assert [duration(s) for s in (0.2, 89, 100, 12_000)] == ["1 s", "89 s", "2 min", "3 h 20 min"]


def test_the_table_shows_final_figures_and_those_on_the_way():
    rows = [
        row("aaa", State.DONE, 100, {"psnr": 0.0, "ssim": 0.5}, seed=1),
        row("bbb", State.FAILED, 7, seed=2),
    ]
    lines = text_of(table_of(rows)).splitlines()
    assert next(line for line in lines if "aaa" in line).split() == [
        "aaa",
        "seed=1",
        "done",
        "100/100",
        "0",
    ]
    assert next(line for line in lines if "bbb" in line).split() == [
        "bbb",
        "seed=2",
        "failed",
        "7/100",
    ]
    assert "psnr" in lines[1]
    assert "0.5" in text_of(table_of(rows, "ssim"))


def test_what_runs_or_failed_is_shown_where_there_is_no_room_for_all():
    rows = [row(f"d{i}", State.DONE, 100, seed=i) for i in range(50)]
    rows += [row("bad", State.FAILED, 3, seed=50), row("now", State.RUNNING, 3, seed=51)]
    shown = text_of(table_of(rows, limit=10))
    assert "bad" in shown
    assert "now" in shown
    assert "and 43 more" in shown
    assert "52 jobs: 1 running, 50 done, 1 failed" in shown


def test_text_is_no_markup():
    hostile = Row("a", Status(State.WAITING, ("prompt=[red]x[/red]",)), None, {})
    assert "[red]x[/red]" in text_of(table_of([hostile]))


def test_what_happens_is_told_once(tmp_path):
    jobs = [JobFolder(tmp_path / name) for name in "ab"]
    console = Console(file=io.StringIO(), width=200)
    watch = Watch(jobs, console)
    for job, ending in zip(jobs, (Ending(0), Ending(1, "it broke")), strict=True):
        with job.attempt() as attempt:
            attempt.begin(job.root.name, [f"name={job.root.name}"])
            watch.look()
            attempt.end(ending)
        watch.look()
        watch.look()
    lines = console.file.getvalue().splitlines()
    assert [line.split(": ", 1)[1].split(" ")[0] for line in lines] == [
        "running",
        "done",
        "running",
        "failed:",
    ]
    assert "it broke" in lines[-1]
    assert str(jobs[1].root) in lines[-1]


def test_a_job_that_fails_again_is_told_again(tmp_path):
    job = JobFolder(tmp_path / "a")
    console = Console(file=io.StringIO(), width=200)
    watch = Watch([job], console)
    for _ in range(2):
        with job.attempt() as attempt:
            attempt.begin("a")
            attempt.end(Ending(1, "it broke"))
        watch.look()
    assert console.file.getvalue().count("it broke") == 2


def test_a_job_that_goes_on_has_no_final_figures_yet(tmp_path):
    job = JobFolder(tmp_path)
    job.files.results.write_text('{"metrics": {"psnr": 1.0}}')
    assert row_of(job, Status(State.DONE)).metrics == {"psnr": 1.0}
    assert row_of(job, Status(State.RUNNING)).metrics == {}


def test_a_job_that_cannot_be_read_is_looked_at_later(tmp_path, monkeypatch):
    job = JobFolder(tmp_path / "a")
    with job.attempt() as attempt:
        attempt.begin("a")
        attempt.end(Ending(0))
    watch = Watch([job], Console(file=io.StringIO()))
    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "status", broken)
        watch.look()
        assert watch.rows == []
    watch.look()
    assert [row.status.state for row in watch.rows] == [State.DONE]


def broken(job):
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))


def test_progress_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "progress.json"
    assert read_progress(path) is None
    progress = Progress(3, 10, 1.5, 0.25, {"psnr": 30.0})
    write_progress(path, progress)
    assert read_progress(path) == progress
