"""HTML pages that hold all they show: nothing is asked of the network, no foreign script runs.

Whatever came from outside is escaped by the template. Beyond that, a content security policy lets
the browser use the package's own styles and scripts, and no others. Imports nothing of the package.
"""

import base64
import hashlib
import mimetypes
import os
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

UNFIT = re.compile("[\0\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def fit_to_show(text: str) -> str:
    """Text in which U+FFFD stands for what a page cannot hold, or what would make it lie.

    That is lone surrogates and NUL; and the marks that turn the direction of writing by force,
    with which a command can be made to look like another (right-to-left scripts need none).
    """
    return UNFIT.sub(UNKNOWN, text)


def line_to_show(text: str) -> str:
    """The same on one line: each run of white space and control characters becomes a space."""
    kept = (" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in fit_to_show(text))
    return " ".join("".join(kept).split())


def render(template: Path, **content: Any) -> str:
    """Fill a template's page; text is escaped, and what cannot be shown is replaced.

    Args:
        template: path of a Jinja file.
        content: what it names; ``markupsafe.Markup`` is taken as it is.

    Raises:
        jinja2.UndefinedError: if the template names something that is not given.
    """
    return fit_to_show(_template(template).render(**content))


def content_policy(
    styles: Sequence[str], scripts: Sequence[str], media: Sequence[str] = ("data:",)
) -> str:
    """A content security policy: these styles and scripts, media from these places, nothing else.

    Args:
        styles: whole texts of the allowed ``<style>`` elements.
        scripts: whole texts of the allowed ``<script>`` elements.
        media: sources of pictures and videos, in the policy's grammar.
    """
    places = " ".join(media)
    return (
        f"default-src 'none'; img-src {places}; media-src {places}; "
        "base-uri 'none'; form-action 'none'; "
        f"style-src {_digests(styles)}; script-src {_digests(scripts)}"
    )


def data_uri(path: Path) -> str:
    """A file's content as an address.

    Raises:
        OSError: if it cannot be read.
    """
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def relative_link(path: Path, folder: Path) -> str:
    """The address of a file from a page in ``folder``; any characters may be in its name."""
    relative = Path(os.path.relpath(path, folder)).as_posix()
    return quote(os.fsencode(relative))


@lru_cache(maxsize=8)
def _template(path: Path) -> Template:
    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(path.name)


def _digests(texts: Sequence[str]) -> str:
    digests = (hashlib.sha256(text.encode()).digest() for text in texts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
