r"""Prompt-to-Prompt: an edit that attends as its source does, but for what changes in the caption.

Hertz et al. 2022, arXiv 2208.01626. Each frame is edited by itself, from its caption y to another,
y'. DDIM inversion (:mod:`csd_lab.baselines.inversion`) with y gives latents
:math:`s_{t_0} \dots s_{t_N}` of the source; the edit begins with the same noise, x_T = s_T, and
follows

.. math::
    x_{t'} = \mathrm{DDIM}\big(x_t,\ \epsilon_w(x_t;\, y';\, B \leftarrow E(A, B))\big)

where A and B are the attention of source and edit, and E takes place in the conditional branch
alone: for the first steps cross attention is made from the source's
(:mod:`csd_lab.baselines.alignment`), and coarse self attention is the source's. Then the *local
blend* keeps the source wherever no changed word is attended to,

.. math::
    x_{t'} \leftarrow s_{t'} + m\,(x_{t'} - s_{t'})

with m from the attention of all steps so far (:mod:`csd_lab.baselines.masks`), to the source's
words in the source and to the edit's in the edit.

The source's branch is evaluated beside the edit's, in the same call, as in the paper. Its latents
are the inverted ones themselves, not what sampling makes of them: so A is the source's own at any
guidance, and inversion's error is not in it.
"""

from typing import Any, final

import torch
from torch import Tensor

from csd_lab.baselines.alignment import AttentionEdit, Plan
from csd_lab.baselines.attention import MapHook, Place, attentions, coarse_limit, hooked
from csd_lab.baselines.base import Followed
from csd_lab.baselines.inversion import InvertingSampler, captions, invert
from csd_lab.baselines.masks import attended, mask_of, mask_places
from csd_lab.baselines.schedulers import SchedulerFactory
from csd_lab.checks import check_share
from csd_lab.distill import Guidance, NoisePredictor, Residual
from csd_lab.types import Conditioning

SOURCE, EDIT = 0, 1
"""Places of the branches in a call; those of the guidance's other texts follow."""


@final
class PromptToPrompt(InvertingSampler):
    """Samples an edit of each frame with the source's attention.

    Args:
        guidance: combines the predictions; the paper uses classifier-free guidance of 7.5.
        scheduler: makes a DDIM scheduler.
        steps: of inversion, and of sampling.
        edit: what of the source's attention is taken.
        blend_from: share of the steps after which the local blend begins, in [0, 1].

    Raises:
        ValueError: an argument is not allowed.
    """

    def __init__(
        self,
        guidance: Guidance,
        scheduler: SchedulerFactory,
        steps: int,
        edit: AttentionEdit,
        blend_from: float = 0.2,
    ) -> None:
        super().__init__(guidance, scheduler, steps)
        check_share("blend_from", blend_from)
        self.edit = edit
        self.blend_from = blend_from

    def invert(self, source: Tensor, source_caption: str, target_caption: str) -> Tensor:
        """Keeps the latents of all levels."""
        prior = self.network
        length = prior.embed("").shape[1]
        self._plan = self.edit.plan(prior.tokenizer, source_caption, target_caption, length)
        self._source = invert(prior, self.scheduler, source, source_caption)
        size = (source.shape[2], source.shape[3])
        places = attentions(prior.unet)
        self._coarse = coarse_limit(places, size, prior.native_size or size)
        self._looked_at = mask_places(places, size, self._coarse)
        self._attention: Tensor | None = None
        return self._source[-1]

    def estimate(
        self, prior: NoisePredictor, x_t: Tensor, conditioning: Conditioning, t: Tensor
    ) -> Tensor:
        """The guided noise of all frames, (F, C, h, w), under the source's attention."""
        source_caption, _ = captions(conditioning)
        branches = self.branches(conditioning)
        size = (x_t.shape[2], x_t.shape[3])
        hook = SourceAttention(
            1 + len(branches),
            self._plan if not self.reached(self.edit.cross_replace) else None,
            0 if self.reached(self.edit.self_replace) else self._coarse,
            size,
            self._looked_at if self._plan.source_words or self._plan.target_words else [],
        )
        inverted = self._source[self.steps - self.taken]
        with hooked(self.network.unet, maps=hook):
            _, *noise = self.ask(
                prior,
                [inverted, *[x_t] * len(branches)],
                [source_caption, *branches],
                t,
            )
        self._attend(hook, size)
        return self.combined(branches, noise)

    def _attend(self, hook: "SourceAttention", size: tuple[int, int]) -> None:
        """Add the attention to changed words, of the source and of the edit, (2, F, 1, h, w)."""
        if not hook.seen:
            return
        words = (self._plan.source_words, self._plan.target_words)
        new = torch.stack(
            [
                attended(hook.of_branch(branch), tokens, size)
                for branch, tokens in zip((SOURCE, EDIT), words, strict=True)
            ]
        )
        self._attention = new if self._attention is None else self._attention + new

    def follow(self, residual: Residual, t: Tensor) -> Followed:
        """Where DDIM's step and the local blend lead."""
        x, taken = residual.x_t, self.taken + 1
        after = self.advance(residual.delta, t, x)
        scalars: dict[str, Tensor] = {}
        if self._attention is not None and self.reached(self.blend_from, taken):
            kept = self._source[self.steps - taken]
            masks = [
                mask_of(part, self.edit.threshold, (x.shape[2], x.shape[3]))
                for part in self._attention
            ]
            mask = torch.maximum(*masks)
            after = kept + mask * (after - kept)
            scalars["changeable"] = mask.mean()
        return Followed(after, scalars)

    def state_dict(self) -> dict[str, Any]:
        """The attention of former steps besides."""
        return super().state_dict() | {"attention": self._attention}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        super().load_state_dict(state)
        self._attention = state["attention"]


