"""One image: its depth, its opacity, its colours and its way up; and what is refused, in a line."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from image_files import (
    cmyk_profile,
    encoded,
    grey_profile,
    huge_png,
    iccp,
    orientation,
    rgb_profile,
    srgb_profile,
    twelve_bit_tiff,
    write_png,
)
from PIL import Image

from csd_lab.data import MediaError, probe, read_image, read_media, write_image
from csd_lab.data.media import image_size
from csd_lab.data.stills import MAX_PIXELS

LEVEL = 1 / 255
DEEP = 1 / 65535


def noise(channels: int, kind: type = np.uint16, height: int = 37, width: int = 53) -> np.ndarray:
    top = np.iinfo(kind).max
    return np.random.default_rng(channels).integers(0, top + 1, (height, width, channels), kind)


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    """(H, W, C) integers as (C, H, W) in [0, 1]."""
    top = np.iinfo(pixels.dtype).max
    return torch.from_numpy(pixels.astype(np.float64) / top).permute(2, 0, 1).float()


def upright(pixels: np.ndarray, number: int) -> np.ndarray:
    """What a viewer shows of pixels with an EXIF orientation, by Pillow's own words for it."""
    ways = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: np.rot90(p, 2),
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
        8: lambda p: np.rot90(p, 1),
    }
    return np.ascontiguousarray(ways[number](pixels))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp", "gif"])
def test_each_format(tmp_path: Path, suffix: str) -> None:
    y, x = np.mgrid[0:60, 0:90]
    pixels = np.stack([x * 2, y * 4, x + y], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", quality=95)
    photo = read_image(tmp_path / f"a.{suffix}")
    assert photo.image.shape == (3, 60, 90)
    assert photo.image.dtype == torch.float32
    assert (photo.alpha, photo.name) == (None, f"a.{suffix}")
    limits = {"jpg": 0.02, "webp": 0.02, "gif": 0.1}
    assert (photo.image - as_tensor(pixels)).abs().mean() <= limits.get(suffix, 1e-7)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_of_16_bits_keeps_every_one(tmp_path: Path, channels: int) -> None:
    pixels = noise(channels)
    photo = read_image(write_png(tmp_path / "a.png", pixels))
    assert photo.alpha is None
    assert (photo.image - as_tensor(pixels)).abs().max() < 0.01 * DEEP
    assert (read_media(tmp_path / "a.png").frames[0] == photo.image).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "predictor": 2}, {"planar": True}])
def test_tiff_of_16_bits_keeps_every_one(tmp_path: Path, order: str, options: dict) -> None:
    pixels = noise(3)
    planar = options.pop("planar", False)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels.transpose(2, 0, 1) if planar else pixels,
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        byteorder=order,
        **options,
    )
    if planar:
        options["planar"] = True
    assert (read_image(tmp_path / "a.tif").image - as_tensor(pixels)).abs().max() < 0.01 * DEEP


def test_tiff_in_tiles_is_read_with_8_bits_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = noise(3)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(16, 16))
    with caplog.at_level(logging.WARNING):
        photo = read_image(tmp_path / "a.tif")
    assert "8 of 16 bits are read, as it is a TIFF in tiles" in caplog.text
    assert (photo.image - as_tensor(pixels)).abs().max() <= LEVEL


def test_white_is_0_in_some_tiffs(tmp_path: Path) -> None:
    for kind in (np.uint8, np.uint16):
        pixels = noise(1, kind)
        tifffile.imwrite(tmp_path / "a.tif", pixels[..., 0], photometric="miniswhite")
        expected = 1 - as_tensor(pixels)
        assert (read_image(tmp_path / "a.tif").image - expected).abs().max() < 1e-6


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_exif_orientation(tmp_path: Path, number: int, kind: type) -> None:
    pixels = noise(3, kind)
    expected = as_tensor(upright(pixels, number))
    write_png(tmp_path / "a.png", pixels, eXIf=orientation(number))
    tag = [(0x0112, "H", 1, number, False)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extratags=tag)
    for path in (tmp_path / "a.png", tmp_path / "a.tif"):
        assert (probe(path).height, probe(path).width) == tuple(expected.shape[1:])
        assert (read_image(path).image - expected).abs().max() < 1e-6
        assert image_size(path, upright=False) == pixels.shape[:2]
        stored = read_image(path, upright=False).image
        assert (stored - as_tensor(pixels)).abs().max() < 1e-6


