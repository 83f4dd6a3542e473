"""Which regions scripts/compare_regions.py edits, and what it measures of them."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from comparison.cells import Cell, Plan
from comparison.subjects import (
    panorama_in_regions,
    panorama_regions,
    prompts_in_regions,
    psnr_by_place,
)

from csd_lab.data import read_regions
from csd_lab.types import Artefact

WIDTH = 192
SUBJECT = panorama_regions(WIDTH, {"shared": ()})
CELLS = [cell for cell, _ in Plan(0, 4, 1, ["shared"], SUBJECT.edits_of, 2, 0).cells()]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_prompts_of_a_cell_are_of_its_scene_and_differ(cell: Cell) -> None:
    regions = prompts_in_regions(cell, WIDTH)
    prompts = [region["prompt"] for region in regions]
    assert prompts[0] == cell.instruction
    assert len(set(prompts)) == len(regions) == 2 + cell.scene % 2
    allowed = {edit.instruction for edit in SUBJECT.edits_of(cell.scene)}
    assert set(prompts) <= allowed
    assert prompts_in_regions(cell, WIDTH) == regions
    assert panorama_in_regions(cell, WIDTH).regions == read_regions(regions)


def test_what_lies_between_regions_is_measured_apart() -> None:
    data = panorama_in_regions(CELLS[0], WIDTH)
    task = data.task
    assert task.targets is not None
    target = task.targets[0]
    columns = torch.arange(WIDTH) / WIDTH
    between = (columns >= 0.41) & (columns < 0.59)
    assert torch.equal(target[..., between], task.source[..., between])
    worse = torch.where(between, (target + 0.1).where(target < 0.5, target - 0.1), target)
    figures = psnr_by_place(data, Artefact(worse, task))
    assert figures["psnr_regions"] == 100
    assert 20 <= figures["psnr_between"] < 21
    exact = psnr_by_place(data, Artefact(target, task))
    assert set(exact.values()) == {100}
