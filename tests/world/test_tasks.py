import pytest
import torch

from csd_lab import world


def test_a_task_holds_the_clip_and_its_exact_answers():
    task = world.edit_task(world.HELD_OUT_SEED, "change the sky", frames=3, size=24)
    assert task.instruction == "change the sky"
    assert task.source.shape == (3, 3, 24, 24)
    assert task.targets.shape == (5, 3, 3, 24, 24)
    assert len(task.target_captions) == 5
    assert task.target_caption == task.target_captions[0]
    assert task.source_caption not in task.target_captions
    again = world.edit_task(world.HELD_OUT_SEED, "change the sky", frames=3, size=24)
    assert torch.equal(task.targets, again.targets)


@pytest.mark.parametrize("family", world.FAMILY_WEIGHTS)
def test_a_family_can_be_asked_for(family):
    task = world.edit_task(3, family=family, frames=1, size=8)
    assert task.instruction in world.instructions(family=family)
    assert (len(task.targets) > 1) == (family == "many")


def test_answers_of_looks_are_looks_of_the_source():
    task = world.edit_task(3, "make it sepia", frames=2, size=16)
    assert torch.equal(task.targets[0], world.apply_look("sepia", task.source))


def test_panorama_tasks_edit_every_object_of_a_kind():
    task = world.panorama_task(2, "make the ball red", height=16, width=128, ring=True)
    assert task.source.shape == (1, 3, 16, 128)
    assert task.targets.shape == (1, 1, 3, 16, 128)
    assert "red ball" in task.target_caption
    assert "red ball" not in task.source_caption


def test_instruction_and_family_must_exist_and_go_together():
    with pytest.raises(ValueError, match=r"instruction.*received 'paint it black'"):
        world.edit_task(0, "paint it black")
    with pytest.raises(ValueError, match=r"family='sky'.*received 'make it night'"):
        world.edit_task(0, "make it night", family="sky")
    with pytest.raises(ValueError, match=r"family.*received 'skies'"):
        world.edit_task(0, family="skies")
