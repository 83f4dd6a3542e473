"""The rendered training set: pictures, captions, and which instruction leads from which to which.

Around each scene a pool of edited scenes is drawn. Every ordered pair of the pool that some
instruction connects is a training pair, edited to edited as well: "make the sky pink" also leads
from the picture with the green sky to the one with the pink sky. Natural-like textures get looks.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from csd_lab.world.captions import caption, texture_caption
from csd_lab.world.edits import FAMILY_WEIGHTS, MANY_LOOKS, edits_for, sample_edit
from csd_lab.world.looks import LOOKS, apply_look
from csd_lab.world.render import render_images
from csd_lab.world.sample import HELD_OUT_SEED, sample_scene
from csd_lab.world.scene import Scene
from csd_lab.world.textures import textures

MOST_ANSWERS = 5
TEXTURE_GROUP = -1


class Recipe(NamedTuple):
    """What a shard holds.

    Attributes:
        scenes: scenes a shard.
        edits: draws of an edit a scene.
        answers: at most so many right answers of a drawn one-to-many edit are rendered.
        textures: textures a shard.
        looks: looks a texture.
        size: height and width of the pictures.
    """

    scenes: int = 250
    edits: int = 4
    answers: int = 3
    textures: int = 60
    looks: int = 4
    size: int = 64


class Cache(NamedTuple):
    """Pictures and what leads where; M pictures, P pairs, T texts.

    Attributes:
        images: (M, 3, H, W), uint8.
        caption: index into ``texts`` of each picture, (M,).
        group: number of the scene of each picture, (M,); ``TEXTURE_GROUP`` for textures.
        source: picture before, (P,).
        instruction: index into ``texts``, (P,).
        family: the instruction's family, (P,); "texture" for looks of textures.
        answers: pictures that are right, padded with -1, (P, ``MOST_ANSWERS``).
        texts: all captions and instructions, (T,).
    """

    images: np.ndarray
    caption: np.ndarray
    group: np.ndarray
    source: np.ndarray
    instruction: np.ndarray
    family: np.ndarray
    answers: np.ndarray
    texts: np.ndarray


class _Pair(NamedTuple):
    source: int
    instruction: str
    family: str
    answers: list[int]


def build_cache(folder: Path, shards: int, recipe: Recipe, workers: int, seed: int = 0) -> None:
    """Render what is missing of the training set and of the held-out set.

    Args:
        folder: gets a file a shard; those that exist stay.
        shards: number of training shards; one more holds unseen scenes for validation.
        recipe: what a shard holds.
        workers: processes.
        seed: of the whole set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    render = partial(_write_shard, folder, recipe, seed)
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        jobs = pool.map(render, range(-1, shards))
        for _ in tqdm(jobs, total=shards + 1, desc="render"):
            pass


def load_cache(folder: Path, held_out: bool = False, most: int | None = None) -> Cache:
    """Read the shards of a folder.

    Args:
        folder: as given to `build_cache`.
        held_out: read the validation shard instead of the training shards.
        most: read at most so many shards.

    Raises:
        FileNotFoundError: there is none.
    """
    paths = sorted(folder.glob("held_out.npz" if held_out else "shard_*.npz"))[:most]
    if not paths:
        raise FileNotFoundError(f"folder: no shards in {folder}; run stage=data first")
    parts = [dict(np.load(path)) for path in paths]
    starts = np.cumsum([0, *(len(part["images"]) for part in parts)])
    groups = np.cumsum([0, *(part["group"].max() + 1 for part in parts)])
    for part, start, group in zip(parts, starts, groups, strict=False):
        part["source"] = part["source"] + start
        part["answers"] = np.where(part["answers"] < 0, -1, part["answers"] + start)
        part["group"] = np.where(part["group"] < 0, part["group"], part["group"] + group)
    whole = {key: np.concatenate([part.pop(key) for part in parts]) for key in list(parts[0])}
    texts, indices = np.unique(
        np.concatenate([whole["caption"], whole["instruction"]]), return_inverse=True
    )
    whole["caption"], whole["instruction"] = np.split(indices, [len(whole["caption"])])
    return Cache(texts=texts, **whole)


