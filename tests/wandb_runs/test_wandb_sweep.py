"""Jobs of a multirun in wandb: real offline runs, read back with wandb's own reader."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from wandb_records import BAD, COMMAND, GOOD, parts

from csd_lab.data import read_media


def test_each_job_is_one_run_of_its_own(jobs):
    assert len(jobs) == 4
    assert all(len(job.parts) == 1 for job in jobs.values())
    for (method, _), job in jobs.items():
        run = job.parts[0].run
        assert run["run_id"].startswith(f"{job.folder.root.name}-")
        assert run["run_group"] == "three"
        assert run["job_type"] == method
        assert run["project"] == "csd_lab"
        assert run["display_name"].startswith(f"{method} rbf seed 0")
        assert set(run["tags"]) >= {method, "rbf", "video", "colours"}
    assert len({job.parts[0].run["display_name"] for job in jobs.values()}) == 4


def test_a_run_has_its_whole_config_the_commit_and_versions(sweep, jobs):
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=sweep, capture_output=True, text=True, check=True
    ).stdout.strip()
    for job in jobs.values():
        logged = job.parts[0].config
        for key, value in job.config.items():
            assert logged[key] == value
        assert logged["git_commit"] == commit
        assert set(logged["versions"]) >= {"csd-lab", "torch", "python", "diffusers"}


def test_curves_are_those_of_metrics_csv(jobs):
    for job in jobs.values():
        part = job.parts[0]
        rows = list(csv.DictReader(job.folder.steps.open()))
        assert part.metrics["*"]["step_metric"] == "step"
        for name in ("gradient_norm", "ksd", "t"):
            expected = {int(row["step"]): float(row[name]) for row in rows if row[name]}
            assert dict(part.curve(name)) == pytest.approx(expected, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize("method", ["csd", "sds"])
def test_the_summary_has_the_final_figures(jobs, method):
    folder, _, (part,) = jobs[method, GOOD]
    final = json.loads(folder.results.read_text())["metrics"]
    for name, value in final.items():
        assert part.metrics[name]["summary"] == {"none": True}
        assert part.summary[name] == pytest.approx(math.nan if value is None else value)
    on_the_way = [step for step, _ in part.curve("error_spread")]
    assert on_the_way == [1, 3, 3]


@pytest.mark.parametrize("method", ["csd", "sds"])
def test_media_are_the_files_of_the_folder(jobs, method):
    folder, _, (part,) = jobs[method, GOOD]
    assert part.media("side_by_side").read_bytes() == folder.side_by_side.read_bytes()
    assert part.media("contact_sheet").read_bytes() == folder.contact_sheet.read_bytes()
    assert len(read_media(part.media("side_by_side")).frames) == 3
    kernel = folder.plots / "kernel.png"
    if method == "csd":
        assert part.media("plots/kernel").read_bytes() == kernel.read_bytes()
    else:
        assert not kernel.exists()


def test_runs_end_with_the_exit_code_of_their_job(jobs):
    for (_, rate), job in jobs.items():
        failed = rate != GOOD
        assert job.parts[0].exit_code == (1 if failed else 0)
        status = json.loads(job.folder.status.read_text())
        assert status["state"] == ("failed" if failed else "done")


def test_a_failed_job_goes_on_as_the_same_run(sweep, jobs):
    before = jobs["sds", BAD]
    again = [a.replace(f"{GOOD},{BAD}", str(BAD)).replace("csd,sds", "sds") for a in COMMAND]
    done = subprocess.run(
        [sys.executable, "-m", "csd_lab.cli", *again],
        cwd=sweep,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 1, done.stderr
    first, second = parts(before.folder.root)
    assert first.run["run_id"] == second.run["run_id"]
    assert first.run["run_id"].startswith(f"{before.folder.root.name}-")
    assert second.run["resume"]
    assert second.exit_code == 1
    said = before.folder.output.read_text()
    assert said.count(f"wandb sync {before.folder.root / 'wandb'}") == 2


def test_no_run_is_left_for_the_next_job(jobs):
    for job in jobs.values():
        assert not Path(job.folder.root / "wandb" / "open").exists()
