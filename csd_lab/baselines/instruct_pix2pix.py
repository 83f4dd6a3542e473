"""Instruct-Pix2Pix frame by frame: the baseline that samples each frame by itself.

Brooks et al. 2023, arXiv 2211.09800. From noise x_T, a sampler's steps follow

    eps_w = eps(0, n) + s_I (eps(s, n) - eps(0, n)) + s_T (eps(s, y) - eps(s, n))

down to a clean latent, each frame under its own source s. Nothing ties the frames together but
the noise that they start from, if it is shared.
"""

import inspect
from collections.abc import Callable
from typing import Any, final, get_args

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from csd_lab.distill.checks import check_choice
from csd_lab.distill.guidance import Guidance, Request, guided_noise
from csd_lab.distill.noise import NoiseMode, check_seed, particle_noise
from csd_lab.priors.base import Prior
from csd_lab.types import Text

SchedulerFactory = Callable[[dict[str, Any]], Any]
"""Makes a scheduler of the diffusers library from a config."""

_SAMPLING = 2
"""Key of this stream of randomness; those of the distillation have lower ones."""


@final
class InstructPix2PixSampler:
    """Samples an edit of each frame. Equals diffusers' pipeline for the same noise.

    Noise is a function of the seed and the frame's id, whatever frames are sampled together.

    Args:
        prior: noise predictor with an image condition.
        guidance: combines its predictions; Brooks et al. use s_T = 7.5, s_I = 1.5.
        scheduler: makes the sampler of the diffusers library from the config of the prior's
            schedule, such as ``DDIMScheduler.from_config``.
        steps: of the sampler, >= 1.
        noise: ``independent`` for each frame, or ``shared`` by all.
        seed: of the noise, >= 0.

    Raises:
        ValueError: an argument is not allowed.
    """

    def __init__(
        self,
        prior: Prior,
        guidance: Guidance,
        scheduler: SchedulerFactory = DDIMScheduler.from_config,
        steps: int = 100,
        noise: NoiseMode = "independent",
        seed: int = 0,
    ) -> None:
        check_choice("noise", noise, get_args(NoiseMode))
        check_seed(seed, 0)
        limit = prior.schedule.num_steps
        if not 1 <= steps <= limit:
            raise ValueError(f"steps must be 1 ... {limit}, the prior's timesteps; got {steps}")
        self.prior = prior
        self.guidance = guidance
        self.steps = steps
        self.noise: NoiseMode = noise
        self.seed = seed
        # The prior gives noise estimates whatever its network predicts.
        self._scheduler = scheduler(prior.scheduler_config | {"prediction_type": "epsilon"})

    @torch.no_grad()
    def __call__(
        self, frames: Tensor, prompt: Text, negative_prompt: Text = "", ids: Tensor | None = None
    ) -> Tensor:
        """Edited frames.

        Args:
            frames: (F, 3, H, W), in [0, 1], on the prior's device.
            prompt: the instruction, or one a frame.
            negative_prompt: takes the place of the null text.
            ids: of the frames, (F,), which decide on their noise; None for 0 ... F - 1.

        Returns:
            (F, 3, H, W), in [0, 1].

        Raises:
            ValueError: the prior takes no image condition.
        """
        image = self.prior.condition(frames)
        if image is None:
            raise ValueError(
                f"prior must take an image condition; {type(self.prior).__name__} does not: use "
                "an Instruct-Pix2Pix prior"
            )
        ids = torch.arange(len(frames)) if ids is None else ids
        coefficients = self.guidance.coefficients(prompt, negative_prompt)
        scheduler = self._scheduler
        scheduler.set_timesteps(self.steps, device=frames.device)
        options = self._step_options(ids)
        x_t = self._start(frames, ids) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            request = Request(scheduler.scale_model_input(x_t, t), coefficients, image)
            (estimate,) = guided_noise(self.prior, t, [request])
            x_t = scheduler.step(estimate, t, x_t, **options).prev_sample
        return self.prior.decode(x_t)

    def _start(self, frames: Tensor, ids: Tensor) -> Tensor:
        """Standard normal noise, (F, C, h, w)."""
        scale = self.prior.latent_scale
        height, width = frames.shape[2] // scale, frames.shape[3] // scale
        shape = (self.prior.latent_channels, height, width)
        return particle_noise(self.seed, 0, ids, shape, self.noise, device=frames.device)

    def _step_options(self, ids: Tensor) -> dict[str, Any]:
        """Random generators, one a frame, for a sampler that draws noise in its steps."""
        if "generator" not in inspect.signature(self._scheduler.step).parameters:
            return {}
        particles = [0] * len(ids) if self.noise == "shared" else ids.tolist()
        return {"generator": [self._generator(particle) for particle in particles]}

    def _generator(self, particle: int) -> torch.Generator:
        sequence = np.random.SeedSequence((self.seed, particle), spawn_key=(_SAMPLING,))
        return torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
