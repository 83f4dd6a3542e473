"""What is read equals what was written, whatever container, size, depth or rotation."""

import logging
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from small_media import encode, moving, pixels, save_images
from torch import Tensor

from csd_lab.data import clips
from csd_lab.data.media import probe, read_media, write_image, write_video

BIT = 1 / 255


def error(actual: Tensor, expected: Tensor) -> float:
    return (actual - expected).abs().mean().item()


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "libx264"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.avi", "mpeg4"),
        ("a.mp4", "mpeg4"),
    ],
)
def test_videos_of_each_container(tmp_path: Path, clip: Tensor, name: str, codec: str) -> None:
    path = encode(tmp_path / name, clip, codec, Fraction(30000, 1001))
    info, media = probe(path), read_media(path)
    assert media.frames.shape == clip.shape
    assert media.frames.dtype == torch.float32
    assert error(media.frames, clip) < 0.03
    assert media.fps == pytest.approx(30000 / 1001, rel=1e-3)
    assert media.name == name
    assert (info.kind, info.height, info.width) == ("video", 48, 64)
    assert info.frames in (None, 6)


def test_a_wrong_suffix_does_not_matter(tmp_path: Path, clip: Tensor) -> None:
    path = encode(tmp_path / "a.mp4", clip, "libx264").rename(tmp_path / "a.jpg")
    assert read_media(path).frames.shape == clip.shape


@pytest.mark.parametrize("size", [(48, 64), (2, 2), (47, 64), (48, 63), (1, 1), (31, 17)])
def test_written_video_comes_back(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = moving(5, *size)
    if min(size) < 8:
        frames = frames.mean((1, 2, 3), keepdim=True).expand_as(frames)  # 4:2:0 blurs colours
    write_video(tmp_path / "a.mp4", frames, 12.5)
    media = read_media(tmp_path / "a.mp4")
    even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert tuple(media.frames.shape[2:]) == even
    assert error(media.frames[..., : size[0], : size[1]], frames) < 0.03
    assert media.fps == 12.5
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("fps", [0.1, 1.0, 23.976, 29.97, 30.0, 240.0])
def test_rates_come_back(tmp_path: Path, fps: float) -> None:
    write_video(tmp_path / "a.mp4", moving(3, 16, 16), fps)
    assert read_media(tmp_path / "a.mp4").fps == pytest.approx(fps, rel=1e-4)


def test_colours_come_back_within_three_levels(tmp_path: Path) -> None:
    colours = torch.tensor(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0], [0.5, 0.5, 0.5], [0.9, 0.7, 0.1]]
    )
    frames = colours[:, :, None, None].expand(-1, 3, 32, 32)
    write_video(tmp_path / "a.mp4", frames, 8)
    assert (read_media(tmp_path / "a.mp4").frames - frames).abs().max() < 3.01 * BIT


def test_written_video_is_h264_with_tagged_colours(tmp_path: Path, clip: Tensor) -> None:
    write_video(tmp_path / "a.mp4", clip, 8)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
    assert stream.codec_context.name == "h264"
    assert frame.format.name == "yuv420p"
    assert (frame.colorspace, frame.color_range) == (1, 1)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("encoder", ["libvpx-vp9", "mpeg4"])
def test_other_encoders_stand_in(
    tmp_path: Path, clip: Tensor, encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "ENCODERS", {"absent": {}, encoder: clips.ENCODERS[encoder]})
    write_video(tmp_path / "a.mp4", clip, 12.5)
    media = read_media(tmp_path / "a.mp4")
    assert media.frames.shape == clip.shape
    assert error(media.frames, clip) < 0.03
    assert media.fps == 12.5