def _write_shard(folder: Path, recipe: Recipe, seed: int, index: int) -> None:
    """Render one shard, unless its file exists; index -1 is the held-out one."""
    path = folder / ("held_out.npz" if index < 0 else f"shard_{index:05d}.npz")
    if path.is_file():
        return
    start = HELD_OUT_SEED if index < 0 else 0
    rng = np.random.default_rng([start + seed, index + 1])
    shard = _Shard()
    for group in range(recipe.scenes):
        shard.add_scene(_pool(rng, recipe), group, recipe.size)
    first = start + (index + 1) * recipe.textures + seed * 10**7
    for picture in textures(range(first, first + recipe.textures), recipe.size):
        shard.add_texture(picture, rng.permutation(list(LOOKS))[: recipe.looks])
    fresh = path.with_suffix(".tmp.npz")
    np.savez(fresh, **shard.arrays())
    fresh.replace(path)


def _pool(rng: np.random.Generator, recipe: Recipe) -> list[Scene]:
    """Draw a scene and edited versions of it, all different, the scene first."""
    scene = sample_scene(rng)
    pool = {scene: None}
    for _ in range(recipe.edits):
        edit = sample_edit(rng, scene, FAMILY_WEIGHTS)
        for which in rng.permutation(len(edit.answers))[: recipe.answers]:
            pool[edit.answers[which]] = None
    return list(pool)


class _Shard:
    """Collects pictures and pairs."""

    def __init__(self) -> None:
        self.images: list[torch.Tensor] = []
        self.captions: list[str] = []
        self.groups: list[int] = []
        self.pairs: list[_Pair] = []

    def add_scene(self, pool: Sequence[Scene], group: int, size: int) -> None:
        """Add the pictures of a pool, and every pair that an instruction connects."""
        places = {scene: len(self.images) + i for i, scene in enumerate(pool)}
        self.images += list(render_images(pool, size))
        self.captions += [caption(scene) for scene in pool]
        self.groups += [group] * len(pool)
        for scene, source in places.items():
            for edit in edits_for(scene):
                right = [places[answer] for answer in edit.answers if answer in places]
                if len(right) > int(edit.many):
                    pair = _Pair(source, edit.instruction, edit.family, right[:MOST_ANSWERS])
                    self.pairs.append(pair)

    def add_texture(self, picture: torch.Tensor, looks: Sequence[str]) -> None:
        """Add a texture and looks of it."""
        source = len(self.images)
        self.images += [picture, *(apply_look(str(look), picture) for look in looks)]
        self.captions += [texture_caption(), *(texture_caption(str(look)) for look in looks)]
        self.groups += [TEXTURE_GROUP] * (1 + len(looks))
        for place, look in enumerate(looks, start=source + 1):
            self.pairs.append(_Pair(source, f"make it {look}", "texture", [place]))
        many = [source + 1 + i for i, look in enumerate(looks) if look in MANY_LOOKS]
        if len(many) > 1:
            self.pairs.append(_Pair(source, "change the look", "texture", many[:MOST_ANSWERS]))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays without objects."""
        pixels = (torch.stack(self.images).clamp(0, 1) * 255).round().byte()
        answers = [(p.answers + [-1] * MOST_ANSWERS)[:MOST_ANSWERS] for p in self.pairs]
        return {
            "images": pixels.numpy(),
            "caption": np.array(self.captions),
            "group": np.array(self.groups),
            "source": np.array([p.source for p in self.pairs]),
            "instruction": np.array([p.instruction for p in self.pairs]),
            "family": np.array([p.family for p in self.pairs]),
            "answers": np.array(answers),
        }
