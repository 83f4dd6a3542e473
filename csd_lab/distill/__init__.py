"""The heart: Stein variational gradient descent on diffusion scores, in plain tensors.

kernels     particles -> kernel matrix, repulsion, bandwidth
svgd        scores and a kernel -> direction of ascent
ksd         how far particles are from a density
schedules   noise levels, timesteps, weights w(t)
noise       randomness as a function of (seed, step, particle)
guidance    branches of a noise prediction and their coefficients
residuals   guided prediction less a baseline
learners    what is trained on the particles while they move
perceptual  particles compared by how they look
distillers  residuals and a kernel -> gradients of the particles
sampling    a sampler's steps as gradients of the particles
"""

from csd_lab.distill.distillers import (
    CollaborativeScoreDistillation,
    Distillation,
    Distiller,
    ScoreDistillation,
    WeightedDistiller,
    surrogate_loss,
)
from csd_lab.distill.guidance import (
    Branch,
    ClassifierFree,
    DualGuidance,
    Guidance,
    NoisePredictor,
    Query,
    Request,
    guided_noise,
)
from csd_lab.distill.kernels import (
    IMQ,
    RBF,
    Bandwidth,
    Identity,
    Kernel,
    KernelOutput,
    Mean,
    Profile,
    Radial,
    effective_neighbours,
    mean_affinity,
)
from csd_lab.distill.ksd import kernelized_stein_discrepancy
from csd_lab.distill.learners import Learner
from csd_lab.distill.noise import particle_noise, places_generator, timestep_generator
from csd_lab.distill.perceptual import ImageDecoder, ImageEmbedding
from csd_lab.distill.residuals import (
    NoiseResidual,
    Particles,
    PosteriorResidual,
    Residual,
    ResidualRule,
    SourceResidual,
    VariationalResidual,
)
from csd_lab.distill.sampling import Need, Sampler
from csd_lab.distill.schedules import (
    AlphaSigmaSquared,
    AnnealedTimesteps,
    Constant,
    NoiseSchedule,
    NoiseToSignal,
    SigmaSquared,
    TimestepSampler,
    UniformTimesteps,
    VariancePreserving,
    Weight,
)
from csd_lab.distill.svgd import SteinDirection, stein_direction, svgd_direction

__all__ = [
    "IMQ",
    "RBF",
    "AlphaSigmaSquared",
    "AnnealedTimesteps",
    "Bandwidth",
    "Branch",
    "ClassifierFree",
    "CollaborativeScoreDistillation",
    "Constant",
    "Distillation",
    "Distiller",
    "DualGuidance",
    "Guidance",
    "Identity",
    "ImageDecoder",
    "ImageEmbedding",
    "Kernel",
    "KernelOutput",
    "Learner",
    "Mean",
    "Need",
    "NoisePredictor",
    "NoiseResidual",
    "NoiseSchedule",
    "NoiseToSignal",
    "Particles",
    "PosteriorResidual",
    "Profile",
    "Query",
    "Radial",
    "Request",
    "Residual",
    "ResidualRule",
    "Sampler",
    "ScoreDistillation",
    "SigmaSquared",
    "SourceResidual",
    "SteinDirection",
    "TimestepSampler",
    "UniformTimesteps",
    "VariancePreserving",
    "VariationalResidual",
    "Weight",
    "WeightedDistiller",
    "effective_neighbours",
    "guided_noise",
    "kernelized_stein_discrepancy",
    "mean_affinity",
    "particle_noise",
    "places_generator",
    "stein_direction",
    "surrogate_loss",
    "svgd_direction",
    "timestep_generator",
]
