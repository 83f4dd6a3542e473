"""What a job is called: a hash of its settings."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

NOT_IDENTITY = ("hydra", "logger", "sweep", "resume", "choices", "started_in")
"""Roots of settings that say where a job runs and who is told of it, and not what it computes."""

HOW = (
    "prior.device",
    "prior.max_batch",
    "prior.compile",
    "prior.local_files_only",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.use_distributed_sampler",
    "callbacks.progress",
    "callbacks.checkpoint",
)
"""Settings that say how a job computes what it does: with others results differ by rounding."""

DIGITS = 12
"""Hex digits of a hash: 48 bits, with which a sweep of a million jobs is safe from coincidence."""


def job_hash(config: Mapping[str, Any]) -> str:
    """The name of the job with these settings.

    Args:
        config: resolved settings of plain types (mappings, sequences, text, numbers, null).

    Returns:
        12 hex digits. They depend on the values and neither on the order of keys nor on
        :data:`NOT_IDENTITY` and :data:`HOW`.

    Raises:
        TypeError: if a value is of another type.
    """
    settings = _what({key: value for key, value in config.items() if key not in NOT_IDENTITY})
    return hashlib.sha256(canonical(settings).encode()).hexdigest()[:DIGITS]


def says_how(name: str) -> bool:
    """Whether a setting, by its dotted name, is one of :data:`HOW` or of what these hold."""
    return any(f"{name}.".startswith(f"{how}.") for how in HOW)


def _what(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings without those that say how."""
    return {
        key: _what(value, f"{above}{key}.") if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if not says_how(f"{above}{key}")
    }


def canonical(value: Any) -> str:
    """JSON text that is the same for equal values, whoever writes it.

    Numbers are equal if Python says so and both are whole or both are not: 1 and 1.0 are different
    settings, since what they configure may treat them differently.

    Raises:
        TypeError: if a value is not of a plain type.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _plain(value: Any) -> Any:
    """The value in JSON's types, where numbers that JSON lacks are named."""
    if isinstance(value, Mapping):
        return {f"{type(key).__name__}:{key}": _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(
        f"A job's settings must be text, numbers, true, false or null, got {type(value).__name__}."
    )
