"""Scenes in three dimensions: cameras, radiance fields, and how one sees the other."""

from csd_lab.fields.cameras import Cameras, Rays, look_at, orbit
from csd_lab.fields.field import GridField, Radiance, RadianceField, contract
from csd_lab.fields.renderer import Renderer
from csd_lab.fields.rendering import Rendering, composite, cut, resample, stretch
from csd_lab.fields.warping import flow

__all__ = [
    "Cameras",
    "GridField",
    "Radiance",
    "RadianceField",
    "Rays",
    "Renderer",
    "Rendering",
    "composite",
    "contract",
    "cut",
    "flow",
    "look_at",
    "orbit",
    "resample",
    "stretch",
]
