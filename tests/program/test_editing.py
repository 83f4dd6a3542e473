"""Edits from Python: the same as those of the program, with the same checks."""

import json

import pytest
import torch
from hydra.utils import instantiate

import csd_lab
from csd_lab.callbacks import NonFiniteGradientError
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
    suite = instantiate(csd_lab.compose(*LIGHT, "metrics=pixels").metrics)
    measured = suite.evaluate(done.result)
    assert {name: measured[name] for name in figures} == pytest.approx(figures)
    assert "psnr_answer" in figures


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


MODALITY = '''
from typing import final

import torch

from csd_lab.distill import particle_noise
from csd_lab.particles import LatentParticles


@final
class Halves(LatentParticles):
    """The left and the right half of every frame are particles."""

    takes = "clip"

    def parts(self, images, ids):
        return torch.cat(images.chunk(2, dim=3))[ids]

    def texts(self, ids):
        return self.prompt

    def whole(self, parts, ids):
        return torch.cat(parts[ids.argsort()].chunk(2), dim=3)

    def starting_noise(self):
        ids = torch.arange(len(self.latents))
        return particle_noise(self.seed, 0, ids, tuple(self.latents.shape[1:]), self.noise)
'''


def test_a_new_modality_is_one_python_file_and_one_yaml(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "halves.py").write_text(MODALITY)
    (tmp_path / "configs" / "modality").mkdir(parents=True)
    config = "defaults: [video, _self_]\n_target_: halves.Halves\n"
    (tmp_path / "configs" / "modality" / "halves.yaml").write_text(config)
    config = csd_lab.compose("modality=halves", "data.frames=2", "trainer.max_steps=2")
    done = csd_lab.edit(config, **QUIET)
    assert done.result.edited.shape == (2, 3, 64, 64)
    assert not torch.equal(done.result.edited, done.result.task.source)
    with pytest.raises(ValueError, match="modality must be image or panorama for one image"):
        csd_lab.edit(csd_lab.compose("data=world_panorama", "modality=halves"))


def test_what_the_program_refuses_is_refused():
    with pytest.raises(ValueError, match=r"trainer\.max_steps must be a whole number"):
        csd_lab.edit(csd_lab.compose(*LIGHT[:1], "trainer.max_steps=0"))
    with pytest.raises(ValueError, match="modality must be video for a clip"):
        csd_lab.edit(csd_lab.compose(*LIGHT, "modality=image"))
    with pytest.raises(ValueError, match=r"trainer\.devices must be 1, since an edit"):
        csd_lab.edit(csd_lab.compose(*LIGHT, "trainer=ddp", "trainer.devices=2"))
    with pytest.raises(ValueError, match="no kernel=none; choose from identity, imq"):
        csd_lab.compose("kernel=none")
    with pytest.raises(ValueError, match=r"setting 'guidance\.txt'; did you mean 'guidance\.text'"):
        csd_lab.compose("guidance.txt=3")
    with pytest.raises(NonFiniteGradientError):
        csd_lab.edit(csd_lab.compose(*LIGHT, "optimizer.optimizer.lr=1e38"), **QUIET)
    with pytest.raises(AttributeError, match="no attribute 'edited'"):
        csd_lab.edited  # noqa: B018
