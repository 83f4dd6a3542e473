"""progress.json: how far a job is, for those who look on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import final

from csd_lab.files import atomic_path


@final
@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        step: steps done.
        steps: steps wanted.
        time: when this was so, in unix seconds.
        speed: steps a second in the latest attempt; 0: unknown.
        scalars: the latest logged scalars.
    """

    step: int
    steps: int
    time: float = 0.0
    speed: float = 0.0
    scalars: Mapping[str, float] = field(default_factory=dict)


def read_progress(path: Path) -> Progress | None:
    """The progress in a file; None if there is none that can be read."""
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_progress(path: Path, progress: Progress) -> None:
    """Put the progress into a file, whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")
