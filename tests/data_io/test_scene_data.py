"""Scenes as data: what is followed, what is shown, and in which order views come."""

import json
from itertools import islice

import pytest
import torch

from csd_lab.data import CaptureFolder, MediaError, WorldScene, write_image

SEED = 1000000005
SMALL = {"count": 6, "held_out": 3, "size": 16}


def test_a_world_scene_shows_views_held_out_and_their_answers():
    data = WorldScene(SEED, "make it sepia", **SMALL)
    task = data.task
    assert task.source.shape == (3, 3, 16, 16)
    assert task.targets.shape == (1, 3, 3, 16, 16)
    assert task.target_caption == task.target_captions[0]
    assert len(data.followed.images) == len(data.followed.cameras) == 6
    assert len(data.shown) == 3
    assert torch.equal(data.capture.cameras.poses[6:], data.shown.poses)
    assert data.capture.held_out.tolist() == [False] * 6 + [True] * 3


def test_where_nothing_is_edited_the_answer_is_the_scene():
    task = WorldScene(SEED, "", **SMALL).task
    assert task.instruction == ""
    assert torch.equal(task.targets[0], task.source)
    assert task.target_captions == (task.source_caption,)


def test_views_are_fitted_with_their_cameras():
    data = WorldScene(SEED, "make it sepia", count=6, held_out=3, size=20)
    data.fit_to(8)
    views = data.followed
    assert views.images.shape == (6, 3, 16, 16)
    assert (views.cameras.height, views.cameras.width) == (16, 16)
    torch.testing.assert_close(views.cameras.focal, data.capture.cameras.focal[:6] * 16 / 20)


def test_batches_stay_as_long_as_they_are_held_wherever_they_begin():
    data = WorldScene(SEED, "make it sepia", **SMALL, views=2, seed=4)
    data.hold(3)
    whole = list(islice(data.batches(lambda: 0), 12))
    for start in (1, 3, 7):
        rest = islice(data.batches(lambda start=start: start), 12 - start)
        assert all(torch.equal(a, b) for a, b in zip(whole[start:], rest, strict=True))
    for k in range(0, 12, 3):
        assert torch.equal(whole[k], whole[k + 2])
    passed = torch.cat(whole[:9:3])
    assert sorted(passed.tolist()) == list(range(6))  # each view once before any comes again


def write_capture(folder, count=4):
    scene = WorldScene(SEED, "", count=count, held_out=1, size=16).capture
    frames = []
    for index, image in enumerate(scene.images[:count]):
        write_image(folder / f"{index}.png", image)
        rows = [*scene.cameras.poses[index].tolist(), [0.0, 0.0, 0.0, 1.0]]
        frames.append({"file_path": f"{index}.png", "transform_matrix": rows})
    focal = float(scene.cameras.focal[0, 0])
    return {"fl_x": focal, "w": 16, "h": 16, "frames": frames}


@pytest.fixture
def folder(tmp_path):
    content = write_capture(tmp_path)
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    return tmp_path


def test_a_capture_holds_out_some_views_or_none(folder):
    some = CaptureFolder(folder, "make it sepia", hold_out=2)
    assert len(some.task.source) == 2
    assert len(some.followed.images) == 2
    assert some.task.targets is None
    none = CaptureFolder(folder, "make it sepia", hold_out=0)
    assert len(none.task.source) == len(none.followed.images) == 4


@pytest.mark.parametrize(("resolution", "side"), [(None, 16), (8, 8), (64, 16)])
def test_views_are_made_smaller_and_never_larger(folder, resolution, side):
    data = CaptureFolder(folder, "x", hold_out=2, resolution=resolution)
    assert data.task.source.shape[2:] == (side, side)
    assert data.followed.images.shape[2:] == (side, side)
    assert (data.shown.height, data.shown.width) == (side, side)


def test_a_capture_with_nothing_to_do_is_its_own_answer(folder):
    task = CaptureFolder(folder, None).task
    assert torch.equal(task.targets[0], task.source)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"count": 1}, "count must be a whole number of at least 2"),
        ({"held_out": 0}, "held_out must be a whole number of at least 1"),
        ({"views": 7}, "views must be at most the scene's 6 views"),
        ({"instruction": "paint the moon"}, "must be one of the world's"),
        ({"instruction": ["make it night", "make it warm"]}, "prompt must be text"),
    ],
)
def test_impossible_scenes_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        WorldScene(**{"scene_seed": SEED, "instruction": "make it night", **SMALL, **options})


def test_more_views_in_hand_than_there_are(folder):
    data = CaptureFolder(folder, "x", hold_out=2, views=3)
    with pytest.raises(ValueError, match="at most the capture's 2 views"):
        _ = data.task


def test_a_capture_that_is_none(tmp_path):
    data = CaptureFolder(tmp_path, "x")
    with pytest.raises(MediaError, match="is no capture"):
        _ = data.task


def test_with_many_answers_the_caption_of_a_scene_is_the_first_ones_as_of_a_clip():
    scene = WorldScene(SEED, "change the sky", count=2, held_out=1, size=16).task
    assert len(scene.target_captions) > 1
    assert scene.target_caption == scene.target_captions[0] != scene.source_caption
