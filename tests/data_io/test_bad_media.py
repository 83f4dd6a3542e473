"""Every bad input gets one clear line, whatever is wrong with it."""

import contextlib
import os
import re
import socket
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from small_media import encode, moving, pixels, save_images

from csd_lab.data.media import MediaError, MediaInfo, probe, read_media, write_image, write_video

Reader = Callable[[Path], object]
BOTH = pytest.mark.parametrize("reader", [probe, read_media])


def line(reader: Reader, path: Path | str) -> str:
    """The message of the MediaError that reading must raise; it is one line."""
    with pytest.raises(MediaError) as caught:
        reader(path)
    text = str(caught.value)
    assert text.isprintable(), "one line, no control characters"
    assert len(text) < 600
    return text


@BOTH
@pytest.mark.parametrize(
    "path",
    [
        "no such file.mp4",
        "https://example.org/clip.mp4",
        "concat:a.mp4|b.mp4",
        "a\nb\x1b[31m.mp4",
        "nul\0.mp4",
        "x" * 5000,
        "क/नहीं है.png",
    ],
)
def test_missing(reader: Reader, path: str) -> None:
    assert "does not exist" in line(reader, path)


@BOTH
def test_empty_and_foreign_files(tmp_path: Path, reader: Reader) -> None:
    (tmp_path / "a.mp4").touch()
    assert line(reader, tmp_path / "a.mp4").endswith("a.mp4' is empty (0 bytes).")
    contents = {
        "text.mp4": b"just some text, nothing to see",
        "list.mp4": b"#EXTM3U\n#EXTINF:1\n/etc/hostname\n",
        "vector.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "paper.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
        "sound.avi": b"RIFF\x24\0\0\0WAVEfmt ",
        "photo.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "one": b"x",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert "is not media that can be read here: mp4, mov, webm" in line(reader, tmp_path / name)


@BOTH
def test_special_files_do_not_block(tmp_path: Path, reader: Reader) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "neither a file nor a folder" in line(reader, tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert "neither a file nor a folder" in line(reader, tmp_path / "s")


@BOTH
def test_sound_only(tmp_path: Path, reader: Reader) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert "no video stream" in line(reader, tmp_path / "a.mp4")


@BOTH
def test_videos_without_frames(tmp_path: Path, reader: Reader) -> None:
    for name in ("a.avi", "a.mkv"):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=8)
            stream.height = stream.width = 16
            stream.pix_fmt = "yuv420p"
            container.start_encoding()
        assert re.search("no frame|cut short|cannot be decoded", line(reader, tmp_path / name))


@BOTH
def test_folders_without_images(tmp_path: Path, reader: Reader) -> None:
    assert "has no png, jpg, webp, tif or bmp (empty)" in line(reader, tmp_path)
    write_video(tmp_path / "inside.mp4", moving(2), 8)
    assert "the first of 1 files is 'inside.mp4'" in line(reader, tmp_path)


@BOTH
def test_folders_of_mixed_sizes_name_two_files(tmp_path: Path, reader: Reader) -> None:
    save_images(tmp_path, moving(3, 10, 20), ["1.png", "2.png", "11.png"])
    save_images(tmp_path, moving(1, 20, 10), ["3.jpg"])
    assert line(reader, tmp_path).endswith("'1.png' is 20x10, '3.jpg' is 10x20.")
    assert len(read_media(tmp_path, max_frames=2).frames) == 2


@BOTH
def test_folders_with_a_spoilt_image_name_it(tmp_path: Path, reader: Reader) -> None:
    save_images(tmp_path, moving(3), ["1.png", "2.png", "3.png"])
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:-20])
    assert "2.png' is damaged or cut short" in line(reader, tmp_path)
    (tmp_path / "2.png").write_text("not an image")
    assert "2.png' is not media" in line(reader, tmp_path)
    write_video(tmp_path / "v.mp4", moving(2), 8)
    (tmp_path / "v.mp4").rename(tmp_path / "2.png")
    assert "2.png' is a video within a folder of images" in line(reader, tmp_path)


@BOTH
def test_unreadable(tmp_path: Path, reader: Reader) -> None:
    folder = save_images(tmp_path / "folder", moving(1), ["1.png"])
    file = tmp_path / "a.png"
    write_image(file, moving(1)[0])
    for path in (file, folder):
        path.chmod(0)
    parents = [path for path in tmp_path.parents if path.stat().st_uid == os.geteuid()]
    modes = {path: path.stat().st_mode for path in [tmp_path, *parents]}
    user = os.geteuid()
    try:
        if user == 0:  # root reads everything: be nobody for a moment
            for path in modes:
                path.chmod(modes[path] | 0o011)
            os.seteuid(65534)
        for path in (file, folder):
            assert line(reader, path).endswith("cannot be read: permission denied.")
    finally:
        os.seteuid(user)
        for path, mode in modes.items():
            path.chmod(mode)
        folder.chmod(0o700)


def test_too_much_for_the_memory(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving(10), 8)
    frame = 48 * 64 * 3 * 4
    assert len(read_media(tmp_path / "a.mp4", max_bytes=10 * frame).frames) == 10
    with pytest.raises(MediaError, match="choose a smaller max_frames"):
        read_media(tmp_path / "a.mp4", max_bytes=10 * frame - 1)
    assert len(read_media(tmp_path / "a.mp4", max_frames=3, max_bytes=3 * frame).frames) == 3


def test_nothing_after_start(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving(4), 8)
    assert "has no frame 4" in line(lambda path: read_media(path, start=4), tmp_path / "a.mp4")
    save_images(tmp_path / "f", moving(2), ["1.png", "2.png"])
    assert "has no frame 2" in line(lambda path: read_media(path, start=2), tmp_path / "f")


