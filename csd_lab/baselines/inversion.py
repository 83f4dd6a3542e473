r"""DDIM inversion: the noise from which a sampler, told what an image shows, gives it back.

DDIM's step (Song et al. 2021, arXiv 2010.02502, equation 12, eta = 0) from t to the level below, t'
is linear in x and in the noise estimate :math:`\epsilon`. Its inverse for the same estimate is

.. math::
    x_t = a_t \frac{x_{t'} - b_{t'} \epsilon}{a_{t'}} + b_t \epsilon.

The estimate that the sampler will use, :math:`\epsilon(x_t, t)`, is not known yet; inversion takes
:math:`\epsilon(x_{t'}, t)`, with the source's caption y and without guidance, which would amplify
the difference. From the clean latents x_{t_0} upwards this gives x_{t_1} ... x_{t_N}. Sampling back
from x_{t_N} meets them again but for that difference, which vanishes as N grows.
"""

import logging
import math
import mmap
import os
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from diffusers import DDIMScheduler
from rich.console import Console
from rich.progress import track
from torch import Tensor

from csd_lab.baselines.attention import MapHook, Place, attentions, check_not_compiled
from csd_lab.baselines.base import ScheduledSampler
from csd_lab.distill import Need, NoisePredictor, Query
from csd_lab.priors.base import Prior
from csd_lab.priors.latent_diffusion import LatentDiffusion
from csd_lab.types import Blend, Conditioning, Text

log = logging.getLogger(__name__)

LARGE = 4 * 2**30
"""Bytes of maps in memory from which on it is worth a warning."""


@torch.no_grad()
def invert(
    prior: NoisePredictor,
    scheduler: Any,
    clean: Tensor,
    caption: str,
    hooks: Callable[[int], AbstractContextManager[None]] = lambda k: nullcontext(),  # noqa: ARG005
) -> list[Tensor]:
    """Latents of images at all levels of a sampler, from clean to noise.

    Args:
        prior: predicts noise.
        scheduler: DDIM, its timesteps set.
        clean: latents of the images, (F, C, h, w).
        caption: what they show.
        hooks: entered for the network's call of the k-th level, from 0 for the lowest noise.

    Returns:
        N + 1 latents, (F, C, h, w) each; the first is ``clean``.
    """
    latents = [clean]
    for k, t in enumerate(_shown(scheduler.timesteps.flip(0))):
        with hooks(k):
            (noise,) = prior.predict_noise([Query(latents[-1], caption, None)], t)
        latents.append(step_up(scheduler, noise, t, latents[-1]))
    return latents


def step_up(scheduler: Any, noise: Tensor, t: Tensor, below: Tensor) -> Tensor:
    """The latents at t, (N, C, h, w), that DDIM's step along this noise takes to those below t."""
    lower = int(t) - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    table = scheduler.alphas_cumprod
    # the sampler's own last step leads to a level that its options choose
    signal = (scheduler.final_alpha_cumprod if lower < 0 else table[lower]).double()
    a, b, a_t, b_t = (
        float(scale.sqrt()) for scale in (signal, 1 - signal, table[int(t)], 1 - table[int(t)])
    )
    return a_t * (below - b * noise) / a + b_t * noise


