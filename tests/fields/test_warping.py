"""The flow between views against homographies, by hand, and on exact views of the world."""

import functools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from csd_lab.data.world_capture import SceneEdit, scene_edit
from csd_lab.fields import Cameras, enlarged, flow, look_at
from csd_lab.metrics.warped import warped_rmse
from csd_lab.types import Flow

UP = torch.tensor([0.0, 1.0, 0.0])
HEIGHT, WIDTH = 40, 60
FOCAL = torch.tensor([50.0, 55.0])
CENTRE = torch.tensor([31.0, 19.0])


def cameras_at(positions: list[list[float]], targets: list[list[float]]) -> Cameras:
    poses = look_at(torch.tensor(positions), torch.tensor(targets), UP)
    return Cameras(poses, FOCAL, HEIGHT, WIDTH, CENTRE)


def plane_depth(cameras: Cameras, normal: Tensor, offset: float) -> Tensor:
    """Distances along the rays to the plane normal . x = offset, (V, H, W)."""
    rays = [cameras.image_rays(index) for index in range(len(cameras))]
    along = [(offset - ray.origins @ normal) / (ray.directions @ normal) for ray in rays]
    depth = torch.stack(along).view(len(cameras), HEIGHT, WIDTH)
    return torch.where(depth > 0, depth, torch.inf)


def homography(cameras: Cameras, normal: np.ndarray, offset: float) -> np.ndarray:
    """From pixels of the second camera to those of the first, by way of the plane; (3, 3)."""
    flip = np.diag([1.0, -1.0, -1.0])  # to axes with y down and z forward
    poses = cameras.poses.double().numpy()
    rotations = [flip @ pose[:, :3].T for pose in poses]
    first, second = (-r @ pose[:, 3] for r, pose in zip(rotations, poses, strict=True))
    turned = rotations[0] @ rotations[1].T
    moved = first - turned @ second
    away = offset - normal @ poses[1][:, 3]
    (f_x, f_y), (c_x, c_y) = FOCAL.tolist(), CENTRE.tolist()
    lens = np.array([[f_x, 0, c_x], [0, f_y, c_y], [0, 0, 1]])
    return lens @ (turned + np.outer(moved, rotations[1] @ normal) / away) @ np.linalg.inv(lens)


def mapped(matrix: np.ndarray) -> np.ndarray:
    """Places of all pixels' middles after a homography, in the units of the grid; (H, W, 2)."""
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    places = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ matrix.T
    return 2 * places[..., :2] / places[..., 2:] / np.array([WIDTH, HEIGHT]) - 1


def identity_grid(height: int, width: int) -> Tensor:
    x, y = ((2 * torch.arange(size) + 1) / size - 1 for size in (width, height))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


@functools.cache
def scene() -> SceneEdit:
    return scene_edit(10**9 + 7, "make it night", views=48, held_out=0)


def test_a_plane_is_seen_through_its_homography() -> None:
    cameras = cameras_at([[0.3, 2.0, 6.0], [-0.5, 2.4, 5.0]], [[0, 0.5, 0.0], [0.4, 0.2, 0.0]])
    normal, offset = torch.tensor([0.1, 0.9, 0.3]), -1.0
    normal = normal / normal.norm()
    depth = plane_depth(cameras, normal, offset)
    grid, visible = flow(cameras, depth)
    expected = mapped(homography(cameras, normal.double().numpy(), offset))
    inside = (np.abs(expected) < 1).all(axis=-1)
    assert grid.shape == (1, HEIGHT, WIDTH, 2)
    assert 0.5 < inside.mean() < 0.98
    assert (visible[0].numpy() == inside).all()  # a plane hides nothing
    between = (np.abs(expected) < 1 - 1 / np.array([WIDTH, HEIGHT])).all(axis=-1)
    strict = flow(cameras, depth, tolerance=1e-4).visible[0].numpy()
    assert (strict == inside)[between].all()  # of a plane, depth is read exactly between pixels
    np.testing.assert_allclose(grid[0].numpy()[inside], expected[inside], atol=2e-5)
    assert (grid[~visible] == 0).all()


def test_the_sky_turns_with_the_camera_and_does_not_move_with_it() -> None:
    cameras = cameras_at([[0, 1.0, 0.0], [100.0, 3.0, -40.0]], [[0, 1.2, -1], [100.15, 3.3, -41]])
    sky = torch.full((2, HEIGHT, WIDTH), torch.inf)
    grid, visible = flow(cameras, sky)
    expected = mapped(homography(cameras, np.array([0.0, 1.0, 0.0]), math.inf))
    inside = (np.abs(expected) < 1).all(axis=-1)
    assert 0.5 < inside.mean() < 0.98
    assert (visible[0].numpy() == inside).all()
    np.testing.assert_allclose(grid[0].numpy()[inside], expected[inside], atol=1e-4)


def test_equal_cameras_see_everything_where_it_is() -> None:
    world = scene()
    cameras = world.capture.cameras.select(torch.tensor([3, 3]))
    depth = world.depth[3].expand(2, -1, -1)
    assert depth.isinf().any()
    grid, visible = flow(cameras, depth)
    assert visible.all()
    torch.testing.assert_close(grid[0], identity_grid(64, 64), rtol=0, atol=1e-5)


