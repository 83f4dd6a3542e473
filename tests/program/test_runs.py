"""Whole runs of the program: what they leave, and that stopping changes nothing."""

import csv
import html
import json
import signal
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from processes import start
from running import wait_for

from csd_lab.data import read_media, write_image
from csd_lab.launch import find_sources
from csd_lab.report import plot_scalars
from csd_lab.run_folder import RunFolder

LIGHT = ("experiment=colours", "data.frames=5", "metrics=pixels")


def latents(folder):
    return torch.load(folder.checkpoint, weights_only=True)["state_dict"]["latents"]


def test_a_run_leaves_everything(csd_lab, tmp_path):
    outcome = csd_lab(*LIGHT, "trainer.max_steps=23", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    folder = RunFolder(tmp_path / "run")
    assert len(read_media(folder.edited).frames) == 5
    assert read_media(folder.side_by_side).frames.shape[-1] > 2 * 16
    assert folder.contact_sheet.is_file()
    assert len(list(folder.previews.glob("*.png"))) == 1
    assert (folder.plots / "kernel.png").is_file()
    rows = list(csv.DictReader(folder.steps.open()))
    assert [int(row["step"]) for row in rows] == list(range(23))
    plot_scalars(tmp_path / "all_steps.png", rows)
    drawn = (folder.plots / "scalars.png").read_bytes()
    assert drawn == (tmp_path / "all_steps.png").read_bytes()
    assert all(row["ksd"] for row in rows)
    results = json.loads(folder.results.read_text())
    assert results["steps"] == 23
    assert "psnr_answer" in results["metrics"] or "psnr_target" in results["metrics"]
    assert "Finished after 23 steps" in folder.report.read_text()
    assert "report.html" in outcome.out


HOSTILE = (
    "<script>alert('x')</script> ../../etc \"quotes\" ${oc.env:HOME} [bold] 日本 عربى\nline "
    + "z" * 2000
)


def test_what_a_user_typed_is_text_everywhere(csd_lab, tmp_path):
    csd_lab(*LIGHT, "trainer.max_steps=2", "hydra.run.dir=first")
    clip = str(tmp_path / "first" / "edited.mp4")
    outcome = csd_lab(
        "prior=colours",
        "prior.size=16",
        "method=csd",
        "guidance=classifier_free",
        "metrics=pixels",
        f"data.path={clip}",
        f"prompt={HOSTILE}",
        "trainer.max_steps=2",
        "hydra.run.dir=second",
    )
    assert outcome.code == 0, outcome.err
    page = (tmp_path / "second" / "report.html").read_text()
    assert "<script>alert('x')" not in page
    assert "&lt;script&gt;alert" in page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_goes_on_to_the_same_end(tmp_path, number, code):
    steps = "trainer.max_steps=150"
    whole = start(tmp_path, *LIGHT, steps, "hydra.run.dir=whole")
    stopped = start(tmp_path, *LIGHT, steps, "hydra.run.dir=stopped")
    folder = RunFolder(tmp_path / "stopped")
    wait_for(lambda: list(folder.previews.glob("*.png")), stopped)
    stopped.send_signal(number)
    out, err = stopped.communicate(timeout=600)
    assert stopped.returncode == code, err
    done = json.loads(folder.results.read_text())["steps"]
    assert 20 <= done < 150
    assert "csd-lab resume=" in out
    assert "interrupted" in folder.report.read_text()
    again = start(tmp_path, "resume=stopped")
    out, err = again.communicate(timeout=600)
    assert again.returncode == 0, err
    assert whole.wait(timeout=600) == 0
    undisturbed = RunFolder(tmp_path / "whole")
    assert torch.equal(latents(folder), latents(undisturbed))
    assert folder.steps.read_text() == undisturbed.steps.read_text()
    assert json.loads(folder.results.read_text()) == json.loads(undisturbed.results.read_text())


def test_a_run_can_be_made_longer(csd_lab, tmp_path):
    light = (*LIGHT, "method.timesteps.steps=10")  # else the longer run anneals more slowly
    assert csd_lab(*light, "trainer.max_steps=10", "hydra.run.dir=a").code == 0
    longer = csd_lab("resume=a", "trainer.max_steps=20", "prior.max_batch=7")
    assert longer.code == 0
    assert "method.timesteps.steps stay at 10, as the run began" in longer.err
    assert csd_lab(*light, "trainer.max_steps=20", "hydra.run.dir=b").code == 0
    assert torch.equal(latents(RunFolder(tmp_path / "a")), latents(RunFolder(tmp_path / "b")))


def test_resume_does_not_become_another_run(csd_lab):
    assert csd_lab(*LIGHT, "trainer.max_steps=2", "hydra.run.dir=a").code == 0
    outcome = csd_lab("resume=a", "kernel=imq")
    assert outcome.code == 2
    assert "only trainer.*" in outcome.err


def test_a_finished_run_is_not_done_again(csd_lab):
    assert csd_lab(*LIGHT, "trainer.max_steps=2", "hydra.run.dir=a").code == 0
    outcome = csd_lab("resume=a")
    assert outcome.code == 0
    assert "finished" in outcome.out


def test_a_finished_run_is_not_told_to_have_other_metrics(csd_lab, tmp_path):
    assert csd_lab(*LIGHT, "trainer.max_steps=2", "hydra.run.dir=a").code == 0
    config = (tmp_path / "a" / "config.yaml").read_text()
    outcome = csd_lab("resume=a", "++metrics.plain.colour_spread=null")
    assert outcome.code == 2
    assert "is finished, so that other settings change nothing" in outcome.err
    assert (tmp_path / "a" / "config.yaml").read_text() == config


def test_metrics_of_a_run_that_goes_on_may_be_others(csd_lab, tmp_path):
    less = ("~metrics.plain.colour_spread", "trainer.max_steps=2", "hydra.run.dir=a")
    assert csd_lab(*LIGHT, *less).code == 0
    folder = RunFolder(tmp_path / "a")
    before = json.loads(folder.results.read_text())["metrics"]
    more = "++metrics.plain.colour_spread._target_=csd_lab.metrics.ColourSpread"
    outcome = csd_lab("resume=a", "trainer.max_steps=3", more)
    assert outcome.code == 0, outcome.err
    after = json.loads(folder.results.read_text())["metrics"]
    assert set(after) - set(before) == {"colour_spread"}


def test_the_page_says_how_to_have_such_a_run_again(csd_lab, tmp_path):
    typed = ("guidance.scale=5", "hydra.run.dir=a")
    assert csd_lab(*LIGHT, "trainer.max_steps=2", *typed).code == 0
    assert csd_lab("resume=a", "trainer.max_steps=3").code == 0
    page = html.unescape(RunFolder(tmp_path / "a").report.read_text())
    assert "csd-lab experiment=colours data.frames=5 metrics=pixels trainer.max_steps=2" in page
    assert "guidance.scale=5" in page
    assert "scale 5" in page  # of what the run is


def test_no_row_of_a_former_run_is_left_in_its_folder(csd_lab, tmp_path):
    assert csd_lab(*LIGHT, "trainer.max_steps=2", "hydra.run.dir=a").code == 0
    header = RunFolder(tmp_path / "a").steps.read_text().splitlines()[0]
    assert "bandwidth" in header
    one = ("method=sds", "trainer.max_steps=2", "hydra.run.dir=a")
    assert csd_lab(*LIGHT, *one).code == 0
    assert "bandwidth" not in RunFolder(tmp_path / "a").steps.read_text()


def test_a_stopped_run_is_saved_before_anything_else_is_written(csd_lab, tmp_path):
    """Whoever stops a run, such as a cluster, may kill it soon after."""
    killed = "+callbacks.killed={_target_: stops.Killed}"
    stop = "+callbacks.kill={_target_: stops.StopAfter, steps: 3}"
    outcome = csd_lab(*LIGHT, "trainer.max_steps=9", "hydra.run.dir=a", killed, stop)
    assert outcome.code == 1
    assert "gone" in outcome.err
    state = torch.load(RunFolder(tmp_path / "a").checkpoint, weights_only=True)
    assert state["global_step"] == 3


def test_a_finished_run_that_lost_a_file_is_told_to_start_anew(csd_lab, tmp_path):
    assert csd_lab(*LIGHT, "trainer.max_steps=2", "hydra.run.dir=a").code == 0
    (tmp_path / "a" / "edited.mp4").unlink()
    outcome = csd_lab("resume=a")
    assert outcome.code == 2
    assert "was done, and its edited.mp4 is missing; start it anew" in outcome.err
    assert csd_lab("resume=a", "trainer.max_steps=3").code == 0  # which makes them anew
    assert (tmp_path / "a" / "edited.mp4").is_file()


def test_a_new_run_takes_nothing_in_its_folder_for_its_own(csd_lab, tmp_path):
    assert csd_lab(*LIGHT, "trainer.max_steps=2", "hydra.run.dir=a").code == 0
    folder = RunFolder(tmp_path / "a")
    (folder.root / "notes.txt").touch()
    assert folder.results.is_file()
    without = ("callbacks.evaluate=null", "callbacks.media=null")
    outcome = csd_lab(*LIGHT, *without, "trainer.max_steps=1", "hydra.run.dir=a")
    assert outcome.code == 0, outcome.err
    assert not folder.results.exists()
    assert not folder.edited.exists()
    assert "psnr" not in outcome.out
    assert len(folder.steps.read_text().splitlines()) == 2
    assert (folder.root / "notes.txt").exists()


def test_wandb_needs_no_login(csd_lab, tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "nobody"))
    outcome = csd_lab(*LIGHT, "trainer.max_steps=3", "hydra.run.dir=run", "logger=wandb")
    assert outcome.code == 0, outcome.err
    assert "wandb sync" in outcome.err
    runs = list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(runs) == 1
    assert runs[0].stat().st_size > 10_000  # the scalars, the video and the pictures
    assert RunFolder(tmp_path / "run").steps.is_file()


