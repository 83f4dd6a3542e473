"""Sheets of single images: wide ones below each other, large ones with parts at full size."""

import torch

from csd_lab.report import contact_sheet, side_by_side
from csd_lab.report.sheets import DETAIL, GAP, MARGIN, TEXT


def flat(shade: float, height: int, width: int) -> torch.Tensor:
    return torch.full((1, 3, height, width), shade)


def test_wide_images_stand_below_each_other() -> None:
    out = side_by_side({"source": flat(0.2, 64, 512), "edited": flat(0.6, 64, 512)})
    column = out[0, 0, :, 700].unique_consecutive().tolist()
    assert [round(shade, 3) for shade in column] == [1.0, 0.2, 1.0, 0.6]
    assert out.shape[2:] == (2 * (2 * TEXT + 3 * 64), 3 * 512)


def test_images_twice_as_wide_as_high_stand_beside_each_other() -> None:
    out = side_by_side({"source": flat(0.2, 64, 128), "edited": flat(0.6, 64, 128)})
    row = out[0, 0, 2 * TEXT + 50].unique_consecutive().tolist()
    assert [round(shade, 3) for shade in row] == [0.2, 1.0, 0.6]


def test_large_images_get_parts_at_full_size() -> None:
    image = torch.rand(1, 3, 600, 3000, generator=torch.Generator().manual_seed(0))
    sheet = contact_sheet({"source": image})
    strip = sheet[:, -MARGIN - DETAIL : -MARGIN, MARGIN:]
    for index, left in enumerate((0, (3000 - DETAIL) // 2, 3000 - DETAIL)):
        part = strip[:, :, index * (DETAIL + GAP) :][:, :, :DETAIL]
        assert torch.equal(part, image[0, :, 70 : 70 + DETAIL, left : left + DETAIL])
    smaller = contact_sheet({"source": image[..., :2000]})
    assert smaller.shape[1] < sheet.shape[1] - 300


def test_a_sheet_of_a_huge_image_is_of_a_sensible_size() -> None:
    for size in ((2048, 8192), (8192, 1024), (4096, 4096)):
        rows = {name: flat(0.5, *size) for name in ("source", "edited", "right answer")}
        sheet = contact_sheet(rows, title="make it night")
        assert sheet.shape[2] <= 2000
        assert sheet.shape[1] <= 4000
