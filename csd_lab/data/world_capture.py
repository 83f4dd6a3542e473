"""Captures of the procedural world: posed views of a scene, and of all its right answers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from csd_lab import world
from csd_lab.data.captures import Capture
from csd_lab.fields import Cameras

CLEARANCE = 2.5
"""Metres from the nearest camera to the objects."""
HEIGHTS = (1.2, 2.2)
"""Lowest and highest camera, in metres above the ground."""


class SceneEdit(NamedTuple):
    """A capture of the world and how it is to be edited.

    Attributes:
        capture: source views with their cameras.
        instruction: what to do.
        source_caption: of the source.
        target_captions: of each right answer.
        targets: views of the right answers, (A, V, 3, H, W), in [0, 1].
        depth: exact distances along the rays of pixels' middles, (V, H, W), in metres; infinite
            where there is the sky.
    """

    capture: Capture
    instruction: str
    source_caption: str
    target_captions: tuple[str, ...]
    targets: Tensor
    depth: Tensor


def scene_edit(
    seed: int, instruction: str | None, views: int = 48, held_out: int = 12, size: int = 64
) -> SceneEdit:
    """Views around a scene, and around its edited states.

    Cameras stand around the objects, evenly, at heights that go up and down; those held out stand
    between them.

    Args:
        seed: of the scene; from ``world.HELD_OUT_SEED`` on for evaluation.
        instruction: one of ``world.instructions()``; scenes are drawn until one allows it;
            None: drawn with the scene.
        views: for reconstruction, >= 2.
        held_out: views besides, for evaluation, >= 0.
        size: height and width of the views, in pixels.
    """
    scene, edit = world.scene_and_edit(seed, instruction)
    cameras = [
        *cameras_around(scene, views, 0.0),
        *cameras_around(scene, held_out, 0.5),
    ]
    images = world.render_views(scene, cameras, size, size)
    count = torch.arange(len(cameras))
    capture = Capture(
        images.unbind(),
        pinholes(cameras, size, size),
        count >= views,
        f"scene {seed}: {edit.instruction}",
    )
    answers = [world.render_views(answer, cameras, size, size) for answer in edit.answers]
    return SceneEdit(
        capture,
        edit.instruction,
        world.caption(scene),
        tuple(world.caption(answer) for answer in edit.answers),
        torch.stack(answers),
        world.render_depth(scene, cameras, size, size),
    )


def cameras_around(scene: world.Scene, count: int, shift: float) -> list[world.Camera]:
    """Cameras around a scene's objects, all looking at their middle.

    Args:
        scene: the scene; an empty one is looked at from around the place before its own camera.
        count: how many.
        shift: of all of them along the circle, in steps between two.
    """
    things = scene.objects or (world.Thing("ball", "red", 0.0, -5.0, 1.0),)
    x = sum(thing.x for thing in things) / len(things)
    z = sum(thing.z for thing in things) / len(things)
    reach = max(math.hypot(thing.x - x, thing.z - z) + thing.size for thing in things)
    middle = sum(thing.size for thing in things) / len(things) / 2
    radius = reach + CLEARANCE
    low, high = HEIGHTS
    cameras = []
    for index in range(count):
        angle = 2 * math.pi * (index + shift) / count
        height = low + (high - low) * (0.5 - 0.5 * math.cos(5 * angle))
        cameras.append(
            world.Camera(
                (x - radius * math.sin(angle), height, z + radius * math.cos(angle)),
                yaw=angle,
                pitch=math.atan2(middle - height, radius),
            )
        )
    return cameras


def pinholes(cameras: Sequence[world.Camera], height: int, width: int) -> Cameras:
    """The world's cameras as cameras of a field."""
    return Cameras(
        torch.stack([_pose(camera) for camera in cameras]),
        torch.tensor([[camera.focal * height] * 2 for camera in cameras]),
        height,
        width,
    )


def _pose(camera: world.Camera) -> Tensor:
    """Camera to world, (3, 4)."""
    sin, cos = math.sin(camera.yaw), math.cos(camera.yaw)
    rise, flat = math.sin(camera.pitch), math.cos(camera.pitch)
    right = (cos, 0.0, sin)
    up = (-sin * rise, flat, cos * rise)
    backward = (-sin * flat, -rise, cos * flat)
    return torch.tensor([right, up, backward, camera.position]).T
