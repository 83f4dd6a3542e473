import re
from dataclasses import replace

import pytest

from csd_lab import world


def tokens(text):
    return re.findall(r"[a-z]+|,", text)


def test_captions_and_instructions_use_the_vocabulary_only_and_are_short():
    known = set(world.vocabulary())
    used = set()
    for instruction in world.instructions():
        used |= set(tokens(instruction))
    for seed in range(120):
        scene = world.sample_scene(seed)
        answers = [a for e in world.edits_for(scene) for a in e.answers]
        wide = world.sample_panorama(seed, objects=6)
        for text in map(world.caption, (scene, wide, *answers)):
            assert len(text.split()) <= 22
            assert re.fullmatch(r"[a-z, ]+", text)
            used |= set(tokens(text))
    for look in (None, *world.LOOKS):
        used |= set(tokens(world.texture_caption(look)))
    assert used <= known
    assert known - used <= {"boxes", "houses"}  # plurals that need two of a kind and colour


def test_the_longest_caption_has_at_most_22_words():
    things = tuple(
        world.Thing(kind, "orange", x=0.0, z=-5.0, size=1.0) for kind in ("house", "box", "ball")
    )
    scene = world.Scene(
        things, sky="orange", ground="sand", season="autumn", time="night", look="sepia"
    )
    for look in world.LOOKS:
        assert len(world.caption(replace(scene, look=look)).split()) <= 22


@pytest.mark.parametrize(
    ("scene", "text"),
    [
        (world.Scene(sky="orange"), "grass under an orange sky"),
        (
            world.Scene(
                (world.Thing("ball", "red", 0, -5, 1), world.Thing("tree", "red", 1, -5, 2))
            ),
            "a red ball and a tree on grass under a blue sky",
        ),
        (
            world.Scene((world.Thing("box", "red", 0, -5, 1),) * 2, time="night", look="sepia"),
            "red boxes on grass under a blue sky, at night, in sepia",
        ),
        (world.Scene(season="winter", ground="snow"), "snow under a blue sky, in winter"),
    ],
)
def test_captions_read_as_expected(scene, text):
    assert world.caption(scene) == text


def test_every_edit_changes_the_caption():
    for seed in range(25):
        scene = world.sample_scene(seed)
        for edit in world.edits_for(scene):
            captions = {world.caption(a) for a in edit.answers}
            assert world.caption(scene) not in captions
            assert len(captions) == len(edit.answers)
