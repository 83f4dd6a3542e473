"""Image files that Pillow cannot write: 16 bits a channel, colour profiles, huge headers."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import ImageCms

PNG_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def write_png(path: Path, pixels: np.ndarray, **chunks: bytes) -> Path:
    """Write (H, W, C) pixels, uint8 or uint16; more chunks by name, such as ``eXIf``."""
    height, width, channels = pixels.shape
    depth = 8 * pixels.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, PNG_COLOURS[channels], 0, 0, 0)
    rows = pixels.astype(pixels.dtype.newbyteorder(">"))
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    extra = b"".join(_chunk(name.encode(), content) for name, content in chunks.items())
    parts = [_chunk(b"IHDR", header), extra, _chunk(b"IDAT", data), _chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def huge_png(path: Path, width: int, height: int) -> Path:
    """Write the whole structure of a PNG with next to no content."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(b"")), _chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def twelve_bit_tiff(path: Path, values: np.ndarray) -> Path:
    """Write grey (H, W) of 0 to 4095, W even, in 12 bits a pixel."""
    height, width = values.shape
    first, second = values.reshape(-1, 2).astype(int).T
    parts = first >> 4, (first & 15) << 4 | second >> 8, second & 255
    data = np.stack(parts, axis=1).astype(np.uint8).tobytes()
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    tags |= {279: len(data)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    end = struct.pack("<H", len(tags)) + directory + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + end)
    return path


def orientation(number: int) -> bytes:
    """EXIF data that hold an orientation and nothing else."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, number, 0)
    return b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)


def iccp(profile: bytes) -> bytes:
    """Content of a PNG's iCCP chunk."""
    return b"p\0\0" + zlib.compress(profile)


def srgb_profile() -> bytes:
    """The profile that Little CMS has for sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def _profile(
    space: bytes, kind: bytes, tags: dict[bytes, bytes], connection: bytes = b"XYZ "
) -> bytes:
    """A profile of version 2.1 (ICC.1:1998-09)."""
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content
    head = struct.pack(
        ">I4sI4s4s4s", place + len(body), b"\0\0\0\0", 0x02100000, kind, space, connection
    )
    head += bytes(12) + b"acsp" + bytes(28) + _fixed(0.9642, 1.0, 0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _named(name: bytes) -> dict[bytes, bytes]:
    text = name + b"\0"
    described = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    white = b"XYZ " + bytes(4) + _fixed(0.9642, 1.0, 0.8249)
    return {b"desc": described, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": white}


def _gamma(exponent: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(exponent * 256)) + bytes(2)


def rgb_profile(exponent: float) -> bytes:
    """A display with the primaries of sRGB (adapted to D50) and a power law."""
    columns = {
        b"rXYZ": (0.43607, 0.22249, 0.01392),
        b"gXYZ": (0.38515, 0.71687, 0.09708),
        b"bXYZ": (0.14307, 0.06061, 0.71410),
    }
    tags = _named(b"power law")
    tags |= {name: b"XYZ " + bytes(4) + _fixed(*column) for name, column in columns.items()}
    tags |= {name: _gamma(exponent) for name in (b"rTRC", b"gTRC", b"bTRC")}
    return _profile(b"RGB ", b"mntr", tags)


def grey_profile(exponent: float) -> bytes:
    """A display of greys with a power law."""
    return _profile(b"GRAY", b"mntr", _named(b"grey") | {b"kTRC": _gamma(exponent)})


def cmyk_profile() -> bytes:
    """A printer of four greys: the more ink of any colour, the darker; black alone is black."""
    corners = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    lightness = 255 * (1 - corners[:, 3]) * (1 - corners[:, :3].mean(1) / 2)
    lab = np.stack([lightness, np.full(16, 128), np.full(16, 128)], axis=-1).round()
    straight = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += 4 * straight + lab.astype(np.uint8).tobytes() + 3 * straight
    return _profile(b"CMYK", b"prtr", _named(b"four greys") | {b"A2B0": table}, b"Lab ")


def encoded(linear: np.ndarray) -> np.ndarray:
    """The transfer function of sRGB (IEC 61966-2-1), [0, 1] -> [0, 1]."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
