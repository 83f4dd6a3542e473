"""Checks of plain arguments, which may come from a config and be of any type.

Each raises a ValueError of one line: the name of the argument, what it must be, and what it was.
"""

import math
from collections.abc import Sequence
from typing import Any


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number, and no text or switch."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number of at least ``least``, and no text or switch."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """Raises ValueError unless ``value`` is a whole number of at least ``least``."""
    if not is_whole(value, least):
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}.")


def check_finite(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is a finite number."""
    if not is_finite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")


def check_positive(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is a finite number above 0."""
    if not (is_finite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number above 0, got {value!r}.")


def check_not_negative(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is a finite number of at least 0."""
    if not (is_finite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}.")


def check_share(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is a share, in [0, 1]."""
    if not (is_finite(value) and 0 <= value <= 1):
        raise ValueError(f"{name} must be a share, in [0, 1], got {value!r}.")


def check_switch(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is a yes or no."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}.")


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")


def check_text(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is text, and no number that was typed without quotes."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, got {value!r}; put it in quotes.")
