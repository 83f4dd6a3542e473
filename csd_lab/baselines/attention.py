r"""Attention of a unet, looked at and changed from outside.

A transformer block of the unet attends twice, each query token over M tokens c:

.. math::
    A = \mathrm{softmax}\big(Q K^T / \sqrt d\big), \qquad \mathrm{out} = W_o\, A V, \qquad
    Q = W_q h, \quad K = W_k c, \quad V = W_v c

with c = h, the block's normalised input, in self attention, and the text's features in cross
attention. While :func:`hooked` holds, a :class:`KeyHook` may put other tokens in the place of h for
keys and values, such as those of other frames, and a :class:`MapHook` may read the probabilities A
and replace them. Where neither asks for anything the unet's own processors run; A is only ever
computed where it is asked for, since fused attention never holds it.

A prior evaluates one call in chunks of samples. A hook is told which rows of the whole call it
sees, counted since the hooks were put in place, so they are to be put in place for one call at a
time. What a row takes from another has to be at or before its own chunk: order rows accordingly.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, final

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

Section = Literal["down", "mid", "up"]


class Place(NamedTuple):
    """Where an attention stands in the unet.

    Attributes:
        section: which part of the unet.
        number: among those of its kind in this section, in the order of evaluation.
        cross: whether it attends to the text, or else to the image itself.
        factor: sides of a query token, in latents.
    """

    section: Section
    number: int
    cross: bool
    factor: int

    def queries(self, size: tuple[int, int]) -> int:
        """Query tokens for latents of this height and width."""
        return math.prod(self.grid(size))

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of query tokens for latents of this height and width."""
        return size[0] // self.factor, size[1] // self.factor


class KeyHook(ABC):
    """Chooses the tokens that keys and values of self attention are made of."""

    @abstractmethod
    def tokens(self, place: Place, rows: range, inputs: Tensor) -> Tensor | None:
        """The tokens to attend to.

        Args:
            place: of a self attention.
            rows: of the call, that this chunk holds.
            inputs: normalised inputs h of the block, (B, Q, C).

        Returns:
            (B, M, C); None for h itself.
        """


class MapHook(ABC):
    """Reads and replaces the probabilities of attention."""

    @abstractmethod
    def wants(self, place: Place) -> bool:
        """Whether to be given those of this place, which costs time and memory."""

    @abstractmethod
    def edit(self, place: Place, rows: range, maps: Tensor) -> Tensor:
        """The probabilities to go on with.

        Args:
            place: of the attention.
            rows: of the call, that this chunk holds.
            maps: A, (B, heads, Q, M), whose last axis adds up to 1; not to be written into.

        Returns:
            Of the same shape; ``maps`` itself changes nothing, bit for bit.
        """


@final
class SharedKeys(KeyHook):
    """Keys and values from other samples of the same call, kept until the last row that asks.

    Args:
        labels: a name for each row of the call, no two the same.
        sources: for each row, the names of those whose tokens it attends to, side by side; the same
            number of them for all.
        sections: parts of the unet where it does so; elsewhere each row attends to itself.

    Raises:
        ValueError: the arguments do not fit each other.
    """

    def __init__(
        self,
        labels: Sequence[Hashable],
        sources: Sequence[Sequence[Hashable]],
        sections: Collection[Section] = ("down", "mid", "up"),
    ) -> None:
        if len(sources) != len(labels) or len(set(map(len, sources))) > 1:
            raise ValueError(
                f"sources must name as many tokens for each of the {len(labels)} rows as for the "
                f"others, got {len(sources)} rows of lengths {sorted(set(map(len, sources)))}"
            )
        self.labels, self.sources, self.sections = labels, sources, sections
        self._kept: dict[tuple[Place, Hashable], Tensor] = {}  # (Q, C) each
        self._last = {name: row for row, names in enumerate(sources) for name in names}

    def tokens(self, place: Place, rows: range, inputs: Tensor) -> Tensor | None:
        """The sources' tokens, (B, S Q, C).

        Raises:
            ValueError: a source has not been seen yet.
        """
        if place.section not in self.sections:
            return None
        for row, tokens in zip(rows, inputs, strict=True):
            if self.labels[row] in self._last:
                self._kept[place, self.labels[row]] = tokens
        found = torch.stack([self._tokens(place, self.sources[row]) for row in rows])
        for at, name in list(self._kept):
            if at == place and self._last[name] < rows.stop:
                del self._kept[at, name]
        return found

    def _tokens(self, place: Place, names: Sequence[Hashable]) -> Tensor:
        missing = [name for name in names if (place, name) not in self._kept]
        if missing:
            raise ValueError(
                f"sources must come no later than the rows that attend to them, got {missing[0]!r} "
                "first: put its row before them"
            )
        return torch.cat([self._kept[place, name] for name in names])