def test_grey_of_twelve_bits(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 4 * 30).round().astype(int).reshape(4, 30)
    image = read_image(twelve_bit_tiff(tmp_path / "a.tif", values)).image
    assert (image - torch.tensor(values / 4095)).abs().max() < 1e-6


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
def test_opacity_is_kept_and_laid_over_the_background(
    tmp_path: Path, channels: int, kind: type
) -> None:
    pixels = noise(channels, kind)
    layers = as_tensor(pixels)
    colour, alpha = layers[:-1].expand(3, -1, -1), layers[-1]
    write_png(tmp_path / "a.png", pixels)
    for background in ((1.0, 1.0, 1.0), (0.2, 0.4, 0.6)):
        photo = read_image(tmp_path / "a.png", background)
        assert photo.alpha is not None
        assert (photo.alpha - alpha).abs().max() < 1e-6
        expected = colour * alpha + torch.tensor(background)[:, None, None] * (1 - alpha)
        assert (photo.image - expected).abs().max() < 1e-6


def test_opacity_of_a_palette_and_of_a_marked_colour(tmp_path: Path) -> None:
    grey = Image.fromarray(np.array([[0, 200], [100, 0]], np.uint8))
    palette = grey.convert("P")
    palette.save(tmp_path / "p.png", transparency=palette.getpixel((0, 0)))
    grey.save(tmp_path / "l.png", transparency=0)
    palette.save(tmp_path / "p.gif", transparency=palette.getpixel((0, 0)))
    for name in ("p.png", "l.png", "p.gif"):
        alpha = read_image(tmp_path / name).alpha
        assert alpha is not None
        assert alpha.tolist() == [[0, 1], [1, 0]]


def test_an_opaque_alpha_channel_is_none(tmp_path: Path) -> None:
    for kind in (np.uint8, np.uint16):
        pixels = noise(4, kind)
        pixels[..., 3] = np.iinfo(kind).max
        assert read_image(write_png(tmp_path / "a.png", pixels)).alpha is None


