"""Solvers of the diffusion library, by name, with their state as plain values."""

import inspect
from collections.abc import Callable
from copy import deepcopy
from typing import Any, final

import diffusers
import torch
from diffusers import SchedulerMixin
from torch import Tensor

SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
)
"""Those that evaluate the network once a step, and are tested with all that samples."""

SchedulerFactory = Callable[[dict[str, Any]], Any]
"""Makes a scheduler of the diffusers library from the config of a prior's schedule."""


@final
class DiffusersScheduler:
    """Makes a scheduler of the diffusers library for the schedule that a prior was trained on.

    Args:
        name: of its class, one of :data:`SCHEDULERS`.
        **options: of that class, such as ``timestep_spacing="trailing"``.

    Raises:
        ValueError: there is no such scheduler, or it has no such option.
    """

    def __init__(self, name: str, **options: Any) -> None:
        if name not in SCHEDULERS:
            raise ValueError(f"name must be one of {', '.join(SCHEDULERS)}, got {name!r}")
        self.kind: Any = getattr(diffusers, name)
        allowed = inspect.signature(self.kind).parameters
        if unknown := [option for option in options if option not in allowed]:
            raise ValueError(
                f"an option of {name} must be one of {', '.join(allowed)}, got {unknown[0]!r}"
            )
        self.options = options

    def __call__(self, config: dict[str, Any]) -> SchedulerMixin:
        """The scheduler for this schedule, as a config of the diffusers library."""
        return self.kind.from_config(config, **self.options)


def draws_noise(scheduler: Any) -> bool:
    """Whether a scheduler, whose timesteps are set, adds noise of its own in its steps."""
    if not takes_generator(scheduler):
        return False
    outcomes = []
    for seed in (0, 1):
        tried = deepcopy(scheduler)
        t = tried.timesteps[0]
        x = tried.scale_model_input(torch.zeros(1, 1, 1, 1), t)
        step = tried.step(x, t, x, generator=torch.Generator().manual_seed(seed))
        outcomes.append(step.prev_sample)
    return not torch.equal(*outcomes)


def takes_generator(scheduler: Any) -> bool:
    """Whether a scheduler's steps take a generator of random numbers."""
    return "generator" in inspect.signature(scheduler.step).parameters


def state_of(scheduler: Any) -> dict[str, Any]:
    """What a scheduler's next step depends on: all of its attributes that are plain values."""
    return {
        name: deepcopy(value)
        for name, value in vars(scheduler).items()
        if not name.startswith("_internal") and _is_plain(value)
    }


def put_state(scheduler: Any, state: dict[str, Any]) -> None:
    """Give a scheduler such a state."""
    for name, value in state.items():
        setattr(scheduler, name, deepcopy(value))


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, Tensor))
