"""Data modules: the task they give, the frames for a prior, and batches that survive a resume."""

import random
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from small_media import encode, keep_first, moving, save_images
from torch import Tensor, nn

from csd_lab import world
from csd_lab.data import EditData, MediaError, VideoFile, WorldClip, write_video
from csd_lab.data.media import probe


class Recorder(pl.LightningModule):
    """Trains one number and remembers which frames each step saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.seen.append(batch.tolist())
        return self.weight**2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.weight], lr=0.1)


def fit(data: EditData, folder: Path, steps: int, resume: Path | None = None, **options: Any):
    module = Recorder()
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    return module.seen


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mp4", moving(7, 30, 44), 12)
    return tmp_path / "clip.mp4"


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(tmp_path: Path, file: Path) -> None:
    def data() -> EditData:
        return VideoFile(file, "make it night", batch_size=3, seed=5)

    whole = fit(data(), tmp_path, 20)
    start = fit(data(), tmp_path, 8)
    rest = fit(data(), tmp_path, 20, tmp_path / "last.ckpt")
    assert len(whole) == 20
    assert start + rest == whole
    assert fit(data(), tmp_path, 20, limit_train_batches=6) == whole
    pairs = fit(data(), tmp_path, 10, accumulate_grad_batches=2)
    assert pairs == whole


@pytest.mark.filterwarnings("ignore")
def test_all_frames_each_step(tmp_path: Path, file: Path) -> None:
    assert fit(VideoFile(file, "x"), tmp_path, 2) == [list(range(7))] * 2


def test_global_random_state_does_not_matter(file: Path) -> None:
    streams = []
    for state in (1, 2):
        random.seed(state)
        torch.manual_seed(state)
        loader = iter(VideoFile(file, "x", batch_size=2, seed=4).train_dataloader())
        streams.append([next(loader).tolist() for _ in range(9)])
    assert streams[0] == streams[1]


def test_task_of_a_file(file: Path) -> None:
    data = VideoFile(file, "make it night", "a day", "a night", max_frames=3, start=1, stride=2)
    task = data.task
    assert task.source.shape == (3, 3, 30, 44)
    assert (task.instruction, task.source_caption, task.target_caption) == (
        "make it night",
        "a day",
        "a night",
    )
    assert (task.fps, task.name, task.targets) == (6.0, "clip.mp4", None)
    assert data.task is task


def test_frames_fit_the_prior_and_come_back(file: Path) -> None:
    data = VideoFile(file, "x")
    data.fit_to(16)
    assert data.frames.shape == (7, 3, 32, 48)
    assert torch.equal(data.restore(data.frames), data.task.source)
    data = VideoFile(file, "x", resolution=16, detail="residual")
    data.fit_to(8)
    assert data.frames.shape == (7, 3, 16, 24)
    assert torch.allclose(data.restore(data.frames), data.task.source, atol=1e-6)


def test_a_single_image_and_a_folder(tmp_path: Path) -> None:
    save_images(tmp_path / "f", moving(3), ["1.png", "2.png", "10.png"])
    assert VideoFile(tmp_path / "f", "x", still_fps=4).task.fps == 4
    data = VideoFile(str(tmp_path / "f" / "10.png"), "x", batch_size=1)
    assert data.task.source.shape[0] == 1
    assert next(iter(data.train_dataloader())).tolist() == [0]


def test_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert VideoFile("~/clip.mp4", "x").task.name == "clip.mp4"


def test_an_exact_answer_is_part_of_the_task(tmp_path: Path) -> None:
    save_images(tmp_path / "f", moving(5), [f"{i}.png" for i in range(5)])
    save_images(tmp_path / "answer", 1 - moving(5), [f"{i}.png" for i in range(5)])
    data = VideoFile(tmp_path / "f", "make it negative", target=tmp_path / "answer", start=1)
    task = data.task
    assert task.targets is not None
    assert task.targets.shape == (1, *task.source.shape)
    assert torch.allclose(task.targets[0], 1 - task.source, atol=1.01 / 255)
    assert task.target_captions == ()
    data = VideoFile(tmp_path / "f", "x", target_caption="a cat", target=str(tmp_path / "answer"))
    assert data.task.target_captions == ("a cat",)
    with pytest.raises(
        ValueError, match=r"target must have the clip's 5 frames of .*, got 1 frame"
    ):
        VideoFile(tmp_path / "f", "x", target=tmp_path / "answer" / "0.png")
    with pytest.raises(MediaError, match="does not exist"):
        VideoFile(tmp_path / "f", "x", target=tmp_path / "nothing")


def test_frames_that_an_edit_list_hides_do_not_count(tmp_path: Path) -> None:
    exact = encode(tmp_path / "exact.mp4", 1 - moving(30)[:20], "libx264", 10)
    long = encode(tmp_path / "long.mp4", 1 - moving(30), "libx264", 10)
    path = keep_first(encode(tmp_path / "clip.mp4", moving(30), "libx264", 10), 2.0)
    assert probe(path).frames == 30
    task = VideoFile(path, "x", target=exact, batch_size=20).task
    assert task.targets is not None
    assert task.source.shape == task.targets[0].shape == (20, 3, 48, 64)
    assert (1 - task.targets[0] - task.source).abs().mean() < 0.03
    with pytest.raises(ValueError, match="clip's 20 frames of 64 x 48, got 30 frames of 64 x 48;"):
        VideoFile(path, "x", target=long).read()
    with pytest.raises(ValueError, match=r"batch_size must be at most .* 20 frames, .* 25"):
        VideoFile(path, "x", batch_size=25).read()
    images = save_images(tmp_path / "f", 1 - moving(30)[:20], [f"{i}.png" for i in range(20)])
    assert VideoFile(path, "x", target=images).task.targets is not None


def test_a_target_of_another_size_is_told_by_the_constructor(tmp_path: Path, file: Path) -> None:
    for name, codec in {"a.mp4": "libx264", "a.webm": "libvpx-vp9"}.items():
        target = encode(tmp_path / name, moving(7, 32, 44), codec)
        with pytest.raises(ValueError, match="clip's frames of 44 x 30, got frames of 44 x 32;"):
            VideoFile(file, "x", target=target)


def test_batches_of_frames_in_fragments(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    encode(path, moving(10), "libx264", movflags="frag_every_frame")
    assert len(next(iter(VideoFile(path, "x", batch_size=9).train_dataloader()))) == 9
    with pytest.raises(ValueError, match="at most the clip's 10 frames"):
        VideoFile(path, "x", batch_size=11).read()


def test_bad_files_are_told_by_the_constructor(tmp_path: Path, file: Path) -> None:
    with pytest.raises(MediaError, match="does not exist"):
        VideoFile(tmp_path / "no.mp4", "x")
    with pytest.raises(MediaError, match="has no frame 9"):
        VideoFile(file, "x", start=9)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(MediaError, match="cut short"):
        VideoFile(file, "x")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompt": None}, "prompt must say what to do"),
        ({"prompt": ""}, "prompt must say what to do"),
        ({"prompt": 7}, "prompt must be text, got 7; put it in quotes"),
        ({"prompt": "x", "target_caption": None}, "target_caption must be text, got None"),
        ({"prompt": "x", "batch_size": 8}, "at most the clip's 7 frames, or null .* got 8"),
        ({"prompt": "x", "max_frames": 3, "batch_size": 4}, "at most the clip's 3 frames"),
        ({"prompt": "x", "max_frames": 0}, "max_frames must be .* got 0"),
        ({"prompt": "x", "resolution": 0}, "resolution must be .* got 0"),
        ({"prompt": "x", "detail": "sharp"}, "detail must be one of resize, residual"),
        ({"prompt": "x", "still_fps": -1}, "still_fps must be a number from 0.01 to 1000"),
        ({"prompt": "x", "seed": -1}, "seed must be a whole number of at least 0"),
    ],
)
def test_arguments_out_of_range(file: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VideoFile(file, **arguments)


def test_a_path_is_text() -> None:
    with pytest.raises(ValueError, match="path must be text, got 123; put it in quotes"):
        VideoFile(123, "x")


def test_a_caption_may_stand_for_the_prompt(file: Path) -> None:
    task = VideoFile(file, None, target_caption="a night").task
    assert (task.instruction, task.target_caption) == ("", "a night")


def test_prompts_never_become_paths(tmp_path: Path, file: Path) -> None:
    before = sorted(tmp_path.iterdir())
    task = VideoFile(file, "../../etc/passwd\0<b>\n", target_caption="/tmp/x").task
    assert task.instruction == "../../etc/passwd\0<b>\n"
    assert sorted(tmp_path.iterdir()) == before


def test_task_of_the_world() -> None:
    instruction = world.instructions(many=False)[0]
    data = WorldClip(world.HELD_OUT_SEED, instruction, frames=3, size=32, batch_size=2, seed=9)
    again = world.edit_task(world.HELD_OUT_SEED, instruction, frames=3, size=32)
    assert data.task.instruction == instruction
    assert torch.equal(data.task.source, again.source)
    assert data.task.targets is not None
    assert data.task.targets.shape == (1, 3, 3, 32, 32)
    data.fit_to(16)
    assert data.frames is data.task.source
    assert len(next(iter(data.train_dataloader()))) == 2


def test_the_order_of_frames_does_not_choose_the_clip() -> None:
    tasks = [WorldClip(3, frames=2, size=16, seed=seed).task for seed in (0, 1)]
    assert torch.equal(tasks[0].source, tasks[1].source)
    assert tasks[0].instruction == tasks[1].instruction


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"clip_seed": -1}, "clip_seed must be a whole number of at least 0, got -1"),
        ({"clip_seed": 0, "frames": 0}, "frames must be a whole number of at least 1, got 0"),
        ({"clip_seed": 0, "size": 0}, "size must be a whole number of at least 1, got 0"),
        ({"clip_seed": 0, "fps": 0}, "fps must be a number from 0.01 to 1000, got 0"),
        ({"clip_seed": 0, "batch_size": 9}, "at most the clip's 8 frames"),
        ({"clip_seed": 0, "instruction": "mak it nihgt"}, "such as 'make it night', got 'mak it"),
        ({"clip_seed": 0, "instruction": 3}, "got '3'; other text needs an own file"),
        ({"clip_seed": 0, "family": "weather"}, "family"),
    ],
)
def test_world_arguments_out_of_range(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WorldClip(**arguments)
