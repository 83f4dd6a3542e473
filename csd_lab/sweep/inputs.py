"""What jobs read: when it was written."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def written_at(path: Path) -> float:
    """When a file, or what lies in a folder, was written last, in unix seconds; 0: unknown."""
    return max(_times(path), default=0.0)


def _times(path: Path) -> Iterator[float]:
    """Of a folder and what lies in it, as far as it can be looked at: a link may lead nowhere."""
    with suppress(OSError):
        yield path.stat().st_mtime
        for part in path.iterdir() if path.is_dir() else ():
            with suppress(OSError):
                yield part.stat().st_mtime
