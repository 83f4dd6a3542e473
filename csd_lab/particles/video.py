"""A video: the frames' latents are the parameters, and the frames are the particles."""

from typing import Any, final

import torch
from torch import Tensor, nn

from csd_lab.particles.base import ParticleModule
from csd_lab.types import Conditioning


@final
class VideoParticles(ParticleModule):
    """Edits the frames of a clip as one set of particles (Kim et al. 2023, section 4.2).

    Args:
        frames: source frames, (F, 3, H, W), in [0, 1]; H and W multiples of the prior's
            ``size_multiple``.
        prompt: target text.
        source_prompt: text of the source's own noise estimate; "" is the null text.
        negative_prompt: takes the place of the null text in the guidance.
        **distillation: see :class:`ParticleModule`.

    Raises:
        ValueError: if there is no frame, or the frames are not of a legal size.
    """

    frames: Tensor
    source_latents: Tensor
    condition: Tensor | None

    def __init__(
        self,
        frames: Tensor,
        prompt: str,
        source_prompt: str = "",
        negative_prompt: str = "",
        **distillation: Any,
    ) -> None:
        super().__init__(**distillation)
        multiple = self.prior.size_multiple
        if frames.ndim != 4 or frames.shape[0] == 0 or frames.shape[1] != 3:
            raise ValueError(
                f"frames must have shape (F, 3, H, W) with F >= 1, got {tuple(frames.shape)}."
            )
        if frames.shape[2] % multiple or frames.shape[3] % multiple:
            raise ValueError(
                f"frames must have sides that are multiples of {multiple}, got "
                f"{frames.shape[2]} x {frames.shape[3]}; fit them first."
            )
        self.prompt = prompt
        self.source_prompt = source_prompt
        self.negative_prompt = negative_prompt
        self.register_buffer("frames", frames, persistent=False)
        self.register_buffer("source_latents", None, persistent=False)
        self.register_buffer("condition", None, persistent=False)
        factor = self.prior.latent_scale
        height, width = frames.shape[2] // factor, frames.shape[3] // factor
        self.latents = nn.Parameter(
            torch.empty(len(frames), self.prior.latent_channels, height, width)
        )

    def setup(self, stage: str) -> None:
        """Encode the source where the prior will run."""
        del stage
        self.to(self.trainer.strategy.root_device)
        self.encode_source()

    @torch.no_grad()
    def encode_source(self) -> None:
        """Encode the source once; the frames start from it."""
        self.source_latents = self.prior.encode(self.frames)
        self.condition = self.prior.condition(self.frames)
        self.latents.copy_(self.source_latents)

    def render(self, ids: Tensor) -> Tensor:
        """Latents of the frames ``ids``, (N, C, h, w)."""
        return self.latents[ids]

    def source(self, ids: Tensor) -> Tensor:
        """Source latents of the frames ``ids``, (N, C, h, w)."""
        return self.source_latents[ids]

    def conditioning(self, ids: Tensor) -> Conditioning:
        """The prompts, and each frame's own source as the image condition."""
        image = None if self.condition is None else self.condition[ids]
        return Conditioning(self.prompt, self.source_prompt, self.negative_prompt, image)

    @torch.no_grad()
    def export(self) -> Tensor:
        """Decoded frames, (F, 3, H, W), in [0, 1]."""
        return self.prior.decode(self.latents)

    @torch.no_grad()
    def export_source(self) -> Tensor:
        """Source frames after encoding and decoding, (F, 3, H, W), in [0, 1]."""
        return self.prior.decode(self.source_latents)
