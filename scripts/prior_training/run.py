"""The stages in order, each from its latest checkpoint, or from the exported folders, on."""

from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import torch
from diffusers import AutoencoderKL
from open_clip import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from csd_lab.world.captions import vocabulary
from prior_training import export, networks
from prior_training.batches import CaptionBatches, EditBatches, PictureBatches, TwinBatches
from prior_training.cache import Cache, Recipe, build_cache, load_cache
from prior_training.fit import FitOptions, checkpoint_path, fit, load_averaged
from prior_training.stages import Autoencoder, Budget, Contrast, Denoiser, to_signed
from prior_training.tokenizer import build_tokenizer

STAGES = ("data", "autoencoder", "clip", "text_to_image", "instruct", "export")
INITS = ("fresh", "exported")


class Plan(NamedTuple):
    """What a training run is made of.

    Attributes:
        options: how stages run, and the folder of all state.
        assets: folder of the exported folders.
        recipe: what a shard of rendered pictures holds.
        shards: number of shards.
        workers: processes that render.
        seed: of everything.
        text_length: tokens of a text.
        budgets: of each stage that learns.
        batches: samples a batch and process of each stage that learns.
        init: where a stage without a checkpoint starts: "fresh", or "exported" for the networks
            in ``assets``.
    """

    options: FitOptions
    assets: Path
    recipe: Recipe
    shards: int
    workers: int
    seed: int
    text_length: int
    budgets: dict[str, Budget]
    batches: dict[str, int]
    init: str = "fresh"


