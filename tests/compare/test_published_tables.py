"""What the tables of scripts/reproduce_tables.py say, on figures whose outcome is known."""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import reproduce_tables
from comparison.bench import fingerprint
from comparison.cells import Cell, cell_of, fill
from comparison.pictures import draw, draw_panel, draw_strip, style_of
from comparison.published import Column, Published, panels, section, strips
from comparison.subjects import clips
from comparison.tables import (
    Extent,
    alike,
    difference,
    extent_of,
    mean,
    of_whole_seeds,
    on_common_edits,
    rows_of,
)
from matplotlib.figure import Figure

SCENES = range(6)
GAIN = {"better": 1.0, "worse": -1.0, "alike": 0.0}
"""Of a method over the first one, in dB."""
SLIGHT = 0.00003
"""Of the first one over the others in agreement, with half the interval's length."""
PSNR = Column("psnr_target", "PSNR, dB")
SAMPLES = Column("samples", "network samples")
AGREEMENT = Column("agreement", "agreement", (0.0, 1.0))


LABELS = {"first": "First", **{name: name.title() for name in GAIN}}
SETTINGS = dict.fromkeys(LABELS, "0123456789ab")


def published() -> Published:
    return Published(
        "small",
        "Small",
        "A text.",
        clips(2, {"first": (), **dict.fromkeys(GAIN, ())}),
        LABELS,
        one=(PSNR, SAMPLES, AGREEMENT),
        many=(AGREEMENT,),
        edits=(1, 0),
        curve=(AGREEMENT, PSNR),
        scenes=len(SCENES),
        seeds=1,
    )


@pytest.fixture
def cells(tmp_path):
    """Every method on six scenes that differ more than the methods do; one costs more."""
    plan = published().plan()

    def figures(cell: Cell) -> dict[str, float]:
        number = (cell.scene * 7919) % 13
        wobble = 0.1 * ((cell.scene + (cell.method == "alike")) % 2)
        psnr = 20 + 5 * number + GAIN.get(cell.method, 0.0) + wobble
        ahead = SLIGHT * (0.5 + cell.scene % 2) if cell.method == "first" else 0.0
        return {
            "psnr_target": psnr,
            "samples": 2400.0 if cell.method == "better" else 480.0,
            "agreement": (0.6 if cell.scene % 2 else 0.99) + ahead,
        }

    path = tmp_path / "cells.jsonl"
    fill(path, plan, SETTINGS, lambda: figures)
    return path, plan


def verdict(text: str, method: str) -> dict[str, list[str]]:
    """What is said of the first method against another one."""
    line = re.search(rf"First against {method}: (.*)\.$", text, re.MULTILINE)
    assert line is not None
    parts = (part.split(" in ", 1) for part in line[1].split("; "))
    return {kind: re.findall(r"(PSNR|samples|agreement)", rest) for kind, rest in parts}


def test_an_edit_with_more_seeds_counts_no_more_than_others():
    found = {(0, "a", 0): 1.0, (0, "a", 1): 3.0, (0, "b", 0): 10.0, (1, "a", 0): 4.0}
    rows = [
        {"method": method, "metrics": {"psnr": value + (0.5 if method == "n" else 0.0)}}
        | {"scene": scene, "instruction": asked, "seed": seed}
        for method in ("m", "n")
        for (scene, asked, seed), value in found.items()
    ]
    assert mean(rows, "m", "psnr").mean == pytest.approx(((2 + 10) / 2 + 4) / 2)
    assert difference(rows, "n", "m", "psnr") == pytest.approx((0.5, 0.5, 0.5, 2, 3))


def test_those_that_are_told_of_are_compared_in_words_and_have_a_table_of_their_own(cells):
    path, plan = cells
    text = section(published()._replace(told=["worse", "alike"]), path, plan)
    assert re.findall(r"^- (.*?):", text, re.MULTILINE) == ["Worse against Alike"]
    rows = re.findall(r"^\| (First|Better|Worse|Alike) ", text, re.MULTILINE)
    assert rows == ["Worse", "Alike", *LABELS.values()]


