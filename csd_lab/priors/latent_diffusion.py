"""What the latent diffusion priors share: Stable Diffusion's networks, loaded and called.

Rombach et al. 2022, arXiv 2112.10752. A convolutional autoencoder gives latents, in which a unet
that attends to a text encoder's features predicts the noise, or the velocity
v = a_t e - b_t x (Salimans & Ho 2022, arXiv 2202.00512), of which the noise is

    eps = a_t v + b_t x_t

The unet computes in the type that is asked for. Autoencoder and text encoder always compute in
float32, in which recent CUDA devices round what they convolve (TF32): they run outside the loop,
and half precision shows in smooth areas of an image.

The autoencoder codes an image in one piece as long as that is no larger than one tile, else in
tiles (:mod:`csd_lab.canvas.tiles`) that share the statistics of the whole
(:mod:`csd_lab.priors.shared_statistics`). Rings always go that way, with a tile over their join.
An autoencoder that attends, as Stable Diffusion's does at its lowest resolution, then does so
within a tile, and its tiles are blended; for one of convolutions alone they agree.
"""

import logging
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import is_accelerate_available
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizerFast  # type: ignore[attr-defined]
from transformers.utils import logging as transformers_logging

from csd_lab.canvas.tiles import Code, Tiling
from csd_lab.checks import check_choice, check_switch
from csd_lab.distill.kernels import full_precision
from csd_lab.priors.base import Batch, Prior
from csd_lab.priors.pipeline_folder import EMBEDDED, PipelineFolder, open_pipeline
from csd_lab.priors.schedules import latent_config, schedule_of
from csd_lab.priors.shared_statistics import code_in_tiles

log = logging.getLogger(__name__)

Attention = Literal["sdpa", "plain"]
Precision = Literal["auto", "float32", "float16", "bfloat16"]

PIXELS_AT_ONCE = 2**19
"""What the autoencoder takes at once at most, if it is more than one image: 2 of 512 x 512."""

SMALLEST_TILE = 64
"""In latents: half of it is what neighbours overlap by."""


