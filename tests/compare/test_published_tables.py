"""What the tables of scripts/reproduce_tables.py say, on figures whose outcome is known."""

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import reproduce_tables
from comparison.cells import Cell, fill
from comparison.published import Column, Published, draw, section
from comparison.subjects import clips

SCENES = range(6)
GAIN = {"better": 1.0, "worse": -1.0, "alike": 0.0}
"""Of a method over the first one, in dB."""


def published() -> Published:
    return Published(
        "small",
        "Small",
        "A text.",
        clips(2, {"first": (), **dict.fromkeys(GAIN, ())}),
        {"first": "First", **{name: name.title() for name in GAIN}},
        one=(Column("psnr_target", "PSNR, dB", 2), Column("seconds", "seconds", 1)),
        many=(Column("agreement", "agreement", 2),),
        edits=(1, 0),
        curve=(Column("seconds", "seconds", 1), Column("psnr_target", "PSNR, dB", 2)),
        scenes=len(SCENES),
        seeds=1,
    )


@pytest.fixture
def cells(tmp_path):
    """Every method on six scenes that differ more than the methods do; one takes longer."""
    plan = published().plan()

    def figures(cell: Cell) -> dict[str, float]:
        number = (cell.scene * 7919) % 13
        wobble = 0.1 * ((cell.scene + len(cell.method)) % 2)
        psnr = 20 + 5 * number + GAIN.get(cell.method, 0.0) + wobble
        return {"psnr_target": psnr, "seconds": 2.0 if cell.method == "better" else 1.0}

    path = tmp_path / "cells.jsonl"
    fill(path, plan, lambda: figures)
    return path, plan


def verdict(text: str, method: str) -> dict[str, list[str]]:
    """What is said of the first method against another one."""
    line = re.search(rf"First against {method}: (.*)\.$", text, re.MULTILINE)
    assert line is not None
    parts = (part.split(" in ", 1) for part in line[1].split("; "))
    return {kind: re.findall(r"(PSNR|seconds)", rest) for kind, rest in parts}


def test_those_that_are_told_of_are_compared_in_words(cells):
    path, plan = cells
    text = section(published()._replace(told=["worse", "alike"]), path, plan)
    assert re.findall(r"^- (.*?):", text, re.MULTILINE) == ["Worse against Alike"]


def test_who_wins_ties_and_loses_is_told_by_paired_differences(cells):
    path, plan = cells
    text = section(published(), path, plan)
    assert verdict(text, "Better") == {"loses": ["PSNR"], "wins": ["seconds"]}
    assert verdict(text, "Worse") == {"wins": ["PSNR"], "ties": ["seconds"]}
    assert verdict(text, "Alike") == {"ties": ["PSNR", "seconds"]}


def test_every_method_has_a_row_with_its_edits(cells):
    path, plan = cells
    rows = re.findall(r"^\| (\w+) \| (\d+) \|", section(published(), path, plan), re.MULTILINE)
    assert rows == [(name, "6") for name in ("First", "Better", "Worse", "Alike")]


def test_cells_that_are_there_are_not_done_again(cells):
    path, plan = cells
    before = path.read_text()

    def refuse():
        raise AssertionError("Networks were loaded for nothing.")

    fill(path, plan, refuse)
    assert path.read_text() == before
    kept = [line for line in before.splitlines() if json.loads(line)["method"] != "alike"]
    path.write_text("\n".join(kept) + "\n")
    done: list[Cell] = []
    fill(path, plan, lambda: lambda cell: done.append(cell) or {})
    assert [cell.method for cell in done] == ["alike"] * len(SCENES)


def test_the_picture_is_drawn(cells, tmp_path):
    path, plan = cells
    draw(published(), path, plan, tmp_path / "small.png")
    assert (tmp_path / "small.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", reproduce_tables.TABLES)
def test_published_tables_know_their_methods_and_metrics(name):
    table = reproduce_tables.TABLES[name]()
    assert list(table.labels) == list(table.subject.methods)
    columns = {column.metric for column in (*table.one, *table.many, *table.curve)}
    assert columns <= set(table.subject.metrics)
