"""What a file of media is by its first bytes, and whether it is all there.

Decoders forgive: a JPEG that was cut short becomes a picture that is grey below, and a video ends
early. So the structure of each format is walked before a decoder sees the file: boxes, chunks and
blocks must lie within the file and the last one must be there. Only lengths are read, no pixel.

Formats: PNG (RFC 2083), JPEG (ITU T.81), GIF89a, RIFF (WebP, AVI), ISO base media (mp4, mov;
ISO 14496-12), EBML (Matroska, WebM; RFC 8794). TIFF and BMP have no such structure; their decoder
notices missing rows by itself.
"""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

Kind = Literal["png", "jpeg", "gif", "webp", "tiff", "bmp", "mov", "matroska", "avi"]

STILLS: frozenset[Kind] = frozenset({"png", "jpeg", "gif", "webp", "tiff", "bmp"})
"""Kinds that are read as images, animated or not; the rest are videos."""

ISO_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp"}
MEDIA_BOXES = {b"moov", b"mdat", b"moof", b"sidx", b"styp"}
"""Boxes that hold frames or announce them; one that is not whole is damage, whatever is before."""
STILL_BRANDS = {b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis"}
JPEG_MARKERS_WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xD9)}
MAX_SHOWN = 160


class MediaError(ValueError):
    """A file or folder of media that cannot be used; the message is one line for the user."""


def shown(path: Path | str) -> str:
    """A path in quotes, on one line and of bounded length, for messages."""
    text = repr(str(path))
    if len(text) <= MAX_SHOWN:
        return text
    return f"{text[: MAX_SHOWN // 2]}...{text[-MAX_SHOWN // 2 :]}"


def sniff(head: bytes) -> Kind | None:
    """The kind of a file by its first 16 bytes (or all, if it is shorter); None if unknown."""
    starts: list[tuple[bytes, Kind]] = [
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff", "jpeg"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"II*\0", "tiff"),
        (b"MM\0*", "tiff"),
        (b"BM", "bmp"),
        (b"\x1aE\xdf\xa3", "matroska"),
    ]
    for start, kind in starts:
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF":
        return {b"WEBP": "webp", b"AVI ": "avi"}.get(head[8:12])  # type: ignore[return-value]
    if head[4:8] == b"ftyp" and head[8:12] in STILL_BRANDS:
        return None
    return "mov" if head[4:8] in ISO_BOXES else None


def flaw(file: BinaryIO, kind: Kind) -> str | None:
    """What is missing from a file, as the end of a sentence; None if it is whole.

    Args:
        file: open for reading; its position is moved.
        kind: what :func:`sniff` said.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    walk = WALKS.get(kind)
    return walk(file, size) if walk else None


def is_fragmented(file: BinaryIO) -> bool:
    """Whether a mov or mp4 has frames that its header does not count.

    Args:
        file: open for reading; its position is moved.
    """
    size = file.seek(0, os.SEEK_END)
    return any(name == b"moof" for name, *_ in _boxes(file, size))


def _png(file: BinaryIO, size: int) -> str | None:
    position = 8
    while True:
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return "its last chunk (IEND) is missing"
        length, name = struct.unpack(">I4s", header)
        position += 12 + length
        if position > size:
            return f"its chunk {_word(name)} ends {position - size} bytes after the file"
        if name == b"IEND":
            return None


def _jpeg(file: BinaryIO, size: int) -> str | None:
    data = file.read()
    position = 2
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= size:
            return "its end-of-image marker is missing"
        marker = data[position + 1]
        if marker == 0xD9:
            return None
        if marker == 0xFF:
            position += 1
        elif marker in JPEG_MARKERS_WITHOUT_LENGTH:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")


def _gif(file: BinaryIO, size: int) -> str | None:
    data = file.read()
    missing = "its end mark is missing"

    def after_table(flags: int, position: int) -> int:
        return position + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)

    def after_blocks(position: int) -> int:
        while position < size and data[position]:
            position += 1 + data[position]
        return position + 1

    if size < 13:
        return missing
    position = after_table(data[10], 13)
    while position < size:
        block = data[position]
        if block == 0x3B:
            return None
        if block == 0x21:
            position = after_blocks(position + 2)
        elif block == 0x2C and position + 10 < size:
            position = after_blocks(after_table(data[position + 9], position + 10) + 1)
        elif block == 0:
            position += 1
        else:
            return f"it has an unknown block at byte {position}"
    return missing


def _word(name: bytes) -> str:
    return repr(name.decode("latin-1"))


def _riff(file: BinaryIO, size: int) -> str | None:
    position = 0
    while position + 8 <= size:  # a large AVI is a row of RIFF chunks
        file.seek(position)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF":
            break
        position += 8 + length
        if position > size:
            return f"its content ends {position - size} bytes after the file"
        position += length % 2
    return None


def _iso(file: BinaryIO, size: int) -> str | None:
    """Foreign bytes behind the last box are no flaw: some cameras add them, players skip them."""
    absent = [b"moov", b"mdat"]
    for name, start, content, end in _boxes(file, size):
        if content <= end <= size:
            absent = [other for other in absent if other != name]
        elif not absent and name not in MEDIA_BOXES:
            return None
        elif end < content:
            return f"its box at byte {start} has an impossible length"
        else:
            return f"its box {_word(name)} ends {end - size} bytes after the file"
    return f"it has no {absent[0].decode()} box" if absent else None


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Name, start, start of the content and end of each box, up to one that cannot be."""
    start, content = 0, 0
    while content <= start <= size - 8:
        file.seek(start)
        length, name = struct.unpack(">I4s", file.read(8))
        content = start + 8
        if length == 1:
            length, content = int.from_bytes(file.read(8), "big"), start + 16
        elif length == 0:
            length = size - start
        yield name, start, content, start + length
        start += length


def _ebml(file: BinaryIO, size: int) -> str | None:
    def element(position: int) -> tuple[bytes, int | None]:
        """Name of the 4-byte-named element here, and where it ends (None: not said)."""
        file.seek(position)
        name, first = file.read(4), file.read(1)
        if not first or first[0] == 0:
            return b"", None
        width = 9 - first[0].bit_length()
        rest = file.read(width - 1)
        length = int.from_bytes(bytes([first[0] & (0xFF >> width)]) + rest, "big")
        unknown = length == (1 << (7 * width)) - 1
        return name, None if unknown else position + 4 + width + length

    _, position = element(0)
    if position is None or position >= size:
        return "its content is missing"
    name, end = element(position)
    if name != b"\x18\x53\x80\x67":
        return "its segment is missing"
    if end is not None and end > size:
        return f"its segment ends {end - size} bytes after the file"
    return None


WALKS: dict[Kind, Callable[[BinaryIO, int], str | None]] = {
    "png": _png,
    "jpeg": _jpeg,
    "gif": _gif,
    "webp": _riff,
    "avi": _riff,
    "mov": _iso,
    "matroska": _ebml,
}
