"""Camera paths: circles stay circles, and others stay where cameras have been."""

import math

import pytest
import torch
from shapes import orbit
from torch.nn.functional import normalize

from csd_lab.fields import Cameras, camera_path, look_at

CENTRE = torch.tensor([1.0, -2.0, 0.5])
UP = normalize(torch.tensor([0.2, 0.9, -0.3]), dim=0)
FOCAL = torch.tensor([30.0, 30.0])


def cameras(poses):
    return Cameras(poses, FOCAL, 8, 12)


def axes(path):
    return -path.poses[:, :, 2]


def misses(path, point):
    """How far each optical axis passes by a point."""
    to = point - path.poses[:, :, 3]
    return torch.linalg.cross(to, axes(path)).norm(dim=1)


def angles(offsets, up=UP):
    first = normalize(torch.linalg.cross(up, torch.eye(3)[0]), dim=0)
    second = torch.linalg.cross(up, first)
    return torch.atan2(offsets @ second, offsets @ first)


@pytest.mark.parametrize("evenly", [True, False])
def test_the_path_of_a_circle_is_that_circle(evenly):
    poses = orbit(CENTRE, 3.0, 0.4, 40, UP)
    if not evenly:
        poses = poses[[*range(0, 20), *range(20, 40, 5)]]
    path = camera_path(cameras(poses), 24)
    offsets = path.poses[:, :, 3] - CENTRE
    assert len(path) == 24
    torch.testing.assert_close(offsets.norm(dim=1), torch.full((24,), 3.0), rtol=5e-4, atol=0)
    height = torch.full((24,), 3 * math.sin(0.4))
    torch.testing.assert_close(offsets @ UP, height, rtol=0, atol=3e-3)
    assert misses(path, CENTRE).max() < 1e-3
    turns = angles(offsets)
    steps = torch.remainder(turns.roll(-1) - turns, 2 * math.pi)
    torch.testing.assert_close(steps, torch.full((24,), math.pi / 12), rtol=0, atol=2e-3)
    assert (path.poses[:, :, 1] @ UP).min() > 0.9
    assert (path.height, path.width) == (8, 12)


def test_heights_and_distances_that_go_up_and_down_are_smoothed():
    rough = [orbit(CENTRE, 3.0 + 0.3 * (-1) ** i, 0.2 + 0.1 * (-1) ** i, 24, UP) for i in (0, 1)]
    poses = torch.stack([rough[i % 2][i] for i in range(24)])
    path = camera_path(cameras(poses), 16)
    places = path.poses[:, :, 3]
    heights = (places - CENTRE) @ UP
    assert (heights.max() - heights.min()).item() < 1e-2
    target = places.mean(dim=0)
    across = (places - target).norm(dim=1)
    assert (across.max() - across.min()).item() < 0.02
    assert 2.7 < across.mean().item() < 3.3


def grid(target, size=5):
    """Cameras on a square of side 1 before the origin, looking at a point; None: along -z."""
    axis = torch.linspace(-0.5, 0.5, size)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    places = torch.stack([x.flatten(), y.flatten(), torch.zeros(size**2)], dim=1)
    aims = places + torch.tensor([0.0, 0.0, -1.0]) if target is None else target
    return cameras(look_at(places, aims, torch.tensor([0.0, 1.0, 0.0])))


def test_cameras_that_look_forward_are_followed_to_and_fro():
    target = torch.tensor([0.0, 0.0, -4.0])
    path = camera_path(grid(target), 32)
    places = path.poses[:, :, 3]
    assert places[:, :2].abs().max() < 0.55
    assert places[:, 2].abs().max() < 0.1
    assert (places[:, 0].max() - places[:, 0].min()).item() > 0.7
    assert (places[:, 1].max() - places[:, 1].min()).item() > 0.7
    assert misses(path, target).max() < 0.05


def test_parallel_cameras_are_followed_by_nearly_parallel_ones():
    path = camera_path(grid(None), 32)
    assert path.poses[:, :2, 3].abs().max() < 0.55
    assert axes(path)[:, 2].max() < -math.cos(0.12)


def test_a_path_stays_within_an_arc():
    turns = 200 / 360
    whole = orbit(CENTRE, 2.0, 0.1, 30, UP, turns)
    path = camera_path(cameras(whole), 48)
    offsets = path.poses[:, :, 3] - CENTRE
    torch.testing.assert_close(offsets.norm(dim=1), torch.full((48,), 2.0), rtol=2e-3, atol=0)
    middle = angles((whole[14, :, 3] + whole[15, :, 3])[None] / 2 - CENTRE)
    off = torch.remainder(angles(offsets) - middle + math.pi, 2 * math.pi) - math.pi
    assert 0.7 * math.radians(100) < off.abs().max() < math.radians(100)
    assert misses(path, CENTRE).max() < 5e-3


@pytest.mark.parametrize("count", [1, 2])
def test_few_cameras_have_a_path_too(count):
    path = camera_path(cameras(orbit(CENTRE, 2.0, 0.1, 2, UP)[:count]), 5)
    assert path.poses.isfinite().all()
    if count == 1:
        torch.testing.assert_close(path.poses[0], path.poses[3])


def test_no_frames_are_refused():
    with pytest.raises(ValueError, match="count must be a whole number of at least 1, got 0"):
        camera_path(grid(None), 0)
