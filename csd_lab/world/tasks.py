"""Whole edit tasks: a clip, an instruction, and the exact right answers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from csd_lab.types import EditTask
from csd_lab.world.captions import caption
from csd_lab.world.edits import Edit, check_instruction, edit_for, edits_for, sample_edit
from csd_lab.world.edits import instructions as instructions_that_exist
from csd_lab.world.render import render_clip, render_panorama
from csd_lab.world.sample import as_generator, sample_panorama, sample_scene
from csd_lab.world.scene import Scene

ATTEMPTS = 1000

Found = TypeVar("Found")


def edit_task(
    seed: int,
    instruction: str | Sequence[str] | None = None,
    family: str | None = None,
    frames: int = 8,
    size: int = 64,
    fps: float = 8.0,
) -> EditTask:
    """Draw a clip and an edit of it.

    Args:
        seed: integer seed; below ``HELD_OUT_SEED`` for training, from there on for evaluation.
        instruction: one of `instructions`, or several that are followed one after the other;
            scenes are drawn until one allows them.
        family: draw an instruction of this family; None draws the family too.
        frames: number of frames F.
        size: height and width in pixels.
        fps: frames a second.

    Returns:
        The task, with targets (A, F, 3, size, size).

    Raises:
        ValueError: instruction and family contradict each other or do not exist.
    """
    check_instruction(instruction, family)
    scene, edit = _scene_and_edit(seed, instruction, family, sample_scene)
    return clip_task(scene, edit, frames, size, fps, name=f"{edit.instruction} ({seed})")


def clip_task(
    scene: Scene,
    edit: Edit,
    frames: int = 8,
    size: int = 64,
    fps: float = 8.0,
    name: str = "clip",
) -> EditTask:
    """Render the clip of a scene and all right answers of an edit of it.

    Args:
        scene: the scene.
        edit: an edit of that scene.
        frames: number of frames F.
        size: height and width in pixels.
        fps: frames a second.
        name: name of the task.

    Returns:
        The task, with targets (A, F, 3, size, size).
    """
    captions = tuple(caption(answer) for answer in edit.answers)
    return EditTask(
        source=render_clip(scene, frames, size),
        instruction=edit.instruction,
        source_caption=caption(scene),
        target_caption=captions[0],
        targets=torch.stack([render_clip(answer, frames, size) for answer in edit.answers]),
        target_captions=captions,
        fps=fps,
        name=name,
    )


def panorama_task(
    seed: int,
    instruction: str | Sequence[str] | None = None,
    family: str | None = None,
    height: int = 64,
    width: int = 512,
    ring: bool = False,
) -> EditTask:
    """Draw a wide panorama and an edit of it.

    Args:
        seed: integer seed; below ``HELD_OUT_SEED`` for training, from there on for evaluation.
        instruction: one of `instructions`, or several that are followed one after the other;
            "the ball" means every ball. Scenes are drawn until one allows them.
        family: draw an instruction of this family; None draws the family too.
        height: height in pixels.
        width: width in pixels.
        ring: go round exactly once, so that the left and right edges meet.

    Returns:
        The task: one frame, source (1, 3, height, width), targets (A, 1, 3, height, width).

    Raises:
        ValueError: instruction and family contradict each other or do not exist.
    """
    check_instruction(instruction, family)
    draw = partial(sample_panorama, aspect=width / height, ring=ring)
    scene, edit = _scene_and_edit(seed, instruction, family, draw, plural=True)
    captions = tuple(caption(answer) for answer in edit.answers)
    return EditTask(
        source=render_panorama(scene, height, width)[None],
        instruction=edit.instruction,
        source_caption=caption(scene),
        target_caption=captions[0],
        targets=torch.stack([render_panorama(a, height, width)[None] for a in edit.answers]),
        target_captions=captions,
        name=f"panorama: {edit.instruction} ({seed})",
    )


def region_task(
    seed: int, instructions: Sequence[str], masks: Tensor, ring: bool = False
) -> EditTask:
    """Draw a wide panorama that is edited by another instruction in each of its regions.

    Args:
        seed: integer seed; below ``HELD_OUT_SEED`` for training, from there on for evaluation.
        instructions: P of those with one right answer, as in `panorama_task`; "" changes nothing.
            Scenes are drawn until one allows all of them.
        masks: where each holds, (P, H, W), in [0, 1]; they add up to 1. The panorama has their
            height and width.
        ring: go round exactly once, so that the left and right edges meet.

    Returns:
        The task: one frame, source (1, 3, H, W), targets (1, 1, 3, H, W), in which the edited
        scenes are mixed as the masks say. It has no captions.

    Raises:
        ValueError: an instruction does not exist, or has many answers.
    """
    told = [text for text in instructions if text]
    for text in told:
        check_instruction(text)
        if text in instructions_that_exist(many=True):
            raise ValueError(
                f"instruction must have one right answer to hold in a region, got {text!r}"
            )
    height, width = masks.shape[1:]
    draw = partial(sample_panorama, aspect=width / height, ring=ring)
    scene, edits = _first_that_allows(seed, draw, lambda scene, _: _all_of(scene, told), told)
    source = render_panorama(scene, height, width)
    answers = {edit.instruction: edit.answers[0] for edit in edits}
    target = torch.zeros_like(source)
    for text, mask in zip(instructions, masks, strict=True):
        target += mask * (render_panorama(answers[text], height, width) if text else source)
    together = "; ".join(told)
    return EditTask(
        source=source[None],
        instruction=together,
        targets=target[None, None],
        name=f"panorama: {together} ({seed})",
    )


def _all_of(scene: Scene, told: Sequence[str]) -> list[Edit] | None:
    """The edits that these instructions mean each, None if the scene does not allow one."""
    edits = [edit_for(scene, text, plural=True) for text in told]
    return None if None in edits else [edit for edit in edits if edit is not None]


def scene_and_edit(seed: int, instruction: str | None) -> tuple[Scene, Edit]:
    """Draw a scene and an edit that it allows, to be seen from all sides.

    Args:
        seed: integer seed; below ``HELD_OUT_SEED`` for training, from there on for evaluation.
        instruction: one of `instructions`; "the ball" means every ball; None: drawn with the scene.

    Raises:
        ValueError: there is no such instruction, or hardly a scene allows it.
    """
    if instruction is not None:
        check_instruction(instruction, None)
    return _scene_and_edit(seed, instruction, None, sample_scene, plural=True)


def _scene_and_edit(
    seed: int,
    instruction: str | Sequence[str] | None,
    family: str | None,
    draw: Callable[[np.random.Generator], Scene],
    plural: bool = False,
) -> tuple[Scene, Edit]:
    """Draw scenes until one allows the instruction or the family."""

    def edit_of(scene: Scene, rng: np.random.Generator) -> Edit | None:
        if instruction is not None:
            return edit_for(scene, instruction, plural)
        if family is None:
            return sample_edit(rng, scene, plural=plural)
        if any(edit.family == family for edit in edits_for(scene, plural)):
            return sample_edit(rng, scene, {family: 1.0}, plural)
        return None

    return _first_that_allows(seed, draw, edit_of, instruction or family)


def _first_that_allows(
    seed: int,
    draw: Callable[[np.random.Generator], Scene],
    find: Callable[[Scene, np.random.Generator], Found | None],
    what: object,
) -> tuple[Scene, Found]:
    """Draw scenes until ``find`` finds something for one; ``what`` names it in the message."""
    rng = as_generator(seed)
    for _ in range(ATTEMPTS):
        scene = draw(rng)
        found = find(scene, rng)
        if found is not None:
            return scene, found
    raise ValueError(
        f"instruction must be one that a scene allows, got {what!r}, which none of {ATTEMPTS} does"
    )
