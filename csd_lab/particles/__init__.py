"""LightningModules: one file a modality, each a set of particles."""

from csd_lab.particles.base import OptimizerFactory, ParticleModule, Step
from csd_lab.particles.video import VideoParticles

__all__ = ["OptimizerFactory", "ParticleModule", "Step", "VideoParticles"]
