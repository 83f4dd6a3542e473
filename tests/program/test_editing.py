"""Edits from Python: the same as those of the program, with the same checks."""

import json

import pytest
import torch
from hydra.errors import HydraException

import csd_lab
from csd_lab.data import VideoFile, write_image
from csd_lab.run_folder import RunFolder

LIGHT = ("experiment=colours", "trainer.max_steps=3")
QUIET = {"enable_progress_bar": False}


@pytest.fixture
def program(request):
    """The command line, whose fixture has the package's name."""
    return request.getfixturevalue("csd_lab")


def test_an_edit_from_python_is_that_of_the_program(program, tmp_path):
    outcome = program(*LIGHT, "metrics=pixels", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    done = csd_lab.edit(csd_lab.compose(*LIGHT, "metrics=pixels"), **QUIET)
    saved = torch.load(RunFolder(tmp_path / "run").checkpoint, weights_only=True)["state_dict"]
    assert torch.equal(done.module.latents, saved["latents"])
    figures = json.loads(RunFolder(tmp_path / "run").results.read_text())["metrics"]
    error = (done.result.edited - done.result.task.targets[0]).square().mean((1, 2, 3))
    assert figures["psnr_target"] == pytest.approx(float((-10 * error.log10()).mean()), abs=1e-4)


def test_own_media_and_text_with_commas_are_given_as_they_are_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        write_image(tmp_path / "frames" / f"{number}.png", torch.full((3, 32, 32), 0.3))
    own = ("prior=colours", "prior.size=32", "guidance=classifier_free", "trainer.max_steps=2")
    config = csd_lab.compose(*own, "data.path=frames", "prompt=make it red, and dark")
    assert config.choices.data == "file"
    done = csd_lab.edit(config, **QUIET)
    assert isinstance(done.data, VideoFile)
    assert done.result.task.instruction == "make it red, and dark"
    assert done.result.edited.shape == (2, 3, 32, 32)


def test_data_and_prior_can_be_given():
    config = csd_lab.compose(*LIGHT, "data.frames=2")
    first = csd_lab.edit(config, **QUIET)
    again = csd_lab.edit(config, first.data, first.module.prior, **QUIET)
    assert again.module.prior is first.module.prior
    assert torch.equal(again.result.edited, first.result.edited)


def test_what_the_program_refuses_is_refused():
    with pytest.raises(ValueError, match=r"trainer\.max_steps must be a whole number"):
        csd_lab.edit(csd_lab.compose(*LIGHT[:1], "trainer.max_steps=0"))
    with pytest.raises(ValueError, match="modality must be video for a clip"):
        csd_lab.edit(csd_lab.compose(*LIGHT, "modality=image"))
    with pytest.raises(HydraException, match="kernel/none"):
        csd_lab.compose("kernel=none")
    with pytest.raises(AttributeError, match="no attribute 'edited'"):
        csd_lab.edited  # noqa: B018