def screen(shift: float) -> Flow:
    """Flow to the first of two cameras that look at a wall behind a screen.

    The wall is 10 away, the screen 5, left of x = 0; the second camera stands ``shift`` farther to
    the right.
    """
    poses = torch.eye(3, 4).repeat(2, 1, 1)
    poses[1, 0, 3] = shift
    cameras = Cameras(poses, FOCAL, HEIGHT, WIDTH)
    depth = []
    for index in range(2):
        rays = cameras.image_rays(index)
        unit = -1 / rays.directions[:, 2]
        before = rays.origins[:, 0] + 5 * unit * rays.directions[:, 0] < 0
        depth.append(torch.where(before, 5 * unit, 10 * unit).view(HEIGHT, WIDTH))
    return flow(cameras, torch.stack(depth))


@pytest.mark.parametrize("shift", [0.42, -0.42])
def test_what_the_other_view_cannot_see_is_hidden(shift: float) -> None:
    """From the right more of the wall is seen behind the screen, and from the left nothing new."""
    grid, visible = screen(shift)
    slope = (torch.arange(WIDTH) + 0.5 - WIDTH / 2) / FOCAL[0]
    on_screen = shift + 5 * slope < 0
    hidden = ~on_screen & (shift + 10 * slope < 0)
    place = slope + shift / torch.where(on_screen, 5.0, 10.0)
    inside = (place * FOCAL[0]).abs() < WIDTH / 2
    expected = inside & ~hidden
    edge = place.abs() * FOCAL[0] < 1  # the first view's pixels here hold both
    assert int(hidden.sum()) == (2 if shift > 0 else 0)
    assert int((inside & edge).sum()) <= 5
    assert (visible[0] == expected)[:, ~edge].all()
    torch.testing.assert_close(
        (grid[0, ..., 0] * WIDTH / 2)[visible[0]],
        (place * FOCAL[0]).expand(HEIGHT, -1)[visible[0]],
        rtol=0,
        atol=1e-3,
    )


def test_behind_the_camera_nothing_is_seen() -> None:
    cameras = cameras_at([[0, 1.0, 0.0], [0.0, 1.0, 0.0]], [[0, 1.0, -1], [0.0, 1.0, 1.0]])
    for depth in (torch.inf, 3.0):
        grid, visible = flow(cameras, torch.full((2, HEIGHT, WIDTH), depth))
        assert not visible.any()
        assert grid.isfinite().all()


def test_what_is_transparent_is_sky() -> None:
    world = scene()
    cameras, depth = world.capture.cameras.select(torch.arange(3)), world.depth[:3]
    opacity = torch.where(depth.isinf(), 0.4, 0.6)
    rendered = torch.where(depth.isinf(), 7.0, depth)
    for one, other in zip(flow(cameras, rendered, opacity), flow(cameras, depth), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("which", ["source", "edited"])
def test_exact_views_of_a_scene_warp_onto_each_other(which: str) -> None:
    """But for resampling: 0.025 and 0.012 on average (0.033 at most), shuffled 0.13 and 0.07."""
    world = scene()
    views = torch.stack(world.capture.images) if which == "source" else world.targets[0]
    found = flow(world.capture.cameras, world.depth)
    values = warped_rmse(views, found)
    order = torch.randperm(len(views), generator=torch.Generator().manual_seed(0))
    assert found.visible.float().mean() > 0.8
    assert values.max() < 0.035
    assert warped_rmse(views[order], found).mean() > 4 * values.mean()
    for side in (-1, 1):  # half a pixel beside its place it is worse
        shifted = found._replace(grid=found.grid + side / 64)
        assert warped_rmse(views, shifted).mean() > 1.4 * values.mean()


def test_a_flow_of_small_views_serves_large_ones() -> None:
    """Where it is visible it is that of large views to a fifth of their pixels, but for edges."""
    world = scene()
    large = flow(world.capture.cameras, world.depth)
    small_cameras = world.capture.cameras.resized(32, 32)
    small = flow(small_cameras, world.depth[:, ::2, ::2])  # not quite the middles of its pixels
    found = enlarged(small, 64, 64)
    both = found.visible & large.visible
    off = (found.grid - large.grid)[both].norm(dim=1) * 32
    assert both.float().mean() > 0.6
    assert off.median() < 0.2
    assert off.quantile(0.95) < 2
    assert enlarged(large, 64, 64) is large
    assert (found.grid[~found.visible] == 0).all()


def test_one_view_has_no_neighbour() -> None:
    world = scene()
    grid, visible = flow(world.capture.cameras.select(torch.tensor([0])), world.depth[:1])
    assert grid.shape == (0, 64, 64, 2)
    assert visible.shape == (0, 64, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": torch.ones(2, 64, 64)}, r"depth must be \(3, 64, 64\), as the cameras' images"),
        ({"opacity": torch.ones(3, 64)}, r"opacity must be \(3, 64, 64\).*got \(3, 64\)"),
        ({"depth": torch.zeros(3, 64, 64)}, "depth must be above 0, got 0"),
        ({"depth": torch.full((3, 64, 64), torch.nan)}, "depth must be above 0, got nan"),
        ({"tolerance": 0.0}, "tolerance must be a finite number above 0"),
    ],
)
def test_impossible_depths_are_refused(change: dict, message: str) -> None:
    world = scene()
    cameras = world.capture.cameras.select(torch.arange(3))
    with pytest.raises(ValueError, match=message):
        flow(cameras, **({"depth": world.depth[:3]} | change))
