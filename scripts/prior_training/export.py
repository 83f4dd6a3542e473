"""Writes and reads the folders that ship: two diffusers pipelines and an open_clip model."""

import copy
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import open_clip
import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from open_clip import CLIP
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

from prior_training.networks import CLIP_MEAN, CLIP_STD, build_scheduler, clip_settings

TEXT_TO_IMAGE, EDITS, TINY_CLIP = "stable_diffusion", "instruct_pix2pix", "clip"


def export_pipeline(
    folder: Path,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
) -> None:
    """Write a pipeline folder in half precision; the networks passed in stay as they are.

    Args:
        folder: replaced as a whole if it exists.
        vae: shared autoencoder.
        text_encoder: shared text tower.
        tokenizer: shared tokenizer.
        unet: with as many input channels as the latent for prompts, twice as many for edits.
    """
    edits = unet.config.in_channels > unet.config.out_channels
    kind = StableDiffusionInstructPix2PixPipeline if edits else StableDiffusionPipeline
    pipeline = kind(
        vae=_half(vae),
        text_encoder=_half(text_encoder),
        tokenizer=tokenizer,
        unet=_half(unet),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with _replacing(folder) as fresh:
        pipeline.save_pretrained(fresh, safe_serialization=True)
        _load_in_single_precision(fresh / "text_encoder" / "config.json")


def load_parts(
    folder: Path,
) -> tuple[AutoencoderKL, CLIPTextModel, CLIPTokenizer, UNet2DConditionModel]:
    """Read a pipeline folder's networks in single precision, ready to learn on."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", use_safetensors=True)
    unet.set_attn_processor(AttnProcessor())
    return (
        AutoencoderKL.from_pretrained(folder / "vae", use_safetensors=True),
        CLIPTextModel.from_pretrained(folder / "text_encoder", use_safetensors=True),
        CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet,
    )


def export_clip(folder: Path, clip: CLIP, tokenizer: CLIPTokenizer) -> None:
    """Write a tiny CLIP that open_clip loads as ``local-dir:<folder>``, in half precision."""
    config = {
        "model_cfg": clip_settings(tokenizer),
        "preprocess_cfg": {
            "mean": CLIP_MEAN,
            "std": CLIP_STD,
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in clip.state_dict().items()
    }
    with _replacing(folder) as fresh:
        tokenizer.save_pretrained(fresh)
        save_file(state, fresh / "open_clip_model.safetensors", metadata={"format": "pt"})
        (fresh / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_clip(folder: Path) -> tuple[CLIP, CLIPTokenizer]:
    """Read a tiny CLIP in single precision, ready to learn on, and its tokenizer."""
    clip = open_clip.create_model(f"local-dir:{folder}", precision="fp32")
    return clip, CLIPTokenizer.from_pretrained(folder)


def _half(network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy in half precision."""
    return copy.deepcopy(network).half().eval()


def _load_in_single_precision(config: Path) -> None:
    """Make transformers load a half-precision tower as diffusers loads the rest by default."""
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "dtype": "float32"}, indent=2) + "\n")


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Give a new folder to fill, which takes the place of ``folder`` once it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fresh.chmod(0o755)
        yield fresh
        for path in fresh.rglob("*.safetensors"):
            path.chmod(0o644)
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        if folder.exists():
            folder.replace(old / "old")
        fresh.replace(folder)
        shutil.rmtree(old)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
