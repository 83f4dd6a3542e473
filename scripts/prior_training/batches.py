"""What the stages learn from: every batch is a function of its index alone.

So a resumed run goes on with the batch that it was killed at, and processes draw from one stream
without talking to each other.
"""

from collections.abc import Mapping
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from prior_training.cache import Cache
from prior_training.stages import Captioned, Latents

FAMILY_WEIGHTS: Mapping[str, float] = {
    "recolour": 0.25,
    "replace": 0.12,
    "remove": 0.10,
    "sky": 0.10,
    "ground": 0.06,
    "season": 0.06,
    "night": 0.03,
    "look": 0.06,
    "texture": 0.12,
    "many": 0.30,
}
"""Share of each family among the training edits; those that learn slowly weigh more."""

INSTRUCTION_WEIGHTS: Mapping[str, float] = {"turn ": 3.0, "change the season": 2.0}
"""Odds of instructions within their family by how they begin; 1 where nothing is said."""


class Dropout(NamedTuple):
    """Shares of a batch of edits whose conditions are dropped (Brooks et al. 2023, section 3.2.1).

    Attributes:
        text: null text.
        image: null image.
        both: null text and image.
        keep: null text and the source itself as the target: no instruction, no change.
    """

    text: float = 0.05
    image: float = 0.05
    both: float = 0.05
    keep: float = 0.05


@final
class PictureBatches:
    """Pictures for the autoencoder.

    Args:
        cache: training pictures.
        held_out: unseen pictures.
        batch: pictures a batch.
        seed: of the stream.
        textures: share of textures.
    """

    def __init__(
        self, cache: Cache, held_out: Cache, batch: int, seed: int = 0, textures: float = 0.2
    ) -> None:
        self.cache, self.held_out, self.batch, self.seed = cache, held_out, batch, seed
        self.textures = textures
        self.places = np.flatnonzero(cache.group >= 0), np.flatnonzero(cache.group < 0)

    def train(self, index: int) -> Tensor:
        """Return pictures, (B, 3, H, W), uint8; textures and half of the rest mirrored."""
        rng = np.random.default_rng([self.seed, index])
        few = int(rng.binomial(self.batch, self.textures)) if len(self.places[1]) else 0
        chosen = np.concatenate(
            [rng.choice(self.places[0], self.batch - few), rng.choice(self.places[1], few)]
        )
        images = torch.from_numpy(self.cache.images[chosen])
        mirrored = torch.from_numpy(rng.random(self.batch) < 0.5)[:, None, None, None]
        return torch.where(mirrored, images.flip(-1), images)

    def validation(self) -> list[Tensor]:
        """Return scenes of the held-out set in batches."""
        scenes = np.flatnonzero(self.held_out.group >= 0)[:256]
        return list(torch.from_numpy(self.held_out.images[scenes]).split(self.batch))


@final
class CaptionBatches:
    """Latents with texts for text-to-image: captions, and instructions of the edits' results.

    Args:
        cache: training set.
        held_out: unseen set.
        latents: of the training pictures, (M, C, h, w).
        held_out_latents: of the unseen ones.
        tokens: of each text by its index in the cache's ``texts``, training and unseen.
        null: tokens of the empty text, (L,).
        batch: samples a batch.
        seed: of the stream.
        instructions: share of samples whose text is the instruction that made the picture.
        drop: share of samples without text.
    """

    def __init__(
        self,
        cache: Cache,
        held_out: Cache,
        latents: tuple[Tensor, Tensor],
        tokens: tuple[Tensor, Tensor],
        null: Tensor,
        batch: int,
        seed: int = 0,
        instructions: float = 0.25,
        drop: float = 0.1,
    ) -> None:
        self.sets = cache, held_out
        self.latents, self.tokens, self.null = latents, tokens, null
        self.batch, self.seed = batch, seed
        self.instructions, self.drop = instructions, drop
        self.scenes = [np.flatnonzero(part.group >= 0) for part in self.sets]
        self.weights = [cumulative_weights(part, FAMILY_WEIGHTS) for part in self.sets]

    def train(self, index: int) -> Latents:
        """Return a batch."""
        return self._draw(0, np.random.default_rng([self.seed, index]), self.drop)

    def validation(self) -> list[Latents]:
        """Return batches of unseen scenes."""
        return [self._draw(1, np.random.default_rng([1, i]), 0.0) for i in range(8)]

    def _draw(self, which: int, rng: np.random.Generator, drop: float) -> Latents:
        """Return a batch of the training set (0) or of the unseen set (1)."""
        part = self.sets[which]
        place = rng.choice(self.scenes[which], self.batch)
        text = part.caption[place]
        pairs = draw_pairs(self.weights[which], self.batch, rng)
        by_instruction = rng.random(self.batch) < self.instructions
        place = np.where(by_instruction, draw_answers(part.answers[pairs], rng), place)
        text = np.where(by_instruction, part.instruction[pairs], text)
        tokens = self.tokens[which][text]
        tokens[torch.from_numpy(rng.random(self.batch) < drop)] = self.null
        return Latents(self.latents[which][place].float(), tokens)


