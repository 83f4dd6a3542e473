"""Instruct-Pix2Pix: a prior conditioned on an instruction and an image."""

from pathlib import Path
from typing import Literal, final, get_args

import torch
from torch import Tensor

from csd_lab.checks import check_choice
from csd_lab.priors.base import Batch
from csd_lab.priors.latent_diffusion import Attention, LatentDiffusion, Precision
from csd_lab.priors.pipeline_folder import EMBEDDED

ConditionScale = Literal["unscaled", "official"]


@final
class InstructPix2Pix(LatentDiffusion):
    """An image-editing latent diffusion model (Brooks et al. 2023, arXiv 2211.09800).

    Texts are instructions. The unet takes the noisy latent and, beside it, the latent of the image
    to edit: the mode of the autoencoder's posterior. The null image condition is zero.

    Args:
        condition_scale: ``unscaled``, as the model was trained, or ``official``, times the
            autoencoder's scaling factor, as CSD's official code has it. Values of guidance do not
            carry over from one to the other.
        path: as in :class:`LatentDiffusion`, as are all that follow.
        dtype: type of the unet.
        device: where the networks are.
        max_batch: samples that are evaluated together at most.
        tile: side of the tiles in which large images are coded.
        attention: ``sdpa`` or ``plain``.
        channels_last: memory format of the unet.
        compile: compile the unet.
        local_files_only: never fetch a model.

    Raises:
        ValueError: an argument is not allowed, or ``path`` holds no such pipeline.
    """

    reads = "instruction"
    takes_image = True
    embedded = "instruct_pix2pix"
    input_latents = 2

    def __init__(
        self,
        path: str | Path = EMBEDDED,
        *,
        condition_scale: ConditionScale = "unscaled",
        dtype: Precision = "auto",
        device: str = "auto",
        max_batch: int = 64,
        tile: int = 1024,
        attention: Attention = "sdpa",
        channels_last: bool = False,
        compile: bool = False,
        local_files_only: bool = False,
    ) -> None:
        check_choice("condition_scale", condition_scale, get_args(ConditionScale))
        super().__init__(
            path,
            dtype=dtype,
            device=device,
            max_batch=max_batch,
            tile=tile,
            attention=attention,
            channels_last=channels_last,
            compile=compile,
            local_files_only=local_files_only,
        )
        self.condition_scale: ConditionScale = condition_scale

    @torch.no_grad()
    def condition(self, images: Tensor, wrap: bool = False) -> Tensor:
        """Latents of the images to edit, (B, C, h, w), float32, without gradient.

        Args:
            images: (B, 3, H, W), in [0, 1], sides multiples of ``latent_scale``.
            wrap: they are closed along their width.
        """
        mode = self._posterior(images, wrap=wrap)  # of a Gaussian: its mean
        return mode * self.vae.config.scaling_factor if self.condition_scale == "official" else mode

    def _input(self, batch: Batch) -> Tensor:
        image = torch.zeros_like(batch.x_t) if batch.image is None else batch.image
        return torch.cat([batch.x_t, image], dim=1)
