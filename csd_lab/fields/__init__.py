"""Scenes in three dimensions: cameras, radiance fields, and how one sees the other."""

from csd_lab.fields.bounds import Bounds, bounds_of
from csd_lab.fields.cameras import Cameras, Rays, look_at
from csd_lab.fields.field import GridField, Panorama, Radiance, RadianceField, contract
from csd_lab.fields.fitting import PixelLoss, SceneFitter
from csd_lab.fields.gaussians import GaussianScene, gaussian_scene
from csd_lab.fields.grid import grid_of, grid_scene
from csd_lab.fields.paths import camera_path
from csd_lab.fields.points import Points, points_seen
from csd_lab.fields.random_views import OrbitViews, RandomViews
from csd_lab.fields.regularisers import (
    Look,
    OpacityEntropy,
    Orientation,
    Regulariser,
    Smoothness,
    Sparsity,
    normals,
)
from csd_lab.fields.renderer import Renderer
from csd_lab.fields.rendering import Rendering, composite, cut, resample, stretch
from csd_lab.fields.scene import FieldScene, PosedViews, Scene, View
from csd_lab.fields.start import Blob
from csd_lab.fields.warping import enlarged, flow

__all__ = [
    "Blob",
    "Bounds",
    "Cameras",
    "FieldScene",
    "GaussianScene",
    "GridField",
    "Look",
    "OpacityEntropy",
    "OrbitViews",
    "Orientation",
    "Panorama",
    "PixelLoss",
    "Points",
    "PosedViews",
    "Radiance",
    "RadianceField",
    "RandomViews",
    "Rays",
    "Regulariser",
    "Renderer",
    "Rendering",
    "Scene",
    "SceneFitter",
    "Smoothness",
    "Sparsity",
    "View",
    "bounds_of",
    "camera_path",
    "composite",
    "contract",
    "cut",
    "enlarged",
    "flow",
    "gaussian_scene",
    "grid_of",
    "grid_scene",
    "look_at",
    "normals",
    "points_seen",
    "resample",
    "stretch",
]