@final
class EditBatches:
    """Latents of edited pictures with those of their sources and the instructions.

    Args:
        cache: training set.
        held_out: unseen set.
        latents: of the training pictures, (M, C, h, w), and of the unseen ones.
        tokens: of each text by its index in the cache's ``texts``, training and unseen.
        null: tokens of the empty text, (L,).
        batch: samples a batch.
        seed: of the stream.
        dropout: shares of dropped conditions.
        families: weight of each family.
    """

    def __init__(
        self,
        cache: Cache,
        held_out: Cache,
        latents: tuple[Tensor, Tensor],
        tokens: tuple[Tensor, Tensor],
        null: Tensor,
        batch: int,
        seed: int = 0,
        dropout: Dropout = Dropout(),  # noqa: B008 (immutable)
        families: Mapping[str, float] = FAMILY_WEIGHTS,
    ) -> None:
        self.sets = cache, held_out
        self.latents, self.tokens, self.null = latents, tokens, null
        self.batch, self.seed, self.dropout = batch, seed, dropout
        self.weights = [cumulative_weights(part, families) for part in self.sets]

    def train(self, index: int) -> Latents:
        """Return a batch with dropped conditions."""
        rng = np.random.default_rng([self.seed, index])
        batch, source = self._draw(0, rng)
        d = self.dropout
        chance = torch.from_numpy(rng.random(self.batch))
        edges = torch.tensor([d.text, d.image, d.both, d.keep]).cumsum(0)
        no_text, no_image, neither, keep = (
            (chance >= low) & (chance < high)
            for low, high in zip([0.0, *edges.tolist()], edges.tolist(), strict=False)
        )
        target, tokens, condition = batch.target, batch.tokens, source.clone()
        tokens[no_text | neither | keep] = self.null
        condition[no_image | neither] = 0
        target[keep] = source[keep]
        return Latents(target, tokens, condition)

    def validation(self) -> list[Latents]:
        """Return batches of unseen scenes, nothing dropped."""
        drawn = (self._draw(1, np.random.default_rng([1, i])) for i in range(8))
        return [batch._replace(condition=source) for batch, source in drawn]

    def _draw(self, which: int, rng: np.random.Generator) -> tuple[Latents, Tensor]:
        """Return targets with instructions, and the latents of the sources."""
        part, latents = self.sets[which], self.latents[which]
        pairs = draw_pairs(self.weights[which], self.batch, rng)
        answers = draw_answers(part.answers[pairs], rng)
        tokens = self.tokens[which][part.instruction[pairs]]
        return (
            Latents(latents[answers].float(), tokens),
            latents[part.source[pairs]].float(),
        )


@final
class TwinBatches:
    """Pictures with captions for the tiny CLIP; two of each scene, so that details count.

    Args:
        cache: training set.
        held_out: unseen set.
        tokens: of each text by its index in the cache's ``texts``, training and unseen.
        batch: pictures a batch, even.
        seed: of the stream.
    """

    def __init__(
        self,
        cache: Cache,
        held_out: Cache,
        tokens: tuple[Tensor, Tensor],
        batch: int,
        seed: int = 0,
    ) -> None:
        self.sets, self.tokens, self.batch, self.seed = (cache, held_out), tokens, batch, seed
        self.scenes = [np.flatnonzero(part.group >= 0) for part in self.sets]
        self.bounds = [
            _group_bounds(p.group[s]) for p, s in zip(self.sets, self.scenes, strict=True)
        ]

    def train(self, index: int) -> Captioned:
        """Return a batch."""
        return self._draw(0, np.random.default_rng([self.seed, index]))

    def validation(self) -> list[Captioned]:
        """Return batches of unseen scenes."""
        return [self._draw(1, np.random.default_rng([1, i])) for i in range(8)]

    def _draw(self, which: int, rng: np.random.Generator) -> Captioned:
        """Return two pictures each of half as many scenes as the batch is large."""
        starts, sizes = self.bounds[which]
        groups = rng.integers(len(starts), size=self.batch // 2)
        one = rng.integers(sizes[groups])
        other = (one + rng.integers(1, np.maximum(sizes[groups], 2))) % sizes[groups]
        inside = np.concatenate([starts[groups] + one, starts[groups] + other])
        place = self.scenes[which][inside]
        part = self.sets[which]
        return Captioned(
            torch.from_numpy(part.images[place]), self.tokens[which][part.caption[place]]
        )


def cumulative_weights(cache: Cache, families: Mapping[str, float]) -> np.ndarray:
    """Return the running sum of the pairs' odds: by family, within it by `INSTRUCTION_WEIGHTS`.

    Args:
        cache: the pairs.
        families: weight of each family; a family that is not named is left out.

    Returns:
        Running sum, (P,), that ends at 1.
    """
    instructions, kind, count = np.unique(
        cache.instruction, return_inverse=True, return_counts=True
    )
    odds = 1.0 / count[kind]
    for beginning, weight in INSTRUCTION_WEIGHTS.items():
        chosen = np.char.startswith(cache.texts[instructions], beginning)
        odds[chosen[kind]] *= weight
    for family in np.unique(cache.family):
        own = cache.family == family
        odds[own] *= families.get(str(family), 0.0) / odds[own].sum()
    return np.cumsum(odds / odds.sum())


def draw_pairs(cumulative: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return indices of pairs, drawn by their odds, (count,)."""
    drawn = np.searchsorted(cumulative, rng.random(count), side="right")
    return np.minimum(drawn, len(cumulative) - 1)


def draw_answers(answers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one right answer of each row, (B,), evenly among those that are there."""
    present = (answers >= 0).sum(axis=1)
    return answers[np.arange(len(answers)), rng.integers(present)]


def _group_bounds(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first place and the size of each run of equal numbers."""
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    return starts, np.diff(np.r_[starts, len(group)])