def test_colours_that_were_multiplied_by_the_opacity(tmp_path: Path) -> None:
    for kind in (np.uint8, np.uint16):
        pixels = noise(4, kind)
        top = np.iinfo(kind).max
        pixels[..., 3] |= top // 2  # else rounding is all that is left of some colours
        stored = pixels.copy()
        stored[..., :3] = np.rint(pixels[..., :3].astype(float) * pixels[..., 3:] / top)
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
        photo, layers = read_image(tmp_path / "a.tif"), as_tensor(pixels)
        expected = layers[:3] * layers[3] + 1 - layers[3]
        assert (photo.image - expected).abs().max() < 1.6 / top


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB"])
def test_modes_of_colour(tmp_path: Path, mode: str) -> None:
    picture = np.repeat(np.array([[0, 255], [255, 0]], np.uint8)[..., None], 3, axis=-1)
    image = Image.fromarray(picture)
    if mode == "LAB":
        lab = np.array([[[0, 128, 128], [255, 128, 128]]] * 2, np.uint8)
        lab[1] = lab[1, ::-1]
        tifffile.imwrite(tmp_path / "a.tif", lab ^ np.uint8([0, 128, 128]), photometric="cielab")
    else:
        image.convert(mode).save(tmp_path / "a.tif")
    assert (read_image(tmp_path / "a.tif").image - as_tensor(picture)).abs().max() < 0.02


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_colour_profiles_are_applied(tmp_path: Path, suffix: str) -> None:
    """Linear light, brightened by the transfer function of sRGB."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    image = Image.fromarray(np.repeat(ramp[..., None], 3, axis=-1))
    options = {"lossless": True} if suffix == "webp" else {"quality": 100}
    image.save(tmp_path / f"a.{suffix}", icc_profile=rgb_profile(1.0), **options)
    expected = encoded(np.arange(256) / 255)
    shown = read_image(tmp_path / f"a.{suffix}").image.mean((0, 1)).numpy()
    assert np.abs(shown - expected).max() < (0.6 if suffix != "jpg" else 4) * LEVEL


def test_a_profile_of_greys(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    Image.fromarray(ramp).save(tmp_path / "a.png", icc_profile=grey_profile(1.0))
    shown = read_image(tmp_path / "a.png").image.mean((0, 1)).numpy()
    assert np.abs(shown - encoded(np.arange(256) / 255)).max() < 0.6 * LEVEL


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_a_profile_of_inks(tmp_path: Path, suffix: str) -> None:
    """Cyan, which is bright blue without a profile, is grey by this one: L* = 100 (1 - 1 / 6)."""
    inks = np.zeros((3, 16, 16, 4), np.uint8)
    inks[1, ..., 0], inks[2, ..., 3] = 255, 255
    image = Image.fromarray(inks.reshape(48, 16, 4), mode="CMYK")
    image.save(tmp_path / f"a.{suffix}", icc_profile=cmyk_profile(), quality=100)
    shown = read_image(tmp_path / f"a.{suffix}").image[:, 8::16].mean(-1)
    grey = float(encoded(((100 * (1 - 1 / 6) + 16) / 116) ** 3))
    expected = torch.tensor([1.0, grey, 0.0]).expand(3, 3)
    assert (shown - expected).abs().max() < 0.02


def test_a_profile_of_deep_colour_leaves_8_bits_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ramp = np.linspace(0, 65535, 300).round().astype(np.uint16)
    for channels, profile in {3: rgb_profile(1.0), 1: grey_profile(1.0)}.items():
        pixels = np.tile(ramp[None, :, None], (3, 1, channels))
        write_png(tmp_path / "a.png", pixels, iCCP=iccp(profile))
        with caplog.at_level(logging.WARNING):
            shown = read_image(tmp_path / "a.png").image.mean((0, 1)).numpy()
        assert "8 of 16 bits are read, as it has a colour profile" in caplog.text
        assert np.abs(shown - encoded(ramp / 65535))[20:].max() < 6 * LEVEL
        caplog.clear()


def test_srgb_is_left_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for kind in (np.uint8, np.uint16):
        pixels = noise(3, kind)
        write_png(tmp_path / "a.png", pixels, iCCP=iccp(srgb_profile()))
        with caplog.at_level(logging.WARNING):
            photo = read_image(tmp_path / "a.png")
        assert (photo.image - as_tensor(pixels)).abs().max() < 1e-6
    assert caplog.text == ""


@pytest.mark.parametrize("profile", [b"nonsense", rgb_profile(1.0)[:200], grey_profile(2.2)])
def test_profiles_that_do_not_fit_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, profile: bytes
) -> None:
    pixels = noise(3, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profile)
    with caplog.at_level(logging.WARNING):
        photo = read_image(tmp_path / "a.png")
    assert (photo.image - as_tensor(pixels)).abs().max() < 1e-6
    assert "left out" in caplog.text or profile == b"nonsense"  # lru_cache may have told it before


def test_only_the_first_page_of_a_tiff(tmp_path: Path) -> None:
    pages = np.stack([noise(3, np.uint8), 255 - noise(3, np.uint8)])
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb")
    assert (read_image(tmp_path / "a.tif").image - as_tensor(pages[0])).abs().max() < 1e-6


def refusal(path: Path) -> str:
    """The line that probing and reading are refused with."""
    texts = []
    for reader in (probe, read_image, read_media):
        with pytest.raises(MediaError) as caught:
            reader(path)
        texts.append(str(caught.value))
    assert texts[0] == texts[1] == texts[2]
    assert texts[0].isprintable()
    return texts[0]


@pytest.mark.parametrize(("width", "height"), [(8193, 8192), (10000, 9000), (60000, 60000)])
def test_huge_images_are_refused_before_they_are_decoded(
    tmp_path: Path, width: int, height: int
) -> None:
    text = refusal(huge_png(tmp_path / "a.png", width, height))
    assert re.search(r"has more than 67108864 pixels \(8192 x 8192\).*scale it down first", text)
    assert MAX_PIXELS == 8192 * 8192


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_floating_point_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    for shape in ((8, 9), (8, 9, 3)):
        photometric = "rgb" if len(shape) == 3 else "minisblack"
        tifffile.imwrite(tmp_path / "a.tif", np.full(shape, 0.5, kind), photometric=photometric)
        assert "holds floating-point numbers" in refusal(tmp_path / "a.tif")


def test_unusual_tiffs_are_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((8, 9, 3), np.uint32), photometric="rgb")
    assert "cannot be read here (3 channels of 32 bits)" in refusal(tmp_path / "a.tif")


def test_damaged_deep_colour_is_seen(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", noise(3))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(MediaError, match="cannot be decoded"):
        read_image(path)


def test_what_is_no_single_image(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), level) for level in (0, 90)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(MediaError, match="is an animation, not a single image"):
        read_image(tmp_path / "a.gif")
    with pytest.raises(MediaError, match="is a folder, not a single image"):
        read_image(tmp_path)
    with pytest.raises(MediaError, match="does not exist"):
        read_image(tmp_path / "b.png")


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_opacity_is_written_where_the_format_can_hold_it(tmp_path: Path, suffix: str) -> None:
    pixels = noise(4, np.uint8)
    pixels[..., 3] |= 1
    write_image(tmp_path / f"a.{suffix}", as_tensor(pixels))
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert image.mode == "RGBA"
        assert (np.asarray(image)[..., 3] == pixels[..., 3]).all()
    with pytest.raises(ValueError, match=r"path must end in one of .*\.png.* to hold opacity"):
        write_image(tmp_path / "a.jpg", as_tensor(pixels))


def test_8_bits_come_back_to_the_last_one(tmp_path: Path) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=-1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    write_image(tmp_path / "b.png", read_image(tmp_path / "a.png").image)
    assert (np.asarray(Image.open(tmp_path / "b.png")) == pixels).all()


def test_writing_rounds_to_the_nearest_level(tmp_path: Path) -> None:
    values = torch.tensor([0.0, 0.49, 0.51, 254.49, 254.51, 255.0]) / 255
    write_image(tmp_path / "a.png", values.expand(3, 1, 6))
    assert np.asarray(Image.open(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 0, 1, 254, 255, 255]