def test_who_wins_ties_and_loses_is_told_by_paired_differences(cells):
    path, plan = cells
    text = section(published(), path, plan)
    assert verdict(text, "Better") == {"loses": ["PSNR"], "wins": ["samples", "agreement"]}
    assert verdict(text, "Worse") == {"wins": ["PSNR", "agreement"]}
    assert verdict(text, "Alike") == {"wins": ["agreement"], "neither": ["PSNR"]}


def test_equal_samples_are_not_spoken_of_and_others_are_exact(cells):
    path, plan = cells
    text = section(published(), path, plan)
    assert re.findall(r"network samples \((.*?)\)", text) == ["-1920"]
    assert re.findall(r"^\| Better \|.*\| (\S+) \| .* \|$", text, re.MULTILINE) == ["2400"]


def test_figures_have_as_many_digits_as_their_intervals_need(cells):
    path, plan = cells
    text = section(published(), path, plan)
    for found, half in re.findall(r"agreement \((\S+) ± (\S+)\)", text):
        assert float(found) == pytest.approx(SLIGHT, rel=0.1)
        assert re.fullmatch(r"0\.0*[1-9]\d", half)
    assert "0.000 ±" not in text


def test_every_method_has_a_row_and_the_caption_counts_its_edits(cells):
    path, plan = cells
    text = section(published(), path, plan)
    assert re.findall(r"^\| ([A-Z]\w+) \|", text, re.MULTILINE) == list(LABELS.values())
    assert "the same 6 edits (6 scenes, 1 instruction for each, 1 seed)" in text


def edits(method: str, scenes: int, instructions: int, seeds: int) -> list[dict]:
    """Rows of a method, each with a PSNR that its instruction alone decides."""
    return [
        {
            "method": method,
            "scene": scene,
            "instruction": str(instruction),
            "seed": seed,
            "many": False,
            "metrics": {"psnr_target": 20.0 + instruction},
        }
        for scene in range(scenes)
        for instruction in range(instructions)
        for seed in range(seeds)
    ]


@pytest.mark.parametrize(
    ("rows", "extent"),
    [
        (edits("first", 6, 4, 2), Extent(48, 6, 4, 2)),
        (edits("first", 6, 4, 2)[1:], Extent(47, 6, 4, 2)),
        ([], Extent(0, 0, 0, 0)),
    ],
)
def test_the_extent_of_edits(rows, extent):
    assert extent_of(rows) == extent
    assert ("up to" in str(extent)) is (len(rows) == 47)


def test_methods_with_as_many_edits_stand_together_behind_the_first_one():
    rows = [
        *edits("first", 7, 4, 2),
        *edits("few", 7, 1, 1),
        *edits("all", 6, 4, 2),
        *edits("one_seed", 7, 4, 1),
        *edits("few_too", 6, 1, 1),
    ]
    groups = alike(rows, ["first", "few", "all", "one_seed", "few_too"])
    assert groups == [["first", "all"], ["first", "one_seed"], ["first", "few", "few_too"]]
    assert extent_of(on_common_edits(rows, groups[2])) == Extent(6, 6, 1, 1)
    assert alike(rows, ["first"]) == [["first"]]


def test_a_seed_that_is_not_whole_waits(tmp_path):
    def row(method, scene, seed):
        return {"method": method, "scene": scene, "instruction": "x", "seed": seed}

    whole = [row("a", scene, seed) for scene in range(3) for seed in range(2)]
    begun = [row("a", 0, 2), row("b", 0, 0), row("b", 1, 0), row("b", 1, 1)]
    assert of_whole_seeds([*whole, *begun]) == [*whole, row("b", 0, 0), row("b", 1, 0)]


