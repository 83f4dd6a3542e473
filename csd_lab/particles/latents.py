r"""What modalities share whose parameters are latents of images: from the source to the result.

The source's latents s are where the particles start, and what each step compares them with.

Several prompts y_1 ... y_P are edits of one another's results: the first S steps follow y_1, the
next S follow y_2, and so on. When prompt p begins, with x the latents that prompt p - 1 left,

.. math::
    s \leftarrow x, \qquad c \leftarrow \mathrm{condition}(\mathrm{decode}(x)),

the optimiser and its learning rate are as new, and so is the stream of timesteps and noise: all is
as in a run of its own, but that x goes on as it is, so that no further coding blurs it. A sampler
begins anew instead, from noise. For a prior that reads captions, y_{p-1} then is what s shows.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Unpack, final

import torch
from torch import Tensor, nn

from csd_lab.particles.base import ParticleModule, ParticleOptions
from csd_lab.types import Blend, Conditioning


class LatentOptions(ParticleOptions, total=False):
    """What a modality hands on to :class:`LatentParticles`, which says what it is."""

    source_prompt: str
    negative_prompt: str
    wrap: bool
    steps_per_prompt: int | None


class LatentParticles(ParticleModule, ABC):
    """Images edited from themselves; a modality says which parts of them are the particles.

    Args:
        frames: source images, (F, 3, H, W), in [0, 1]; H and W multiples of the prior's
            ``size_multiple``.
        prompt: target text, or several that are followed one after the other.
        source_prompt: text of the source's own noise estimate; "" is the null text.
        negative_prompt: takes the place of the null text in the guidance.
        wrap: the images are closed along their width.
        steps_per_prompt: S, steps for which a prompt is followed; needed where there are several.
        **distillation: see :class:`ParticleModule`.

    Raises:
        ValueError: if there is no image, the images are not of a legal size, or it is not said how
            long each of several prompts is to be followed.
    """

    frames: Tensor
    original: Tensor
    source_latents: Tensor
    condition: Tensor | None
    stage: Tensor

    def __init__(
        self,
        frames: Tensor,
        prompt: str | Sequence[str],
        source_prompt: str = "",
        negative_prompt: str = "",
        wrap: bool = False,
        steps_per_prompt: int | None = None,
        **distillation: Unpack[ParticleOptions],
    ) -> None:
        super().__init__(**distillation)
        _check_frames(frames, self.prior.size_multiple)
        self.prompts = (prompt,) if isinstance(prompt, str) else tuple(prompt)
        several = len(self.prompts) > 1
        if not self.prompts or (several and not steps_per_prompt):
            raise ValueError(
                "prompt must be a text, or several with steps_per_prompt >= 1, got "
                f"{len(self.prompts)} prompts and steps_per_prompt={steps_per_prompt}."
            )
        self.steps_per_prompt = steps_per_prompt
        self.source_prompt = source_prompt
        self.negative_prompt = negative_prompt
        self.wrap = wrap
        self.register_buffer("frames", frames, persistent=False)
        self.register_buffer("original", None, persistent=False)
        # What a later prompt starts from is part of a checkpoint; the first one's source is not.
        self.register_buffer("source_latents", None, persistent=several)
        self.register_buffer("condition", None, persistent=several)
        self.register_buffer("stage", torch.zeros((), dtype=torch.int64), persistent=several)
        factor = self.prior.latent_scale
        height, width = frames.shape[2] // factor, frames.shape[3] // factor
        self.latents = nn.Parameter(
            torch.empty(len(frames), self.prior.latent_channels, height, width)
        )

    @abstractmethod
    def parts(self, images: Tensor, ids: Tensor) -> Tensor:
        """The particles ``ids``, (N, C, h, w), of latents of all images, (F, C, H, W)."""

    @abstractmethod
    def texts(self, ids: Tensor) -> str | Blend:
        """What the particles ``ids`` follow now; of several prompts, :attr:`prompt`."""

    @abstractmethod
    def whole(self, parts: Tensor, ids: Tensor) -> Tensor:
        """Latents of all images, (F, C, H, W), that have these parts, (N, C, h, w): all of them."""

    @abstractmethod
    def starting_noise(self) -> Tensor:
        """Standard normal noise for all images, (F, C, H, W), on the CPU, as ``noise`` says."""

    @final
    @property
    def prompt(self) -> str:
        """The prompt whose turn it is."""
        return self.prompts[int(self.stage)]

    @final
    @property
    def source_text(self) -> str:
        """The text of the source's own estimate: its caption is the prompt that has led to it."""
        made = self.stage > 0 and self.prior.reads == "caption"
        return self.prompts[int(self.stage) - 1] if made else self.source_prompt

    @final
    def setup(self, stage: str) -> None:
        """Encode the source where the prior will run."""
        del stage
        self.to(self.trainer.strategy.root_device)
        self.encode_source()

    @final
    @torch.no_grad()
    def encode_source(self) -> None:
        """Encode the source once; the particles start from it."""
        # a checkpoint is loaded into these: none may be another's memory, as an exact prior's are
        self.original = self.prior.encode(self.frames, wrap=self.wrap)
        self.source_latents = self.original.clone()
        condition = self.prior.condition(self.frames, wrap=self.wrap)
        self.condition = None if condition is None else condition.clone()
        self._begin()

    def _begin(self) -> None:
        """Put the particles where the method has them begin, for the prompt whose turn it is."""
        texts = Conditioning(self.prompt, self.source_text, self.negative_prompt, self.condition)
        noise = self.starting_noise().to(self.latents)
        self.latents.copy_(self.distiller.start(self.source_latents, noise, texts))

    @final
    @torch.no_grad()
    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        """Begin with the next prompt when it is its turn."""
        del batch, batch_idx
        if len(self.prompts) == 1:
            return
        assert self.steps_per_prompt is not None  # the constructor has seen to it
        due = min(self.global_step // self.steps_per_prompt, len(self.prompts) - 1)
        if due > self.stage:
            self.source_latents = self.latents.detach().clone()
            self.condition = self.prior.condition(self.export(), wrap=self.wrap)
            self.stage = self.stage + 1
            self._begin()
            self.renew_optimizer()
        self.origin = int(self.stage) * self.steps_per_prompt

    @final
    def render(self, ids: Tensor) -> Tensor:
        """Latents of the particles ``ids``, (N, C, h, w)."""
        return self.parts(self.latents, ids)

    @final
    def source(self, ids: Tensor) -> Tensor:
        """Source latents of the particles ``ids``, (N, C, h, w)."""
        return self.parts(self.source_latents, ids)

    @final
    def conditioning(self, ids: Tensor) -> Conditioning:
        """The prompts, and each particle's own source as the image condition."""
        image = None if self.condition is None else self.parts(self.condition, ids)
        return Conditioning(self.texts(ids), self.source_text, self.negative_prompt, image)

    @final
    @torch.no_grad()
    def export(self) -> Tensor:
        """Decoded images, (F, 3, H, W), in [0, 1]; on a sampler's way, of its clean estimate."""
        return self.prior.decode(self._clean(), wrap=self.wrap)

    def _clean(self) -> Tensor:
        """Latents without noise, (F, C, H, W)."""
        if self.distiller.done or self._latest is None:
            return self.latents
        return self.whole(self.latest.residual.x_0.to(self.latents), self.latest.ids)

    @final
    @torch.no_grad()
    def export_source(self) -> Tensor:
        """Source images after encoding and decoding, (F, 3, H, W), in [0, 1]."""
        return self.prior.decode(self.original, wrap=self.wrap)


def _check_frames(frames: Tensor, multiple: int) -> None:
    if frames.ndim != 4 or frames.shape[0] == 0 or frames.shape[1] != 3:
        raise ValueError(
            f"frames must have shape (F, 3, H, W) with F >= 1, got {tuple(frames.shape)}."
        )
    if frames.shape[2] % multiple or frames.shape[3] % multiple:
        raise ValueError(
            f"frames must have sides that are multiples of {multiple}, got "
            f"{frames.shape[2]} x {frames.shape[3]}; fit them first."
        )
