from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from csd_lab import world

from .measures import cover, difference, grown

SIZE = 32


def render(*scenes):
    return world.render_images(scenes, SIZE, supersample=1)


def day_scenes(count, instruction, first=0):
    """Return scenes by day that allow an instruction."""
    found = []
    for seed in range(first, first + 3000):
        scene = world.sample_scene(seed)
        if scene.time == "day" and world.edit_for(scene, instruction) is not None:
            found.append(scene)
            if len(found) == count:
                return found
    raise AssertionError(f"too few scenes allow {instruction!r}")


def test_there_are_at_least_40_one_to_one_and_8_one_to_many_instructions():
    one, many = world.instructions(many=False), world.instructions(many=True)
    assert len(set(one)) == len(one) >= 40
    assert len(set(many)) == len(many) >= 8
    assert not set(one) & set(many)
    assert world.instructions() == one + many
    by_family = [i for f in world.FAMILY_WEIGHTS for i in world.instructions(family=f)]
    assert sorted(by_family) == sorted(world.instructions())


def test_every_instruction_occurs_among_random_edits():
    scenes = [world.sample_scene(seed) for seed in range(150)]
    offered = {edit.instruction for scene in scenes for edit in world.edits_for(scene)}
    assert offered == set(world.instructions())


@pytest.mark.parametrize("instruction", world.instructions())
def test_an_edit_shows(instruction):
    by_day = "make it night" if instruction == "make it day" else instruction
    scenes = day_scenes(2, by_day)
    if instruction == "make it day":
        scenes = [world.edit_for(scene, by_day).answers[0] for scene in scenes]
    for scene in scenes:
        edit = world.edit_for(scene, instruction)
        source, *answers = render(scene, *edit.answers)
        for answer in answers:
            strength, share = difference(source, answer)
            assert strength > 0.04
            assert strength * share**0.5 > 0.01


@pytest.mark.parametrize("instruction", world.instructions(many=True))
def test_right_answers_are_far_apart_and_exclude_the_present_state(instruction):
    for scene in day_scenes(4, instruction):
        edit = world.edit_for(scene, instruction)
        assert edit.many
        assert len(edit.answers) >= 2
        assert len(set(edit.answers)) == len(edit.answers)
        assert scene not in edit.answers
        for one, two in combinations(render(scene, *edit.answers), 2):
            strength, share = difference(one, two)
            assert strength > 0.08
            assert share > 0.01


def test_one_to_one_instructions_have_one_answer():
    for seed in range(20):
        for edit in world.edits_for(world.sample_scene(seed)):
            assert edit.many == (edit.family == "many")
            assert edit.many or len(edit.answers) == 1


@pytest.mark.parametrize("instruction", ["make the sky orange", "make the sky grey"])
def test_a_sky_edit_leaves_objects_and_near_ground(instruction):
    for scene in day_scenes(4, instruction):
        source, edited = render(scene, world.edit_for(scene, instruction).answers[0])
        objects = cover(scene, SIZE)
        assert torch.equal(source[:, objects], edited[:, objects])
        assert (source - edited)[:, -5:].abs().max() < 0.08
        assert (source - edited)[:, :4].abs().max() > 0.1


@pytest.mark.parametrize("instruction", ["make the ground snow", "make the ground dirt"])
def test_a_ground_edit_leaves_objects_and_sky(instruction):
    for scene in day_scenes(4, instruction):
        source, edited = render(scene, world.edit_for(scene, instruction).answers[0])
        objects = cover(scene, SIZE)
        assert torch.equal(source[:, objects], edited[:, objects])
        assert torch.equal(source[:, :6], edited[:, :6])


@pytest.mark.parametrize("kind", ["ball", "box", "cone"])
def test_recolouring_changes_the_object_and_nothing_else(kind):
    instruction = f"make the {kind} blue"
    for scene in day_scenes(4, instruction):
        source, edited = render(scene, world.edit_for(scene, instruction).answers[0])
        own = cover(scene, SIZE, (kind,))
        others = cover(
            replace(scene, objects=tuple(o for o in scene.objects if o.kind != kind)), 32
        )
        assert torch.equal(source[:, ~own], edited[:, ~own])
        assert (source - edited)[:, own & ~others].abs().amax(dim=0).min() > 0.02


@pytest.mark.parametrize("kind", world.KINDS)
def test_removing_leaves_no_trace_and_nothing_else_changes(kind):
    instruction = f"remove the {kind}"
    for scene in day_scenes(4, instruction):
        edit = world.edit_for(scene, instruction)
        assert edit.answers[0] == replace(
            scene, objects=tuple(o for o in scene.objects if o.kind != kind)
        )
        source, edited = render(scene, edit.answers[0])
        outside = ~cover(scene, SIZE, (kind,))
        assert (edited - source)[:, outside].min() > -1e-6  # only its shadow goes


