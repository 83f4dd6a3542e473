"""LightningModules: one file a modality, each a set of particles."""

from csd_lab.particles.base import NoiseMode, ParticleModule, Step, latest_step
from csd_lab.particles.video import VideoParticles

__all__ = ["NoiseMode", "ParticleModule", "Step", "VideoParticles", "latest_step"]
