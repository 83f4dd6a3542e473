"""Text for people, on one line."""

import difflib
import io
import re
import sys
from collections.abc import Iterable, Sequence

NAMED = 3
"""So many things of a kind are named in a line; more are counted."""


def tolerate_letters() -> None:
    """Have standard output and error print "?" for letters that a terminal or file lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def on_one_line(text: object) -> str:
    """Text whose runs of white space, also of several lines, are single spaces."""
    return " ".join(str(text).split())


def said_by(error: BaseException) -> str:
    """What an error says, on one line: of files, what is wrong with which."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return on_one_line(error) or type(error).__name__


def hint(name: str, there: Iterable[str]) -> str:
    """What a name may have been meant as, for the end of a message; "" if nothing is like it."""
    known = list(there)
    longer = sorted(full for full in known if name and name in full)
    near = [*longer, *difflib.get_close_matches(name, known, n=1)]
    return f"; did you mean {near[0]!r}" if near else ""


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """Names with commas between them; of more than ``most``, how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


NaturalKey = tuple[list[tuple[int, str]], str]


def natural(name: str) -> NaturalKey:
    """Sort key of names: runs of digits count as numbers, letters without regard to case."""
    parts = re.split(r"([0-9]+)", name.lower())  # text and digits take turns
    key = [
        (len(part.lstrip("0")), part.lstrip("0")) if turn % 2 else (0, part)
        for turn, part in enumerate(parts)
    ]
    return key, name
