"""Stable Diffusion: a prior conditioned on text."""

from typing import final

from torch import Tensor

from csd_lab.priors.base import Batch
from csd_lab.priors.latent_diffusion import LatentDiffusion


@final
class StableDiffusion(LatentDiffusion):
    """A text-to-image latent diffusion model (Rombach et al. 2022, arXiv 2112.10752).

    Texts are captions. Takes the arguments of :class:`LatentDiffusion`.
    """

    embedded = "stable_diffusion"
    input_latents = 1

    def condition(self, images: Tensor, wrap: bool = False) -> None:
        """None: this prior takes no image condition."""

    def _input(self, batch: Batch) -> Tensor:
        if batch.image is not None:
            raise ValueError(
                "image must be None for a text-to-image prior, got an image condition: use a "
                "guidance by text alone, or an Instruct-Pix2Pix prior"
            )
        return batch.x_t
