"""Every script in its smallest form: it runs to its end, and prints or writes what it is for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from csd_lab.data import write_image

SCRIPTS = Path(__file__).parents[2] / "scripts"
ONE_EDIT = ("--scenes", "1", "--one", "1", "--many", "0", "--methods")
SMALLEST: dict[str, tuple[str, ...]] = {
    "benchmark": ("--frames", "2", "--steps", "1"),
    "benchmark_canvas": ("--sizes", "64x64"),
    "benchmark_methods": ("trainer.max_steps=1", "--methods", "ip2p"),
    "benchmark_scenes": ("--scenes", "2", "trainer.max_steps=2", "field.resolution=8"),
    "compare_ablations": ("trainer.max_steps=1", *ONE_EDIT, "csd_edit_best", "adam"),
    "compare_looks": ("frames", "trainer.max_steps=1", "metrics=pixels", "--looks", "sepia"),
    "compare_panorama": ("trainer.max_steps=1", *ONE_EDIT, "csd_edit_best", "ip2p"),
    "compare_ranks": ("--ranks", "1", "2", "--steps", "2", "data.frames=2"),
    "compare_regions": ("trainer.max_steps=1", *ONE_EDIT, "shared"),
    "compare_video": ("trainer.max_steps=1", *ONE_EDIT, "csd_edit_best", "ip2p"),
    "count_samples": (),
    "coverage": ("--seeds", "1"),
    "draw_pictures": ("trainer.max_steps=2", "--only", "first_run", "text_to_3d", "--folder", "."),
    "evaluate_prior": (
        *("--count", "1", "--steps", "1"),
        *("--parts", "autoencoder", "one_to_one", "one_to_many"),
    ),
    "show_world": ("pictures",),
    "tune_methods": ("--file", "cells.jsonl", "trainer.max_steps=1", *ONE_EDIT, "ip2p"),
}
RUN_ELSEWHERE = {
    "kill_sweep": "tests/sweep/test_kills.py",
    "reproduce_tables": "tests/compare/test_published_tables.py",
    "run_notebooks": "tests/notebooks/test_notebooks.py",
    "train_prior": "tests/priors/test_training.py",
}


def test_every_script_is_run_somewhere():
    there = {path.stem for path in SCRIPTS.glob("*.py")}
    assert there == set(SMALLEST) | set(RUN_ELSEWHERE)
    root = SCRIPTS.parent
    assert all((root / test).is_file() for test in RUN_ELSEWHERE.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs_to_its_end(name, tmp_path):
    for number in range(2):
        write_image(tmp_path / "frames" / f"{number}.png", torch.rand(3, 64, 64))
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *SMALLEST[name]]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    drawn = [path for path in tmp_path.rglob("*.png") if path.parent.name != "frames"]
    assert "┃" in done.stdout or drawn, done.stdout
