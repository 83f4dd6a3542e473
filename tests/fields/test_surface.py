"""Points and meshes of bodies whose surface is known."""

import pytest
import torch
from shapes import Solid, ball, orbit, wall

from csd_lab.fields import Cameras, FieldScene, Renderer, points_seen
from csd_lab.fields.surface import surface

CENTRE = torch.tensor([0.3, -0.2, 0.1])
RADIUS = 0.6
RENDERER = Renderer(1.0, 50.0, 4.0, 128, 64)
HALF_A_PIECE = 3.0 / 64 / 2
"""World units: by so much the first pass can miss a surface."""


def around(count=12):
    poses = orbit(CENTRE, 2.5, 0.3, count, torch.tensor([0.0, 1.0, 0.0]))
    return Cameras(poses, torch.tensor([24.0, 24.0]), 16, 16)


def test_points_of_a_ball_lie_on_it():
    points = points_seen(FieldScene(ball(CENTRE, RADIUS), RENDERER), around(), 10_000)
    assert len(points.places) > 200
    off = (points.places - CENTRE).norm(dim=1) - RADIUS
    assert off.abs().max() < HALF_A_PIECE
    right = (points.places[:, 0] > 0.05).nonzero()[:, 0]
    left = (points.places[:, 0] < -0.05).nonzero()[:, 0]
    red, green = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    torch.testing.assert_close(points.colours[right], red.expand(len(right), 3))
    torch.testing.assert_close(points.colours[left], green.expand(len(left), 3))


def test_points_are_thinned_the_same_way_each_time():
    scene = FieldScene(ball(CENTRE, RADIUS), RENDERER)
    everything = points_seen(scene, around(4), 10_000, agree=0)
    thinned = points_seen(scene, around(4), 100, agree=0)
    assert len(thinned.places) == 100
    rows = {tuple(row) for row in everything.places.tolist()}
    assert len({tuple(row) for row in thinned.places.tolist()} & rows) == 100
    assert torch.equal(points_seen(scene, around(4), 100, agree=0).places, thinned.places)


def test_a_fog_that_looks_another_from_each_side_has_fewer_points_than_a_body():
    """From ahead, from the left and from above a thin fog seems to lie elsewhere."""

    class Fog(type(wall())):
        def density(self, points):
            return 1.5 * ((points - CENTRE).norm(dim=1) < 1.2).float()

    fog = FieldScene(Fog(None), RENDERER)
    alone = len(points_seen(fog, around(), 10_000, agree=0).places)
    agreed = len(points_seen(fog, around(), 10_000, agree=2).places)
    assert agreed < 0.5 * alone
    body = FieldScene(ball(CENTRE, RADIUS), RENDERER)
    alone = len(points_seen(body, around(), 10_000, agree=0).places)
    agreed = len(points_seen(body, around(), 10_000, agree=2).places)
    assert agreed > 0.9 * alone


def test_one_camera_needs_nobody_to_agree():
    scene = FieldScene(ball(CENTRE, RADIUS), RENDERER)
    assert len(points_seen(scene, around(1), 100).places) > 20


def test_nothing_opaque_has_no_points():
    scene = FieldScene(ball(CENTRE + 100, RADIUS), RENDERER)
    assert points_seen(scene, around(2), 100).places.shape == (0, 3)
    with pytest.raises(ValueError, match="most must be a whole number of at least 1, got 0"):
        points_seen(scene, around(2), 0)
    with pytest.raises(ValueError, match="agree must be a finite number of at least 0, got -1"):
        points_seen(scene, around(2), 10, agree=-1)


def test_the_mesh_of_a_ball_is_that_ball_from_outside():
    resolution, half = 33, 1.0
    mesh = surface(ball(CENTRE, RADIUS), torch.zeros(3), half, resolution)
    cell = 2 * half / (resolution - 1)
    outward = mesh.vertices - CENTRE
    assert (outward.norm(dim=1) - RADIUS).abs().max() < cell
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    normal = torch.linalg.cross(b - a, c - a)
    assert ((normal * (a + b + c - 3 * CENTRE)).sum(dim=1) > 0).all()
    volume = (a * torch.linalg.cross(b, c)).sum() / 6
    assert volume.item() == pytest.approx(4 / 3 * torch.pi * RADIUS**3, rel=0.15)
    red = mesh.vertices[:, 0] > 0
    assert torch.equal(mesh.colours[:, 0], red.float())
    assert torch.equal(mesh.colours[:, 1], 1 - red.float())


def test_vertices_lie_where_half_of_a_ray_is_stopped_within_a_cell():
    """A density linear in z: linear interpolation finds its level exactly."""

    class Ramp(type(wall())):
        def density(self, points):
            return 40.0 * (1 - points[:, 2])

    resolution = 17
    mesh = surface(Ramp(None), torch.zeros(3), 1.0, resolution)
    level = torch.tensor(2.0).log() / (2 / (resolution - 1))
    expected = (1 - level / 40.0).expand(len(mesh.vertices))
    torch.testing.assert_close(mesh.vertices[:, 2], expected, rtol=0, atol=1e-5)
    wider = surface(Ramp(None), torch.zeros(3), 1.0, resolution, within=0.5)
    expected = (1 - torch.tensor(2.0).log() / 0.5 / 40.0).expand(len(wider.vertices))
    torch.testing.assert_close(wider.vertices[:, 2], expected, rtol=0, atol=1e-5)


def test_small_pieces_are_left_out():
    small = CENTRE + torch.tensor([-0.9, 0.5, 0.4])

    def two(points):
        big = (points - CENTRE).norm(dim=1) < RADIUS
        return big | ((points - small).norm(dim=1) < 0.12)

    whole = surface(Solid(two), torch.zeros(3), 1.0, 33)
    alone = surface(ball(CENTRE, RADIUS), torch.zeros(3), 1.0, 33)
    without = surface(Solid(two), torch.zeros(3), 1.0, 33, smallest=100)
    assert len(whole.vertices) > len(alone.vertices)
    torch.testing.assert_close(without.vertices, alone.vertices)
    assert torch.equal(without.faces, alone.faces)
    assert surface(Solid(two), torch.zeros(3), 1.0, 33, smallest=10_000) is None


@pytest.mark.parametrize("radius", [0.0, 100.0])
def test_no_surface_is_none(radius):
    assert surface(ball(CENTRE, radius), torch.zeros(3), 1.0, 9) is None


@pytest.mark.parametrize(
    ("half", "resolution", "smallest", "message"),
    [
        (0.0, 9, 1, "half must be a finite number above 0"),
        (1.0, 1, 1, "resolution must be a whole number of at least 2, got 1"),
        (1.0, 9, 0, "smallest must be a whole number of at least 1, got 0"),
    ],
)
def test_wrong_cubes_are_refused(half, resolution, smallest, message):
    with pytest.raises(ValueError, match=message):
        surface(wall(), torch.zeros(3), half, resolution, smallest=smallest)
    with pytest.raises(ValueError, match="within must be above 0, got 0"):
        surface(wall(), torch.zeros(3), 1.0, 9, within=0)
