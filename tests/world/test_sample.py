from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from csd_lab import world

from .measures import cover


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**40))
def test_every_object_is_large_and_in_view_over_the_whole_clip(seed):
    scene = world.sample_scene(seed)
    for moment in (0.0, 0.4, 1.0):
        now = scene.at(moment)
        for thing in now.objects:
            seen = cover(replace(now, objects=(thing,)), 64)
            rows, columns = seen.nonzero().T
            assert 10 <= rows.max() - rows.min() + 1 <= 52  # of 64; 48 at most in 15,000 scenes
            assert 10 <= columns.max() - columns.min() + 1 <= 52
            assert not (seen[:, 0] | seen[:, -1]).any() or columns.max() - columns.min() > 12


def test_scenes_are_hashable_and_differ():
    scenes = [world.sample_scene(seed) for seed in range(200)]
    assert len(set(scenes)) == 200
    assert scenes[7] == world.sample_scene(7)
    assert {len(s.objects) for s in scenes} == {1, 2, 3}
    assert {o.kind for s in scenes for o in s.objects} == set(world.KINDS)
    assert {s.sky for s in scenes} == set(world.SKIES)
    assert {s.ground for s in scenes} == set(world.GROUNDS)
    assert {s.season for s in scenes} == set(world.SEASONS)
    assert {s.time for s in scenes} == {"day", "night"}


def test_a_generator_is_advanced_and_an_integer_seed_is_not():
    rng = np.random.default_rng(3)
    assert world.sample_scene(rng) == world.sample_scene(3)
    assert world.sample_scene(rng) != world.sample_scene(3)


def test_arguments_fix_objects_kinds_and_motion():
    for seed in range(20):
        moving = world.sample_scene(seed, objects=2, kinds=("ball", "box"), moving=True)
        assert sorted(o.kind for o in moving.objects) == ["ball", "box"]
        assert moving.truck == (0.0, 0.0, 0.0)
        assert any(o.velocity != (0.0, 0.0) for o in moving.objects)
        trucked = world.sample_scene(seed, objects=1, moving=False)
        assert trucked.truck != (0.0, 0.0, 0.0)
        assert all(o.velocity == (0.0, 0.0) for o in trucked.objects)


def test_something_moves_in_every_clip():
    for seed in range(200):
        scene = world.sample_scene(seed)
        assert scene.at(1.0) != scene
        assert scene.at(0.0) == scene


def test_one_kind_has_one_colour_in_a_panorama():
    for seed in range(30):
        scene = world.sample_panorama(seed, aspect=8)
        assert len(scene.objects) == 8
        looks = {(o.kind, o.colour, o.variant) for o in scene.objects}
        assert len(looks) == len({o.kind for o in scene.objects}) <= 3
