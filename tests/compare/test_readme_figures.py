"""The figures in README.md are those of the cells in docs/results."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import reproduce_tables
from comparison.published import Published
from comparison.tables import difference, mean, on_common_edits, rows_of

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
    """That a figure is a mean and half its interval, as far as it is told; alone without one."""
    match = FIGURE.fullmatch(text if "±" in text else f"{text} ± 0")
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
            found = mean(rows, method, columns[head])
            check(text, found.mean, found.half)


def test_there_is_a_table_of_each_kind() -> None:
    assert [match[1] for match in TABLE.finditer(README)] == list(SUBJECTS)


BEST, TOLD = "csd_edit_best", "csd_edit_best@1.4"
CLAIMS = [
    ("agreement\nis lower by 0.24 ± 0.06", "video", BEST, "identity", "agreement", True),
    ("PSNR by 3.5 ± 1.0 dB", "video", BEST, "identity", "psnr_answer", True),
    ("kernel adds 0.3 ± 0.2 dB", "video", BEST, "identity", "psnr_target", False),
    ("direction by 0.024 ± 0.021", "video", BEST, "ip2p_shared", "clip_direction_tiny", True),
    ("such as 0.8 ± 1.0 dB", "video", BEST, "ip2p_shared", "psnr_answer", True),
    ("`method=csd_edit` by 2.1 ± 1.3 dB", "video", BEST, "csd_edit", "psnr_answer", True),
    ("many answers and by 0.5 ± 0.4 dB", "video", BEST, "csd_edit", "psnr_target", False),
    ("MultiDiffusion by 5.3 ± 2.9 dB", "panorama", TOLD, "multidiffusion@1.4", "psnr_answer", True),
    ("(1950) by\n5.1 ± 2.9 dB", "panorama", TOLD, "multidiffusion_50", "psnr_answer", True),
    ("does little (0.4 ± 1.0 dB)", "panorama", TOLD, "identity", "psnr_answer", True),
    ("NeRF2NeRF by 6.0 ± 1.1 dB", "scenes", BEST, "in2n", "psnr_answer", True),
    ("by 6.2 ± 4.8 dB", "scenes", BEST, "ip2p_shared", "psnr_answer", True),
    ("NeRF2NeRF by 1.0 ± 0.4 dB", "scenes", BEST, "in2n", "psnr_target", False),
    ("no kernel costs 2.5 ± 1.2 dB", "ablations", BEST, "kernel_identity", "psnr_answer", True),
    ("and 0.22 ± 0.08 of the", "ablations", BEST, "kernel_identity", "agreement", True),
    ("bandwidth costs 0.053 ± 0.047", "ablations", BEST, "bandwidth_1", "agreement", True),
    ("estimates cost 0.9 ± 0.8 dB", "ablations", BEST, "kernel_clean", "psnr_answer", True),
    ("which costs 2.3 ± 1.4 dB", "ablations", BEST, "normalize_n", "psnr_answer", True),
    ("code, costs 2.8 ± 2.0 dB", "ablations", BEST, "uniform_t_to_500", "psnr_answer", True),
    ("draws cost 2.0 ± 0.7 dB", "ablations", BEST, "uniform_t", "psnr_target", False),
    ("gains 1.4 ± 1.3 dB", "ablations", BEST, "sigma_squared_60", "psnr_answer", True),
]
"""What README.md says of differences: of which methods, in what, with many answers or one."""


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim[0])
def test_a_difference_is_what_the_cells_give(claim) -> None:
    words, name, first, second, metric, many = claim
    assert README.count(words) == 1
    published = reproduce_tables.TABLES[name]()
    told = [m for m in published.labels if m in published.told] if name == "panorama" else None
    group = {"video": ["csd_edit", "identity", "ip2p", "ip2p_shared"]}.get(name)
    methods = [first, *group] if group else told or list(published.labels)
    found = difference(shared_rows(published, methods, many), first, second, metric)
    check(FIGURE.search(words)[0], abs(found.mean), found.half)
