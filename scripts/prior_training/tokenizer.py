"""A CLIP tokenizer whose every vocabulary word is one token; other text falls to byte symbols."""

from collections.abc import Iterable

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


def build_tokenizer(words: Iterable[str], length: int) -> CLIPTokenizer:
    """Build the tokenizer.

    Byte-pair merges are appended word by word. A merge that is appended later has a lower
    priority than all before it, so it cannot change how an earlier word is put together: every
    word stays one token.

    Args:
        words: vocabulary, lower case, each a run of letters.
        length: tokens of a text, the start and end symbols included.

    Returns:
        A tokenizer that pads and truncates to ``length``.

    Raises:
        ValueError: a word does not become one token (it is no run of letters).
    """
    symbols = sorted(ByteLevel.alphabet())
    vocabulary = [*symbols, *(symbol + WORD_END for symbol in symbols)]
    merges: list[tuple[str, str]] = []
    known = set(vocabulary)
    for word in sorted(set(words)):
        pieces = _segment(word, merges)
        while len(pieces) > 1:
            joined = pieces[0] + pieces[1]
            merges.append((pieces[0], pieces[1]))
            if joined not in known:
                known.add(joined)
                vocabulary.append(joined)
            pieces = [joined, *pieces[2:]]
    vocabulary += [START, END]
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = CLIPTokenizer(vocab=ids, merges=merges, model_max_length=length)
    for word in words:
        if len(tokenizer.tokenize(word)) != 1:
            raise ValueError(f"words: must be runs of letters, received {word!r}")
    return tokenizer


def _segment(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Return a word's pieces after the merges, in order of priority."""
    pieces = [*word[:-1], word[-1] + WORD_END]
    for left, right in merges:
        position = 0
        while position < len(pieces) - 1:
            if (pieces[position], pieces[position + 1]) == (left, right):
                pieces[position : position + 2] = [left + right]
            position += 1
    return pieces