class LatentDiffusion(Prior):
    """A latent diffusion model in diffusers' pipeline format, frozen.

    Args:
        path: a pipeline's folder, the name of a model on the hub (owner/name), or ``embedded`` for
            the one that this package ships.
        dtype: of the unet: ``float32``, ``float16``, ``bfloat16``, or ``auto``: float16 on CUDA,
            bfloat16 on a CPU that multiplies it in hardware, else float32.
        device: a torch device, or ``auto``: CUDA, else MPS, else the CPU.
        max_batch: samples that the unet evaluates together at most, and images the autoencoder.
        tile: side in pixels of the tiles in which the autoencoder codes images larger than one; at
            least 64 latents.
        attention: ``sdpa``, PyTorch's scaled-dot-product attention, or ``plain`` matrix products.
        channels_last: keep the unet in the channels-last memory format.
        compile: compile the unet with ``torch.compile``, at the first call.
        local_files_only: take a model of the hub from the local cache and never fetch it.

    Raises:
        ValueError: an argument is not allowed, or ``path`` holds no pipeline of this kind.
    """

    embedded: ClassVar[str]
    """Name of the shipped folder."""
    input_latents: ClassVar[int]
    """How many latents the unet takes beside each other."""

    def __init__(
        self,
        path: str | Path = EMBEDDED,
        *,
        dtype: Precision = "auto",
        device: str = "auto",
        max_batch: int = 64,
        tile: int = 1024,
        attention: Attention = "sdpa",
        channels_last: bool = False,
        compile: bool = False,
        local_files_only: bool = False,
    ) -> None:
        check_choice("dtype", dtype, get_args(Precision))
        check_choice("attention", attention, get_args(Attention))
        check_switch("channels_last", channels_last)
        check_switch("compile", compile)
        check_switch("local_files_only", local_files_only)
        place = choose_device(device)
        folder = open_pipeline(path, self.embedded, self.input_latents, local_files_only)
        scale = 2 ** (len(folder.vae["block_out_channels"]) - 1)
        super().__init__(
            schedule=schedule_of(folder.scheduler),
            scheduler_config=latent_config(folder.scheduler),
            latent_channels=folder.vae["latent_channels"],
            latent_scale=scale,
            size_multiple=scale * 2 ** (len(folder.unet["block_out_channels"]) - 1),
            max_batch=max_batch,
            native_size=_native_size(folder.unet),
        )
        if tile < SMALLEST_TILE * scale:
            raise ValueError(
                f"tile must be at least {SMALLEST_TILE * scale} pixels with this autoencoder, got "
                f"{tile}"
            )
        self.tile = tile // scale
        self.velocity = folder.scheduler.get("prediction_type") == "v_prediction"
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.tokenizer = CLIPTokenizerFast.from_pretrained(folder.root / "tokenizer")
        self.text_encoder = _load(CLIPTextModel, folder, "text_encoder", torch.float32)
        self.vae = _load(AutoencoderKL, folder, "vae", torch.float32)
        self.unet = _load(UNet2DConditionModel, folder, "unet", choose_dtype(dtype, place))
        self.unet.set_attn_processor(
            AttnProcessor() if attention == "plain" else AttnProcessor2_0()
        )
        self.to(place)
        self.unet.to(memory_format=self.memory_format)
        self.freeze()
        if compile:
            self.unet.compile()

    @abstractmethod
    def _input(self, batch: Batch) -> Tensor:
        """What the unet takes, (B, input_latents * C, h, w)."""

    def encode(self, images: Tensor, noise: Tensor | None = None, wrap: bool = False) -> Tensor:
        """Latents of images, in units of the noise; differentiable in the images.

        Args:
            images: (B, 3, H, W), in [0, 1], sides multiples of ``latent_scale``.
            noise: standard normal, (B, C, h, w): latents are then samples of the autoencoder's
                posterior, mean + deviation * noise; None for its mean.
            wrap: the images are closed along their width.

        Returns:
            (B, C, h, w), float32: what the autoencoder gives, times its scaling factor.

        Raises:
            ValueError: images are of another shape.
        """
        return self._posterior(images, noise, wrap) * self.vae.config.scaling_factor

    def decode(self, latents: Tensor, wrap: bool = False) -> Tensor:
        """Images of latents, differentiable in these.

        Args:
            latents: (B, C, h, w).
            wrap: they are closed along their width.

        Returns:
            (B, 3, H, W), in [0, 1], float32.
        """
        scaled = latents.float() / self.vae.config.scaling_factor
        return self._code(self.vae.decoder, self._decode, scaled, 1, 3, wrap)

    def _posterior(self, images: Tensor, noise: Tensor | None = None, wrap: bool = False) -> Tensor:
        """Mean or sample of the autoencoder's posterior, (B, C, h, w), not scaled."""
        scale = self.latent_scale
        if images.ndim != 4 or images.shape[1] != 3 or any(n % scale for n in images.shape[2:]):
            raise ValueError(
                f"images must be (B, 3, H, W), with sides that are multiples of {scale} (better of "
                f"{self.size_multiple}), got {tuple(images.shape)}"
            )
        channels = 2 * self.latent_channels
        moments = self._code(self.vae.encoder, self._encode, images.float(), scale, channels, wrap)
        mean, deviation = moments.chunk(2, dim=1)
        return mean if noise is None else mean + deviation * noise.float()

    def _encode(self, images: Tensor) -> Tensor:
        """Mean and deviation of the posterior, (B, 2 C, h, w)."""
        posterior = self.vae.encode(2 * images - 1).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1)

    def _decode(self, latents: Tensor) -> Tensor:
        images = self.vae.decode(latents, return_dict=False)[0]
        return (images / 2 + 0.5).clamp(0, 1)

    def _code(
        self, half: nn.Module, code: Code, x: Tensor, size: int, channels: int, wrap: bool
    ) -> Tensor:
        """Code images: several at once where they are small, large ones and rings in tiles.

        Args:
            half: the half of the autoencoder that ``code`` runs.
            code: maps x to (B, channels, H, W), also parts of it.
            x: images or latents, (B, C, size h, size w).
            size: elements of x a latent, along each axis.
            channels: of the result.
            wrap: x is closed along its width.
        """
        height, width = x.shape[2] // size, x.shape[3] // size
        tiling = Tiling(height, width, self.tile, wrap=wrap)
        scale = self.latent_scale // size
        with full_precision(x):
            if wrap or len(tiling) > 1:
                coded = [
                    code_in_tiles(half, code, one, tiling, channels, scale) for one in x.split(1)
                ]
            else:
                coded = [code(some) for some in x.split(self.images_at_once(height, width))]
        return coded[0] if len(coded) == 1 else torch.cat(coded)

    def images_at_once(self, height: int, width: int) -> int:
        """How many images of this size, in latents, the autoencoder takes at once."""
        pixels = height * width * self.latent_scale**2
        return max(1, min(self.max_batch, PIXELS_AT_ONCE // pixels))

    def _embed(self, text: str) -> Tensor:
        """The text encoder's last hidden states, (L, E), of L tokens with padding."""
        positions = self.text_encoder.config.max_position_embeddings
        length = min(self.tokenizer.model_max_length, positions)
        if len(self.tokenizer.tokenize(text)) + 2 > length:
            log.warning(
                "The text %r... is longer than %d tokens; its end is not read", text[:80], length
            )
        tokens = self.tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids.to(self.text_encoder.device)
        with full_precision(tokens):
            return self.text_encoder(tokens).last_hidden_state[0]

    def _noise(self, batch: Batch, t: Tensor) -> Tensor:
        dtype = self.unet.dtype
        estimate = self.unet(
            self._input(batch).to(dtype, memory_format=self.memory_format),
            t.to(batch.x_t.device),
            encoder_hidden_states=batch.text.to(dtype),
            return_dict=False,
        )[0]
        return self._of_velocity(estimate.float(), batch.x_t, t) if self.velocity else estimate

    def _of_velocity(self, velocity: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The noise estimate that a velocity is: a_t v + b_t x_t."""
        return self.schedule.alpha(t) * velocity + self.schedule.sigma(t) * x_t


def choose_device(device: str) -> torch.device:
    """The device of this name; CUDA, else MPS, else the CPU for ``auto``.

    Raises:
        ValueError: there is no such device.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # torch raises the latter without CUDA
        raise ValueError(
            f"device must be 'auto' or a torch device that is there, got {device!r}"
        ) from error


def choose_dtype(dtype: Precision, device: torch.device) -> torch.dtype:
    """The type of this name; for ``auto`` the fastest that is exact enough on the device."""
    if dtype != "auto":
        return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[
            dtype
        ]
    if device.type == "cuda":
        return torch.float16
    query: Any = getattr(torch.cpu, "get_capabilities", dict)  # older versions do not tell
    has_bfloat16 = any(query().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if device.type == "cpu" and has_bfloat16 else torch.float32


def _native_size(unet: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of the latents that a unet was trained on, as its config says."""
    size = unet.get("sample_size")
    if size is None:
        return None
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _load(kind: Any, folder: PipelineFolder, part: str, dtype: torch.dtype) -> Any:
    """A network of the pipeline with its weights.

    Raises:
        ValueError: the weights do not fit the configuration.
    """
    options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    options["variant"] = folder.variant(part)
    if issubclass(kind, ModelMixin):  # else diffusers logs advice where accelerate is missing
        options["low_cpu_mem_usage"] = is_accelerate_available()
    try:
        with _no_progress_bar():
            network, report = kind.from_pretrained(
                folder.root / part, output_loading_info=True, **options
            )
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"path={str(folder.root)!r}: {part} cannot be loaded: {reason}") from error
    if report["missing_keys"]:
        raise ValueError(
            f"path={str(folder.root)!r}: the weights of {part} lack {min(report['missing_keys'])}; "
            "pass a folder whose config.json and weights belong together"
        )
    return nn.Module.to(network, dtype)  # the option's name depends on the library's version


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar for a network that loads in a moment."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
