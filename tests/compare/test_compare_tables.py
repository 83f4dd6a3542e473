"""The tables: full figures for programs, marked and escaped ones for readers."""

import csv
import io
import re

import pytest

from csd_lab.compare import Comparison, load_runs
from csd_lab.compare.tables import csv_table, latex, markdown

HOSTILE = "50% of $x_1 & y#2|{a}~^\\ <b>*bold*</b>\n[next]"


@pytest.fixture(scope="module")
def comparison(sweep):
    return Comparison(load_runs(sweep), by=["method"])


def test_csv_holds_every_figure(comparison):
    rows = list(csv.DictReader(io.StringIO(csv_table(comparison))))
    assert len(rows) == len(comparison.groups) * len(comparison.metrics)
    for row in rows:
        group = next(g for g in comparison.groups if g.label == row["method"])
        mean = comparison.estimate(group, row["metric"])
        paired = comparison.difference(group, row["metric"])
        assert [float(row[k]) for k in ("mean", "low", "high", "scenes")] == list(mean[:4])
        assert [float(row[k]) for k in ("difference", "difference_low")] == pytest.approx(
            list(paired[:2]), nan_ok=True
        )
    assert {row["better"] for row in rows} == {"higher", "lower", ""}


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_marks_the_best_and_says_the_direction(comparison):
    lines = markdown(comparison).splitlines()
    table = [cells(line) for line in lines if line.startswith("|")]
    assert {len(row) for row in table} == {2 + len(comparison.metrics)}
    assert r"psnr\_answer ↑ (dB)" in table[0]
    bold = [row[0] for row in table if row[2].startswith("**")]
    best = max(comparison.groups, key=lambda g: comparison.estimate(g, "psnr_answer").mean)
    assert bold == [best.label.replace("_", r"\_")]
    assert any("broken: interrupted" in line for line in lines)
    assert "Student's 95 %" in lines[0]


def test_latex_is_a_booktabs_table(comparison):
    text = latex(comparison)
    assert text.count(r"\begin{tabular}{l" + "r" * (1 + len(comparison.metrics)) + "}") == 2
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 2
    assert r"psnr\_answer $\uparrow$ (dB)" in text
    assert r"\mathbf{" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {1 + len(comparison.metrics)}
    assert text.count("{") == text.count("}")


def test_any_text_stays_text(maker, tmp_path):
    for seed, prompt in enumerate([HOSTILE, "[plain]"]):
        maker.make(tmp_path / str(seed), seed=seed, prompt=prompt)
    comparison = Comparison(load_runs(tmp_path), by=["prompt"])
    table = [cells(line) for line in markdown(comparison).splitlines() if line.startswith("|")]
    assert {len(row) for row in table} == {3}
    assert any(r"\<b\>\*bold\*\</b\> \[next\]" in row[0] for row in table)
    tex = latex(comparison)
    assert r"50\% of \$x\_1 \& y\#2\textbar{}\{a\}\textasciitilde{}\textasciicircum{}" in tex
    assert "\n{}[plain] &" in tex
    values = {row["prompt"] for row in csv.DictReader(io.StringIO(csv_table(comparison)))}
    assert values == {HOSTILE, "[plain]"}


def test_a_figure_says_of_how_many_scenes_it_is(maker, tmp_path):
    """Means are of the scenes that a group has, differences of those that both have."""
    for clip in range(4):
        known = {} if clip else {"agreement": None}
        figures = {"psnr_answer": 20.0 + clip, "agreement": 0.5 + clip / 8} | known
        maker.make(tmp_path / f"dds{clip}", figures, method="dds", clip=clip)
        if clip in (1, 2):
            maker.make(tmp_path / f"csd{clip}", figures, clip=clip)
    comparison = Comparison(load_runs(tmp_path), by=["method"], reference="csd_edit")
    text = markdown(comparison)
    means, differences = (
        next(cells(line) for line in part.splitlines() if line.startswith("| dds"))
        for part in text.split("\n\n")[-2:]
    )
    assert means[1] == "4"
    assert [cell.endswith(" of 3") for cell in means[2:]] == [False, True]
    assert differences[1] == "2"
    assert not any(" of " in cell for cell in differences)
    for table in (text, latex(comparison)):
        assert "Intervals of fewer than 6 scenes are too short" in table
