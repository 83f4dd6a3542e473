"""Runs as they are read: finished, failed, broken, and such as no longer are there."""

import json
import math
import time

import pandas as pd
import pytest
from compare_runs import LIGHT, run_program

from csd_lab.compare import load_runs, records_table
from csd_lab.compare.results import flatten
from csd_lab.run_folder import RunFolder
from csd_lab.sweep import State, Status
from csd_lab.sweep.status import write_status


def only(path):
    (record,) = load_runs(path)
    return record


def test_a_real_sweep_is_read_whole(real_sweep):
    runs = load_runs(real_sweep)
    states = [run.state for run in runs]
    assert sorted(states) == ["done"] * 4 + ["failed"]
    done = [run for run in runs if run.state == "done"]
    assert {(run.config["method"], run.config["data.clip_seed"]) for run in done} == {
        (method, clip) for method in ("csd", "sds") for clip in (1000000001, 1000000002)
    }
    for run in done:
        stored = json.loads(run.folder.results.read_text())
        assert {k: v for k, v in run.metrics.items() if k != "seconds"} == stored["metrics"]
        assert 0 < run.metrics["seconds"] < 900
        assert run.notes["error_spread"].higher_is_better is False
        steps, values = run.curves()["gradient_norm"]
        assert steps == [0, 1]
        assert all(value > 0 for value in values)


def test_a_failed_run_tells_its_error(real_sweep):
    (failed,) = [run for run in load_runs(real_sweep) if run.state == "failed"]
    assert "not finite" in failed.reason
    assert failed.reason.endswith("of 2)")
    assert "NonFiniteGradientError" in failed.traceback
    assert failed.config["optimizer.optimizer.lr"] == 1e38


def test_any_folder_above_runs_will_do_and_each_run_is_read_once(real_sweep):
    above = load_runs([real_sweep.parents[1], real_sweep, next(real_sweep.glob("*/")), real_sweep])
    assert [run.folder.root for run in above] == [r.folder.root for r in load_runs(real_sweep)]


def test_names_are_relative_to_what_all_runs_share(maker, tmp_path):
    for name in ("a/run10", "a/run9", "b/run1"):
        maker.make(tmp_path / name)
    assert [run.name for run in load_runs(tmp_path)] == ["a/run9", "a/run10", "b/run1"]
    assert [run.name for run in load_runs(tmp_path / "a")] == ["run9", "run10"]
    assert only(tmp_path / "b").name == "run1"


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.yaml", "a: [1", "cannot be read"),
        ("config.yaml", "- 1", "no mapping"),
        ("metrics.json", '{"metrics": ', "metrics.json"),
        ("metrics.json", "[]", "no JSON object"),
        ("metrics.json", '{"metrics": {"a": "high"}}', "could not convert"),
        ("metrics.json", '{"metrics": {"a": 1}, "notes": {"a": {"odd": 1}}}', "cannot be read"),
        ("config.yaml", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_listed_with_the_reason(maker, tmp_path, file, content, reason):
    run = maker.make(tmp_path / "run")
    (run / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    record = only(tmp_path)
    assert record.state == "unreadable"
    assert reason in record.reason
    assert "\n" not in record.reason


def test_runs_without_a_status_are_judged_by_their_results(maker, tmp_path):
    folder = RunFolder(maker.make(tmp_path / "run"))
    assert only(tmp_path).state == "done"
    results = json.loads(folder.results.read_text())
    folder.results.write_text(json.dumps(results | {"steps": 1}))
    assert only(tmp_path)[2:4] == ("interrupted", "stopped after 1 of 2 steps")
    folder.results.unlink()
    assert "no metrics.json" in only(tmp_path).reason
    folder.config.unlink()
    folder.log.write_text("")
    assert only(tmp_path).state == "failed"


def test_states_are_those_of_the_sweep(maker, tmp_path):
    folder = RunFolder(maker.make(tmp_path / "run"))
    size = folder.results.stat().st_size
    write_status(folder.status, Status(State.DONE, outputs={"metrics.json": size}))
    assert only(tmp_path).state == "done"
    write_status(folder.status, Status(State.DONE, outputs={"metrics.json": size + 1}))
    assert only(tmp_path)[2:4] == ("interrupted", "metrics.json is missing. (no step done)")
    write_status(folder.status, Status(State.WAITING))
    assert only(tmp_path)[2:4] == ("waiting", "has not started")
    dead = Status(State.RUNNING, pid=1, host="elsewhere", heartbeat=time.time() - 3600)
    write_status(folder.status, dead)
    assert only(tmp_path).state == "interrupted"
    write_status(folder.status, Status(State.FAILED, error="out of\nmemory", traceback="here"))
    assert only(tmp_path)[2:5] == ("failed", "out of memory (no step done)", "here")


def test_undefined_metrics_are_nan_and_broken_curves_are_empty(maker, tmp_path):
    run = maker.make(tmp_path / "run", {"agreement": None, "psnr_answer": 1.5}, steps=3)
    record = only(tmp_path)
    assert math.isnan(record.metrics["agreement"])
    assert record.curves()["bandwidth"] == ([0, 1, 2], [100.0, 101.0, 102.0])
    assert record.curves()["effective_neighbours"] == ([], [])
    (run / "metrics.csv").write_text("step,a\n0,1,2\n")
    assert record.curves() == {}
    (run / "metrics.csv").unlink()
    assert record.curves() == {}


def test_no_runs_is_an_error_that_says_what_a_run_is(tmp_path):
    with pytest.raises(ValueError, match=r"no runs in .*config\.yaml"):
        load_runs(tmp_path)
    with pytest.raises(ValueError, match="must be those of runs"):
        load_runs([tmp_path / "nowhere"])


def test_hidden_folders_and_what_lies_within_runs_are_no_runs(maker, tmp_path):
    run = maker.make(tmp_path / "run")
    for inside in (run / ".hydra", run / "nested", tmp_path / ".old"):
        inside.mkdir()
        (inside / "config.yaml").write_text("seed: 0")
    assert only(tmp_path).name == "run"


def test_links_to_a_run_are_that_run(maker, tmp_path):
    run = maker.make(tmp_path / "run")
    (tmp_path / "same").symlink_to(run)
    assert len(load_runs([run, tmp_path / "same"])) == 1


def test_the_table_is_a_data_frame(sweep):
    runs = load_runs(sweep)
    frame = pd.DataFrame(records_table(runs))
    assert len(frame) == len(runs)
    assert set(frame.columns) >= {"run", "state", "method", "data.clip_seed", "psnr_answer"}
    done = frame[frame.state == "done"]
    means = done.groupby("method").psnr_answer.mean()
    assert means["csd_edit"] - means["dds"] == pytest.approx(1.0)


def test_a_config_is_flat():
    config = {
        "seed": 0,
        "data": {"frames": 3, "sizes": [1, 2]},
        "method": {"noise": "shared"},
        "choices": {"method": "csd"},
        "hydra": {"x": 1},
        "logger": {"y": 1},
    }
    assert flatten(config) == {
        "method": "csd",
        "seed": 0,
        "data.frames": 3,
        "data.sizes": "[1, 2]",
        "method.noise": "shared",
    }


def test_a_command_that_failed_leaves_a_run_with_a_reason(real_run, tmp_path):
    failed = run_program(tmp_path, *LIGHT, "optimizer.optimizer.lr=1e38", "hydra.run.dir=failed")
    assert failed.returncode not in (0, 2)
    record = only(tmp_path)
    assert record.state == "failed"
    assert record.reason
