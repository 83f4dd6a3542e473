r"""FateZero: a clip's edit that takes over the attention of its inversion, frame by frame.

Qi et al. 2023, arXiv 2303.09535. All frames are inverted with the source's caption y, and the
attention :math:`A_k` of inversion's step k is kept. The edit begins with the inverted noise and
follows DDIM with the target's caption y', its conditional branch alone changed by what was kept at
the same level of noise (what no step will ask for is not kept):

- cross attention is made from the source's in the first share of the steps
  (:mod:`csd_lab.baselines.alignment`);
- self attention in another share of the steps is a blend of the edit's own B and the source's,
  :math:`M B + (1 - M) A_k`, for M = 1 at query tokens that attended to what may change, in the
  source (:mod:`csd_lab.baselines.masks`); without such words M = 0;
- if asked for, latents are blended by the same masks in the middle of sampling,
  :math:`x \leftarrow M x + (1 - M) s`, with s the inverted latents.

In inversion and sampling, self attention is spatio-temporal: all frames take keys and values from
the middle one. Maps are kept up to (side / 2)^2 query tokens of a unet trained on latents of that
side: 32^2 for Stable Diffusion 1.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from csd_lab.baselines.alignment import AttentionEdit, Plan
from csd_lab.baselines.attention import (
    MapHook,
    Place,
    SharedKeys,
    attentions,
    coarse_limit,
    fine_limit,
    hooked,
)
from csd_lab.baselines.base import Followed
from csd_lab.baselines.inversion import InvertingSampler, KeepMaps, MapCache, invert, map_shapes
from csd_lab.baselines.masks import attended, mask_of, mask_places
from csd_lab.baselines.schedulers import SchedulerFactory
from csd_lab.distill import Guidance, NoisePredictor, Residual
from csd_lab.types import Conditioning

BLENDED = (0.2, 0.8)
"""Shares of the steps between which latents are blended."""


@final
class FateZero(InvertingSampler):
    """Samples an edit of a clip with the attention of its inversion.

    Args:
        guidance: combines the predictions; the paper uses classifier-free guidance of 7.5.
        scheduler: makes a DDIM scheduler.
        steps: of inversion, and of sampling.
        edit: what of the source's attention is taken. The paper's shares of cross and self
            attention are 0.8 and 0.8 for a style, 0.5 and 0.4 ... 0.5 for an attribute.
        blend_latents: whether latents are blended, too.
        cache: a folder where attention maps are kept while the method runs; None: in memory.

    Attributes:
        maps: of the inversion, those that sampling will ask for; None before it.

    Raises:
        ValueError: an argument is not allowed.
    """

    def __init__(
        self,
        guidance: Guidance,
        scheduler: SchedulerFactory,
        steps: int,
        edit: AttentionEdit,
        blend_latents: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__(guidance, scheduler, steps)
        self.edit = edit
        self.blend_latents = blend_latents
        self.cache = None if cache is None else Path(cache).expanduser()
        self.maps: MapCache | None = None

    def invert(self, source: Tensor, source_caption: str, target_caption: str) -> Tensor:
        """Keeps the latents of all levels, and the attention that sampling will ask for.

        Raises:
            ValueError: the folder for it has too little room.
        """
        prior, size = self.network, (source.shape[2], source.shape[3])
        native = prior.native_size or size
        length = prior.embed("").shape[1]
        self._plan = self.edit.plan(prior.tokenizer, source_caption, target_caption, length)
        places = attentions(prior.unet)
        self._looked_at = mask_places(places, size, coarse_limit(places, size, native))
        limit = max(fine_limit(native), coarse_limit(places, size, native))
        shapes = map_shapes(prior.unet, len(source), size, length, limit)
        pages = [
            {place: shape for place, shape in shapes.items() if self._wants(place, taken)}
            for taken in reversed(range(self.steps))
        ]
        self.maps = None  # the former one's room comes first
        maps = MapCache(pages, prior.unet.dtype, self.cache)
        self._order = _middle_first(len(source))

        def keep(step: int) -> AbstractContextManager[None]:
            return hooked(prior.unet, self._middle(1), KeepMaps(maps, step))

        in_order = source[self._order]
        levels = invert(prior, self.scheduler, in_order, source_caption, keep)
        self._source = [level[self._order.argsort()] for level in levels]
        self.maps = maps
        return self._source[-1]

    def _wants(self, place: Place, taken: int) -> bool:
        """Whether the sampling step after so many others asks for the maps of a place."""
        takes_self = not self.reached(self.edit.self_replace, taken)
        if not place.cross:
            return takes_self
        masked = takes_self or self._blends(taken)
        looked_at = masked and self._plan.source_words and place in self._looked_at
        return bool(looked_at) or not self.reached(self.edit.cross_replace, taken)

    def _blends(self, taken: int) -> bool:
        """Whether the sampling step after so many others blends latents."""
        begin, end = BLENDED
        within = self.reached(begin, taken) and not self.reached(end, taken)
        return self.blend_latents and within and bool(self._plan.source_words)

    def _middle(self, branches: int) -> SharedKeys:
        """Keys and values of the middle frame, the first of the call, for each branch."""
        rows = range(branches * len(self._order))
        return SharedKeys(rows, [(row % branches,) for row in rows])

    def estimate(
        self, prior: NoisePredictor, x_t: Tensor, conditioning: Conditioning, t: Tensor
    ) -> Tensor:
        """The guided noise of all frames, (F, C, h, w), with the attention of inversion."""
        assert self.maps is not None  # start has seen to it
        branches = self.branches(conditioning)
        hook = InvertedAttention(
            self.maps,
            self.steps - 1 - self.taken,
            len(branches),
            None if self.reached(self.edit.cross_replace) else self._plan,
            None if self.reached(self.edit.self_replace) else self._changeable(x_t),
        )
        with hooked(self.network.unet, self._middle(len(branches)), hook):
            noise = self.ask(prior, [x_t[self._order]] * len(branches), list(branches), t)
        return self.combined(branches, noise)[self._order.argsort()]

    def _changeable(self, like: Tensor) -> Tensor:
        """M, by the source's attention at this level: (F, 1, h, w), the middle frame first."""
        size = (like.shape[2], like.shape[3])
        if not self._plan.source_words:
            return like.new_zeros(len(like), 1, *size)
        assert self.maps is not None  # start has seen to it
        step = self.steps - 1 - self.taken
        maps = {place: self.maps.get(step, place).to(like.device) for place in self._looked_at}
        return mask_of(attended(maps, self._plan.source_words, size), self.edit.threshold, size)

    def follow(self, residual: Residual, t: Tensor) -> Followed:
        """Where DDIM's step leads, with its blend of latents."""
        x = residual.x_t
        after = self.advance(residual.delta, t, x)
        if self._blends(self.taken):
            mask = self._changeable(x)[self._order.argsort()]
            kept = self._source[self.steps - 1 - self.taken]
            after = kept + mask * (after - kept)
        return Followed(after, {})