@final
class Run:
    """Carries out stages.

    Args:
        plan: what to do.
    """

    def __init__(self, plan: Plan) -> None:
        if plan.init not in INITS:
            raise ValueError(f"init: must be one of {', '.join(INITS)}; received {plan.init!r}")
        self.plan = plan
        self.folder = plan.options.folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def stage(self, name: str) -> None:
        """Carry out one stage.

        Raises:
            ValueError: there is no such stage.
        """
        if name not in STAGES:
            raise ValueError(f"stage: must be one of all, {', '.join(STAGES)}; received {name!r}")
        torch.manual_seed(self.plan.seed)
        getattr(self, f"_{name}")()

    def _data(self) -> None:
        """Render the training set."""
        p = self.plan
        build_cache(self.folder / "cache", p.shards, p.recipe, p.workers, p.seed)

    def _autoencoder(self) -> None:
        """Train the autoencoder, then encode the training set with it."""
        module = Autoencoder(self._initial_vae(), self.plan.budgets["autoencoder"])
        batch = self.plan.batches["autoencoder"]
        data = PictureBatches(self._cache(), self._cache(True), batch, self.plan.seed)
        fit(module, data, "autoencoder", self.plan.options)
        self._encode()

    def _clip(self) -> None:
        """Train the tiny CLIP."""
        module = self._contrast()
        tokens = self._tokens(self._cache()), self._tokens(self._cache(True))
        data = TwinBatches(
            self._cache(), self._cache(True), tokens, self.plan.batches["clip"], self.plan.seed
        )
        fit(module, data, "clip", self.plan.options)

    def _text_to_image(self) -> None:
        """Train text tower and denoiser on captions."""
        module = self._denoiser("text_to_image")
        data = CaptionBatches(*self._latent_sets(), batch=self.plan.batches["text_to_image"])
        fit(module, data, "text_to_image", self.plan.options)

    def _instruct(self) -> None:
        """Train the denoiser on edits, with the text tower as it is."""
        module = self._denoiser("instruct")
        data = EditBatches(*self._latent_sets(), batch=self.plan.batches["instruct"])
        fit(module, data, "instruct", self.plan.options)

    def _export(self) -> None:
        """Write the folders that ship, of every stage that has begun."""
        assets = self.plan.assets
        if self._has("clip"):
            module = self._contrast()
            load_averaged(module, self.folder, "clip")
            export.export_clip(assets / export.TINY_CLIP, module.clip, self.tokenizer())
        if not self._has("text_to_image"):
            return
        vae = self.finished_vae(fold=True)
        for stage, name in (("text_to_image", export.TEXT_TO_IMAGE), ("instruct", export.EDITS)):
            module = self._denoiser(stage)
            load_averaged(module, self.folder, stage)
            parts = vae, module.text_encoder, self.tokenizer(), module.unet
            export.export_pipeline(assets / name, *parts)

    def tokenizer(self) -> CLIPTokenizer:
        """Return the tokenizer: the run's own, kept from the first time on."""
        folder = self.folder / "tokenizer"
        if not folder.is_dir():
            exported = self.plan.assets / export.EDITS / "tokenizer"
            if self.plan.init == "exported":
                tokenizer = CLIPTokenizer.from_pretrained(exported)
            else:
                tokenizer = build_tokenizer(vocabulary(), self.plan.text_length)
            tokenizer.save_pretrained(folder)
        return CLIPTokenizer.from_pretrained(folder)

    def finished_vae(self, fold: bool) -> AutoencoderKL:
        """Return the trained autoencoder.

        Args:
            fold: make its latents zero mean and unit deviation a channel.
        """
        module = Autoencoder(self._initial_vae(), self.plan.budgets["autoencoder"])
        if not load_averaged(module, self.folder, "autoencoder") and self.plan.init == "fresh":
            raise FileNotFoundError(f"no autoencoder in {self.folder}; run stage=autoencoder first")
        if fold:
            statistics = self._latents()
            networks.fold_statistics(module.vae, statistics["mean"], statistics["std"])
        return module.vae.eval()

    def _initial_vae(self) -> AutoencoderKL:
        if self.plan.init == "exported":
            return export.load_parts(self.plan.assets / export.EDITS)[0]
        return networks.build_autoencoder()

    def _contrast(self) -> Contrast:
        clip: CLIP = (
            export.load_clip(self.plan.assets / export.TINY_CLIP)[0]
            if self.plan.init == "exported"
            else networks.build_clip(self.tokenizer())
        )
        return Contrast(clip, networks.CLIP_MEAN, networks.CLIP_STD, self.plan.budgets["clip"])

    def _denoiser(self, stage: str) -> Denoiser:
        """Return a denoiser as its stage starts: fresh, from text-to-image, or as exported."""
        edits = stage == "instruct"
        alphas = networks.build_scheduler().alphas_cumprod
        budget = self.plan.budgets[stage]
        if self.plan.init == "exported":
            name = export.EDITS if edits else export.TEXT_TO_IMAGE
            _, text, _, unet = export.load_parts(self.plan.assets / name)
            return Denoiser(unet, text, alphas, budget, learn_text=not edits)
        text: CLIPTextModel = networks.build_text_encoder(self.tokenizer())
        unet = networks.build_unet(edits=False)
        module = Denoiser(unet, text, alphas, budget, learn_text=not edits)
        if edits:
            if not load_averaged(module, self.folder, "text_to_image"):
                raise FileNotFoundError(
                    f"no text-to-image model in {self.folder}; run stage=text_to_image first"
                )
            module.unet = networks.widen_for_edits(unet)
        return module

    def _has(self, stage: str) -> bool:
        return self.plan.init == "exported" or checkpoint_path(self.folder, stage).is_file()

    def _cache(self, held_out: bool = False) -> Cache:
        return load_cache(self.folder / "cache", held_out)

    def _tokens(self, cache: Cache) -> Tensor:
        """Return the tokens of all texts of a set, (T, L)."""
        return encode_texts(self.tokenizer(), cache.texts.tolist())

    def _latent_sets(
        self,
    ) -> tuple[Cache, Cache, tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor]:
        """Return what the denoisers learn from, as their batches want it."""
        latents = self._latents()
        caches = self._cache(), self._cache(True)
        tokens = self._tokens(caches[0]), self._tokens(caches[1])
        null = encode_texts(self.tokenizer(), [""])[0]
        return *caches, (latents["train"], latents["held_out"]), tokens, null

    def _latents(self) -> dict[str, Tensor]:
        """Return the latents of both sets and the statistics that normalise them."""
        path = self.folder / "latents.safetensors"
        if not path.is_file():
            self._encode()
        return load_file(path)

    @torch.no_grad()
    def _encode(self) -> None:
        """Write the latents of all pictures, normalised a channel, and their statistics."""
        vae = self.finished_vae(fold=False)
        threads = torch.get_num_threads()
        torch.set_num_threads(self.plan.workers)
        sets = {"train": self._cache(), "held_out": self._cache(True)}
        latents = {name: encode_images(vae, cache.images) for name, cache in sets.items()}
        torch.set_num_threads(threads)
        std, mean = torch.std_mean(latents["train"], dim=(0, 2, 3))
        state = {
            name: ((value - mean[:, None, None]) / std[:, None, None]).half()
            for name, value in latents.items()
        }
        fresh = self.folder / "latents.tmp.safetensors"
        save_file({**state, "mean": mean, "std": std}, fresh)
        fresh.replace(self.folder / "latents.safetensors")


@torch.no_grad()
def encode_images(vae: AutoencoderKL, images: np.ndarray, batch: int = 64) -> Tensor:
    """Return the posterior's modes of uint8 pictures (M, 3, H, W), (M, C, h, w)."""
    parts = []
    for start in tqdm(range(0, len(images), batch), desc="encode"):
        pixels = to_signed(torch.from_numpy(images[start : start + batch]))
        with torch.autocast("cpu", torch.bfloat16):
            parts.append(vae.encode(pixels).latent_dist.mode().float())
    return torch.cat(parts)


def encode_texts(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return the tokens of texts, (T, L)."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
