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
    with pytest.raises(ValueError, match=r"instruction.*got 'paint it black'"):
        world.edit_task(0, "paint it black")
    with pytest.raises(ValueError, match=r"family='sky'.*got 'make it night'"):
        world.edit_task(0, "make it night", family="sky")
    with pytest.raises(ValueError, match=r"family.*got 'skies'"):
        world.edit_task(0, family="skies")


def test_instructions_in_turn_edit_one_another_s_answers():
    both = world.edit_task(5, ["make it night", "make it sepia"], frames=2, size=16)
    night = world.edit_task(5, "make it night", frames=2, size=16)
    assert both.instruction == "make it night, then make it sepia"
    assert torch.equal(both.source, night.source)
    assert torch.equal(both.targets[0], world.apply_look("sepia", night.targets[0]))


def test_instructions_in_turn_have_all_answers_of_their_answers():
    task = world.edit_task(7, ["change the sky", "make it sepia"], frames=1, size=16)
    skies = world.edit_task(7, "change the sky", frames=1, size=16)
    assert len(task.targets) == len(skies.targets) > 1
    assert torch.equal(task.targets, world.apply_look("sepia", skies.targets))


def test_regions_mix_the_edited_scenes_as_their_masks_say():
    masks = torch.zeros(3, 16, 64)
    masks[0, :, :20], masks[1, :, 20:40], masks[2, :, 40:] = 1, 1, 1
    task = world.region_task(2, ["make it sepia", "make it dark", ""], masks)
    assert task.targets.shape == (1, 1, 3, 16, 64)
    parts = [
        world.apply_look("sepia", task.source)[..., :20],
        world.apply_look("dark", task.source)[..., 20:40],
        task.source[..., 40:],
    ]
    assert torch.equal(task.targets[0], torch.cat(parts, dim=3))


def test_a_region_s_instruction_must_have_one_answer():
    masks = torch.ones(1, 8, 8)
    with pytest.raises(ValueError, match="one right answer"):
        world.region_task(2, ["change the sky"], masks)
    with pytest.raises(ValueError, match="got 'paint it black'"):
        world.region_task(2, ["paint it black"], masks)
