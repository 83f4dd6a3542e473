"""Sheets and clips beside each other: sizes, places, labels of any script."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_pages import ANY_TEXT, HOSTILE, clip
from torch import Tensor

from csd_lab.html import line_to_show
from csd_lab.report import contact_sheet, side_by_side
from csd_lab.report.sheets import GAP, MARGIN, SMALL, TEXT, _font
from csd_lab.report.text import ELLIPSIS, wrap


def flat(colours: list[float], height: int = 64, width: int = 64) -> Tensor:
    """A clip with one colour a frame, (F, 3, H, W)."""
    return torch.tensor(colours)[:, None, None, None].expand(-1, 3, height, width)


def test_rows_and_columns_of_a_sheet() -> None:
    shades = [0.1 * i for i in range(1, 9)]
    sheet = contact_sheet({"source": flat(shades), "edited": flat(shades[::-1])})
    assert 1200 <= sheet.shape[2] <= 1700
    tile = 192
    assert sheet.shape[1] == 2 * MARGIN + 2 * (2 * TEXT + tile) + 2 * SMALL
    for row, expected in enumerate((shades, shades[::-1])):
        top = MARGIN + 2 * TEXT + row * (2 * TEXT + tile)
        for column, shade in enumerate(expected):
            left = MARGIN + column * (tile + GAP)
            assert torch.equal(
                sheet[:, top : top + tile, left : left + tile],
                torch.full((3, tile, tile), shades[0]).fill_(shade),
            )


@pytest.mark.parametrize(("frames", "shown"), [(2, 2), (8, 8), (9, 8), (100, 8)])
def test_frames_are_spread_from_first_to_last(frames: int, shown: int) -> None:
    shades = torch.linspace(0, 0.9, frames).tolist()
    sheet = contact_sheet({"source": flat(shades)})
    row = sheet[0, MARGIN + 2 * TEXT + 20]
    seen = [value for value in row.unique_consecutive().tolist() if value < 0.95]
    assert len(seen) == shown
    assert (seen[0], seen[-1]) == (pytest.approx(0.0), pytest.approx(0.9))


def test_columns_bear_the_names_of_their_frames() -> None:
    frames = flat([0.2, 0.4, 0.6])
    plain = contact_sheet({"source": frames})
    named = contact_sheet({"source": frames}, names=["frame 0", "frame 1", "frame 2"])
    other = contact_sheet({"source": frames}, names=["frame 0", "view 40", "frame 2"])
    assert torch.equal(plain, named)
    columns = (other != plain).any(0).any(0).nonzero()[:, 0]
    tile = (plain.shape[2] - 2 * MARGIN - 2 * GAP) // 3
    middle = MARGIN + tile + GAP
    assert len(columns)
    assert middle <= columns.min() < columns.max() < middle + tile


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (360, 640), (640, 360), (20, 900), (900, 20)])
def test_sheets_of_any_size_are_of_a_sensible_size(size: tuple[int, int]) -> None:
    for frames in (1, 3, 12):
        rows = {"source": clip(frames, *size), "edited": clip(frames, *size)}
        sheet = contact_sheet(rows, title="make it night")
        assert 600 <= sheet.shape[2] <= 2000
        assert sheet.shape[1] <= 2400
        assert sheet.min() >= 0
        assert sheet.max() <= 1


def test_single_images_stand_beside_each_other() -> None:
    sheet = contact_sheet({"source": flat([0.2]), "edited": flat([0.6])})
    row = sheet[0, MARGIN + 2 * TEXT + 50].unique_consecutive().tolist()
    assert row == pytest.approx([1.0, 0.2, 1.0, 0.6, 1.0])


def test_small_frames_are_enlarged_pixel_by_pixel() -> None:
    frames = (torch.rand(2, 3, 8, 8) * 255).round() / 255
    sheet = contact_sheet({"source": frames})
    first = sheet[:, MARGIN + 2 * TEXT :, MARGIN:]
    factor = int((first[0, 0] == first[0, 0, 0]).long().cumprod(0).sum())
    assert factor > 20
    grown = frames[0].repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    assert torch.equal(first[:, : 8 * factor, : 8 * factor], grown)


def test_side_by_side_keeps_every_frame() -> None:
    shades = [0.1, 0.4, 0.8]
    out = side_by_side({"source": flat(shades), "edited": flat(shades[::-1])})
    tile = 384
    assert out.shape == (3, 3, 2 * TEXT + tile, 2 * tile + GAP)
    for frame, shade in enumerate(shades):
        assert torch.equal(out[frame, :, 2 * TEXT :, :tile], flat([shade], tile, tile)[0])
        assert torch.equal(
            out[frame, :, 2 * TEXT :, tile + GAP :], flat([shades[-1 - frame]], tile, tile)[0]
        )


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_side_by_side_is_even_and_bounded(height: int, width: int, count: int) -> None:
    out = side_by_side({str(i): clip(1, height, width) for i in range(count)})
    assert out.shape[2] % 2 == out.shape[3] % 2 == 0
    assert out.shape[3] <= 1922


def test_large_clips_are_reduced() -> None:
    rows = {name: clip(2, 90, 1280) for name in ("source", "edited", "right answer")}
    assert side_by_side(rows).shape[3] <= 1920


def test_labels_are_drawn() -> None:
    def ink(title: str, label: str) -> float:
        return (contact_sheet({label: flat([1.0, 1.0])}, title=title) < 0.5).float().sum().item()

    assert ink("", "source") > ink("", "") > 0
    assert ink("make it night", "source") > ink("", "source")


def test_hostile_labels_do_not_break_anything() -> None:
    rows = {HOSTILE: clip(3), HOSTILE[::-1]: clip(3)}
    sheet = contact_sheet(rows, title=HOSTILE * 4)
    assert sheet.shape[2] < 2000
    side_by_side(rows)


@given(ANY_TEXT)
@settings(max_examples=60, deadline=None)
def test_any_label(text: str) -> None:
    contact_sheet({text: clip(2, 8, 8)}, title=text)


@given(st.text(st.characters(exclude_categories=()), max_size=400), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_wrapped_lines_fit_and_lose_nothing_without_an_ellipsis(text: str, lines: int) -> None:
    font = _font(TEXT)
    wrapped = wrap(text, font, 300, lines)
    assert len(wrapped) <= lines
    assert all(font.getlength(line) <= 300 or len(line) <= 2 for line in wrapped)
    joined = "".join(wrapped).replace(" ", "")
    if not joined.endswith(ELLIPSIS):
        assert joined == line_to_show(text).replace(" ", "")


def test_wrap_by_hand() -> None:
    font = _font(TEXT)
    width = font.getlength("make it night")
    assert wrap("make it night and quiet", font, width, 3) == ["make it night", "and quiet"]
    assert wrap("make it night and quiet", font, width, 1)[0].endswith(ELLIPSIS)
    assert wrap("  \n ", font, width, 3) == []
    assert line_to_show("a\n\tb\x00c\x1b[0m\u2028d") == "a b\ufffdc [0m d"


@pytest.mark.parametrize(
    "rows",
    [
        {},
        {"a": clip(2), "b": clip(3)},
        {"a": clip(2)[:, :1]},
        {"a": clip(2)[:0]},
        {"a": clip(2)[0]},
    ],
)
def test_clips_that_do_not_match(rows: dict[str, Tensor]) -> None:
    for make in (contact_sheet, side_by_side):
        with pytest.raises(ValueError, match="rows must be clips of one shape"):
            make(rows)
