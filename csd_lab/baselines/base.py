"""What methods share that follow a scheduler of the diffusers library from noise to an image."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, final, get_args

import torch
from torch import Tensor

from csd_lab.baselines.schedulers import (
    SchedulerFactory,
    draws_noise,
    put_state,
    state_of,
    takes_generator,
)
from csd_lab.checks import check_choice, check_whole
from csd_lab.distill import (
    Distillation,
    Guidance,
    NoisePredictor,
    NoiseSchedule,
    Particles,
    Request,
    Residual,
    Sampler,
    guided_noise,
)
from csd_lab.distill.distillers import mean_norm
from csd_lab.distill.noise import NoiseMode, check_seed
from csd_lab.priors.base import Prior
from csd_lab.streams import Stream, torch_generator
from csd_lab.types import Conditioning, Text


class Followed(NamedTuple):
    """Where a step leads.

    Attributes:
        particles: after it, (N, C, h, w).
        scalars: diagnostics by name, each ().
    """

    particles: Tensor
    scalars: dict[str, Tensor]


class ScheduledSampler(Sampler, ABC):
    """Guided noise estimates, and a scheduler's steps along them.

    A subclass says by :meth:`check` what it needs. It may begin otherwise (``start``), ask the
    network otherwise (:meth:`estimate`), or go elsewhere than the scheduler (:meth:`follow`).

    Args:
        guidance: combines the prior's predictions.
        scheduler: makes the scheduler from the config of the prior's schedule.
        steps: of the scheduler, >= 1.
        noise: that a scheduler draws in its steps is ``independent`` for each particle, or
            ``shared`` by all.
        seed: of that noise, >= 0.

    Raises:
        ValueError: an argument is not allowed.
    """

    scheduler: Any
    """Of the diffusers library; there once a prior is bound."""

    def __init__(
        self,
        guidance: Guidance,
        scheduler: SchedulerFactory,
        steps: int,
        noise: NoiseMode = "independent",
        seed: int = 0,
    ) -> None:
        check_choice("noise", noise, get_args(NoiseMode))
        check_seed(seed, 0)
        check_whole("steps", steps)
        self.guidance = guidance
        self.steps = steps
        self.noise: NoiseMode = noise
        self.seed = seed
        self.begun = 0
        self.taken = 0
        self._factory = scheduler
        self._config: dict[str, Any] = {}

    @abstractmethod
    def check(self, prior: Prior) -> None:
        """Raises ValueError if the bound prior or its scheduler lack what this method needs."""

    @final
    def bind(self, prior: Any) -> None:
        """Make the scheduler for this prior.

        Raises:
            ValueError: it has fewer timesteps than there are steps, or is not one for the method.
        """
        limit = prior.schedule.num_steps
        if self.steps > limit:
            raise ValueError(
                f"steps must be 1 ... {limit}, the prior's timesteps, got {self.steps}"
            )
        # A prior gives noise estimates whatever its network predicts.
        self._config = prior.scheduler_config | {"prediction_type": "epsilon"}
        self.begun = 0
        self._restart()
        if (needed := len(self.scheduler.timesteps)) != self.steps:
            raise ValueError(
                f"scheduler must evaluate the network once a step; {type(self.scheduler).__name__} "
                f"takes {needed} evaluations for {self.steps} steps"
            )
        self.check(prior)

    def _restart(self) -> None:
        """Forget what was sampled; whoever begins to sample says so."""
        self.scheduler = self._factory(self._config)
        self.scheduler.set_timesteps(self.steps)
        self.taken = 0

    def start(self, source: Tensor, noise: Tensor, conditioning: Conditioning) -> Tensor:  # noqa: ARG002
        """The noise, at the level at which the scheduler begins."""
        self._begin()
        return noise * self.scheduler.init_noise_sigma

    def _begin(self) -> None:
        """Begin anew, with other random numbers than all times before."""
        self._restart()
        self.begun += 1

    @final
    def timestep(self, step: int) -> Tensor:
        """The scheduler's timestep, ()."""
        t: Tensor = self.scheduler.timesteps[step]
        return t

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self.taken == self.steps

    def evaluate(self, prior: NoisePredictor, particles: Particles) -> Residual:
        """The guided noise of the particles, which are noisy themselves: x is x_t."""
        x, _, conditioning, _, t = particles
        x_t = self.scheduler.scale_model_input(x, t)
        estimate = self.estimate(prior, x_t, conditioning, t)
        return Residual(estimate, x, prior.schedule.remove_noise(x_t, estimate, t))

    def estimate(
        self, prior: NoisePredictor, x_t: Tensor, conditioning: Conditioning, t: Tensor
    ) -> Tensor:
        """The guided noise of noisy particles, (N, C, h, w), of unit variance as a whole."""
        texts = conditioning.prompt, conditioning.negative_prompt
        request = Request(x_t, self.guidance.coefficients(*texts), conditioning.image)
        return guided_noise(prior, t, [request])[0]

    @final
    @torch.no_grad()
    def combine(self, residual: Residual, schedule: NoiseSchedule, t: Tensor) -> Distillation:  # noqa: ARG002
        """What separates the particles from where the method's step leads."""
        x = residual.x_t.detach()  # schedulers remember what they are given
        after, scalars = self.follow(residual._replace(x_t=x), t)
        self.taken += 1
        gradient = x - after
        return Distillation(gradient, {"gradient_norm": mean_norm(gradient), **scalars}, None)

    def follow(self, residual: Residual, t: Tensor) -> Followed:
        """Where a step leads: where the scheduler's does, unless a subclass adds to it.

        Args:
            residual: of all particles.
            t: timestep of the step, ().
        """
        return Followed(self.advance(residual.delta, t, residual.x_t), {})

    @final
    def advance(self, estimate: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """The scheduler's step from x at t, (N, C, h, w)."""
        options = {"generator": self._generators(len(x))} if takes_generator(self.scheduler) else {}
        after: Tensor = self.scheduler.step(estimate, t, x, **options).prev_sample
        return after

    def _generators(self, count: int) -> Sequence[torch.Generator]:
        """Random generators of this step, one a particle."""
        particles = [0] * count if self.noise == "shared" else range(count)
        place = (Stream.SAMPLER_NOISE, self.seed, self.begun, self.taken)
        return [torch_generator(*place, particle) for particle in particles]

    def state_dict(self) -> dict[str, Any]:
        """How often it began, steps taken since, and the scheduler's memory of them."""
        return {"begun": self.begun, "taken": self.taken, "scheduler": state_of(self.scheduler)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state.

        Raises:
            ValueError: it is of another number of steps.
        """
        if (steps := len(state["scheduler"]["timesteps"])) != self.steps:
            raise ValueError(
                f"trainer.max_steps must stay as it was, {steps}, for a method that samples, "
                f"got {self.steps}"
            )
        self.begun = state["begun"]
        self.taken = state["taken"]
        put_state(self.scheduler, state["scheduler"])


def check_takes_image(prior: Prior) -> None:
    """Raises ValueError if a prior takes no image condition."""
    if not prior.takes_image:
        raise ValueError(
            f"prior must take an image condition; {type(prior).__name__} does not: use an "
            "Instruct-Pix2Pix prior"
        )


def check_deterministic(sampler: ScheduledSampler) -> None:
    """Check that a scheduler's steps draw no noise, which an average over windows would weaken.

    Raises:
        ValueError: if they do.
    """
    if draws_noise(sampler.scheduler):
        raise ValueError(
            f"sampler must be deterministic where windows are averaged, such as ddim; "
            f"{type(sampler.scheduler).__name__} draws noise, whose average is too weak"
        )


@torch.no_grad()
def sample_images(
    sampler: ScheduledSampler,
    prior: Prior,
    images: Tensor,
    prompt: Text,
    noise: Tensor,
    negative_prompt: Text = "",
    source_prompt: Text = "",
) -> Tensor:
    """Edits of images, from noise to the end.

    Args:
        sampler: how.
        prior: the network, with its autoencoder.
        images: (F, 3, H, W), in [0, 1], on the prior's device.
        prompt: what to do, or one text for each image.
        noise: standard normal, (F, C, h, w), of the size of the images' latents.
        negative_prompt: takes the place of the null text.
        source_prompt: what the images show, for methods that read captions.

    Returns:
        (F, 3, H, W), in [0, 1].

    Raises:
        ValueError: the prior lacks what the sampler needs.
    """
    sampler.bind(prior)
    source = prior.encode(images)
    conditioning = Conditioning(prompt, source_prompt, negative_prompt, prior.condition(images))
    x = sampler.start(source, noise, conditioning)
    for step in range(sampler.steps):
        t = sampler.timestep(step)
        x = x - sampler(prior, x, source, conditioning, noise, t).gradient
    return prior.decode(x)