def test_no_encoder_at_all(tmp_path: Path, clip: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "ENCODERS", {"absent": {}})
    with pytest.raises(RuntimeError, match="none of the encoders absent"):
        write_video(tmp_path / "a.mp4", clip, 8)
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_turned_and_mirrored_as_the_file_says(tmp_path: Path, clip: Tensor) -> None:
    path = encode(tmp_path / "a.mp4", clip, "libx264")
    upright = read_media(path).frames
    data = bytearray(path.read_bytes())
    one, end = 1 << 16, 1 << 30
    matrices = {
        -1: (0, one, 0, -one, 0, 0, 0, 0, end),
        2: (-one, 0, 0, 0, -one, 0, 0, 0, end),
        1: (0, -one, 0, one, 0, 0, 0, 0, end),
    }
    mirror = ([-1, -1, -1], [1, 1, 1], [1, 1, 1])  # across: x' = -x
    for turns, matrix in matrices.items():
        mirrored = (np.reshape(matrix, (3, 3)) * np.transpose(mirror)).astype(int).ravel().tolist()
        turned = torch.rot90(upright, turns, (2, 3))
        for numbers, shown in ((matrix, turned), (mirrored, turned.flip(3))):
            struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *numbers)
            path.write_bytes(data)
            assert torch.equal(read_media(path).frames, shown)
            assert (probe(path).height, probe(path).width) == tuple(shown.shape[2:])


@pytest.mark.parametrize(("transfer", "name"), [("smpte2084", "PQ"), ("arib-std-b67", "HLG")])
def test_hdr_is_read_as_it_is_and_told_once(
    tmp_path: Path, clip: Tensor, caplog: pytest.LogCaptureFixture, transfer: str, name: str
) -> None:
    tags = {"colorspace": "bt2020nc", "color_primaries": "bt2020", "qp": "0"}  # lossless
    plain = encode(tmp_path / "sdr.mov", clip, "libx264", color_trc="bt709", **tags)
    path = encode(tmp_path / "x.mov", clip, "libx264", color_trc=transfer, **tags)
    with caplog.at_level(logging.WARNING):
        expected = read_media(plain).frames
        assert caplog.messages == []
        assert torch.equal(read_media(path).frames, expected)
    assert caplog.messages == [
        f"'{path}' is HDR ({name}), which is read as it is, flat and dark; convert it to SDR first."
    ]


def clear(clip: Tensor) -> Tensor:
    """The clip with opacity, (F, 4, H, W): none on the left, all on the right."""
    opacity = torch.linspace(0, 1, clip.shape[-1]).expand_as(clip[:, :1])
    return torch.cat([clip, opacity], dim=1)


@pytest.mark.parametrize(
    ("codec", "layout"), [("qtrle", "argb"), ("png", "rgba"), ("prores_ks", "yuva444p10le")]
)
def test_transparent_video_is_laid_over_white(
    tmp_path: Path, clip: Tensor, codec: str, layout: str
) -> None:
    frames = clear(clip)
    expected = frames[:, :3] * frames[:, 3:] + 1 - frames[:, 3:]
    path = encode(tmp_path / "a.mov", frames, codec, layout=layout)
    media = read_media(path)
    assert error(media.frames, expected) < (0.02 if codec == "prores_ks" else BIT)
    assert (media.frames[..., 0] - 1).abs().max() < BIT
    assert (probe(path).height, probe(path).width) == (48, 64)
    if codec != "prores_ks":
        write_image(tmp_path / "still.png", frames[3])
        assert torch.equal(read_media(tmp_path / "still.png").frames[0], media.frames[3])


def test_opaque_video_with_opacity_keeps_its_colours(tmp_path: Path, clip: Tensor) -> None:
    frames = torch.cat([clip, torch.ones_like(clip[:, :1])], dim=1)
    path = encode(tmp_path / "a.mov", frames, "qtrle", layout="argb")
    plain = encode(tmp_path / "b.mov", clip, "qtrle", layout="rgb24")
    assert torch.equal(read_media(path).frames, read_media(plain).frames)


def test_filling_of_an_uncompressed_avi_is_no_opacity(tmp_path: Path, clip: Tensor) -> None:
    frames = torch.cat([clip, torch.zeros_like(clip[:, :1])], dim=1)
    path = encode(tmp_path / "a.avi", frames, "rawvideo", layout="bgra")
    assert (read_media(path).frames - clip).abs().max() <= 0.51 * BIT


