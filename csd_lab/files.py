"""Files that appear whole or not at all. Imports nothing of the package."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    A reader sees the former file or the new one, never a part of it; an error in the block (also
    Ctrl-C) leaves the former file as it was and nothing else behind. The folder is made if there
    is none.

    Args:
        path: the file to be written.

    Yields:
        A path in the same folder with the same suffix, to be written in the block.

    Raises:
        OSError: if the folder cannot be made or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
