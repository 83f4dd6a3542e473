"""Streams of random numbers: each a function of what it is for and of a place in a run.

What is drawn for a purpose at (seed, step, particle) never depends on what was drawn before, nor on
another purpose. Keys are hashed by numpy's SeedSequence. numpy's generators keep all of the hash,
torch's on the CPU 32 bits: of some 10^5 keys, two share what is drawn.
"""

from enum import IntEnum
from typing import final

import numpy as np
import torch


@final
class Stream(IntEnum):
    """What random numbers are for."""

    TIMESTEP = 0
    NOISE = 1
    LEARNED_TIMESTEP = 2
    LEARNED_NOISE = 3
    LEARNER_WEIGHTS = 4
    WINDOW_PLACES = 5
    SAMPLER_NOISE = 6
    SAMPLER_LEVEL = 7
    FIT_PIXELS = 0x72617973
    ORBIT_CAMERAS = 0x6F726269
    SCENE_RAYS = 0x76696577
    TEXT_RAYS = 0x74336473


def numpy_generator(stream: Stream, *key: int) -> np.random.Generator:
    """The generator of a purpose at a place in a run.

    Args:
        stream: the purpose.
        *key: seed, step and the like, each >= 0.
    """
    return np.random.default_rng(_sequence(stream, key))


def torch_generator(stream: Stream, *key: int) -> torch.Generator:
    """The same for torch, on the CPU: its values do not depend on the device of a run."""
    return torch.Generator().manual_seed(int(_sequence(stream, key).generate_state(1)[0]))


def _sequence(stream: Stream, key: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(key, spawn_key=(int(stream),))
