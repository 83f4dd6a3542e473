"""The figures in README.md are those of the cells in docs/results."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import reproduce_tables
from comparison.published import Published
from comparison.tables import mean, on_common_edits, rows_of

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SUBJECTS = {"clips": "video", "panoramas": "panorama", "scenes": "scenes"}
TABLE = re.compile(
    r"^\| (clips|panoramas|scenes), many right answers \|(.*)\n\| --- .*\n((?:\|.*\n)+)", re.M
)
FIGURE = re.compile(r"\*{0,2}(-?\d+(?:\.(\d+))?) ± (\d+(?:\.\d+)?)\*{0,2}")


def cells(line: str) -> list[str]:
    """The cells of a table's row."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def methods_of(published: Published, rows: list[str]) -> list[str]:
    """The methods with these labels, of panoramas at the image guidance that is told of."""
    told = {label.removesuffix(f", s_I = {reproduce_tables.TOLD}"): name
            for name, label in published.labels.items()}  # fmt: skip
    return [told[cells(row)[0]] for row in rows]


def check(text: str, low: float, half: float) -> None:
    """That a figure is a mean and half its interval, as far as it is told."""
    match = FIGURE.fullmatch(text)
    assert match, text
    rounding = 0.5001 * 10.0 ** -len(match[2] or "")
    assert float(match[1]) == pytest.approx(low, abs=rounding)
    assert float(match[3]) == pytest.approx(half, abs=rounding)


def shared_rows(published: Published, methods: list[str], many: bool = True) -> list[dict]:
    """The rows of methods on edits that all of them made."""
    found = rows_of(reproduce_tables.cells_of(published.name), published.plan())
    return list(on_common_edits([row for row in found if row["many"] is many], methods))


@pytest.mark.parametrize("table", TABLE.finditer(README), ids=lambda match: match[1])
def test_a_table_holds_what_the_cells_give(table) -> None:
    published = reproduce_tables.TABLES[SUBJECTS[table[1]]]()
    lines = table[3].splitlines()
    columns = {column.label: column.metric for column in published.many}
    heads, methods = cells(table[2]), methods_of(published, lines)
    rows = shared_rows(published, methods)
    for line, method in zip(lines, methods, strict=True):
        for head, text in zip(heads, cells(line)[1:], strict=True):
            if text != "–":
                found = mean(rows, method, columns[head])
                check(text, found.mean, found.half)


def test_there_is_a_table_of_each_kind() -> None:
    assert [match[1] for match in TABLE.finditer(README)] == list(SUBJECTS)
