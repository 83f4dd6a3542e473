"""What the tests of metrics share: a CLIP folder with random weights, and small artefacts."""

import json
from pathlib import Path

import open_clip
import torch
from open_clip.modified_resnet import AttentionPool2d
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from csd_lab.types import Artefact, EditTask, Flow

WORDS = (
    "<pad>",
    "<unk>",
    *("a", "red", "blue", "green", "ball", "box", "under", "the", "sky", "day", "night"),
)
END = ("<start>", "<end>")
MEAN, STD = [0.5, 0.45, 0.4], [0.25, 0.3, 0.35]
RESNET = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "image_size": 64}
VIT = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 48}


def settings(vision: dict) -> dict:
    return {
        "embed_dim": 24,
        "vision_cfg": vision,
        "text_cfg": {
            "context_length": 12,
            "vocab_size": len(WORDS) + len(END),
            "width": 32,
            "heads": 2,
            "layers": 1,
            "hf_tokenizer_name": "embedded",
        },
    }


def save_tokenizer(folder: Path) -> None:
    ids = {word: index for index, word in enumerate((*WORDS, *END))}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<start> $A <end>", special_tokens=[(token, ids[token]) for token in END]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
    )
    fast.save_pretrained(folder)


def save_clip(folder: Path, vision: dict) -> Path:
    """Writes a folder like the embedded one, with random weights that use every block."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = open_clip.CLIP(**settings(vision))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, 0.0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, AttentionPool2d):
            nn.init.zeros_(module.positional_embedding)  # else it hides the image
    if isinstance(model.visual, open_clip.modified_resnet.ModifiedResNet):
        # Centred, else all images have nearly the same feature.
        with torch.no_grad():
            mean = model.eval().encode_image(torch.randn(16, 3, 64, 64)).mean(0)
            model.visual.attnpool.c_proj.bias -= mean
    config = {"model_cfg": settings(vision), "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    save_tokenizer(folder)
    return folder


def frames(count: int, seed: int, size: int = 32) -> Tensor:
    """Smooth random frames in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    return nn.functional.interpolate(coarse, size, mode="bilinear").clamp(0, 1)


def wavy_flow(count: int, seed: int, size: int = 32) -> Flow:
    """A smooth random flow of a few pixels between ``count`` frames; about a third is hidden."""
    middles = (2 * torch.arange(size) + 1) / size - 1
    place = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), dim=-1)
    red, green, blue = frames(count, seed, size)[1:].unbind(1)
    moves = torch.stack([red, green], dim=-1) - 0.5
    return Flow(place + 0.2 * moves, blue > 0.4)


def one_answer(seed: int = 0, count: int = 4, size: int = 32) -> Artefact:
    """A clip with captions, one right answer and a flow."""
    task = EditTask(
        source=frames(count, seed, size),
        instruction="make it night",
        source_caption="a red ball on the box",
        target_caption="a blue ball under the sky",
        targets=frames(count, seed + 1000, size)[None],
    )
    return Artefact(frames(count, seed + 2000, size), task, wavy_flow(count, seed + 3000, size))


def many_answers(seed: int = 0, count: int = 4, size: int = 32, answers: int = 3) -> Artefact:
    """A clip with a flow and several right answers, to different ones of which its frames lean."""
    targets = torch.stack([frames(count, seed + 10 + a, size) for a in range(answers)])
    chosen = torch.randint(answers, (count,), generator=torch.Generator().manual_seed(seed))
    nearest = targets[chosen, torch.arange(count)]
    task = EditTask(
        source=frames(count, seed, size),
        instruction="change the sky",
        source_caption="a red ball",
        target_caption="a red ball under the sky",
        targets=targets,
        target_captions=("a day sky", "a night sky", "a green sky")[:answers],
    )
    edited = 0.8 * nearest + 0.2 * frames(count, seed + 99, size)
    return Artefact(edited, task, wavy_flow(count, seed + 4000, size))
