"""The noise schedule of a prior and the config of a diffusers scheduler: each from the other."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDPMScheduler

from csd_lab.distill.schedules import VariancePreserving

SMALLEST_ALPHA = 2**-24
"""Of abar_t: schedules with zero terminal signal would divide by it. As in diffusers' samplers."""


def schedule_of(config: Mapping[str, Any]) -> VariancePreserving:
    """The noise schedule of a diffusers scheduler's config, with some signal left at every t."""
    table = DDPMScheduler.from_config(dict(config)).alphas_cumprod
    return VariancePreserving(table.clamp(min=SMALLEST_ALPHA))


def scheduler_config(schedule: VariancePreserving) -> dict[str, Any]:
    """The schedule in the words of diffusers' schedulers."""
    kept = torch.stack([schedule.alpha(torch.tensor(t)) ** 2 for t in range(schedule.num_steps)])
    betas = 1 - kept / torch.cat([kept.new_ones(1), kept[:-1]])
    return {
        "num_train_timesteps": schedule.num_steps,
        "trained_betas": betas.tolist(),
        "prediction_type": "epsilon",
        "clip_sample": False,
        "set_alpha_to_one": False,
    }


def latent_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A latent model's config, for any of diffusers' schedulers.

    Pipelines come with the config of one scheduler. What that one does not know, others would fill
    in by defaults that are meant for pixels, so it is said here that latents are not clipped; and
    a zero terminal signal, by which not all of them can divide, is that of :func:`schedule_of`.
    """
    unclipped = {**config, "clip_sample": False, "thresholding": False}
    if not config.get("rescale_betas_zero_snr"):
        return unclipped
    betas = scheduler_config(schedule_of(config))["trained_betas"]
    return unclipped | {"trained_betas": betas, "rescale_betas_zero_snr": False}
