"""Whole runs on a scene: what a user takes home of it, and that it is all there and the same."""

import logging
import signal
from functools import partial
from pathlib import Path

import av
import browser
import pytest
import pytorch_lightning as pl
import torch
import trimesh
from test_configs import bind, composed
from wandb_records import parts

from csd_lab.callbacks import WriteScene
from csd_lab.data import WorldScene
from csd_lab.fields import Bounds, PixelLoss, Rendering, Scene, View, grid_scene
from csd_lab.particles import Reconstruction, SceneRecipe
from csd_lab.run_folder import RunFolder

SMALL = (
    *("data.count=6", "data.held_out=2", "data.size=16", "data.views=3"),
    *("metrics=pixels", "field.resolution=16", "callbacks.checkpoint.every=1"),
    "hydra.run.dir=run",
    *("callbacks.scene.frames=4", "callbacks.scene.agree=0", "callbacks.scene.mesh=6"),
)
EDIT = (
    *("data=world_scene", "method=csd_edit", "prompt=make it sepia", "modality.recipe.steps=60"),
    "modality.recipe.learning_rate=0.6",
    *("modality.updates.times=2", "modality.updates.fit=2", "modality.updates.last=2"),
    *("trainer.max_steps=2",),
)
LINKS = "[...document.querySelectorAll('.files a')].map(a => a.getAttribute('href'))"


def written(folder: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.of_scene}


def video(path: Path) -> tuple[int, int]:
    """Frames and width of a video."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return len(frames), frames[0].width


def check_files(folder: RunFolder, most: int) -> None:
    assert 0 < len(trimesh.load(folder.points).vertices) <= most
    ply = trimesh.load(folder.mesh, process=False)
    glb = trimesh.load(folder.mesh_glb, force="mesh", process=False)
    assert len(ply.vertices) == len(glb.vertices) > 0
    assert len(ply.faces) == len(glb.faces) > 0
    assert video(folder.path)[0] == video(folder.depth)[0] == 4


def test_a_resumed_run_writes_the_same_files(csd_lab, tmp_path):
    outcome = csd_lab(*SMALL, *EDIT)
    assert outcome.code == 0, outcome.err
    folder = RunFolder(tmp_path / "run")
    check_files(folder, 100_000)
    page = folder.report.read_text()
    assert page.count("<video") == 3
    assert all(f'href="{name}"' in page for name in ("points.ply", "mesh.ply", "mesh.glb"))
    if browser.find() is not None:
        check_in_browser(folder, tmp_path / "profile")
    whole = written(folder)
    for path in (*folder.of_scene, folder.checkpoint):
        path.unlink()
    stop = ("+callbacks.stopped._target_=stops.StopAfter", "+callbacks.stopped.steps=2")
    assert csd_lab(*SMALL, *EDIT, *stop).code == 128 + signal.SIGTERM
    check_files(folder, 100_000)  # of the scene as it was when the run was stopped
    assert written(folder)["points.ply"] != whole["points.ply"]
    outcome = csd_lab("resume=run")
    assert outcome.code == 0, outcome.err
    assert written(folder) == whole


def check_in_browser(folder: RunFolder, profile: Path) -> None:
    """The page's clips play, those along the path in step with one another, and files are there."""
    videos = "[...document.querySelectorAll('video')]"
    with browser.tab(profile) as tab:
        tab.open(folder.report)
        tab.wait_for(f"{videos}.every(v => v.readyState >= 2)")
        assert tab.evaluate("document.querySelectorAll('.together').length") == 2
        along = "[...document.querySelectorAll('.together')[1].querySelectorAll('video')]"
        assert tab.evaluate(f"{along}.length") == 2
        lengths = tab.evaluate(f"{along}.map(v => v.duration)")
        assert lengths == pytest.approx([4 / 12] * 2, abs=0.02)
        tab.evaluate("document.querySelectorAll('.play')[1].click()")
        tab.wait_for(f"{along}.every(v => v.paused && !v.seeking)")
        first, second = tab.evaluate(f"{along}.map(v => v.currentTime)")
        assert first == pytest.approx(second, abs=0.01)
        assert not tab.evaluate("document.querySelector('video').paused")
        assert tab.evaluate(LINKS) == ["points.ply", "mesh.ply", "mesh.glb"]
        assert tab.complaints == []


@pytest.mark.parametrize("kind", ["data=capture", "data=world_capture"])
def test_a_reconstruction_has_nothing_to_edit_whatever_its_data(kind):
    config = composed("experiment=reconstruct", kind)
    assert config.modality._target_.endswith("Reconstruction")
    bind(config.data)
    assert not config.data.get("instruction", config.data.get("prompt"))


