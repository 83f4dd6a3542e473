"""Files that appear whole or not at all. Imports nothing of the package."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial-"
"""How the names of files begin that are being written; whoever is killed meanwhile leaves one."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    A reader sees the former file or the new one, never a part of it, even if the machine loses its
    power: what was written is on the disk before the name changes. An error in the block (also
    Ctrl-C, or a full disk) leaves the former file as it was and nothing else behind. The folder is
    made if there is none.

    Args:
        path: the file to be written.

    Yields:
        A path in the same folder with the same suffix, to be written in the block.

    Raises:
        OSError: if the folder cannot be made or written, or the disk is full; names ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{PARTIAL}{secrets.token_hex(8)}{path.suffix}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        with suppress(OSError):  # some systems cannot flush a folder; the rename stands
            _flush(path.parent)
    except OSError as error:
        if error.filename is None or Path(os.fsdecode(error.filename)) == temporary:
            raise type(error)(error.errno, error.strerror or str(error), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial(folder: Path | str) -> None:
    """Delete what killed writers left in a folder; nobody may be writing there.

    Raises:
        OSError: if a file cannot be deleted.
    """
    for path in Path(folder).glob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the system write to the disk what it holds of a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
