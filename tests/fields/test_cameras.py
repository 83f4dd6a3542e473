"""Rays of cameras, by hand, by projection, and by the world's own renderer."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import orbit

from csd_lab.fields import Cameras, look_at

UP = torch.tensor([0.0, 1.0, 0.0])
STRAIGHT = torch.tensor([[[1.0, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3]]])
FOCAL = torch.tensor([50.0, 60.0])


def random_cameras(seed: int, distortion: list[float] | None = None) -> Cameras:
    generator = torch.Generator().manual_seed(seed)
    position = torch.randn(3, 3, generator=generator) * 3
    poses = look_at(position, torch.zeros(3), UP)
    lens = None if distortion is None else torch.tensor(distortion)
    return Cameras(poses, FOCAL, 40, 60, torch.tensor([31.0, 19.0]), lens)


def test_an_unturned_camera_looks_along_minus_z():
    cameras = Cameras(STRAIGHT, FOCAL, 40, 60)
    rays = cameras.rays(torch.tensor([0, 0]), torch.tensor([20.0, 0.0]), torch.tensor([30.0, 60.0]))
    assert rays.origins.tolist() == [[1, 2, 3]] * 2
    assert rays.directions[0].tolist() == [0, 0, -1]
    corner = torch.tensor([30 / 50, 20 / 60, -1.0])  # right and up, in the image's top right corner
    torch.testing.assert_close(rays.directions[1], corner / corner.norm())


def test_image_rays_go_through_the_middles_of_pixels_row_by_row():
    cameras = random_cameras(0)
    rays = cameras.image_rays(1)
    one = cameras.rays(torch.tensor([1]), torch.tensor([7.5]), torch.tensor([11.5]))
    torch.testing.assert_close(rays.directions[7 * 60 + 11], one.directions[0])
    torch.testing.assert_close(rays.directions.norm(dim=1), torch.ones(40 * 60))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    lens=st.one_of(st.none(), st.lists(st.floats(-0.05, 0.05), min_size=4, max_size=4)),
)
def test_a_point_on_a_ray_is_seen_where_the_ray_begins(seed, lens):
    cameras = random_cameras(seed, lens)
    rows, columns = torch.rand(8) * 40, torch.rand(8) * 60
    rays = cameras.rays(torch.full((8,), 2), rows, columns)
    places, depth = cameras.project(rays.origins + 3 * rays.directions, 2)
    torch.testing.assert_close(places, torch.stack([columns, rows], dim=1), rtol=0, atol=1e-2)
    assert (depth > 0).all()


@given(st.integers(1, 10_000))
def test_images_within_a_number_of_pixels_keep_their_shape(pixels):
    cameras = random_cameras(2)
    within = cameras.within(pixels)
    assert 3 * within.height * within.width <= max(pixels, 3)
    assert (within is cameras) == (pixels >= 3 * 40 * 60)
    if within.height > 10:
        assert within.width / within.height == pytest.approx(60 / 40, rel=0.1)
    else:
        assert within.height >= 1 <= within.width


def test_resized_cameras_see_the_same():
    cameras = random_cameras(3)
    half = cameras.resized(20, 30)
    ids = torch.tensor([0])
    one = cameras.rays(ids, torch.tensor([10.0]), torch.tensor([50.0]))
    other = half.rays(ids, torch.tensor([5.0]), torch.tensor([25.0]))
    torch.testing.assert_close(one.directions, other.directions)


def test_an_orbit_looks_at_its_centre_from_one_distance():
    centre = torch.tensor([1.0, 0.5, -2.0])
    poses = orbit(centre, 4.0, 0.3, 12, UP)
    offset = poses[:, :, 3] - centre
    torch.testing.assert_close(offset.norm(dim=1), torch.full((12,), 4.0))
    torch.testing.assert_close(offset[:, 1], torch.full((12,), 4 * math.sin(0.3)))
    torch.testing.assert_close(poses[:, :, 2], offset / 4)
    assert (poses[:, 1, 1] > 0).all()  # nobody stands on their head
    assert len({tuple(row) for row in offset.round(decimals=3).tolist()}) == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"poses": STRAIGHT[0]}, r"poses must be \(V, 3, 4\)"),
        ({"poses": STRAIGHT * float("nan")}, "pose of camera 0 must have a rotation"),
        ({"poses": STRAIGHT * 2}, "pose of camera 0 must have a rotation"),
        ({"poses": -STRAIGHT}, "pose of camera 0 must have a rotation"),
        ({"focal": -FOCAL}, "focal must be above 0"),
        ({"focal": torch.ones(3)}, r"focal must be \(1, 2\) or \(2,\)"),
        ({"distortion": torch.full((4,), torch.inf)}, "distortion must be finite"),
        ({"height": 0}, "height and width must be at least 1"),
    ],
)
def test_impossible_cameras_are_refused(change, message):
    options = {"poses": STRAIGHT, "focal": FOCAL, "height": 40, "width": 60} | change
    with pytest.raises(ValueError, match=message):
        Cameras(**options)


def test_rays_do_not_depend_on_autocast():
    seen_by = Cameras(orbit(torch.zeros(3), 3.0, 0.4, 2, UP), torch.tensor([500.0, 500.0]), 64, 64)
    plain = seen_by.image_rays(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(seen_by.image_rays(1).directions, plain.directions)


@pytest.mark.parametrize("k1", [0.3, 0.6, 1.0])
def test_strong_pincushion_is_undone(k1):
    """Where a fixed point of the distortion itself would run away."""
    pose = orbit(torch.zeros(3), 3.0, 0.4, 1, UP)
    seen_by = Cameras(pose, torch.tensor([1000.0, 1000.0]), 1080, 1920, distortion=lens(k1, 0.2))
    rays = seen_by.rays(torch.zeros(1, dtype=torch.int64), torch.zeros(1), torch.zeros(1))
    place, _ = seen_by.project(rays.origins + 2 * rays.directions, 0)
    assert place.abs().max() < 0.05


def test_points_beyond_what_a_barrel_lens_shows_are_nowhere():
    """It would fold them back: (1 - 0.3 r^2) r falls from r = 1.05 on, at 46.5 degrees."""
    pose = torch.tensor([[[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]])
    seen_by = Cameras(pose, torch.tensor([70.0, 70.0]), 64, 64, distortion=lens(-0.3))
    angles = torch.tensor([10.0, 40.0, 46.0, 47.0, 62.0, 80.0]).deg2rad()
    points = torch.stack([angles.sin(), torch.zeros(6), -angles.cos()], dim=1)
    places, ahead = seen_by.project(points, 0)
    assert (ahead > 0).all()
    assert places[:, 0].isfinite().tolist() == [True, True, True, False, False, False]


def test_a_lens_that_folds_within_the_image_is_refused():
    pose = orbit(torch.zeros(3), 3.0, 0.4, 2, UP)
    with pytest.raises(ValueError, match="the distortion of camera 0 must be one that can be"):
        Cameras(pose, torch.tensor([20.0, 20.0]), 64, 64, distortion=lens(-0.5))


def lens(k1: float, k2: float = 0.0) -> torch.Tensor:
    return torch.tensor([k1, k2, 0.0, 0.0])