def test_deep_grey_out_of_range(tmp_path: Path) -> None:
    for name, values in {"a.tif": [[0, 65536]], "b.tif": [[-1, 3]]}.items():
        Image.fromarray(np.array(values, np.int32)).save(tmp_path / name)
        assert "grey values outside of 0 to 65535" in line(read_media, tmp_path / name)


def examples(folder: Path) -> list[Path]:
    """A file of each format, with some texture so that no part of it is empty."""
    frames = (moving(4) + 0.3 * torch.rand(4, 3, 48, 64)).clamp(0, 1)
    for suffix in ("png", "jpg", "webp", "tif", "bmp"):
        write_image(folder / f"a.{suffix}", frames[0])
    images = [Image.fromarray(picture) for picture in pixels(frames)]
    images[0].save(folder / "progressive.jpg", progressive=True)
    for suffix in ("gif", "webp", "png"):
        images[0].save(folder / f"b.{suffix}", save_all=True, append_images=images[1:])
    write_video(folder / "first.mp4", frames, 8)
    encode(folder / "last.mp4", frames, "libx264")
    encode(folder / "a.mov", frames, "libx264")
    encode(folder / "a.mkv", frames, "libx264")
    encode(folder / "a.webm", frames, "libvpx-vp9")
    encode(folder / "a.avi", frames, "mpeg4")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in examples(tmp_path_factory.mktemp("whole"))}


NAMES = [
    *["a.png", "a.jpg", "a.webp", "a.tif", "a.bmp", "progressive.jpg", "b.gif", "b.webp", "b.png"],
    *["first.mp4", "last.mp4", "a.mov", "a.mkv", "a.webm", "a.avi"],
]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated File")
@pytest.mark.parametrize("name", NAMES)
def test_truncation_is_seen_before_decoding(
    tmp_path: Path, whole: dict[str, bytes], name: str
) -> None:
    data, path = whole[name], tmp_path / name
    places = {1, 3, 9, 15, 40, *range(64, len(data), len(data) // 24), len(data) - 2, len(data) - 1}
    for place in sorted(places):
        path.write_bytes(data[:place])
        for reader in (probe, read_media):
            text = line(reader, path)
            assert re.search("cut short|not media|cannot be decoded", text), (place, text)
    path.write_bytes(data)
    assert isinstance(probe(path), MediaInfo)


TRAILERS = {
    "zeros": bytes(100),
    "ones": b"\xff" * 100,
    "too short": b"\0\0\0\3none",
    "text": b"a line that some camera wrote",
    "boxes": b"\0\0\0\x10free" + bytes(8) + b"\0\0\1\0skip",
}


@pytest.mark.parametrize("trailer", TRAILERS.values(), ids=TRAILERS)
@pytest.mark.parametrize("name", ["first.mp4", "last.mp4", "a.mov"])
def test_foreign_bytes_behind_a_video_are_ignored(
    tmp_path: Path, whole: dict[str, bytes], name: str, trailer: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(whole[name])
    frames = read_media(path).frames
    path.write_bytes(whole[name] + trailer)
    assert len(frames) == 4
    assert torch.equal(read_media(path).frames, frames)
    for place in range(len(whole[name]) // 2, len(whole[name]) - len(trailer), 97):
        path.write_bytes(whole[name][:place] + trailer)
        assert "damaged or cut short" in line(probe, path)


def boxes(data: bytes) -> dict[int, tuple[bytes, int]]:
    """Name and end of each box by where it starts."""
    found, start = {}, 0
    while start < len(data):
        end = start + int.from_bytes(data[start : start + 4], "big")
        found[start] = data[start + 4 : start + 8], end
        start = end
    return found


def test_fragments_that_are_cut_short(tmp_path: Path) -> None:
    flags = "frag_every_frame+empty_moov+dash"
    path = encode(tmp_path / "a.mp4", moving(4), "libx264", movflags=flags)
    data = path.read_bytes()
    found = boxes(data)
    assert [name for name, _ in found.values()].count(b"moof") == 4
    for start, (name, end) in found.items():
        for place in {start + 8, (start + end) // 2, end - 1}:
            path.write_bytes(data[:place])
            if name == b"mfra":  # an index that players can do without
                assert len(read_media(path).frames) == 4
            else:
                assert "cut short" in line(probe, path), (name, place)


def test_a_cut_jpeg_is_refused_even_where_pillow_was_told_to_forgive(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = whole["a.jpg"]
    for content in (data[: len(data) // 2], data[: len(data) // 2] + bytes(len(data) // 2)):
        (tmp_path / "a.jpg").write_bytes(content)
        assert "cut short" in line(read_media, tmp_path / "a.jpg")


@pytest.mark.filterwarnings("ignore")
@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_spoilt_bytes_never_raise_anything_else(
    whole: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(NAMES))
    content = bytearray(whole[name])
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        content[place] = value
    path = tmp_path_factory.mktemp("spoilt") / name
    path.write_bytes(content)
    with contextlib.suppress(MediaError):
        frames = read_media(path, max_bytes=2**27).frames
        assert frames.min() >= 0
        assert frames.max() <= 1


@given(st.binary(max_size=300))
@example(b"GIF89a" + bytes(7))
@example(b"\xff\xd8\xff\xe0\xff\xff")
@example(b"\x1aE\xdf\xa3\x00")
@example(b"\0\0\0\x01ftyp" + b"\xff" * 8)
@settings(max_examples=150, deadline=None)
def test_arbitrary_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "arbitrary"
    for start in (b"", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x1aE\xdf\xa3"):
        path.write_bytes(start + content)
        line(probe, path)
