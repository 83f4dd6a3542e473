"""Whole edit tasks: a clip, an instruction, and the exact right answers."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from csd_lab.types import EditTask
from csd_lab.world.captions import caption
from csd_lab.world.edits import Edit, check_instruction, edit_for, edits_for, sample_edit
from csd_lab.world.render import render_clip, render_panorama
from csd_lab.world.sample import as_generator, sample_panorama, sample_scene
from csd_lab.world.scene import Scene

ATTEMPTS = 1000


def edit_task(
    seed: int,
    instruction: str | None = None,
    family: str | None = None,
    frames: int = 8,
    size: int = 64,
    fps: float = 8.0,
) -> EditTask:
    """Draw a clip and an edit of it.

    Args:
        seed: integer seed; below ``HELD_OUT_SEED`` for training, from there on for evaluation.
        instruction: one of `instructions`; scenes are drawn until one allows it.
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
    instruction: str | None = None,
    family: str | None = None,
    height: int = 64,
    width: int = 512,
    ring: bool = False,
) -> EditTask:
    """Draw a wide panorama and an edit of it.

    Args:
        seed: integer seed; below ``HELD_OUT_SEED`` for training, from there on for evaluation.
        instruction: one of `instructions`; "the ball" means every ball. Scenes are drawn until
            one allows it.
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


def _scene_and_edit(
    seed: int,
    instruction: str | None,
    family: str | None,
    draw: Callable[[np.random.Generator], Scene],
    plural: bool = False,
) -> tuple[Scene, Edit]:
    """Draw scenes until one allows the instruction or the family."""
    rng = as_generator(seed)
    for _ in range(ATTEMPTS):
        scene = draw(rng)
        if instruction is not None:
            edit = edit_for(scene, instruction, plural)
            if edit is not None:
                return scene, edit
        elif family is None:
            return scene, sample_edit(rng, scene, plural=plural)
        elif any(edit.family == family for edit in edits_for(scene, plural)):
            return scene, sample_edit(rng, scene, {family: 1.0}, plural)
    raise ValueError(
        f"instruction: no scene in {ATTEMPTS} allows {instruction or family!r}; choose another"
    )
