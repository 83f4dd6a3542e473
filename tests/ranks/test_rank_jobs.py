"""Whole jobs on several processes: what they leave, and how they end."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from running import wait_for

from csd_lab.run_folder import RunFolder

LIGHT = ("experiment=colours", "data.frames=5", "data.size=8", "metrics=pixels")
DDP = ("trainer=ddp", "trainer.devices=2")
BOUND = 30.0
"""Seconds within which the death of a rank must have ended the job."""


def command(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start the program; what it prints goes to files beside its folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "csd_lab.cli", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, err
    return out, err


def files(folder: RunFolder) -> set[str]:
    return {str(p.relative_to(folder.root)) for p in folder.root.rglob("*") if p.is_file()}


def latents(folder: RunFolder) -> torch.Tensor:
    return torch.load(folder.checkpoint, weights_only=True)["state_dict"]["latents"]


def begun(process: subprocess.Popen, folder: RunFolder) -> list[psutil.Process]:
    """The ranks of a job, once it has written its first checkpoint."""
    wait_for(folder.checkpoint.is_file, process)
    children = psutil.Process(process.pid).children()
    ranks = [c for c in children if "spawn_main" in " ".join(c.cmdline())]
    assert len(ranks) == 2
    return ranks


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def whole(work):
    """A run on one process that nothing disturbs, of 60 steps."""
    finished(command(work, *LIGHT, "trainer.max_steps=60", "hydra.run.dir=whole"))
    return RunFolder(work / "whole")


def test_a_job_leaves_what_one_process_leaves(work, whole):
    arguments = ("trainer.max_steps=60", "hydra.run.dir=two", "logger=wandb")
    out, err = finished(command(work, *LIGHT, *DDP, *arguments))
    folder = RunFolder(work / "two")
    runs = {name for name in files(folder) if name.startswith("wandb/")}
    assert files(folder) - runs == files(whole)
    assert sum(bool(re.search(r"run-\w+\.wandb$", name)) for name in runs) == 1
    assert sorted(path.name for path in work.iterdir()) == ["two", "whole"]
    assert [row["step"] for row in csv.DictReader(folder.steps.open())] == [
        row["step"] for row in csv.DictReader(whole.steps.open())
    ]
    assert (latents(folder) - latents(whole)).abs().max() < 1e-5
    assert out.count("Report:") == out.count("folder:") == 1
    assert err.count("step 60/60") == 1
    assert yaml.safe_load(folder.config.read_text())["trainer"]["devices"] == 2
    assert json.loads(folder.status.read_text())["state"] == "done"


def test_it_works_in_a_sweep(work):
    arguments = (*LIGHT, *DDP, "trainer.max_steps=4", "seed=0,1", "hydra.sweep.dir=sweep")
    finished(command(work, "-m", *arguments))
    jobs = [RunFolder(path.parent) for path in (work / "sweep").glob("*/status.json")]
    assert len(jobs) == 2
    for job in jobs:
        status = json.loads(job.status.read_text())
        assert status["state"] == "done", status
        assert [int(row["step"]) for row in csv.DictReader(job.steps.open())] == [0, 1, 2, 3]
        assert {"config.yaml", "edited.mp4", "metrics.json", "report.html"} <= files(job)


def test_a_killed_rank_fails_the_job_which_then_goes_on(work, whole):
    job = command(work, *LIGHT, *DDP, "trainer.max_steps=60", "hydra.run.dir=killed")
    folder = RunFolder(work / "killed")
    ranks = begun(job, folder)
    start = time.monotonic()
    ranks[1].kill()
    out, err = finished(job, code=1)
    assert time.monotonic() - start < BOUND
    assert "was killed by SIGKILL" in err
    assert "csd-lab resume=" in out
    assert "failed" in folder.report.read_text()
    status = json.loads(folder.status.read_text())
    assert status["state"] == "failed"
    assert "was killed by SIGKILL" in status["error"]
    assert torch.load(folder.checkpoint, weights_only=True)["global_step"] >= 20
    assert not any(rank.is_running() for rank in ranks)
    finished(command(work, "resume=killed", "trainer.devices=1"))
    assert (latents(folder) - latents(whole)).abs().max() < 1e-5
    assert [row["step"] for row in csv.DictReader(folder.steps.open())] == [
        str(step) for step in range(60)
    ]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_signal_to_the_job_stops_it_with_all_written(tmp_path, number, code):
    job = command(tmp_path, *LIGHT, *DDP, "trainer.max_steps=5000", "hydra.run.dir=run")
    folder = RunFolder(tmp_path / "run")
    ranks = begun(job, folder)
    job.send_signal(number)
    out, _ = finished(job, code)
    step = torch.load(folder.checkpoint, weights_only=True)["global_step"]
    assert 20 <= step < 5000
    assert f"Stopped after step {step} of 5000." in out
    assert json.loads(folder.results.read_text())["steps"] == step
    assert len(list(csv.DictReader(folder.steps.open()))) == step
    assert folder.edited.is_file()
    assert "interrupted" in folder.report.read_text()
    assert json.loads(folder.status.read_text())["state"] == "interrupted"
    assert not any(rank.is_running() for rank in ranks)


def test_a_gradient_that_is_not_finite_fails_the_job_with_the_last_good_state(tmp_path):
    steps = ("trainer.max_steps=60", "optimizer.optimizer.lr=1e20", "hydra.run.dir=run")
    out, err = finished(command(tmp_path, *LIGHT, *DDP, *steps), code=1)
    folder = RunFolder(tmp_path / "run")
    assert re.search(r"NonFiniteGradientError: The gradient of step \d+ is not finite", err)
    assert "csd-lab resume=" in out
    status = json.loads(folder.status.read_text())
    assert status["state"] == "failed"
    assert "Traceback" in status["traceback"]
    assert latents(folder).isfinite().all()


def test_wrong_input_is_told_once_and_leaves_nothing_to_go_on_with(tmp_path):
    wrong = ("prior=instruct_pix2pix", "prior.path=nowhere", "hydra.run.dir=run")
    _, err = finished(command(tmp_path, *DDP, *wrong), code=2)
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("csd-lab: ")
    assert "nowhere" in lines[0]
    assert not RunFolder(tmp_path / "run").config.is_file()
