"""Measures the embedded prior on scenes that it has not seen, through plain diffusers pipelines.

Every figure comes beside that of the source picture itself (doing nothing) and beside the bar.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import open_clip
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from csd_lab.world import (
    HELD_OUT_SEED,
    LOOKS,
    Edit,
    Scene,
    apply_look,
    caption,
    edit_for,
    instructions,
    render_images,
    sample_edit,
    sample_scene,
    textures,
)
from prior_training.export import EDITS, TEXT_TO_IMAGE, TINY_CLIP

FAMILIES = ("recolour", "replace", "remove", "sky", "ground", "season", "night", "look")
BARS = {
    "autoencoder": 32.0,
    "sky": 28.0,
    "ground": 26.0,
    "season": 26.0,
    "look": 28.0,
    "recolour": 26.0,
    "nearer": 0.95,
    "right": 0.80,
    "commonest": 0.50,
    "gain": 6.0,
    "caption": 0.80,
}
MOST_DRAWS = 2000
VISIBLE = 0.1
"""A difference of colour, of 1, that counts when answers are told apart."""


class Sampling(NamedTuple):
    """How pictures are drawn.

    Attributes:
        steps: DDIM steps.
        text: text guidance of edits, s_T.
        image: image guidance of edits, s_I.
        prompt: text guidance of text-to-image.
        batch: pictures at a time.
        seed: of the noise.
    """

    steps: int = 20
    text: float = 3.0
    image: float = 1.5
    prompt: float = 5.0
    batch: int = 32
    seed: int = 0


class Row(NamedTuple):
    """A line of the report.

    Attributes:
        name: what was measured.
        values: figures by name.
        bars: bars by the name of the figure; lower is better for "commonest" only.
    """

    name: str
    values: dict[str, float]
    bars: dict[str, float]


@final
class Evaluation:
    """Measures a folder of exported networks.

    Args:
        assets: folder of the exported folders.
        sampling: how pictures are drawn.
        count: samples of each family, and pictures of the other figures.
        device: where the networks run.
    """

    def __init__(
        self, assets: Path, sampling: Sampling, count: int = 32, device: str = "cpu"
    ) -> None:
        self.assets, self.sampling, self.count = assets, sampling, count
        self.edits = StableDiffusionInstructPix2PixPipeline.from_pretrained(
            assets / EDITS, use_safetensors=True
        ).to(device)
        self.prompts = StableDiffusionPipeline.from_pretrained(
            assets / TEXT_TO_IMAGE, use_safetensors=True
        ).to(device)
        for pipeline in (self.edits, self.prompts):
            pipeline.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def autoencoder(self) -> list[Row]:
        """Return the PSNR of decoded pictures, of scenes and of textures."""
        seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + 2 * self.count)
        sets = {
            "scenes": render_images([sample_scene(seed) for seed in seeds]),
            "textures": textures(seeds),
        }
        rows = []
        for name, images in sets.items():
            device = self.edits.device
            latents = self.edits.vae.encode(2 * images.to(device) - 1).latent_dist.mode()
            decoded = (self.edits.vae.decode(latents).sample / 2 + 0.5).clamp(0, 1).cpu()
            bars = {"psnr": BARS["autoencoder"]} if name == "scenes" else {}
            value = psnr(decoded, images).mean().item()
            rows.append(Row(f"autoencoder, {name}", {"psnr": value}, bars))
        return rows

    def one_to_one(self) -> list[Row]:
        """Return, for each family, the PSNR of edits to their exact targets."""
        rows = []
        for number, family in enumerate(FAMILIES):
            rng = np.random.default_rng([HELD_OUT_SEED, number])
            tasks = [draw_task(rng, family) for _ in range(self.count)]
            source = render_images([scene for scene, _ in tasks])
            target = render_images([edit.answers[0] for _, edit in tasks])
            result = self.edit(source, [edit.instruction for _, edit in tasks])
            before, after = psnr(source, target), psnr(result, target)
            values = {
                "source": before.mean().item(),
                "psnr": after.mean().item(),
                "nearer": (after > before).float().mean().item(),
            }
            bars = {"nearer": BARS["nearer"]}
            if family in BARS:
                bars["psnr"] = BARS[family]
            rows.append(Row(family, values, bars))
        return rows

    def one_to_many(self, seeds: int = 12) -> list[Row]:
        """Return, for each one-to-many instruction, how right and how varied the samples are.

        Args:
            seeds: samples of each scene.
        """
        rows = []
        for number, instruction in enumerate(instructions(many=True)):
            rng = np.random.default_rng([HELD_OUT_SEED, 100 + number])
            right, commonest = [], []
            for _ in range(max(1, self.count // 8)):
                scene, edit = draw_scene_for(rng, instruction)
                source = render_images([scene])
                result = self.edit(source.expand(seeds, -1, -1, -1), [instruction] * seeds)
                chosen = nearest_answers(result, render_images(edit.answers), source[0])
                right += [answer is not None for answer in chosen]
                counts = Counter(answer for answer in chosen if answer is not None)
                if counts:
                    commonest.append(max(counts.values()) / counts.total())
            values = {
                "right": float(np.mean(right)),
                "commonest": float(np.mean(commonest)) if commonest else float("nan"),
            }
            bars = {key: BARS[key] for key in values}
            rows.append(Row(instruction, values, bars))
        return rows

    def looks(self, frames: Tensor) -> list[Row]:
        """Return, for each look, how much nearer real pictures come to their exact targets.

        Args:
            frames: pictures, (B, 3, H, W), in [0, 1], sides multiples of the autoencoder's.
        """
        rows = []
        for look in LOOKS:
            target = apply_look(look, frames)
            result = self.edit(frames, [f"make it {look}"] * len(frames))
            before, after = psnr(frames, target), psnr(result, target)
            values = {
                "source": before.mean().item(),
                "psnr": after.mean().item(),
                "gain": (after - before).mean().item(),
            }
            rows.append(Row(f"real frames, {look}", values, {"gain": BARS["gain"]}))
        return rows

    @torch.no_grad()
    def text_to_image(self, choices: int = 32) -> list[Row]:
        """Return how often the tiny CLIP finds a sample's caption among ``choices``."""
        captions = distinct_captions(choices)
        clip, _, preprocess = open_clip.create_model_and_transforms(
            f"local-dir:{self.assets / TINY_CLIP}", precision="fp32"
        )
        clip.eval()
        tokens = open_clip.get_tokenizer(f"local-dir:{self.assets / TINY_CLIP}")(captions)
        texts = clip.encode_text(tokens, normalize=True)
        samples = self.sample(captions)
        real = render_images([scene for _, scene in _captioned(choices)])
        shares = {}
        for name, pictures in (("source", real), ("caption", samples)):
            inputs = torch.stack([preprocess(_to_pil(picture)) for picture in pictures])
            nearest = (clip.encode_image(inputs, normalize=True) @ texts.T).argmax(dim=1)
            shares[name] = (nearest == torch.arange(choices)).float().mean().item()
        return [Row("text to image", shares, {"caption": BARS["caption"]})]

    def edit(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Edit pictures (B, 3, H, W) by an instruction each."""
        s = self.sampling
        parts = []
        for start in range(0, len(images), s.batch):
            part = slice(start, start + s.batch)
            parts.append(
                self.edits(
                    list(texts[part]),
                    image=images[part],
                    num_inference_steps=s.steps,
                    guidance_scale=s.text,
                    image_guidance_scale=s.image,
                    generator=self._generators(start, len(images[part])),
                    output_type="pt",
                ).images.cpu()
            )
        return torch.cat(parts)

    def sample(self, texts: Sequence[str]) -> Tensor:
        """Draw a picture for each caption, (B, 3, 64, 64)."""
        s = self.sampling
        size = self.prompts.vae.config.sample_size
        parts = []
        for start in range(0, len(texts), s.batch):
            part = list(texts[start : start + s.batch])
            parts.append(
                self.prompts(
                    part,
                    height=size,
                    width=size,
                    num_inference_steps=s.steps,
                    guidance_scale=s.prompt,
                    generator=self._generators(start, len(part)),
                    output_type="pt",
                ).images.cpu()
            )
        return torch.cat(parts)

    def _generators(self, start: int, count: int) -> list[torch.Generator]:
        """Return a generator a picture, so that the size of the batch changes nothing."""
        base = self.sampling.seed * 10**6 + start
        return [torch.Generator().manual_seed(base + index) for index in range(count)]


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each picture in decibels, (B,)."""
    error = (images - targets).square().flatten(1).mean(dim=1)
    return -10 * error.clamp_min(1e-10).log10()


def nearest_answers(samples: Tensor, answers: Tensor, source: Tensor) -> list[int | None]:
    """Return which right answer each sample is, or None.

    Only pixels count where the candidates (the answers and the source) differ by more than
    ``VISIBLE``, so that a small object is judged by itself. A sample is an answer if it is nearer
    to it (root mean square) than half the way from that answer to the nearest other candidate.

    Args:
        samples: (B, 3, H, W).
        answers: (A, 3, H, W).
        source: (3, H, W).

    Returns:
        B indices of answers.
    """
    candidates = torch.cat([answers, source[None]])
    spread = candidates.amax(dim=0) - candidates.amin(dim=0)
    visible = (spread.amax(dim=0) > VISIBLE).flatten()
    candidates = candidates.flatten(2)[:, :, visible].flatten(1)
    apart = torch.cdist(candidates, candidates)
    apart.fill_diagonal_(float("inf"))
    seen = samples.flatten(2)[:, :, visible].flatten(1)
    distance, nearest = torch.cdist(seen, candidates).min(dim=1)
    reach = apart.min(dim=1).values[nearest] / 2
    valid = (distance < reach) & (nearest < len(answers))
    return [int(i) if ok else None for i, ok in zip(nearest, valid, strict=True)]


def draw_task(rng: np.random.Generator, family: str) -> tuple[Scene, Edit]:
    """Draw an unseen scene that allows a family of edits, and an edit of it."""
    for _ in range(MOST_DRAWS):
        scene = sample_scene(rng)
        try:
            return scene, sample_edit(rng, scene, {family: 1.0})
        except ValueError:
            continue
    raise ValueError(f"family: no scene in {MOST_DRAWS} allows {family!r}")


def draw_scene_for(rng: np.random.Generator, instruction: str) -> tuple[Scene, Edit]:
    """Draw an unseen scene that allows an instruction, and the edit that it means."""
    for _ in range(MOST_DRAWS):
        scene = sample_scene(rng)
        edit = edit_for(scene, instruction)
        if edit is not None:
            return scene, edit
    raise ValueError(f"instruction: no scene in {MOST_DRAWS} allows {instruction!r}")


def distinct_captions(count: int) -> list[str]:
    """Return different captions of unseen scenes."""
    return [text for text, _ in _captioned(count)]


def _captioned(count: int) -> list[tuple[str, Scene]]:
    """Return unseen scenes with different captions."""
    scenes: dict[str, Scene] = {}
    seed = HELD_OUT_SEED
    while len(scenes) < count:
        scene = sample_scene(seed)
        scenes.setdefault(caption(scene), scene)
        seed += 1
    return list(scenes.items())


def read_frames(folder: Path, size: int, most: int) -> Tensor:
    """Read pictures, their middle square, evenly picked, (B, 3, size, size), in [0, 1].

    Raises:
        ValueError: the folder holds no jpg or png.
    """
    paths: Iterable[Path] = sorted(folder.rglob("*"))
    paths = [path for path in paths if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    if not paths:
        raise ValueError(f"folder: must hold jpg or png pictures, received {folder}")
    chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(most, len(paths))).astype(int)]
    return torch.stack([_read_square(path, size) for path in chosen])


def _read_square(path: Path, size: int) -> Tensor:
    picture = Image.open(path).convert("RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side)).resize((size, size), Image.LANCZOS)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255


def _to_pil(picture: Tensor) -> Image.Image:
    """Return a picture (3, H, W) in [0, 1] as open_clip's preprocessing wants it."""
    return Image.fromarray((picture.permute(1, 2, 0) * 255).round().byte().numpy())
