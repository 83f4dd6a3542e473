"""Single runs in wandb: stopped and gone on with, hostile text, no server, a dead rank."""

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest
import torch
from running import wait_for
from wandb_records import parts

from csd_lab.data import write_image
from csd_lab.run_folder import RunFolder

HOSTILE = (
    "<script>alert(1)</script> ${oc.env:HOME} [bold] \"q\" 'q' %s 日本 \u202eevil\nline "
    + "z" * 300
)

LIGHT = ("metrics=pixels", "prior=colours", "prior.size=16", "guidance=classifier_free")


NO_SERVER = "http://127.0.0.1:9"


def command(*arguments):
    return [sys.executable, "-m", "csd_lab.cli", "logger=wandb", *LIGHT, *arguments]


def free_of_wandb(**more):
    """The environment without anybody's login."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return {**kept, "NETRC": os.devnull, **more}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run with a hostile prompt and place, stopped by Ctrl-C and gone on with.

    At first nobody is logged in; then somebody is, and the server is not there.
    """
    place = tmp_path_factory.mktemp("a place; with $(signs)")
    for number in range(3):
        write_image(place / "clip" / f"{number}.png", torch.full((3, 16, 16), 0.5))
    arguments = ("data.path=clip", f"prompt={HOSTILE}", "method=csd", "trainer.max_steps=100000")
    run = subprocess.Popen(
        command(*arguments, "hydra.run.dir=run", "optimizer.optimizer.lr=1e-6"),
        cwd=place,
        env=free_of_wandb(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    folder = RunFolder(place / "run")
    wait_for(lambda: list(folder.previews.glob("*.png")), run)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to wandb's own process, too
    _, error = run.communicate(timeout=300)
    assert run.returncode == 130, error
    steps = json.loads(folder.results.read_text())["steps"]
    done = subprocess.run(
        [sys.executable, "-m", "csd_lab.cli", "resume=run", f"trainer.max_steps={steps + 2}"],
        cwd=place,
        env=free_of_wandb(WANDB_API_KEY="0" * 40, WANDB_BASE_URL=NO_SERVER),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder, error, done.stderr


def test_a_stopped_run_has_its_exit_code_and_its_media(stopped):
    folder, _, _ = stopped
    first, _ = parts(folder.root)
    assert first.exit_code == 130
    assert first.media("side_by_side").stat().st_size > 0
    assert len(first.curve("gradient_norm")) >= 20


def test_a_run_that_goes_on_is_the_same_run(stopped):
    folder, _, _ = stopped
    first, second = parts(folder.root)
    assert first.run["run_id"] == second.run["run_id"]
    assert "run_group" not in first.run
    assert second.exit_code == 0
    last = first.curve("gradient_norm")[-1][0]
    assert [step for step, _ in second.curve("gradient_norm")] == [last + 1, last + 2]


def test_the_line_says_why_and_how_to_upload_all_parts(stopped):
    folder, *errors = stopped
    reasons = ("nobody is logged in", f"{NO_SERVER} does not answer")
    for error, reason in zip(errors, reasons, strict=True):
        (line,) = (line for line in error.splitlines() if line.startswith("wandb"))
        said, _, pasted = line.partition("; upload with: ")
        assert said == f"wandb is offline ({reason})"
        words = shlex.split(pasted.removeprefix("wandb login && "))
        assert words == ["wandb", "sync", str(folder.root / "wandb")]


def test_a_prompt_is_text_to_wandb(stopped):
    folder, _, _ = stopped
    run = parts(folder.root)[0]
    assert run.config["prompt"] == HOSTILE
    name = run.run["display_name"]
    assert name.startswith('csd rbf "<script>alert(1)</script> ${oc.env:')
    assert len(name) <= 128
    assert "\n" not in name
    assert "\u202e" not in name
