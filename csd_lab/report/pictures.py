"""Large pictures for a page: as they are where that is small, else compressed to be looked at."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from csd_lab.html import data_uri, relative_link

SMALL = 2 * 2**20
"""Bytes up to which a file is embedded as it is."""
MOST_PIXELS = 2**24
"""Of an embedded picture; 8192 x 2048."""
WEBP_SIDE = 16383
QUALITY = 88


class Shown(NamedTuple):
    """A picture as the template shows it.

    Attributes:
        label: its caption.
        file: its name.
        data: the picture, maybe compressed or reduced, as a data URI; "" if there is no such file.
        width: of the file's picture, in pixels; 0 if there is no such file.
        height: the same.
        clear: whether something shines through it.
        missing: whether there is no such file.
        link: the file's address from the page.
    """

    label: str
    file: str
    data: str
    width: int
    height: int
    clear: bool
    missing: bool
    link: str


def show(label: str, path: Path, folder: Path) -> Shown:
    """A picture for a page in ``folder``.

    Args:
        label: its caption.
        path: of the file.
        folder: where the page lies.

    Raises:
        OSError: if the file is there and cannot be read.
    """
    link = relative_link(path, folder)
    if not path.is_file():
        return Shown(label, path.name, "", 0, 0, False, True, link)
    with Image.open(path) as image:
        width, height = image.size
        clear = image.has_transparency_data
        small = path.stat().st_size <= SMALL and width * height <= MOST_PIXELS
        data = data_uri(path) if small else _compressed(image, clear)
    return Shown(label, path.name, data, width, height, clear, False, link)


def _compressed(image: Image.Image, clear: bool) -> str:
    """As JPEG, or as WebP where something shines through; of at most 2**24 pixels."""
    width, height = image.size
    share = min(1.0, (MOST_PIXELS / (width * height)) ** 0.5)
    if clear:
        share = min(share, WEBP_SIDE / max(width, height))
    picture = image.convert("RGBA" if clear else "RGB")
    if share < 1:
        picture = picture.resize((max(1, int(width * share)), max(1, int(height * share))))
    kind = "webp" if clear else "jpeg"
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
