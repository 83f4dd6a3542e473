"""Checks of plain arguments; each names the argument, what is allowed, and what was given."""

from typing import Any


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """Check a whole number.

    Raises:
        ValueError: if it is none, or less than ``least``.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")


def check_fps(name: str, value: Any) -> None:
    """Check a frame rate.

    Raises:
        ValueError: if it is not one that a video file can have.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.01 <= value <= 1000:
        raise ValueError(f"{name} must be a number from 0.01 to 1000, got {value!r}.")


def check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Check one of several words.

    Raises:
        ValueError: if it is none of them.
    """
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")


def check_text(name: str, value: Any) -> None:
    """Check a text.

    Raises:
        ValueError: if it is something else, such as a number that was typed without quotes.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, got {value!r}; put it in quotes.")


def check_batch_size(batch_size: Any, frames: int | None) -> None:
    """Check that a batch can be filled with different frames.

    Args:
        batch_size: frames in a batch; None: all.
        frames: how many there are; None: not known yet.

    Raises:
        ValueError: if it cannot.
    """
    if batch_size is None:
        return
    check_whole("batch_size", batch_size)
    if frames is not None and batch_size > frames:
        raise ValueError(
            f"batch_size must be at most the clip's {frames} frames, or null for all of them, got "
            f"{batch_size}."
        )