def test_rows_of_a_table_are_of_the_same_edits(tmp_path):
    """The first method made harder edits, too: among these alone it is no better than another."""
    table = published()._replace(edits=(3, 0))
    plan = table.plan()
    hardest = {}
    for cell, _ in plan.cells():
        hardest.setdefault(cell.scene, cell.instruction)

    def psnr(cell: Cell) -> dict[str, float]:
        return {"psnr_target": (20.0 if cell.instruction == hardest[cell.scene] else 30.0)}

    fill(tmp_path / "all.jsonl", plan, SETTINGS, lambda: psnr)
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    kept = [
        json.dumps(row)
        for row in lines
        if row["method"] in ("first", "better") or row["instruction"] == hardest[row["scene"]]
    ]
    (tmp_path / "some.jsonl").write_text("\n".join(kept))
    text = section(table, tmp_path / "some.jsonl", plan)
    figures = re.findall(r"^\| ([A-Z]\w+) \| (\S+) ", text, re.MULTILINE)
    assert figures == [
        ("First", "26.6667"),
        ("Better", "26.6667"),
        ("First", "20"),
        ("Worse", "20"),
        ("Alike", "20"),
    ]


def test_methods_with_few_scenes_are_left_out(cells):
    path, plan = cells
    few = [line for line in path.read_text().splitlines() if not _late(json.loads(line))]
    path.write_text("\n".join(few))
    text = section(published(), path, plan)
    assert "Alike" not in text
    assert "the same 6 edits" in text


def _late(row: dict) -> bool:
    return row["method"] == "alike" and row["scene"] % 1000 == 5


def test_cells_that_are_there_are_not_done_again(cells):
    path, plan = cells
    before = path.read_text()

    def refuse():
        raise AssertionError("Networks were loaded for nothing.")

    fill(path, plan, SETTINGS, refuse)
    assert path.read_text() == before
    kept = [line for line in before.splitlines() if json.loads(line)["method"] != "alike"]
    path.write_text("\n".join(kept) + "\n")
    done: list[Cell] = []
    fill(path, plan, SETTINGS, lambda: lambda cell: done.append(cell) or {})
    assert [cell.method for cell in done] == ["alike"] * len(SCENES)


def test_cells_of_other_settings_are_done_again_and_count(cells):
    path, plan = cells
    fill(path, plan, SETTINGS | {"alike": "another"}, lambda: lambda cell: {"psnr_target": 1.0})
    rows = rows_of(path, plan)
    assert len(rows) == len(LABELS) * len(SCENES)
    assert {row["metrics"]["psnr_target"] for row in rows if row["method"] == "alike"} == {1.0}
    assert all(row["metrics"]["psnr_target"] > 1 for row in rows if row["method"] != "alike")
    before = path.read_text()
    fill(path, plan, dict.fromkeys(SETTINGS, "more"), lambda: lambda cell: {}, keep=True)
    assert path.read_text() == before


@pytest.mark.parametrize("cut", [1, 30])
def test_after_a_kill_in_the_middle_of_a_line_no_other_cell_is_lost(cells, cut):
    path, plan = cells
    path.write_text(path.read_text()[:-cut])
    fill(path, plan, SETTINGS, lambda: lambda cell: {"psnr_target": 1.0})
    assert {cell_of(row) for row in rows_of(path, plan)} == {cell for cell, _ in plan.cells()}


