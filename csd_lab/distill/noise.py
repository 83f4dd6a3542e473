"""Randomness as a function of where it is used, never of what was drawn before.

    timestep  = f(seed, step)
    noise of particle i = g(seed, step, i)
    places of windows  = h(seed, step)

f, g and h are separate streams, so that methods which use noise differently still see the same
timesteps. What learns from the particles (``learners``) has streams of its own for both, and one
for the weights that it starts from, so that particles meet the same with and without it. Nothing
depends on the batch's layout, the rank, the device or the process: results do not change with the
number of devices, and a resumed run equals an uninterrupted one.
"""

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from csd_lab.checks import check_choice
from csd_lab.streams import Stream, numpy_generator

NoiseMode = Literal["independent", "shared"]
Purpose = Literal["distil", "learn"]

TIMESTEPS: dict[Purpose, Stream] = {"distil": Stream.TIMESTEP, "learn": Stream.LEARNED_TIMESTEP}
NOISES: dict[Purpose, Stream] = {"distil": Stream.NOISE, "learn": Stream.LEARNED_NOISE}


def check_seed(seed: int, step: int) -> None:
    """Raises ValueError unless seed and step are >= 0."""
    if seed < 0 or step < 0:
        raise ValueError(f"seed and step must be integers >= 0, got seed={seed}, step={step}")


def timestep_generator(seed: int, step: int, purpose: Purpose = "distil") -> np.random.Generator:
    """The generator that a step's timestep is drawn from.

    Args:
        seed: of the run, >= 0.
        step: optimisation step, >= 0.
        purpose: what it is for.
    """
    check_seed(seed, step)
    return numpy_generator(TIMESTEPS[purpose], seed, step, 0)


def places_generator(seed: int, step: int) -> np.random.Generator:
    """The generator that says where the windows of a step lie.

    Args:
        seed: of the run, >= 0.
        step: optimisation step, >= 0.
    """
    check_seed(seed, step)
    return numpy_generator(Stream.WINDOW_PLACES, seed, step, 0)


def weights_generator(seed: int) -> np.random.Generator:
    """The generator that the first weights of what learns are drawn from, for a seed >= 0."""
    check_seed(seed, 0)
    return numpy_generator(Stream.LEARNER_WEIGHTS, seed, 0, 0)


def particle_noise(
    seed: int,
    step: int,
    ids: Tensor,
    shape: tuple[int, ...],
    mode: NoiseMode = "independent",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    purpose: Purpose = "distil",
) -> Tensor:
    """Standard normal noise of particles.

    Args:
        seed: of the run, >= 0.
        step: optimisation step, >= 0.
        ids: the particles' identities over the whole run (frame or window numbers, not places in
            the batch), (N,), integers >= 0.
        shape: of one particle.
        mode: ``independent`` noise a particle, or the noise of particle 0 ``shared`` by all.
        device: of the result. The values are the same on all.
        dtype: of the result. The values are drawn in float32.
        purpose: what it is for.

    Returns:
        (N, *shape).

    Raises:
        ValueError: a negative seed, step or id, or an unknown mode.
    """
    check_choice("noise", mode, get_args(NoiseMode))
    check_seed(seed, step)
    particles = ids.tolist()
    if min(particles, default=0) < 0:
        raise ValueError(f"ids must be integers >= 0, got {particles}")
    if mode == "shared":
        particles = [0] * len(particles)
    noise = np.empty((len(particles), *shape), np.float32)
    for row, particle in zip(noise, particles, strict=True):
        random = numpy_generator(NOISES[purpose], seed, step, particle)
        random.standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(noise).to(device, dtype)
