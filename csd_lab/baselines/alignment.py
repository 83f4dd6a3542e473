r"""Cross attention of an edit, made from that of its source: which token stands for which.

Hertz et al. 2022 (Prompt-to-Prompt, arXiv 2208.01626, section 3). With A the source's maps and B
the edit's, over L tokens each,

.. math::
    B'_j = c_j \Big[ \alpha_j \sum_i A_i M_{ij} + (1 - \alpha_j) B_j \Big].

- *Replace*, for captions of equally many words: word by word, M takes the attention of a source's
  word to the word in its place, spread evenly over its tokens; every :math:`\alpha_j` is 1.
- *Refine*, for any captions: M pairs the tokens that both have in common, in order (a longest
  common subsequence); :math:`\alpha_j` is 1 for these and 0 for new ones.
- *Reweight*: :math:`c_j` is a factor for the tokens of a word, else 1.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, final, get_args

import torch
from torch import Tensor

from csd_lab.checks import check_choice, check_finite, check_share

CrossEditKind = Literal["auto", "replace", "refine"]


class Caption(NamedTuple):
    """A caption as its tokenizer sees it.

    Attributes:
        ids: of its tokens, from the start to the end token.
        words: its words and punctuation marks, in lower case.
        places: for each word, the places of its tokens; none for words that are cut off.
    """

    ids: tuple[int, ...]
    words: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]


def read_caption(tokenizer: Any, text: str, length: int) -> Caption:
    """A caption, cut off after ``length`` tokens as a prior does.

    Args:
        tokenizer: of the prior, one that knows where in a text its tokens are.
        text: the caption.
        length: tokens that the prior reads.
    """
    tokens = tokenizer(text, truncation=True, max_length=length, return_offsets_mapping=True)
    words = list(re.finditer(r"\w[\w'-]*|[^\w\s]", text))
    places = [
        tuple(
            place
            for place, (start, stop) in enumerate(tokens.offset_mapping)
            if start < stop and word.start() <= start < word.end()
        )
        for word in words
    ]
    return Caption(tuple(tokens.input_ids), tuple(w[0].lower() for w in words), tuple(places))


@final
class CrossEdit:
    """Makes an edit's cross attention from its source's.

    Args:
        source: caption of the source.
        target: caption of the edit.
        length: L.
        kind: ``replace``, ``refine``, or ``auto``: the first where both have as many words.
        equaliser: factors by word of the target.

    Raises:
        ValueError: captions to be replaced differ in their number of words, or a word is not there.
    """

    def __init__(
        self,
        source: Caption,
        target: Caption,
        length: int,
        kind: CrossEditKind = "auto",
        equaliser: Mapping[str, float] | None = None,
    ) -> None:
        equal = len(source.words) == len(target.words)
        if kind == "replace" and not equal:
            raise ValueError(
                "cross must be refine or auto for captions of different lengths, got replace for "
                f"{len(source.words)} and {len(target.words)} words"
            )
        replace = kind == "replace" or (kind == "auto" and equal)
        self.mapping = (_replacement if replace else _refinement)(source, target, length)
        self.known = torch.ones(length) if replace else self.mapping.sum(dim=0).clamp(max=1)
        self.factor = torch.ones(length)
        for word, factor in (equaliser or {}).items():
            if not (tokens := tokens_of([word], target)):
                raise ValueError(
                    f"equaliser must name words of the target caption, {' '.join(target.words)!r}, "
                    f"got {word!r}"
                )
            self.factor[list(tokens)] = factor

    def __call__(self, source: Tensor, target: Tensor) -> Tensor:
        """The maps to go on with, from both, (*, L) each; where they are, in their type."""
        mapping, known, factor = (
            part.to(target) for part in (self.mapping, self.known, self.factor)
        )
        return factor * (known * (source @ mapping) + (1 - known) * target)


def common(a: Sequence[Any], b: Sequence[Any]) -> list[tuple[int, int]]:
    """A longest common subsequence, as pairs of places in both, in order."""
    best = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            skip = max(best[i + 1][j], best[i][j + 1])
            best[i][j] = max(skip, best[i + 1][j + 1] + 1) if a[i] == b[j] else skip
    pairs, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if a[i] == b[j] and best[i][j] == best[i + 1][j + 1] + 1:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i + 1][j] >= best[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def changed_tokens(source: Caption, target: Caption) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Places of the tokens of words, in each caption, that the other does not have there."""
    pairs = common(source.words, target.words)
    kept_source, kept_target = {i for i, _ in pairs}, {j for _, j in pairs}
    return _all_but(kept_source, source), _all_but(kept_target, target)


