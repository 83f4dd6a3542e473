"""The comparison as tables: CSV for programs, Markdown and LaTeX for readers.

The readers' tables mark the best mean of each metric in bold and say which way is better.
"""

import csv
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

from csd_lab.compare.comparison import Comparison, Group
from csd_lab.compare.figures import MINUS, difference_text, mean_text
from csd_lab.compare.statistics import ENOUGH, Estimate
from csd_lab.text import on_one_line

LATEX = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "–": "--",
    "·": r"$\cdot$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


def rules(comparison: Comparison) -> list[str]:
    """How the figures were made, in sentences."""
    scene = " and ".join(comparison.unit) or "no setting says which"
    matched = " and ".join(comparison.matched)
    pairs = f" of the same {matched}" if matched else ""
    pooled = f" ({', '.join(comparison.pooled)} too)" if comparison.pooled else ""
    counted = [
        comparison.difference(group, name).scenes
        for group in comparison.groups
        for name in comparison.metrics
        if group != comparison.reference
    ]
    few = [
        f"Intervals of fewer than {ENOUGH} scenes are too short: what they leave out may still be."
    ]
    return [
        f"Means are over scenes ({scene}) with Student's 95 % interval; all runs of a scene "
        f"are averaged first{pooled}, since only scenes are independent.",
        f"Differences are to {comparison.reference.label}, between runs of one scene{pairs}, with "
        "the bootstrap's 95 % interval over scenes; they are not corrected for their number.",
        *(few if any(0 < scenes < ENOUGH for scenes in counted) else []),
    ]


def csv_table(comparison: Comparison) -> str:
    """A row for each group and metric, with all figures in full precision."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        [
            *(comparison.by or ("group",)),
            *("metric", "unit", "better", "mean", "low", "high", "scenes", "runs"),
            *("reference", "difference", "difference_low", "difference_high"),
            *("paired_scenes", "better_in", "worse_in"),
        ]
    )
    for group in comparison.groups:
        for name, note in comparison.metrics.items():
            mean = comparison.estimate(group, name)
            paired = comparison.difference(group, name)
            writer.writerow(
                [
                    *(comparison.values(group) or (group.label,)),
                    *(name, note.unit, note.better),
                    *(mean.mean, mean.low, mean.high, mean.scenes, mean.runs),
                    comparison.reference.label,
                    *(paired.mean, paired.low, paired.high, paired.scenes),
                    *comparison.better(group, name),
                ]
            )
    return file.getvalue()


def markdown(comparison: Comparison) -> str:
    """Two tables, means and differences, below the rules they are made by."""
    means, differences = _means(comparison), _differences(comparison)
    return "\n".join(
        [
            *(f"{_markdown(rule)}\n" for rule in rules(comparison)),
            *_markdown_table(_head(comparison), means),
            "",
            *_markdown_table(_head(comparison), differences),
            "",
            *_unfinished(comparison),
        ]
    )


def latex(comparison: Comparison) -> str:
    """The same as two booktabs tables, to be put into a ``table`` environment."""
    means, differences = _means(comparison), _differences(comparison)
    labels = max(1, len(comparison.by))
    comments = [f"% {rule}" for rule in map(on_one_line, rules(comparison))]
    return "\n".join(
        [
            *comments,
            "% Needs \\usepackage{booktabs}.",
            *_latex_table(_head(comparison), means, labels),
            "",
            "% Differences",
            *_latex_table(_head(comparison), differences, labels),
            "",
        ]
    )


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: what it says.
        best: whether it is the best of its column.
        note: what follows the text.
    """

    text: str
    best: bool = False
    note: str = ""


def _head(comparison: Comparison) -> list[str]:
    titles = [
        f"{name} {note.arrow}{f' ({note.unit})' if note.unit else ''}".strip()
        for name, note in comparison.metrics.items()
    ]
    return [*(comparison.by or ("",)), "scenes", *titles]


def _means(comparison: Comparison) -> list[list[Cell]]:
    rows = []
    for group in comparison.groups:
        scenes = comparison.scenes(group)
        means = {name: comparison.estimate(group, name) for name in comparison.metrics}
        cells = [
            _figure(mean_text(mean), mean, scenes, mean.mean == comparison.best(name))
            for name, mean in means.items()
        ]
        rows.append([*_labels(comparison, group), Cell(str(scenes)), *cells])
    return rows


def _differences(comparison: Comparison) -> list[list[Cell]]:
    rows = []
    for group in comparison.groups:
        if group == comparison.reference:
            cells = [Cell(""), *(Cell("reference") for _ in comparison.metrics)]
        else:
            found = [comparison.difference(group, name) for name in comparison.metrics]
            scenes = max((each.scenes for each in found), default=0)
            figures = (_figure(difference_text(each), each, scenes) for each in found)
            cells = [Cell(str(scenes)), *figures]
        rows.append([*_labels(comparison, group), *cells])
    return rows


def _figure(text: str, estimate: Estimate, scenes: int, best: bool = False) -> Cell:
    """A figure, which says so if it is of fewer scenes than its row."""
    return Cell(text, best, f" of {estimate.scenes}" if 0 < estimate.scenes < scenes else "")


def _labels(comparison: Comparison, group: Group) -> list[Cell]:
    return [Cell(value) for value in comparison.values(group) or (group.label,)]


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    marks = {True: "**", False: ""}
    texts = [[f"{marks[best]}{_markdown(t)}{marks[best]}{n}" for t, best, n in row] for row in rows]
    lines = [[_markdown(title) for title in head], ["---"] * len(head), *texts]
    return [f"| {' | '.join(line)} |" for line in lines]


def _latex_table(head: Sequence[str], rows: Sequence[Sequence[Cell]], labels: int) -> list[str]:
    """A tabular whose first columns are labels, and the others numbers."""
    columns = "l" * labels + "r" * (len(head) - labels)
    lines = [" & ".join(_latex(text, best) + note for text, best, note in row) for row in rows]
    return [
        f"\\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        f"{' & '.join(_latex(title) for title in head)} \\\\",
        r"\midrule",
        *(f"{line} \\\\" for line in lines),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _unfinished(comparison: Comparison) -> list[str]:
    left_out = [run for run in comparison.runs if run.state != "done"]
    if not left_out:
        return []
    lines = [f"- {_markdown(run.name)}: {run.state}, {_markdown(run.reason)}" for run in left_out]
    return [f"Not in these figures, since not finished ({len(left_out)}):", "", *lines, ""]


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|~#&])", r"\\\1", on_one_line(text))


def _latex(text: str, best: bool = False) -> str:
    """Text that LaTeX shows as it is; figures in mathematics, so that signs are signs."""
    if re.fullmatch(r"[\d.,+± \[\]" + MINUS + "]+", text):
        figures = text.replace(MINUS, "-").replace("±", r"\pm")
        return f"$\\mathbf{{{figures}}}$" if best else f"${figures}$"
    escaped = "".join(LATEX.get(letter, letter) for letter in on_one_line(text))
    return f"{{}}{escaped}" if escaped[:1] in ("[", "*") else escaped  # else an argument of "\\\\"