@final
class InvertedAttention(MapHook):
    """Gives the conditional branch, the first one, the attention of inversion, within one call.

    Args:
        cache: of inversion.
        step: of inversion, of the same level of noise.
        branches: B; row f B + b of the call is frame f in branch b.
        plan: makes cross attention; None leaves it.
        changeable: M, where self attention is the edit's own, (F, 1, h, w); None leaves it.
    """

    def __init__(
        self,
        cache: MapCache,
        step: int,
        branches: int,
        plan: Plan | None,
        changeable: Tensor | None,
    ) -> None:
        self.cache, self.step, self.branches = cache, step, branches
        self.plan, self.changeable = plan, changeable

    def wants(self, place: Place) -> bool:
        """Those that are replaced."""
        replaced = self.plan if place.cross else self.changeable
        return replaced is not None and place in self.cache.pages[self.step]

    def edit(self, place: Place, rows: range, maps: Tensor) -> Tensor:
        """The same, with those of the conditional branch made from the source's."""
        own = [i for i, row in enumerate(rows) if row % self.branches == 0]
        if not own:
            return maps
        frames = [rows[i] // self.branches for i in own]
        source = self.cache.get(self.step, place)[frames].to(maps)
        out = maps.clone()
        out[own] = self._made(place, frames, source, maps[own])
        return out

    def _made(self, place: Place, frames: list[int], source: Tensor, target: Tensor) -> Tensor:
        if place.cross:
            assert self.plan is not None  # else it would not be replaced
            return self.plan.cross(source, target)
        assert self.changeable is not None  # else it would not be replaced
        grid = place.grid((self.changeable.shape[2], self.changeable.shape[3]))
        mask = functional.interpolate(self.changeable[frames], size=grid).flatten(2)[..., None]
        return torch.where(mask.bool(), target, source)


def _middle_first(frames: int) -> Tensor:
    """Ids of all frames, (F,), the middle one first: what others take from it has to be there."""
    ids = list(range(frames))
    return torch.tensor([ids.pop(frames // 2), *ids])
