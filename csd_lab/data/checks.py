"""Checks of what is said of data; each names the argument, what is allowed, and what was given."""

import difflib
from collections.abc import Sequence
from typing import Any

from csd_lab.checks import check_text, check_whole, is_finite

SLOWEST, FASTEST = 0.01, 1000.0
"""Frames a second that a video file can have."""


def check_fps(name: str, value: Any) -> None:
    """Check a frame rate.

    Raises:
        ValueError: if it is not one that a video file can have.
    """
    if not (is_finite(value) and SLOWEST <= value <= FASTEST):
        raise ValueError(f"{name} must be a number from {SLOWEST:g} to {FASTEST:g}, got {value!r}.")


def check_texts(prompt: Any, source_caption: Any, target_caption: Any) -> None:
    """Check what is said of a user's own media.

    Raises:
        ValueError: if something is no text, or nothing says what to do.
    """
    texts = {"source_caption": source_caption, "target_caption": target_caption}
    for name, text in texts.items():
        check_text(name, text)
    for text in in_turn(prompt):
        check_text("prompt", text)
    if not prompt and not target_caption:
        raise ValueError("prompt must say what to do, such as 'make it night'.")


def in_turn(prompt: Any) -> list[Any]:
    """What a prompt is, one after the other: nothing, one thing, or several in a list."""
    if prompt is None:
        return []
    return (
        list(prompt) if isinstance(prompt, Sequence) and not isinstance(prompt, str) else [prompt]
    )


def check_instruction(instruction: Any, known: tuple[str, ...]) -> None:
    """Check an instruction for the procedural world, or several; None stands for any.

    Raises:
        ValueError: if it is not known there.
    """
    for each in in_turn(instruction):
        _check_known(each, known)


def _check_known(instruction: Any, known: tuple[str, ...]) -> None:
    if instruction in known:
        return
    near = difflib.get_close_matches(str(instruction)[:200], known, n=1, cutoff=0)
    raise ValueError(
        f"instruction must be one of the world's {len(known)} (csd_lab.world.instructions()), such "
        f"as {near[0]!r}, got {str(instruction)[:200]!r}; other text needs an own file, data.path"
    )


def check_batch_size(
    batch_size: Any,
    count: int | None,
    whose: str = "the clip's",
    of: str = "frames",
    name: str = "batch_size",
) -> None:
    """Check that a batch can be filled with different particles.

    Args:
        batch_size: particles in a batch; None: all.
        count: how many there are; None: not known yet.
        whose: what they are parts of, for the message.
        of: what they are, for the message.
        name: of the argument, for the message.

    Raises:
        ValueError: if it cannot.
    """
    if batch_size is None:
        return
    check_whole(name, batch_size)
    if count is not None and batch_size > count:
        raise ValueError(
            f"{name} must be at most {whose} {count} {of}, or null for all of them, got "
            f"{batch_size}."
        )
