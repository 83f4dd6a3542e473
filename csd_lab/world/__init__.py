"""Procedural scenes with exact edited ground truth, as pictures, panoramas, clips and views."""

from csd_lab.world.captions import caption, texture_caption, vocabulary
from csd_lab.world.edits import (
    FAMILY_WEIGHTS,
    IN_TURN,
    Edit,
    edit_for,
    edits_for,
    instructions,
    sample_edit,
)
from csd_lab.world.looks import LOOKS, apply_look
from csd_lab.world.render import (
    render_clip,
    render_depth,
    render_images,
    render_panorama,
    render_views,
)
from csd_lab.world.sample import HELD_OUT_SEED, sample_panorama, sample_scene
from csd_lab.world.scene import COLOURS, GROUNDS, KINDS, SEASONS, SKIES, Camera, Scene, Thing
from csd_lab.world.tasks import clip_task, edit_task, panorama_task, region_task, scene_and_edit
from csd_lab.world.textures import textures

__all__ = [
    "COLOURS",
    "FAMILY_WEIGHTS",
    "GROUNDS",
    "HELD_OUT_SEED",
    "IN_TURN",
    "KINDS",
    "LOOKS",
    "SEASONS",
    "SKIES",
    "Camera",
    "Edit",
    "Scene",
    "Thing",
    "apply_look",
    "caption",
    "clip_task",
    "edit_for",
    "edit_task",
    "edits_for",
    "instructions",
    "panorama_task",
    "region_task",
    "render_clip",
    "render_depth",
    "render_images",
    "render_panorama",
    "render_views",
    "sample_edit",
    "sample_panorama",
    "sample_scene",
    "scene_and_edit",
    "texture_caption",
    "textures",
    "vocabulary",
]
