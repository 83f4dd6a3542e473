"""Whole runs on one image: what they leave, at which size, and with which opacity."""

import json
import shutil
import signal

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from csd_lab.run_folder import RunFolder

LIGHT = (
    *("metrics=pixels", "trainer.max_steps=2", "callbacks.preview.every=2", "hydra.run.dir=run"),
)


def test_a_run_on_a_transparent_image(csd_lab, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (21, 50, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    outcome = csd_lab("data=image", "data.path=a.png", "prompt='make it red'", *LIGHT)
    assert outcome.code == 0, outcome.err
    assert "a.png, 50 x 21" in outcome.out
    folder = RunFolder(tmp_path / "run")
    seen = pixels[..., 3] > 0
    assert (np.asarray(Image.open(folder.source_image))[seen] == pixels[seen]).all()
    edited = np.asarray(Image.open(folder.edited_image))
    assert edited.shape == pixels.shape
    assert (edited[..., 3] == pixels[..., 3]).all()
    assert (edited[seen] != pixels[seen]).any()
    assert Image.open(folder.side_by_side_image).size[0] > 2 * 50
    assert folder.contact_sheet.is_file()
    assert not folder.answer_image.exists()
    assert not folder.edited.exists()
    page = folder.report.read_text()
    assert 'href="edited.png"' in page
    assert "<video" not in page


def test_without_a_change_what_carries_changes_over_gives_back_the_source(csd_lab, tmp_path):
    """Though it is edited at a quarter of its size, and through the autoencoder."""
    pixels = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    still = ("optimizer.optimizer.lr=0", "data.resolution=32", "method=dds")
    for detail, same in (("residual", True), ("resize", False)):
        where = ("data.path=a.png", "prompt=make it red", f"data.detail={detail}")
        outcome = csd_lab(*where, *still, *LIGHT)
        assert outcome.code == 0, outcome.err
        edited = np.asarray(Image.open(RunFolder(tmp_path / "run").edited_image))
        assert np.array_equal(edited, pixels) == same


@pytest.mark.parametrize("wrap", ["false", "true"])
def test_a_run_on_a_panorama_of_the_world(csd_lab, tmp_path, wrap):
    size = ("data.height=16", "data.width=64", f"data.wrap={wrap}")
    outcome = csd_lab("data=world_panorama", "prompt='make it night'", *size, *LIGHT)
    assert outcome.code == 0, outcome.err
    count = 4 if wrap == "true" else 1  # as wide as the canvas; every 4 latents around a ring
    assert f"{count} of " in outcome.out
    folder = RunFolder(tmp_path / "run")
    for path in (folder.source_image, folder.edited_image, folder.answer_image):
        assert Image.open(path).size == (64, 16)
    assert json.loads(folder.results.read_text())["metrics"]["psnr_target"] > 0
    assert 'href="right_answer.png"' in folder.report.read_text()


def test_the_ending_of_a_file_says_that_it_is_an_image(csd_lab, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 160, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.PNG")
    outcome = csd_lab("data.path=a.PNG", "prompt=make it red", "data.batch_size=2", *LIGHT)
    assert outcome.code == 0, outcome.err
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["state_dict"]["latents"].shape == (1, 4, 16, 40)
    settings = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert (settings.choices.data, settings.choices.modality) == ("image", "image")


def test_regions_of_a_panorama_have_an_exact_answer(csd_lab, tmp_path):
    drawn = np.zeros((10, 100), np.uint8)
    drawn[:, 50:] = 255
    Image.fromarray(drawn).save(tmp_path / "right.png")
    regions = "[{prompt: make it sepia, strip: [0, 2]}, {prompt: make it dark, mask: right.png}]"
    size = ("data.height=16", "data.width=64")
    outcome = csd_lab("data=world_panorama", f"regions={regions}", *size, *LIGHT)
    assert outcome.code == 0, outcome.err
    assert "make it sepia; make it dark" in outcome.out
    folder = RunFolder(tmp_path / "run")
    source = np.asarray(Image.open(folder.source_image)) / 255
    answer = np.asarray(Image.open(folder.answer_image)) / 255
    assert (np.ptp(answer[:, :32], axis=2) > 0).any()  # sepia is not grey
    right, dark = answer[:, 32:], source[:, 32:]
    assert right.mean() < 0.8 * dark.mean()


IN_TURN = (
    *("data=world_panorama", "data.height=16", "data.width=48", "callbacks.checkpoint.every=1"),
    *("prompt=[make it night,make the sky orange]", "metrics=pixels", "hydra.run.dir=run"),
)


def test_prompts_in_turn_go_on_where_they_were_stopped(csd_lab, tmp_path):
    """Each prompt has trainer.max_steps steps."""
    outcome = csd_lab(*IN_TURN, "trainer.max_steps=2")
    assert outcome.code == 0, outcome.err
    assert "make it night, then make the sky orange" in outcome.out
    assert "step 4/4" in outcome.err
    folder = RunFolder(tmp_path / "run")
    assert json.loads(folder.results.read_text())["metrics"]["psnr_target"] > 0
    whole = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    assert int(whole["stage"]) == 1
    shutil.rmtree(folder.root)
    stop = ("+callbacks.stopped._target_=stops.StopAfter", "+callbacks.stopped.steps=2")
    assert csd_lab(*IN_TURN, "trainer.max_steps=2", *stop).code == 128 + signal.SIGTERM
    assert torch.load(folder.checkpoint, weights_only=True)["global_step"] == 2
    outcome = csd_lab("resume=run")
    assert outcome.code == 0, outcome.err
    again = torch.load(folder.checkpoint, weights_only=True)["state_dict"]
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    longer = csd_lab("resume=run", "trainer.max_steps=9")
    assert longer.code == 2
    assert "trainer.max_steps must stay as it was" in longer.err


def test_bad_input_is_one_line(csd_lab, tmp_path):
    outcome = csd_lab("data=image", "data.path=no.png", "prompt='make it red'", *LIGHT)
    assert outcome.code != 0
    assert "'no.png' does not exist" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("width", "wrap", "code"), [(128, "false", 0), (96, "false", 2), (96, "true", 2)]
)
def test_noise_is_not_drawn_where_windows_overlap(csd_lab, width, wrap, code):
    """Side by side they are independent; where they overlap, the mean of noise is too weak."""
    size = (f"data.width={width}", f"data.wrap={wrap}")
    method = ("method=ip2p", "sampler=euler_ancestral", "prior.compile=false")
    outcome = csd_lab("data=world_panorama", "callbacks.media.alone=null", *size, *method, *LIGHT)
    assert outcome.code == code, outcome.err
    assert ("EulerAncestralDiscreteScheduler draws noise" in outcome.err) == bool(code)