def _shown(timesteps: Tensor) -> Iterable[Tensor]:
    """Timesteps, with a bar on a terminal."""
    console = Console(file=sys.stderr)
    return track(
        list(timesteps),
        "inverting",
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


MapShapes = Mapping[Place, tuple[int, int, int, int]]
"""Shape of the maps of each place: (F, heads, Q, M)."""


def map_shapes(
    unet: Any, frames: int, size: tuple[int, int], text: int, limit: int
) -> dict[Place, tuple[int, int, int, int]]:
    """Shapes of the attention maps of a unet in which a frame attends to one frame.

    Args:
        unet: of a prior.
        frames: F.
        size: height and width of the latents.
        text: tokens of a text, with padding.
        limit: only of places with so many query tokens at most.
    """
    shapes = {}
    for place, attention in attentions(unet).items():
        queries = place.queries(size)
        if queries <= limit:
            shapes[place] = (frames, attention.heads, queries, text if place.cross else queries)
    return shapes


def map_bytes(pages: Sequence[MapShapes], dtype: torch.dtype) -> int:
    """Bytes that a cache takes of maps of these shapes, a page for each step."""
    return dtype.itemsize * sum(math.prod(shape) for page in pages for shape in page.values())


@final
class MapCache:
    """Attention maps of several steps, in memory or in files that are mapped into it.

    The files are temporary ones of the system: their room is free again when the cache goes, even
    if the process is killed.

    Args:
        pages: shapes of the maps by place, for each step.
        dtype: of the maps.
        folder: where the files are to lie; None: in memory.

    Raises:
        ValueError: the folder has too little room.
    """

    def __init__(
        self, pages: Sequence[MapShapes], dtype: torch.dtype, folder: Path | None = None
    ) -> None:
        self.pages = pages
        self.dtype = dtype
        needed = map_bytes(pages, dtype)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            if (free := shutil.disk_usage(folder).free) < needed:
                raise ValueError(
                    f"cache must be a folder with room for {needed / 1e9:.1f} GB of attention "
                    f"maps; {str(folder)!r} has {free / 1e9:.1f} GB: take another, or fewer frames"
                )
        elif needed > LARGE:
            log.warning(
                "Attention maps take %.1f GB of memory; a cache folder saves it", needed / 1e9
            )
        self._maps = [self._room(shapes, folder) for shapes in pages]

    def _room(self, shapes: MapShapes, folder: Path | None) -> dict[Place, Tensor]:
        """Room for the maps of a step, one piece of memory or one file."""
        counts = [math.prod(shape) for shape in shapes.values()]
        if folder is None or not counts:
            flat = torch.empty(sum(counts), dtype=self.dtype)
        else:
            with tempfile.TemporaryFile(dir=folder) as file:
                _reserve(file.fileno(), sum(counts) * self.dtype.itemsize, folder)
                flat = torch.frombuffer(mmap.mmap(file.fileno(), 0), dtype=self.dtype)
        parts = zip(shapes.items(), flat.split(counts), strict=True)
        return {place: part.view(shape) for (place, shape), part in parts}

    def put(self, step: int, place: Place, rows: range, maps: Tensor) -> None:
        """Keep the maps of some frames, (B, heads, Q, M)."""
        self._maps[step][place][rows.start : rows.stop] = maps

    def get(self, step: int, place: Place) -> Tensor:
        """The maps of all frames, (F, heads, Q, M), on the CPU; not to be written into."""
        return self._maps[step][place]

    @property
    def nbytes(self) -> int:
        """Bytes that the maps take now."""
        return sum(part.nbytes for page in self._maps for part in page.values())


def _reserve(file: int, size: int, folder: Path) -> None:
    """Give an open file its size, and room on the disk where the system can promise it.

    Others may fill the disk at the same time, and a mapped file that cannot grow then would end
    the process.
    """
    if not hasattr(os, "posix_fallocate"):
        os.truncate(file, size)
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        raise ValueError(
            f"cache must be a folder with room for attention maps; {str(folder)!r} has none for "
            f"{size / 1e9:.1f} GB more ({error.strerror}): take another, or fewer frames"
        ) from error


@final
class KeepMaps(MapHook):
    """Puts the maps of one step into a cache.

    Args:
        cache: where to.
        step: which of its steps.
    """

    def __init__(self, cache: MapCache, step: int) -> None:
        self.cache, self.step = cache, step

    def wants(self, place: Place) -> bool:
        """Those that the cache has room for."""
        return place in self.cache.pages[self.step]

    def edit(self, place: Place, rows: range, maps: Tensor) -> Tensor:
        """Keeps the maps, and changes nothing."""
        self.cache.put(self.step, place, rows, maps)
        return maps


class InvertingSampler(ScheduledSampler, ABC):
    """What methods share that begin with the inverted source, and look at attention.

    A subclass says in ``invert`` what is kept of the inversion, and gives the guided noise in
    ``estimate``. Neither is part of a run's state: inversion is the same every time.

    Args:
        guidance: see :class:`ScheduledSampler`, as all others. Its scale by text alone counts.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"captions", "clip"})
    couples: ClassVar[bool] = True  # what was kept of the inversion is of all frames

    network: LatentDiffusion
    """Whose attention is looked at; there once a prior is bound."""

    @final
    def check(self, prior: Prior) -> None:
        """Raises ValueError unless the prior is a text-to-image network, and the scheduler DDIM."""
        name = type(self).__name__
        if not isinstance(prior, LatentDiffusion) or prior.takes_image:
            raise ValueError(
                f"prior must be a text-to-image network for {name}, which reads captions and looks "
                f"at attention, such as prior=embedded_text or stable_diffusion, got "
                f"{type(prior).__name__}"
            )
        if not isinstance(self.scheduler, DDIMScheduler):
            raise ValueError(
                f"sampler must be ddim for {name}, which inverts it, got "
                f"{type(self.scheduler).__name__}"
            )
        options: Any = self.scheduler.config  # type: ignore[attr-defined]
        if options.clip_sample or options.thresholding:
            raise ValueError(
                f"sampler must not clip its estimates for {name}, which inverts it: leave out "
                "clip_sample and thresholding"
            )
        check_not_compiled(prior.unet)
        attentions(prior.unet)
        self.network = prior

    @final
    def start(self, source: Tensor, noise: Tensor, conditioning: Conditioning) -> Tensor:  # noqa: ARG002
        """The source's latents at the highest level: its own noise instead of a drawn one.

        Raises:
            ValueError: the prompts are no captions that hold for all frames.
        """
        self._begin()
        source_caption, target_caption = captions(conditioning)
        return self.invert(source, source_caption, target_caption)

    @abstractmethod
    def invert(self, source: Tensor, source_caption: str, target_caption: str) -> Tensor:
        """Invert clean latents, (F, C, h, w), and keep what the method needs: x_T, (F, C, h, w)."""

    @final
    def branches(self, conditioning: Conditioning) -> dict[str, float]:
        """Coefficients of the target caption, which comes first, and of the null text."""
        _, target = captions(conditioning)
        found = {target: 0.0}
        terms = self.guidance.coefficients(target, conditioning.negative_prompt)
        for branch, coefficient in terms.items():
            text = one_text("negative_prompt", branch.text)
            found[text] = found.get(text, 0.0) + float(coefficient)
        return {text: c for text, c in found.items() if c or text == target}

    @final
    def ask(
        self, prior: NoisePredictor, x_t: Sequence[Tensor], texts: Sequence[str], t: Tensor
    ) -> list[Tensor]:
        """Noise estimates of B branches, in one call whose row f B + b is frame f in branch b.

        Args:
            prior: predicts noise.
            x_t: noisy frames of each branch, (F, C, h, w).
            texts: of each branch.
            t: timestep, ().

        Returns:
            One (F, C, h, w) a branch.
        """
        rows = torch.stack(list(x_t), dim=1).flatten(0, 1)
        query = Query(rows, tuple(texts) * len(x_t[0]), None)
        (noise,) = prior.predict_noise([query], t)
        return list(noise.unflatten(0, (-1, len(texts))).unbind(dim=1))

    @final
    def combined(self, branches: Mapping[str, float], noise: Sequence[Tensor]) -> Tensor:
        """The guided noise, (F, C, h, w), of the branches' estimates."""
        guided = torch.zeros_like(noise[0])
        for coefficient, part in zip(branches.values(), noise, strict=True):
            guided = guided + coefficient * part
        return guided

    @final
    def reached(self, share: float, taken: int | None = None) -> bool:
        """Whether this share of all steps is behind, after ``taken`` steps (None: those so far)."""
        return (self.taken if taken is None else taken) >= share * self.steps


def captions(conditioning: Conditioning) -> tuple[str, str]:
    """The captions of source and target.

    Raises:
        ValueError: there is not one of each.
    """
    return (
        one_text("source_prompt", conditioning.source_prompt),
        one_text("prompt", conditioning.prompt),
    )


def one_text(name: str, text: Text | Blend) -> str:
    """The text that all frames share.

    Args:
        name: of the argument that it is.
        text: one for all frames, one for each, or several at once.

    Raises:
        ValueError: there are several.
    """
    if isinstance(text, str):
        return text
    texts = set(text.texts if isinstance(text, Blend) else text)
    if len(texts) != 1:
        raise ValueError(f"{name} must be one text for all frames, got {len(texts)} texts")
    return texts.pop()
