"""Whole runs on one image: what they leave, at which size, and with which opacity."""

import json

import numpy as np
import pytest
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


@pytest.mark.parametrize("wrap", ["false", "true"])
def test_a_run_on_a_panorama_of_the_world(csd_lab, tmp_path, wrap):
    size = ("data.height=16", "data.width=64", f"data.wrap={wrap}")
    outcome = csd_lab("data=world_panorama", "prompt='make it night'", *size, *LIGHT)
    assert outcome.code == 0, outcome.err
    folder = RunFolder(tmp_path / "run")
    for path in (folder.source_image, folder.edited_image, folder.answer_image):
        assert Image.open(path).size == (64, 16)
    assert json.loads(folder.results.read_text())["metrics"]["psnr_target"] > 0
    assert 'href="right_answer.png"' in folder.report.read_text()


def test_bad_input_is_one_line(csd_lab, tmp_path):
    outcome = csd_lab("data=image", "data.path=no.png", "prompt='make it red'", *LIGHT)
    assert outcome.code != 0
    assert "'no.png' does not exist" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
