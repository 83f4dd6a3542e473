import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from csd_lab import world
from csd_lab.world.render import _parts, camera_rays
from csd_lab.world.solids import Frustum, Rays, Sphere, cuboid, roof

from .measures import cover

SEEDS = st.integers(0, 2**40)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_a_picture_is_a_function_of_the_seed_and_not_of_its_batch(seed):
    one, two, three = (world.sample_scene(seed + k) for k in range(3))
    alone = world.render_images([world.sample_scene(seed)], size=32)
    batch = world.render_images([three, one, two], size=32)
    assert torch.equal(alone[0], batch[1])
    assert alone.shape == (1, 3, 32, 32)
    assert alone.dtype == torch.float32
    assert alone.min() >= 0
    assert alone.max() <= 1


def test_global_random_state_is_neither_read_nor_written():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = world.edit_task(5, frames=2, size=16)
    world.textures([1])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    torch.manual_seed(77)
    np.random.seed(77)
    assert torch.equal(first.source, world.edit_task(5, frames=2, size=16).source)


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_frames_of_a_clip_are_pictures_of_the_moved_scene(seed):
    scene = world.sample_scene(seed)
    clip = world.render_clip(scene, frames=5, size=24)
    assert torch.equal(clip[0], world.render_images([scene], 24)[0])
    assert torch.equal(clip[3], world.render_images([scene.at(0.75)], 24)[0])


def test_clips_move_smoothly_and_visibly():
    moved = []
    for seed in range(12):
        clip = world.render_clip(world.sample_scene(seed, objects=1), frames=12, size=32)
        steps = (clip[1:] - clip[:-1]).abs().mean(dim=(1, 2, 3))
        assert steps.max() < 0.05
        moved.append((clip[-1] - clip[0]).abs().mean().item())
    assert sorted(moved)[6] > 0.02


def test_an_empty_batch_is_legal():
    assert world.render_images([], 16).shape == (0, 3, 16, 16)
    assert world.render_views(world.Scene(), [], 8, 12).shape == (0, 3, 8, 12)
    assert world.render_depth(world.Scene(), [], 8, 12).shape == (0, 8, 12)


def test_supersampling_converges():
    scenes = [world.sample_scene(seed) for seed in range(8)]
    best = world.render_images(scenes, 48, supersample=6)
    errors = [(world.render_images(scenes, 48, s) - best).abs().mean().item() for s in (1, 2, 3)]
    assert errors[1] < 0.004
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("seed", range(3))
def test_a_ring_closes_and_turning_the_camera_rolls_it(seed):
    width = 320
    scene = world.sample_panorama(seed, aspect=width / 32, ring=True)
    picture = world.render_panorama(scene, 32, width)
    columns = (picture - picture.roll(1, dims=2)).abs().mean(dim=(0, 1))
    assert columns[0] <= columns[1:].max()
    turned = replace(scene.camera, yaw=scene.camera.yaw + 2 * math.pi * 100 / width)
    rolled = world.render_panorama(replace(scene, camera=turned), 32, width)
    assert (rolled - picture.roll(-100, dims=2)).abs().mean() < 1e-4


def test_the_widest_panorama_goes_round_exactly_once():
    scene = world.sample_panorama(4, aspect=16)
    assert scene.camera.focal == pytest.approx(16 / (2 * math.pi))
    assert world.render_panorama(scene, 16, 256).shape == (3, 16, 256)


def test_panorama_and_pinhole_agree_in_the_middle_column():
    scene = world.sample_scene(8)
    scene = replace(scene, camera=replace(scene.camera, pitch=0.0, yaw=0.3))
    wide = world.render_panorama(scene, 32, 65, supersample=1)
    narrow = world.render_views(scene, [scene.camera], 32, 33, supersample=1)[0]
    assert torch.allclose(wide[:, :, 32], narrow[:, :, 16], atol=1e-4)


def test_depth_of_ground_sky_and_ball_is_the_geometric_distance():
    camera = world.Camera(position=(0.3, 1.5, 0.2), yaw=0.0, pitch=0.0, focal=1.0)
    ball = world.Thing("ball", "red", x=0.3, z=-5.8, size=3.0)
    depth = world.render_depth(world.Scene(objects=(ball,)), [camera], 65, 65)[0]
    assert depth[32, 32] == pytest.approx(6.0 - 1.5, abs=1e-4)
    v, u = (32 - 60) / 65, (0 - 32) / 65
    assert depth[60, 0] == pytest.approx(1.5 / -v * math.sqrt(1 + u * u + v * v), rel=1e-4)
    assert depth[0, 0] == math.inf


@pytest.mark.parametrize(("kind", "variant"), [(k, v) for k in world.KINDS for v in (0, 1)])
def test_culling_loses_no_part_of_an_object(kind, variant):
    thing = world.Thing(kind, "red", x=0.4, z=-4.0, size=2.0, yaw=0.7, variant=variant)
    scene = world.Scene(objects=(thing,))
    rays = camera_rays(scene.camera, 48, 48)
    local = rays.placed(thing.x, thing.z, thing.yaw)
    nearest = world.render_depth(replace(scene, objects=()), [scene.camera], 48, 48).flatten()
    for part in _parts(thing, "summer"):
        enter, leave = part.solid.span(local)
        hit = (enter < leave) & (enter > 0)
        nearest = torch.where(hit & (enter < nearest), enter, nearest)
    assert torch.equal(world.render_depth(scene, [scene.camera], 48, 48).flatten(), nearest)


