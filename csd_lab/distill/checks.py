"""Checks of arguments that several modules of the heart share."""

import math
from collections.abc import Sequence
from typing import Any


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number, and no text or switch."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def check_finite(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is a finite number."""
    if not is_finite(value):
        raise ValueError(f"{name} must be a finite number; got {value!r}")


def check_positive(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is a finite number above 0."""
    if not (is_finite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number above 0; got {value!r}")


def check_share(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is a share, in [0, 1]."""
    if not (is_finite(value) and 0 <= value <= 1):
        raise ValueError(f"{name} must be a share, in [0, 1]; got {value!r}")


def check_switch(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is a yes or no."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}.")