def _all_but(words: Collection[int], caption: Caption) -> tuple[int, ...]:
    """Places of the tokens of all words but these."""
    kept = (places for i, places in enumerate(caption.places) if i not in words)
    return tuple(place for places in kept for place in places)


def tokens_of(words: Collection[str], caption: Caption) -> tuple[int, ...]:
    """Places of the tokens of words, in any case, wherever they stand in a caption."""
    wanted = {word.lower() for word in words}
    each = zip(caption.words, caption.places, strict=True)
    return tuple(place for word, places in each if word in wanted for place in places)


def _replacement(source: Caption, target: Caption, length: int) -> Tensor:
    """M where the k-th word of the source passes its attention to the k-th of the target."""
    mapping = torch.zeros(length, length)
    mapping[0, 0] = 1
    for old, new in zip(source.places, target.places, strict=True):
        if len(old) == len(new):
            mapping[list(old), list(new)] = 1
        elif new:
            mapping[list(old)] = torch.zeros(length).index_fill(0, torch.tensor(new), 1 / len(new))
    return _with_padding(mapping, source, target)


def _refinement(source: Caption, target: Caption, length: int) -> Tensor:
    """M where tokens that both captions have pass their attention on."""
    mapping = torch.zeros(length, length)
    for i, j in common(source.ids, target.ids):
        mapping[i, j] = 1
    return _with_padding(mapping, source, target)


def _with_padding(mapping: Tensor, source: Caption, target: Caption) -> Tensor:
    """What follows the words: the end goes to the end, the k-th of padding to the k-th."""
    i, j = len(source.ids) - 1, len(target.ids) - 1
    rest = len(mapping) - max(i, j)
    mapping[i:, j:] = 0
    mapping[range(i, i + rest), range(j, j + rest)] = 1
    return mapping


def check_words(name: str, words: Sequence[str]) -> None:
    """Raises ValueError unless these are several texts, and no single one, which has letters."""
    if isinstance(words, str) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{name} must be a list of words, such as [ball], got {words!r}.")


class Plan(NamedTuple):
    """What two captions say of attention.

    Attributes:
        cross: makes the edit's cross attention from the source's.
        source_words: places of tokens in the source's caption whose image may change; () with no
            words of the target either: everything may.
        target_words: the same in the target's caption.
    """

    cross: CrossEdit
    source_words: tuple[int, ...]
    target_words: tuple[int, ...]


@final
class AttentionEdit:
    """How much of its source's attention an edit takes, and where.

    Args:
        cross: how cross attention follows the source's: ``replace``, ``refine``, or ``auto``:
            the first where the captions have as many words.
        cross_replace: share of the steps in which it does, in [0, 1].
        self_replace: share of the steps in which self attention is the source's, in [0, 1].
        equaliser: factors by word of the target, which strengthen or weaken it; None: none.
        blend_words: words of what may change, in either caption; None: those in which they differ,
            if the source has such; empty: everything may.
        threshold: share of the largest attention from which on a place is of these words, in
            [0, 1].

    Raises:
        ValueError: an argument is not allowed.
    """

    def __init__(
        self,
        cross: CrossEditKind = "auto",
        cross_replace: float = 0.8,
        self_replace: float = 0.4,
        equaliser: Mapping[str, float] | None = None,
        blend_words: Sequence[str] | None = None,
        threshold: float = 0.3,
    ) -> None:
        check_choice("cross", cross, get_args(CrossEditKind))
        check_share("cross_replace", cross_replace)
        check_share("self_replace", self_replace)
        check_share("threshold", threshold)
        self.cross: CrossEditKind = cross
        self.cross_replace, self.self_replace = cross_replace, self_replace
        self.equaliser = dict(equaliser or {})
        for word, factor in self.equaliser.items():
            check_finite(f"equaliser of {word!r}", factor)
        check_words("blend_words", blend_words or ())
        self.blend_words = None if blend_words is None else tuple(blend_words)
        self.threshold = threshold

    def plan(self, tokenizer: Any, source: str, target: str, length: int) -> Plan:
        """What it means for two captions, of which a prior reads ``length`` tokens.

        Raises:
            ValueError: words that were named are not there, or cannot be replaced one by one.
        """
        a, b = (read_caption(tokenizer, text, length) for text in (source, target))
        cross = CrossEdit(a, b, length, self.cross, self.equaliser)
        if self.blend_words is None:
            old, new = changed_tokens(a, b)
            return Plan(cross, old, new if old else ())
        old, new = tokens_of(self.blend_words, a), tokens_of(self.blend_words, b)
        if self.blend_words and not old + new:
            raise ValueError(
                f"blend_words must name words of {source!r} or {target!r}, got "
                f"{', '.join(self.blend_words)!r}"
            )
        return Plan(cross, old, new)
