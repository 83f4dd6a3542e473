"""The networks, small enough that all folders together stay below 25 MB in half precision."""

from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from open_clip import CLIP
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

IMAGE_SIZE = 64
LATENT_CHANNELS = 4
LATENT_SIZE = 16
TEXT_WIDTH = 96
CLIP_MEAN, CLIP_STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def build_autoencoder() -> AutoencoderKL:
    """Return the autoencoder: 3 x 64 x 64 to 4 x 16 x 16."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return the text tower of the prior."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=2 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet(edits: bool) -> UNet2DConditionModel:
    """Return the denoiser, with twice the input channels for edits.

    Attention is the plain formula: the fused one's backward pass is slow on CPU.
    """
    unet = UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS * (2 if edits else 1),
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=16,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
    )
    unet.set_attn_processor(AttnProcessor())
    return unet


def build_scheduler() -> DDIMScheduler:
    """Return the noise schedule, the one of Stable Diffusion."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def clip_settings(tokenizer: CLIPTokenizer) -> dict[str, Any]:
    """Return the tiny CLIP's settings in open_clip's format, a residual network at 64 pixels."""
    return {
        "embed_dim": 128,
        "vision_cfg": {
            "image_size": IMAGE_SIZE,
            "layers": [1, 1, 1, 1],
            "width": 16,
            "head_width": 64,
            "patch_size": None,
        },
        "text_cfg": {
            "context_length": tokenizer.model_max_length,
            "vocab_size": len(tokenizer),
            "hf_tokenizer_name": "tokenizer",
            "width": 96,
            "heads": 4,
            "layers": 2,
            "pool_type": "argmax",
        },
    }


def build_clip(tokenizer: CLIPTokenizer) -> CLIP:
    """Return the tiny CLIP with fresh weights."""
    return CLIP(**clip_settings(tokenizer))


def widen_for_edits(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Return an edit denoiser that starts out as a text-to-image denoiser.

    The new input channels, those of the source, start at zero (Brooks et al. 2023, section 3.2).
    """
    wide = build_unet(edits=True)
    state = unet.state_dict()
    narrow = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat([narrow, torch.zeros_like(narrow)], dim=1)
    wide.load_state_dict(state)
    return wide


@torch.no_grad()
def fold_statistics(vae: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Change an autoencoder so that its latents have zero mean and unit deviation a channel.

    The change of units goes into the 1 x 1 convolutions beside the latents, so pictures decode as
    before; Instruct-Pix2Pix, which does not scale its conditions, then sees unit latents.

    Args:
        vae: the autoencoder, changed in place.
        mean: of the posterior's mode in its present units, (C,).
        std: likewise, (C,).
    """
    channels = len(mean)
    quant: nn.Conv2d = vae.quant_conv
    quant.weight[:channels] /= std[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    quant.bias[channels:] -= 2 * std.log()  # the posterior's log variance
    post: nn.Conv2d = vae.post_quant_conv
    post.bias += (post.weight[:, :, 0, 0] * mean).sum(dim=1)
    post.weight *= std[None, :, None, None]
