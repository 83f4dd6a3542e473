"""Checks of arguments that several modules of the heart share."""

import math
from collections.abc import Sequence


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


def check_finite(name: str, value: float) -> None:
    """Raises ValueError unless ``value`` is a finite number."""
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number; got {value!r}")


def check_positive(name: str, value: float) -> None:
    """Raises ValueError unless ``value`` is a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a finite number above 0; got {value!r}")


def check_share(name: str, value: float) -> None:
    """Raises ValueError unless ``value`` is a share, in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be a share, in [0, 1]; got {value!r}")