SOLIDS = {
    "sphere": (Sphere(0.7, 0.6), lambda x, y, z: x**2 + (y - 0.7) ** 2 + z**2 < 0.36),
    "cone": (Frustum(0.0, 1.2, 0.5, 0.0), lambda x, y, z: _in_cone(x, y, z, 0.5)),
    "cylinder": (
        Frustum(0.1, 1.1, 0.4, 0.4),
        lambda x, y, z: (x**2 + z**2 < 0.16) & (y > 0.1) & (y < 1.1),
    ),
    "cuboid": (
        cuboid(0.5, 0.3, 0.8),
        lambda x, y, z: (x.abs() < 0.5) & (z.abs() < 0.3) & (y > 0) & (y < 0.8),
    ),
    "pyramid": (
        roof(0.6, 0.4, 0.2, 1.0, gable=False),
        lambda x, y, z: (y > 0.2) & ((1 - y) / 0.8 > torch.maximum(x.abs() / 0.6, z.abs() / 0.4)),
    ),
    "gable": (
        roof(0.6, 0.4, 0.2, 1.0, gable=True),
        lambda x, y, z: (y > 0.2) & ((1 - y) / 0.8 > x.abs() / 0.6) & (z.abs() < 0.4),
    ),
}


def _in_cone(x, y, z, radius):
    return (y > 0) & (y < 1.2) & ((x**2 + z**2).sqrt() < radius * (1 - y / 1.2))


@pytest.mark.parametrize("name", SOLIDS)
def test_spans_agree_with_marching_along_the_ray(name):
    solid, inside = SOLIDS[name]
    rng = torch.Generator().manual_seed(3)
    count, steps = 400, torch.linspace(0, 4, 4001)
    origin = torch.randn(count, 3, generator=rng)
    origin = 2 * origin / origin.norm(dim=1, keepdim=True) + torch.tensor([0.0, 0.5, 0.0])
    aim = torch.rand(count, 3, generator=rng) - torch.tensor([0.5, 0.0, 0.5])
    direction = (aim - origin) / (aim - origin).norm(dim=1, keepdim=True)
    rays = Rays(*origin.T[:, :, None], *direction.T[:, :, None])
    within = inside(*rays.point(steps))
    enter, leave = (t[:, 0] for t in solid.span(rays))
    length = (leave.clamp(max=4) - enter.clamp(min=0)).clamp(min=0)
    assert torch.allclose(within.float().sum(dim=1) * 0.001, length, atol=3e-3)
    hit = (length > 0.01) & (enter > 0)
    assert hit.sum() > 50
    flat = Rays(*(t[hit, 0] for t in rays))
    normal = torch.stack(solid.normal(flat.point(enter[hit])))
    assert torch.allclose(normal.norm(dim=0), torch.ones(int(hit.sum())), atol=1e-3)
    facing = (normal * torch.stack(flat[3:])).sum(dim=0)
    assert (facing < 1e-3).float().mean() > 0.99


def test_shadows_fall_away_from_the_sun():
    ball = world.Thing("ball", "red", x=0.0, z=-4.0, size=1.2)
    camera = world.Camera(position=(0.0, 3.0, 0.0), pitch=-0.5)
    east = world.Scene(objects=(ball,), camera=camera, sun=(math.pi / 2, 0.7))
    west = replace(east, sun=(-math.pi / 2, 0.7))
    one, two = world.render_images([east, west])
    darker = (one - two).mean(dim=0) * ~cover(east, 64)
    rows = darker[32:]
    assert rows[:, :32].min() < -0.08
    assert rows[:, :32].mean() < 0 < rows[:, 32:].mean()


def test_the_same_point_has_the_same_ground_colour_from_two_cameras():
    scene = world.Scene(texture_seed=5)
    near = replace(scene.camera, position=(0.0, 1.0, 0.0), pitch=-0.6)
    moved = replace(near, position=(0.5, 1.0, 0.0))
    views = world.render_views(scene, [near, moved], 65, 65, supersample=1)
    x, _, z = camera_rays(near, 65, 65).point(
        world.render_depth(scene, [near], 65, 65)[0].flatten()
    )
    row, column = 40, 40
    px, pz = x[row * 65 + column].item() - 0.5, z[row * 65 + column].item()
    forward = (0.0, math.sin(-0.6), -math.cos(-0.6))
    depth = forward[1] * -1.0 + forward[2] * pz
    u = px / depth * 65 * near.focal + 32
    here, there = views[0, :, row, column], views[1, :, row, round(u)]
    assert torch.allclose(here, there, atol=0.01)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: world.render_images([world.Scene()], 0), "size"),
        (lambda: world.render_images([world.Scene()], 8, 0), "supersample"),
        (lambda: world.render_clip(world.Scene(), 0), "frames"),
        (lambda: world.render_panorama(world.Scene(), 8, -1), "width"),
        (lambda: world.Scene(sky="beige"), "sky.*blue.*beige"),
        (lambda: world.Scene(look="ugly"), "look.*sepia.*ugly"),
        (lambda: world.Thing("pig", "red", 0, 0, 1), "kind.*ball.*pig"),
        (lambda: world.Thing("ball", "red", 0, 0, 0), "size"),
        (lambda: world.Camera(position=(0, 0, 0)), "position"),
        (lambda: world.Camera(pitch=2.0), "pitch"),
        (lambda: world.Camera(focal=0.0), "focal"),
        (lambda: world.sample_scene(0, objects=4), "objects.*4"),
        (lambda: world.sample_panorama(0, aspect=30), "aspect.*30"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