def test_what_a_result_depends_on_is_in_its_hash():
    plain = fingerprint()
    assert plain == fingerprint() == fingerprint("callbacks.preview.every=3", "metrics=pixels")
    changed = (
        "kernel=imq",
        "method=dds",
        "guidance.text=2.0",
        "trainer.max_steps=3",
        "data.frames=4",
    )
    assert len({plain, *map(fingerprint, changed)}) == 1 + len(changed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--file", "half.jsonl"), "--file holds the cells of one table"),
        (("--only", "video", "--methods", "nerf"), "--methods must be some of csd_edit_best"),
    ],
)
def test_shares_that_cannot_be_are_refused_in_one_line(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["reproduce_tables.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        reproduce_tables.main()
    assert message in f"{ended.value.code}{capsys.readouterr().err}"


def test_a_share_keeps_within_the_plan():
    plan = published().plan()
    options = argparse.Namespace(first=4, scenes=10, seeds=None, methods=["better"], edits=None)
    part = reproduce_tables.share(plan, options)
    assert {cell for cell, _ in part.cells()} < {cell for cell, _ in plan.cells()}
    assert len(list(part.cells())) == 2


def test_the_page_is_made_of_the_cells_that_there_are(tmp_path, monkeypatch):
    shutil.copytree(reproduce_tables.DOCS / "results", tmp_path / "results")
    for picture in (tmp_path / "results").glob("*.png"):
        picture.unlink()
    monkeypatch.setattr(reproduce_tables, "DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["reproduce_tables.py", "--table-only"])
    reproduce_tables.main()
    text = (tmp_path / "results.md").read_text()
    assert text == (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    for picture in re.findall(r"\]\((results/[a-z_0-9]+.png)\)", text):
        assert (tmp_path / picture).is_file()


def test_the_picture_is_drawn(cells, tmp_path):
    path, plan = cells
    draw(published(), path, plan, tmp_path / "small.png")
    assert (tmp_path / "small.png").stat().st_size > 10_000
    assert "![Small](results/small.png)" in section(published(), path, plan)


def test_a_comparison_without_a_curve_has_no_picture(cells, tmp_path):
    path, plan = cells
    plain = published()._replace(curve=None)
    draw(plain, path, plan, tmp_path / "small.png")
    assert not (tmp_path / "small.png").exists()
    assert "![" not in section(plain, path, plan)


def test_axes_and_intervals_keep_to_what_is_possible_and_say_what_is_better(cells):
    path, plan = cells
    (panel,) = panels(published(), rows_of(path, plan))
    axes = Figure().subplots()
    draw_panel(axes, published(), panel)
    assert panel.title.endswith("6 edits (6 scenes, 1 instruction for each, 1 seed)")
    assert axes.get_xlim()[1] == 1.0
    bars = [bar for collection in axes.collections for bar in collection.get_segments()]
    assert max(bar[:, 0].max() for bar in bars) == 1.0
    assert axes.get_xlabel() == "agreement (higher is better →)"
    assert [handle.get_label() for handle in axes.containers] == list(LABELS.values())


def test_lines_go_over_their_methods_and_have_their_ends_marked(cells):
    path, plan = cells
    points = {"Line": {"1": "first", "2": "better", "3": "worse"}, "Other": {"1": "alike"}}
    lines = published()._replace(points=points)
    (panel,) = panels(lines, rows_of(path, plan))
    axes = Figure().subplots()
    draw_panel(axes, lines, panel)
    assert [len(line.get_xdata()) for line in axes.lines] == [3, 1]
    assert [text.get_text() for text in axes.texts][:2] == ["1", "3"]


def test_differences_to_the_first_method_are_drawn_in_its_sense(cells, tmp_path):
    """Green is better, red worse, grey unclear; a metric of no column has no part."""
    path, plan = cells
    shown = published()._replace(curve=None, against=(PSNR, SAMPLES))
    psnr, samples = strips(shown, rows_of(path, plan))
    assert psnr.gains["Better"].mean == pytest.approx(1)
    assert psnr.gains["Worse"].mean == pytest.approx(-1)
    assert samples.gains["Better"].mean == 1920
    axes = Figure().subplots()
    draw_strip(axes, shown, psnr)
    colours = {
        label.get_text(): container[0].get_color()
        for label, container in zip(axes.get_yticklabels(), axes.containers, strict=True)
    }
    assert colours == {"Better": "C2", "Worse": "C3", "Alike": "0.6"}
    axes = Figure().subplots()
    draw_strip(axes, shown, samples)
    assert axes.containers[0][0].get_color() == "C3"  # more of them is worse
    draw(shown, path, plan, tmp_path / "small.png")
    assert (tmp_path / "small.png").stat().st_size > 5000
    assert "![Small](results/small.png)" in section(shown, path, plan)
    assert strips(published(), rows_of(path, plan)) == []


def test_no_two_methods_look_alike():
    looks = {tuple(style_of(number).items()) for number in range(70)}
    assert len(looks) == 70


@pytest.mark.parametrize("name", reproduce_tables.TABLES)
def test_published_tables_know_their_methods_and_metrics(name):
    table = reproduce_tables.TABLES[name]()
    assert list(table.labels) == list(table.subject.methods)
    columns = {column.metric for column in (*table.one, *table.many)}
    assert columns <= set(table.subject.metrics) - {"seconds"}
    assert table.curve is None or set(table.curve) <= {*table.one, *table.many}
