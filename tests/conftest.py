"""Fixtures that several areas share: tiny pipelines with random weights, in diffusers' format."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from hypothesis import settings
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast

os.environ.setdefault("OMP_NUM_THREADS", "1")  # rounding depends on it: here, and in programs
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

settings.register_profile("same", derandomize=True)  # what passes here, passes there
settings.register_profile("explore", max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

TEXT_LENGTH = 16


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    """Random numbers of a test do not depend on the tests before it in its process."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_wandb_service_is_left() -> Iterator[None]:
    """Programs that a later test starts would use the service of this process, and end it."""
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


def tiny_tokenizer(folder: Path) -> CLIPTokenizerFast:
    """A CLIP tokenizer of single bytes."""
    folder.mkdir(parents=True)
    letters = sorted(ByteLevel.alphabet())
    symbols = [*letters, *(f"{letter}</w>" for letter in letters)]
    symbols += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": TEXT_LENGTH})
    )
    return CLIPTokenizerFast.from_pretrained(folder)


def tiny_parts(in_channels: int, folder: Path) -> dict:
    """The parts of a pipeline with f = 2, for images whose sides are multiples of 4."""
    tokenizer = tiny_tokenizer(folder)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=(4, 8),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=2,
        cross_attention_dim=8,
        attention_head_dim=2,
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        sample_size=16,
        scaling_factor=0.5,
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return {
        "unet": unet,
        "vae": vae,
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "scheduler": scheduler,
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


@pytest.fixture(scope="session")
def tiny_sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image pipeline's folder: random weights, f = 2, sides multiples of 4."""
    folder = tmp_path_factory.mktemp("tiny_sd")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        StableDiffusionPipeline(**tiny_parts(4, folder / "tokenizer")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_ip2p_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Instruct-Pix2Pix pipeline's folder: random weights, f = 2, sides multiples of 4."""
    folder = tmp_path_factory.mktemp("tiny_ip2p")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        parts = tiny_parts(8, folder / "tokenizer")
        StableDiffusionInstructPix2PixPipeline(**parts).save_pretrained(folder)
    return folder
