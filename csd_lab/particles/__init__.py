"""LightningModules: one file a modality, each a set of particles."""

from csd_lab.particles.base import OptimizerFactory, ParticleModule, Step
from csd_lab.particles.canvas import CanvasParticles
from csd_lab.particles.dataset_update import DatasetUpdate, UpdatePlan
from csd_lab.particles.latents import LatentParticles
from csd_lab.particles.module import EditModule, OfScene
from csd_lab.particles.recipe import SceneRecipe, exponential_decay
from csd_lab.particles.reconstruction import Reconstruction
from csd_lab.particles.scene import SceneModule, SceneParticles
from csd_lab.particles.scene_route import check_route, scene_module
from csd_lab.particles.text_to_3d import Growth, TextTo3D, ViewTexts
from csd_lab.particles.video import VideoParticles

__all__ = [
    "CanvasParticles",
    "DatasetUpdate",
    "EditModule",
    "Growth",
    "LatentParticles",
    "OfScene",
    "OptimizerFactory",
    "ParticleModule",
    "Reconstruction",
    "SceneModule",
    "SceneParticles",
    "SceneRecipe",
    "Step",
    "TextTo3D",
    "UpdatePlan",
    "VideoParticles",
    "ViewTexts",
    "check_route",
    "exponential_decay",
    "scene_module",
]