def test_variable_rate_keeps_each_frame_once_and_the_duration(tmp_path: Path) -> None:
    frames = moving(5)
    path = encode(tmp_path / "a.mp4", frames, "libx264", times=[0, 100, 150, 700, 800])
    media = read_media(path)
    assert len(media.frames) == 5
    assert media.fps == pytest.approx(4 / 0.8, rel=0.02)


@pytest.mark.parametrize(("apart", "fps"), [(200_000, 0.01), (1, 1000.0)])
def test_rates_that_no_video_can_have_are_the_nearest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, apart: int, fps: float
) -> None:
    """So that what is made of them can be written."""
    times = [apart * i for i in range(3)]
    path = encode(tmp_path / "a.mkv", moving(3), "libx264", times=times)
    media = read_media(path, stride=1)
    assert media.fps == pytest.approx(fps)
    write_video(tmp_path / "b.mp4", media.frames, media.fps)
    assert ("are taken" in caplog.text) == (fps < 1)


def test_part_of_a_video(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", moving(20), "libx264", 10)
    whole = read_media(path)
    part = read_media(path, max_frames=4, start=3, stride=5)
    assert torch.equal(part.frames, whole.frames[3:19:5])
    assert part.fps == pytest.approx(2.0)
    assert len(read_media(path, max_frames=100).frames) == 20
    assert len(read_media(path, max_frames=1).frames) == 1


def test_frames_in_fragments_count(tmp_path: Path) -> None:
    flags = "frag_every_frame"
    path = encode(tmp_path / "a.mp4", moving(10), "libx264", movflags=flags)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 1
    assert probe(path).frames is None
    whole = read_media(path).frames
    assert len(whole) == 10
    assert torch.equal(read_media(path, start=7).frames, whole[7:])


def test_folder_in_natural_order(tmp_path: Path) -> None:
    frames = moving(12, 20, 30)
    names = [f"frame {i}.png" for i in range(12)]
    folder = save_images(tmp_path / "clip", frames, names)
    (folder / "notes.txt").write_text("ignored")
    (folder / ".hidden.png").write_text("ignored")
    (folder / "sub").mkdir()
    media = read_media(folder, still_fps=5)
    assert (media.frames - frames).abs().max() <= 0.51 * BIT
    assert (media.fps, media.name) == (5, "clip")
    info = probe(folder)
    assert (info.kind, info.height, info.width, info.frames) == ("folder", 20, 30, 12)
    part = read_media(folder, max_frames=3, start=1, stride=4)
    assert torch.equal(part.frames, media.frames[1:10:4])


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_images_of_each_format(tmp_path: Path, suffix: str) -> None:
    image = moving(1, 33, 47)[0]
    write_image(tmp_path / f"a.{suffix}", image)
    media = read_media(tmp_path / f"a.{suffix}")
    assert media.frames.shape == (1, 3, 33, 47)
    assert error(media.frames[0], image) < (0.02 if suffix in ("jpg", "webp") else 0.51 * BIT)
    assert probe(tmp_path / f"a.{suffix}").kind == "image"


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = next(pixels(moving(1, 20, 30)))
    image = Image.fromarray(picture)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    media = read_media(tmp_path / "a.png")
    assert media.frames.shape == (1, 3, 30, 20)
    expected = torch.rot90(torch.tensor(picture).permute(2, 0, 1) / 255, -1, (1, 2))
    assert torch.equal(media.frames[0], expected)
    assert (probe(tmp_path / "a.png").height, probe(tmp_path / "a.png").width) == (30, 20)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    layers = np.zeros((2, 3, 4), np.uint8)
    layers[..., 0], layers[0, :, 3], layers[1, :, 3] = 255, 0, 128
    Image.fromarray(layers).save(tmp_path / "a.png")
    frame = read_media(tmp_path / "a.png").frames[0]
    assert torch.equal(frame[:, 0], torch.ones(3, 3))
    assert torch.allclose(frame[:, 1, 0], torch.tensor([1.0, 127 / 255, 127 / 255]))
    palette = Image.fromarray(layers[..., 0]).convert("P")
    palette.save(tmp_path / "b.png", transparency=palette.getpixel((0, 0)))
    assert torch.equal(read_media(tmp_path / "b.png").frames, torch.ones(1, 3, 2, 3))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_keeps_its_depth(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 4 * 300).round().astype(np.uint16).reshape(4, 300)
    Image.fromarray(ramp).save(tmp_path / f"a.{suffix}")
    frames = read_media(tmp_path / f"a.{suffix}").frames
    expected = torch.tensor(ramp.astype(np.float32) / 65535)
    assert torch.allclose(frames, expected.expand(1, 3, 4, 300), atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr"])
def test_other_modes(tmp_path: Path, mode: str) -> None:
    picture = np.repeat(np.array([[0, 255], [255, 0]], np.uint8)[..., None], 3, axis=-1)
    Image.fromarray(picture).convert(mode).save(tmp_path / "a.tif")
    frame = read_media(tmp_path / "a.tif").frames[0]
    assert error(frame, torch.tensor(picture).permute(2, 0, 1) / 255) < 0.01


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animations(tmp_path: Path, suffix: str) -> None:
    levels = [0, 60, 120, 255]
    images = [Image.new("RGB", (10, 8), (level, level, level)) for level in levels]
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    images[0].save(path, save_all=True, append_images=images[1:], duration=50, **options)
    media, info = read_media(path), probe(path)
    assert (media.frames[:, 0, 0, 0] * 255).round().tolist() == levels
    assert media.fps == pytest.approx(20)
    assert (info.kind, info.frames) == ("animation", 4)
    part = read_media(path, max_frames=2, stride=2)
    assert torch.equal(part.frames, media.frames[::2])
    assert part.fps == pytest.approx(10)


def test_hasty_animations_run_as_in_browsers(tmp_path: Path) -> None:
    images = [Image.new("L", (4, 4), level) for level in (0, 90, 180)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=0)
    assert read_media(tmp_path / "a.gif").fps == pytest.approx(10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_frames": 0}, "max_frames must be a whole number of at least 1, got 0"),
        ({"max_frames": -3}, "max_frames must be a whole number of at least 1, got -3"),
        ({"start": -1}, "start must be a whole number of at least 0, got -1"),
        ({"stride": 0}, "stride must be a whole number of at least 1, got 0"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, arguments: dict[str, int], words: str) -> None:
    write_image(tmp_path / "a.png", moving(1)[0])
    with pytest.raises(ValueError, match=words):
        read_media(tmp_path / "a.png", **arguments)


def test_writers_refuse_wrong_input_and_leave_nothing(tmp_path: Path, clip: Tensor) -> None:
    spoilt = clip.clone()
    spoilt[3, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        write_video(tmp_path / "a.mp4", spoilt, 8)
    with pytest.raises(ValueError, match="F >= 1"):
        write_video(tmp_path / "a.mp4", clip[:0], 8)
    with pytest.raises(ValueError, match="fps must be a number"):
        write_video(tmp_path / "a.mp4", clip, 0)
    with pytest.raises(ValueError, match=r"end in \.mp4"):
        write_video(tmp_path / "a.gif", clip, 8)
    with pytest.raises(ValueError, match="finite"):
        write_image(tmp_path / "a.png", spoilt[3])
    with pytest.raises(ValueError, match=r"got 'a\.exe'"):
        write_image("a.exe", clip[0])
    with pytest.raises(ValueError, match=r"\(3, H, W\)"):
        write_image(tmp_path / "a.png", clip[0, :1])
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_former_file(tmp_path: Path, clip: Tensor) -> None:
    write_video(tmp_path / "a.mp4", clip, 8)
    before = (tmp_path / "a.mp4").read_bytes()
    clip[5] = float("inf")
    with pytest.raises(ValueError, match="finite"):
        write_video(tmp_path / "a.mp4", clip, 8)
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
