"""LightningModules: one file a modality, each a set of particles."""

from csd_lab.particles.base import OptimizerFactory, ParticleModule, Step
from csd_lab.particles.canvas import CanvasParticles
from csd_lab.particles.latents import LatentParticles
from csd_lab.particles.video import VideoParticles

__all__ = [
    "CanvasParticles",
    "LatentParticles",
    "OptimizerFactory",
    "ParticleModule",
    "Step",
    "VideoParticles",
]
