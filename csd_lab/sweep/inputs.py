"""What jobs read: whether it is still what they were done with."""

import os
from pathlib import Path


def changed_since(path: Path, when: float) -> bool:
    """Whether a file, or what lies in a folder, was written after a time, in unix seconds.

    False where there is nothing of that name.
    """
    if not path.exists():
        return False
    parts = [entry.stat().st_mtime for entry in os.scandir(path)] if path.is_dir() else []
    return max([path.stat().st_mtime, *parts]) > when
