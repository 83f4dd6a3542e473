"""Where the cameras of a step stand."""

import math

import pytest
import torch

from csd_lab.fields import Blob, GridField, RandomViews
from csd_lab.fields.field import contract, expand

ALL = torch.arange(6)
RANGES = {"elevation": (-5.0, 30.0), "distance": (2.0, 3.0), "angle": (40.0, 60.0)}


def test_a_view_depends_on_seed_step_and_its_number_alone():
    views = RandomViews(6, **RANGES)
    together, alone = views.draw(3, 17, ALL), views.draw(3, 17, torch.tensor([4]))
    for whole, part in zip(together, alone, strict=True):
        assert torch.equal(whole[4:5], part)
    for seed, step in ((4, 17), (3, 18)):
        assert not torch.equal(views.draw(seed, step, ALL).azimuth, together.azimuth)


def test_the_views_of_a_step_lie_all_around():
    """One in each sixth, wherever the sixths begin: neighbours are less than two sixths apart."""
    for step in range(50):
        azimuth = RandomViews(6).draw(0, step, ALL).azimuth
        around = torch.cat([azimuth.sort().values, azimuth.min()[None] + 360])
        assert around.diff().max() < 120


def test_every_view_comes_from_everywhere_and_keeps_to_its_ranges():
    views = RandomViews(4, **RANGES)
    drawn = [views.draw(1, step, torch.tensor([2])) for step in range(800)]
    azimuth = torch.cat([view.azimuth for view in drawn])
    assert ((azimuth >= 0) & (azimuth < 360)).all()
    counts = torch.histc(azimuth, bins=4, min=0, max=360)
    assert (counts - 200).abs().max() < 5 * math.sqrt(800 * 3 / 16)
    for name, (low, high) in RANGES.items():
        values = torch.cat([getattr(view, name) for view in drawn])
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high


def test_cameras_look_at_the_origin_from_where_they_are_said_to():
    views = RandomViews(6, **RANGES).draw(0, 0, ALL)
    cameras = views.cameras(20, 30)
    for i in range(6):
        place, depth = cameras.project(torch.zeros(1, 3), i)
        torch.testing.assert_close(place, torch.tensor([[15.0, 10.0]]))
        torch.testing.assert_close(depth, views.distance[i : i + 1])
        top = math.tan(math.radians(float(views.angle[i]) / 2))
        assert 10 / float(cameras.focal[i, 1]) == pytest.approx(top, rel=1e-5)
    height = views.distance * views.elevation.deg2rad().sin()
    torch.testing.assert_close(cameras.poses[:, 1, 3], height)
    behind = cameras.poses[:, [0, 2], 3]
    angle = torch.atan2(behind[:, 0], behind[:, 1]).rad2deg() % 360
    torch.testing.assert_close(angle, views.azimuth, rtol=1e-4, atol=1e-2)


def test_the_orbit_begins_in_front():
    poses = RandomViews(1, (0.0, 0.0), (2.0, 4.0)).orbit(4).cameras(8, 8).poses[:, :, 3]
    places = [[0, 0, 3], [3, 0, 0], [0, 0, -3], [-3, 0, 0]]
    torch.testing.assert_close(poses, torch.tensor(places).float(), atol=1e-5, rtol=0)


def test_expanding_undoes_contracting():
    points = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 5
    torch.testing.assert_close(expand(contract(points)), points, rtol=1e-3, atol=1e-4)


def test_a_blob_is_as_deep_as_it_says():
    """Also in a grid, along a line through its middle."""
    blob = Blob(size=0.4, depth=1.5)
    line = torch.zeros(4001, 3)
    line[:, 0] = torch.linspace(-4, 4, 4001)
    assert torch.trapezoid(blob(line), line[:, 0]).item() == pytest.approx(1.5, rel=1e-3)
    field = GridField(torch.zeros(3), 2.0, 65)
    field.fill(blob)
    assert torch.trapezoid(field.density(line), line[:, 0]).item() == pytest.approx(1.5, rel=0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomViews(0), "count must be a whole number of at least 1"),
        (lambda: RandomViews(elevation=(30, 20)), "elevation must be two numbers, lowest first"),
        (lambda: RandomViews(elevation=(0, 90)), "above -90 and below 90"),
        (lambda: RandomViews(distance=(0, 1)), "distance must be two numbers"),
        (lambda: RandomViews(angle=30), "angle must be two numbers"),
        (lambda: RandomViews(angle=(30,)), "angle must be two numbers"),
        (lambda: Blob(size=0), "size must be a finite number above 0"),
        (lambda: Blob(depth=-1), "depth must be a finite number of at least 0"),
        (lambda: Blob(grey=1.0), "grey must be above 0 and below 1"),
    ],
)
def test_impossible_views_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