def test_turning_an_object_keeps_its_place_and_colour():
    for scene in day_scenes(4, "turn the ball into a box"):
        answer = world.edit_for(scene, "turn the ball into a box").answers[0]
        before = next(o for o in scene.objects if o.kind == "ball")
        after = next(o for o in answer.objects if (o.x, o.z) == (before.x, before.z))
        assert (after.kind, after.colour, after.velocity) == ("box", before.colour, before.velocity)
        middle = cover(scene, SIZE, ("ball",)) & cover(replace(scene, objects=(after,)), SIZE)
        assert middle.sum() > 0.6 * cover(scene, SIZE, ("ball",)).sum()


@pytest.mark.parametrize("look", world.LOOKS)
def test_a_look_edit_is_the_look_of_the_picture(look):
    scene = world.sample_scene(11)
    answer = world.edit_for(scene, f"make it {look}").answers[0]
    source, edited = world.render_images([scene, answer], SIZE)
    assert torch.equal(edited, world.apply_look(look, source))


def test_night_darkens_everything_and_day_brings_it_back():
    for scene in day_scenes(4, "make it night"):
        night = world.edit_for(scene, "make it night").answers[0]
        source, dark = render(scene, night)
        assert (dark < source + 0.02).all()
        assert dark.mean() < 0.6 * source.mean()
        assert world.edit_for(night, "make it day").answers == (scene,)


def test_seasons_bring_their_ground_and_colour_the_trees():
    scene = next(
        s for s in day_scenes(40, "make it winter") if any(o.kind == "tree" for o in s.objects)
    )
    winter = world.edit_for(scene, "make it winter").answers[0]
    assert (winter.season, winter.ground) == ("winter", "snow")
    source, edited = render(scene, winter)
    crown = cover(scene, SIZE, ("tree",)) & ~grown(~cover(scene, SIZE, ("tree",)), 1)
    assert (edited - source)[:, crown].mean() > 0.1
    assert world.edit_for(winter, "make it winter") is None


def test_ambiguous_instructions_are_not_offered():
    red, blue = (
        world.Thing("ball", colour, x=x, z=-5.0, size=1.3)
        for colour, x in (("red", -1.0), ("blue", 1.0))
    )
    scene = world.Scene(objects=(red, blue))
    assert world.edit_for(scene, "remove the ball") is None
    assert world.edit_for(scene, "make the ball green", plural=True) is None
    alike = replace(scene, objects=(red, replace(blue, colour="red")))
    assert world.edit_for(alike, "make the ball green") is None
    edit = world.edit_for(alike, "make the ball green", plural=True)
    assert [o.colour for o in edit.answers[0].objects] == ["green", "green"]
    assert world.edit_for(alike, "make the ball red", plural=True) is None
    assert world.edit_for(alike, "make the box red", plural=True) is None


def test_what_would_not_show_is_not_offered():
    assert world.edits_for(world.Scene(look="sepia")) == ()
    assert not any(e.many for e in world.edits_for(world.Scene(time="night")))
    snowy = world.Scene(ground="snow")
    assert world.edit_for(snowy, "make it winter") is None
    assert world.edit_for(snowy, "make the ground snow") is None
    assert world.edit_for(snowy, "make it day") is None


def test_families_are_drawn_by_weight():
    scene = next(s for s in day_scenes(20, "repaint the ball") if len(s.objects) > 1)
    drawn = Counter(world.sample_edit(seed, scene).family for seed in range(800))
    offered = {e.family for e in world.edits_for(scene)}
    total = sum(w for f, w in world.FAMILY_WEIGHTS.items() if f in offered)
    for family in offered:
        assert drawn[family] / 800 == pytest.approx(world.FAMILY_WEIGHTS[family] / total, abs=0.05)
    only = {"sky": 1.0, "look": 0.0}
    assert {world.sample_edit(s, scene, only).family for s in range(20)} == {"sky"}
    assert world.sample_edit(9, scene) == world.sample_edit(9, scene)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: world.edit_for(world.Scene(), "make it sepias"), "such as 'make it sepia'"),
        (lambda: world.instructions(family="colour"), "family.*recolour.*'colour'"),
        (lambda: world.sample_edit(0, world.Scene(), {"colour": 1.0}), "family"),
        (lambda: world.sample_edit(0, world.Scene(), {"recolour": 1.0}), "weights.*applicable"),
        (lambda: world.sample_edit(0, world.Scene(look="grey")), "applicable are none"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