def attentions(unet: Any) -> dict[Place, Attention]:
    """All attentions of a unet of the diffusers library, in the order of evaluation.

    Raises:
        ValueError: one of them does more than the formula above says.
    """
    levels = len(unet.down_blocks)
    blocks: list[tuple[Section, int, Any]] = [
        *(("down", 2**i, block) for i, block in enumerate(unet.down_blocks)),
        ("mid", 2 ** (levels - 1), unet.mid_block),
        *(("up", 2 ** (levels - 1 - i), block) for i, block in enumerate(unet.up_blocks)),
    ]
    found: dict[Place, Attention] = {}
    for section, factor, block in blocks:
        for module in [] if block is None else block.modules():
            if isinstance(module, Attention):
                cross = module.is_cross_attention
                number = sum((p.section, p.cross) == (section, cross) for p in found)
                found[Place(section, number, cross, factor)] = module
    special = ("group_norm", "spatial_norm", "norm_cross", "norm_q", "norm_k", "add_k_proj")
    for attention in found.values():
        if odd := [name for name in special if getattr(attention, name, None) is not None]:
            raise ValueError(
                "prior must have a unet with the attention of Stable Diffusion 1 or 2, got one "
                f"with {odd[0]}: take another prior, or a method that looks at no attention"
            )
    return found


def coarse_limit(places: Collection[Place], size: tuple[int, int], native: tuple[int, int]) -> int:
    """Query tokens up to which attention tells where things are, rather than their texture.

    That is (64 / 4)^2 = 16^2 for Stable Diffusion 1, whose latents are 64 x 64, as the methods that
    look at its attention have it. A unet that attends nowhere so coarsely has the queries of its
    coarsest attention as the limit.

    Args:
        places: of the unet's attentions.
        size: height and width of the latents that are looked at.
        native: height and width of those that the unet was trained on.
    """
    coarsest = min((place.queries(size) for place in places), default=0)
    return max(math.prod(native) // 16, coarsest)


def fine_limit(native: tuple[int, int]) -> int:
    """Query tokens up to which maps are small enough to be kept: 32^2 for Stable Diffusion 1."""
    return math.prod(native) // 4


@contextmanager
def hooked(unet: Any, keys: KeyHook | None = None, maps: MapHook | None = None) -> Iterator[None]:
    """Have hooks look at one call of a prior; afterwards the unet is as before, whatever happens.

    Args:
        unet: of the prior.
        keys: chooses keys and values.
        maps: reads and replaces probabilities.

    Raises:
        ValueError: the unet's attention is not the plain one, or it is compiled.
    """
    check_not_compiled(unet)
    places = attentions(unet)
    before = {place: attention.processor for place, attention in places.items()}
    rows = _Rows()
    counting = unet.register_forward_pre_hook(rows)
    try:
        for place, attention in places.items():
            hook: Any = _Hooked(place, before[place], rows, keys, maps)
            attention.set_processor(hook)
        yield
    finally:
        counting.remove()
        for place, attention in places.items():
            attention.set_processor(before[place])


def check_not_compiled(unet: Any) -> None:
    """Raises ValueError if a unet is compiled, which fixes what its attention does."""
    if getattr(unet, "_compiled_call_impl", None) is not None:
        raise ValueError(
            "prior.compile must be false for a method that looks at attention, got true"
        )


class _Rows:
    """Counts the rows of a call as its chunks go through the unet."""

    def __init__(self) -> None:
        self.now = range(0)

    def __call__(self, unet: nn.Module, args: tuple[Any, ...]) -> None:  # noqa: ARG002
        """A chunk enters the unet."""
        self.now = range(self.now.stop, self.now.stop + len(args[0]))


class _Hooked:
    """Processor of one attention: its own one, unless a hook asks for more."""

    def __init__(
        self, place: Place, own: Any, rows: _Rows, keys: KeyHook | None, maps: MapHook | None
    ) -> None:
        self.place, self.own, self.rows, self.keys = place, own, rows, keys
        self.maps = maps if maps is not None and maps.wants(place) else None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """The attention's output, (B, Q, C); arguments as the diffusers library passes them."""
        context = encoder_hidden_states
        if self.keys is not None and not self.place.cross:
            context = self.keys.tokens(self.place, self.rows.now, hidden_states)
        if self.maps is None:
            out: Tensor = self.own(attn, hidden_states, context, attention_mask)
            return out
        if attention_mask is not None:
            raise ValueError("attention_mask must be None where probabilities are looked at")
        return self._attend(attn, hidden_states, hidden_states if context is None else context)

    def _attend(self, attn: Attention, h: Tensor, context: Tensor) -> Tensor:
        """Attention with its probabilities in sight; the softmax is in float32, as fused ones."""
        assert self.maps is not None  # the caller has seen to it
        q, k, v = (
            projection(tokens).unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for projection, tokens in ((attn.to_q, h), (attn.to_k, context), (attn.to_v, context))
        )
        scores = attn.scale * (q.float() @ k.float().transpose(2, 3))
        maps = self.maps.edit(self.place, self.rows.now, scores.softmax(dim=3).to(v.dtype))
        out = (maps @ v).transpose(1, 2).flatten(2)
        out = attn.to_out[1](attn.to_out[0](out))
        if attn.residual_connection:
            out = out + h
        result: Tensor = out / attn.rescale_output_factor
        return result