@final
class SourceAttention(MapHook):
    """Gives the edit its source's attention, within one call.

    Args:
        branches: B; row f B + b of the call is frame f in branch b: the source, the edit, others.
        plan: makes cross attention; None leaves it.
        limit: query tokens up to which self attention is replaced.
        size: height and width of the latents.
        looked_at: places whose maps of source and edit are to be seen.

    Attributes:
        seen: maps by place, branch and frame, (heads, Q, M) each.
    """

    def __init__(
        self,
        branches: int,
        plan: Plan | None,
        limit: int,
        size: tuple[int, int],
        looked_at: list[Place],
    ) -> None:
        self.branches, self.plan, self.limit, self.size = branches, plan, limit, size
        self.looked_at = looked_at
        self.seen: dict[tuple[Place, int], dict[int, Tensor]] = {}
        self._waiting: dict[tuple[Place, int], Tensor] = {}

    def wants(self, place: Place) -> bool:
        """Those that are replaced, and those that are looked at."""
        return self._replaces(place) or place in self.looked_at

    def edit(self, place: Place, rows: range, maps: Tensor) -> Tensor:
        """The same, with the edit's rows made from the source's, which come before them."""
        out = maps
        for position, row in enumerate(rows):
            frame, branch = divmod(row, self.branches)
            if branch == SOURCE and self._replaces(place):
                self._waiting[place, frame] = maps[position]
            elif branch == EDIT and self._replaces(place):
                out = maps.clone() if out is maps else out
                out[position] = self._made(place, self._waiting.pop((place, frame)), maps[position])
            if branch in (SOURCE, EDIT) and place in self.looked_at:
                self.seen.setdefault((place, branch), {})[frame] = out[position]
        return out

    def of_branch(self, branch: int) -> dict[Place, Tensor]:
        """What was seen of all frames in a branch, by place: (F, heads, Q, M) each."""
        return {
            place: torch.stack([frames[f] for f in sorted(frames)])
            for (place, of), frames in self.seen.items()
            if of == branch
        }

    def _replaces(self, place: Place) -> bool:
        return self.plan is not None if place.cross else place.queries(self.size) <= self.limit

    def _made(self, place: Place, source: Tensor, target: Tensor) -> Tensor:
        if not place.cross:
            return source
        assert self.plan is not None  # else it would not be replaced
        return self.plan.cross(source, target)