def test_a_sampler_that_remembers_is_checkpointed_at_every_step_and_keeps_its_steps(csd_lab):
    size = ("data.frames=2", "data.size=32", "metrics=pixels", "callbacks.media.alone=null")
    every = ("trainer.max_steps=3", "callbacks.checkpoint.every=1", "hydra.run.dir=run")
    outcome = csd_lab("method=ip2p", "sampler=unipc", *size, *every)
    assert outcome.code == 0, outcome.err
    longer = csd_lab("resume=run", "trainer.max_steps=5")
    assert longer.code == 2
    assert "trainer.max_steps must stay as it was, 3" in longer.err


def test_files_that_a_run_names_are_found_from_elsewhere(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "embedded").mkdir()
    (tmp_path / "mask.png").touch()
    config = OmegaConf.create(
        {
            "started_in": str(tmp_path),
            "data": {"path": "clip.mp4", "target": None},
            "prior": {"path": "model"},
            "text": {"path": "embedded"},
            "regions": [{"prompt": "model", "mask": "mask.png"}],
            "modality": {"recipe": {"reconstruction": str(tmp_path / "run")}},
        }
    )
    find_sources(config)
    assert config.prior.path == str(tmp_path / "model")
    assert config.regions[0] == {"prompt": "model", "mask": str(tmp_path / "mask.png")}
    assert config.data.path == "clip.mp4"  # which is not there: told where it is looked for
    assert config.text.path == "embedded"  # the package's own
    assert config.modality.recipe.reconstruction == str(tmp_path / "run")


def test_a_run_goes_on_with_its_own_clip_wherever_that_is_asked_for(csd_lab, tmp_path, monkeypatch):
    for number in range(2):
        write_image(tmp_path / "frames" / f"{number}.png", torch.full((3, 32, 32), 0.3))
    settings = ("metrics=pixels", "callbacks.media.alone=null", "hydra.run.dir=run")
    begun = csd_lab("data.path=frames", "prompt=make it red", "trainer.max_steps=1", *settings)
    assert begun.code == 0, begun.err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write_image(Path("frames") / "0.png", torch.full((3, 32, 32), 0.9))
    longer = csd_lab(f"resume={tmp_path / 'run'}", "trainer.max_steps=2")
    assert longer.code == 0, longer.err
    both = read_media(RunFolder(tmp_path / "run").side_by_side).frames
    assert len(both) == 2
    assert both[..., : both.shape[-1] // 3].mean() < 0.5  # its left part is the source
