"""One image as a task: what is read, where its windows lie, and how it comes back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import huge_png, write_png
from PIL import Image

from csd_lab import world
from csd_lab.canvas import WindowGrid
from csd_lab.data import (
    ImageFile,
    MediaError,
    WindowBatches,
    WorldPanorama,
    read_regions,
    write_image,
)
from csd_lab.data.opacity import Opacity


def picture(height: int, width: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height + width)
    levels = torch.randint(0, 256, (channels, height, width), generator=generator)
    return levels / 255


def save_one(folder: Path) -> Path:
    write_image(folder / "1.png", picture(4, 4))
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_image(tmp_path / "a.png", picture(90, 250))
    return tmp_path / "a.png"


def test_task_of_a_file(file: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "answer.png", picture(90, 250).flip(0))
    data = ImageFile(file, "make it night", "a day", "a night", target=str(tmp_path / "answer.png"))
    task = data.task
    assert torch.equal(task.source, picture(90, 250)[None])
    assert (task.instruction, task.source_caption, task.name) == ("make it night", "a day", "a.png")
    assert task.targets is not None
    assert torch.equal(task.targets, picture(90, 250).flip(0)[None, None])
    assert task.target_captions == ("a night",)
    assert (data.windows, data.opacity, task.windows) == (None, None, None)
    assert torch.equal(data.to_write(task.source), task.source)


def test_without_windows_the_image_is_the_one_particle(file: Path) -> None:
    batches = iter(ImageFile(file, "x", batch_size=5).train_dataloader())
    assert [next(batches).tolist() for _ in range(3)] == [[0]] * 3


def test_windows_of_steps_are_those_of_the_grid(file: Path) -> None:
    data = ImageFile(file, "x", batch_size=3, seed=7)
    data.fit_to(16)
    assert data.frames.shape == (1, 3, 96, 256)
    grid = WindowGrid(24, 64, (16, 16), (8, 8))
    data.lay_windows(grid, 4)
    batches, expected = iter(data.train_dataloader()), WindowBatches(grid, 3, 7)
    for k in range(5):
        assert torch.equal(next(batches), expected.batch(k))
    with pytest.raises(ValueError, match=r"at most the image's 14 windows, or null .* got 15"):
        ImageFile(file, "x", batch_size=15).lay_windows(grid, 4)


def test_windows_lie_within_the_users_image(file: Path) -> None:
    data = ImageFile(file, "x")
    data.fit_to(16)
    data.lay_windows(WindowGrid(24, 64, (16, 16), (8, 8)), 4)
    assert data.windows is not None
    boxes = data.windows.boxes
    assert boxes[0].tolist() == [0, 0, 64, 64]
    assert boxes[-1].tolist() == [32, 192, 90, 250]
    assert not data.windows.wrap


def test_windows_follow_the_resizing(file: Path) -> None:
    data = ImageFile(file, "x", resolution=48)
    data.fit_to(16)
    assert data.frames.shape == (1, 3, 48, 128)
    data.lay_windows(WindowGrid(12, 32, (12, 12), (4, 4)), 4)
    assert data.windows is not None
    assert data.windows.boxes[0].tolist() == [0, 0, 90, 94]
    assert data.windows.boxes[-1].tolist() == [0, 156, 90, 250]


def test_windows_of_a_ring_go_over_the_join(file: Path) -> None:
    data = ImageFile(file, "x", wrap=True)
    data.fit_to(8)
    assert data.frames.shape == (1, 3, 96, 248)
    data.lay_windows(WindowGrid(12, 31, (12, 12), (4, 4), wrap=True), 8)
    assert data.windows is not None
    assert data.windows.wrap
    assert data.windows.boxes[:, 3].max() > 250
    assert data.windows.boxes[:, 1].max() < 250


@pytest.mark.parametrize("colour", ["white", "#336699"])
def test_a_transparent_image_comes_back_as_it_was(tmp_path: Path, colour: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 4), np.uint8)
    data = ImageFile(write_png(tmp_path / "a.png", pixels), "x", background=colour)
    written = data.to_write(data.task.source)
    write_image(tmp_path / "b.png", written[0])
    again = np.asarray(Image.open(tmp_path / "b.png"))
    seen = pixels[..., 3] > 0
    assert written.shape == (1, 4, 30, 40)
    assert (again[..., 3] == pixels[..., 3]).all()
    assert (again[seen] == pixels[seen]).all()


def test_an_edited_image_looks_as_edited_over_its_background() -> None:
    background = (0.8, 0.1, 0.3)
    behind = torch.tensor(background)[:, None, None]
    alpha = torch.rand(20, 20).round(decimals=2)
    own = torch.rand(2, 3, 20, 20)
    edited = own * alpha + behind * (1 - alpha)
    layers = Opacity(alpha, background).put_on(edited)
    assert torch.allclose(layers[:, :3] * alpha + behind * (1 - alpha), edited, atol=1e-5)
    assert torch.equal(layers[:, 3], alpha.expand(2, -1, -1))
    impossible = Opacity(alpha, background).put_on(torch.zeros(1, 3, 20, 20))
    assert impossible.min() >= 0
    assert impossible.isfinite().all()


@pytest.mark.parametrize(("colour", "grey"), [("red", 0.299), ("lime", 0.587), ("blue", 0.114)])
def test_a_coloured_mask_counts_by_its_grey(tmp_path: Path, colour: str, grey: float) -> None:
    Image.new("RGB", (3, 2), colour).save(tmp_path / "mask.png")
    (region,) = read_regions([{"prompt": "x", "mask": str(tmp_path / "mask.png")}])
    torch.testing.assert_close(region.area.image, torch.full((2, 3), grey))


def test_bad_files_are_told_by_the_constructor(tmp_path: Path, file: Path) -> None:
    with pytest.raises(MediaError, match="does not exist"):
        ImageFile(tmp_path / "no.png", "x")
    with pytest.raises(MediaError, match="more than 67108864 pixels"):
        ImageFile(huge_png(tmp_path / "h.png", 20000, 20000), "x")
    frames = [Image.new("L", (4, 4), level) for level in (0, 90)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(MediaError, match="is an animation, not a single image; take data=file"):
        ImageFile(tmp_path / "a.gif", "x")
    with pytest.raises(MediaError, match="is a folder, not a single image"):
        ImageFile(save_one(tmp_path / "folder"), "x")
    write_image(tmp_path / "b.png", picture(90, 249))
    with pytest.raises(ValueError, match="target must have the image's size, 250 x 90, got 249"):
        ImageFile(file, "x", target=tmp_path / "b.png")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompt": None}, "prompt must say what to do"),
        ({"prompt": 7}, "prompt must be text, got 7; put it in quotes"),
        ({"prompt": "x", "background": "whitish"}, "background must be a colour .* got 'whitish'"),
        ({"prompt": "x", "background": 0}, "background must be a colour .* got 0"),
        ({"prompt": "x", "wrap": "yes"}, "wrap must be true or false, got 'yes'"),
        ({"prompt": "x", "batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"prompt": "x", "resolution": 0}, "resolution must be .* got 0"),
        ({"prompt": "x", "resolution": 20000}, "at most 33554432 pixels"),
        ({"prompt": "x", "detail": "sharp"}, "detail must be one of resize, residual"),
    ],
)
def test_arguments_out_of_range(file: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ImageFile(file, **arguments)


@pytest.mark.parametrize("wrap", [False, True])
def test_task_of_the_world(wrap: bool) -> None:
    data = WorldPanorama(world.HELD_OUT_SEED, "make it night", width=192, wrap=wrap)
    again = world.panorama_task(world.HELD_OUT_SEED, "make it night", width=192, ring=wrap)
    assert torch.equal(data.task.source, again.source)
    assert data.task.targets is not None
    assert data.task.targets.shape == (1, 1, 3, 64, 192)
    data.fit_to(16)
    assert data.frames is data.task.source


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scene_seed": -1}, "scene_seed must be a whole number of at least 0, got -1"),
        ({"scene_seed": 0, "width": 63}, "width must be from 1 to 16 heights .64 to 1024 pixels"),
        ({"scene_seed": 0, "width": 1025}, "here., got 1025"),
        ({"scene_seed": 0, "height": 0}, "height must be a whole number of at least 1, got 0"),
        ({"scene_seed": 0, "instruction": "mak it nihgt"}, "such as 'make it night', got 'mak it"),
        ({"scene_seed": 0, "family": "weather"}, "family"),
        ({"scene_seed": 0, "wrap": 1}, "wrap must be true or false, got 1"),
    ],
)
def test_world_arguments_out_of_range(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WorldPanorama(**arguments)