def test_a_reconstruction_is_shown_by_itself_and_what_is_not_wanted_is_left_out(csd_lab, tmp_path):
    arguments = ("experiment=reconstruct", *SMALL, "trainer.max_steps=3")
    outcome = csd_lab(*arguments, "callbacks.scene.points=7", "callbacks.scene.mesh=null")
    assert outcome.code == 0, outcome.err
    folder = RunFolder(tmp_path / "run")
    _, alone = video(folder.path)
    _, both = video(folder.side_by_side)
    assert alone == 384
    assert both > 2 * alone
    assert not folder.mesh.exists()
    assert 'href="mesh.ply"' not in folder.report.read_text()


def test_what_was_made_from_a_text_is_taken_home_like_a_scene_and_shown_in_wandb(csd_lab, tmp_path):
    outcome = csd_lab(
        *("experiment=text_to_3d", "trainer.max_steps=2", "data.views.count=2", "data.frames=4"),
        *("data.start.depth=50", "modality.growth.nodes=[1.0,1.0]"),
        *("field.resolution=12", "field.coarse=8", "field.fine=8", "metrics=pixels"),
        *("callbacks.scene.frames=4", "callbacks.scene.agree=0", "callbacks.scene.mesh=8"),
        *("logger=wandb", "logger.wandb.mode=offline", "hydra.run.dir=run"),
    )
    assert outcome.code == 0, outcome.err
    folder = RunFolder(tmp_path / "run")
    check_files(folder, 100_000)
    assert folder.report.read_text().count("<video") == 3
    (part,) = parts(folder.root)
    for name, file in (("path", folder.path), ("depth", folder.depth), ("mesh", folder.mesh_glb)):
        assert part.media(name).read_bytes() == file.read_bytes()


class Card(Scene):
    """A plane at a fixed distance from every camera; no field."""

    def __init__(self) -> None:
        super().__init__()
        self.colour = torch.nn.Parameter(torch.full((3,), 0.5))

    randomness = 0

    def pixels(self, cameras, ids, rows, columns, noise=None) -> Rendering:
        one = torch.ones(len(ids))
        return Rendering(self.colour.expand(len(ids), 3), one, one, one[:, None], one[:, None])

    def smoothness(self, generator=None):
        return torch.zeros(())

    def view(self, cameras, index) -> View:
        size = (cameras.height, cameras.width)
        one = torch.ones(size)
        return View(self.colour.detach()[:, None, None].expand(3, *size), 3 * one, one)


def empty(bounds: Bounds) -> Scene:
    scene = grid_scene(bounds, resolution=4, coarse=4, fine=4)
    torch.nn.init.constant_(scene.field.densities, -30.0)
    return scene


@pytest.mark.parametrize(
    ("make", "said", "there"),
    [
        (lambda bounds: Card(), "no mesh: Card has no density", {"path.mp4", "depth.mp4"}),
        (empty, "no mesh: nothing is dense enough but crumbs", {"path.mp4", "depth.mp4"}),
    ],
)
def test_what_a_scene_does_not_have_is_told_in_a_line(tmp_path, caplog, make, said, there):
    data = WorldScene(10**9 + 7, "", count=3, held_out=1, size=8)
    adam = partial(torch.optim.Adam, lr=0.1)
    recipe = SceneRecipe(make, PixelLoss(8))
    module = Reconstruction(data.followed, data.shown, recipe, adam)
    trainer = pl.Trainer(default_root_dir=tmp_path, logger=False, accelerator="cpu")
    (tmp_path / "mesh.ply").write_text("of a former part of the run")
    with caplog.at_level(logging.INFO, "csd_lab.callbacks.scene"):
        WriteScene(frames=2).on_train_end(trainer, module)
    assert [line for line in caplog.messages if line.startswith(said)]
    assert {path.name for path in tmp_path.iterdir()} - {"points.ply"} == there


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": 0}, "frames must be at least 1, or null for none, got 0"),
        ({"points": 0}, "points must be at least 1"),
        ({"mesh": 1}, "mesh must be at least 2"),
        ({"agree": -1}, "agree must be a finite number of at least 0, got -1"),
        ({"crumb": 2}, "crumb must be a share, in .0, 1., got 2"),
        ({"fps": 0}, "fps must be a finite number above 0, got 0"),
    ],
)
def test_wrong_numbers_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        WriteScene(**wrong)
