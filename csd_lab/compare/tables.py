"""The comparison as tables: CSV for programs, Markdown and LaTeX for readers.

The readers' tables mark the best mean of each metric in bold and say which way is better.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence

from csd_lab.compare.comparison import Comparison, Group
from csd_lab.compare.figures import MINUS, difference_text, mean_text

ARROWS = {True: "↑", False: "↓", None: ""}
BETTER = {True: "higher", False: "lower", None: ""}
LATEX = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
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
    return [
        f"Means are over scenes ({scene}) with Student's 95 % interval; all runs of a scene "
        f"are averaged first{pooled}, since only scenes are independent.",
        f"Differences are to {comparison.reference.label}, between runs of one scene{pairs}, with "
        "the bootstrap's 95 % interval over scenes; they are not corrected for their number.",
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
                    *(name, note.unit, BETTER[note.higher_is_better]),
                    *(mean.mean, mean.low, mean.high, mean.scenes, mean.runs),
                    comparison.reference.label,
                    *(paired.mean, paired.low, paired.high, paired.scenes),
                    *comparison.better(group, name),
                ]
            )
    return file.getvalue()


def markdown(comparison: Comparison) -> str:
    """Two tables, means and differences, below the rules they are made by."""
    means, differences = (_rows(comparison, kind) for kind in (_mean_cells, _difference_cells))
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
    means, differences = (_rows(comparison, kind) for kind in (_mean_cells, _difference_cells))
    labels = max(1, len(comparison.by))
    comments = [f"% {rule}" for rule in map(_one_line, rules(comparison))]
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


Cell = tuple[str, bool]
"""Text, and whether it is the best of its column."""


def _head(comparison: Comparison) -> list[str]:
    titles = [
        f"{name} {ARROWS[note.higher_is_better]}{f' ({note.unit})' if note.unit else ''}".strip()
        for name, note in comparison.metrics.items()
    ]
    return [*(comparison.by or ("",)), "scenes", *titles]


def _rows(
    comparison: Comparison, cells: Callable[[Comparison, Group], list[Cell]]
) -> list[list[Cell]]:
    return [
        [
            *((value, False) for value in comparison.values(group) or (group.label,)),
            (str(comparison.scenes(group)), False),
            *cells(comparison, group),
        ]
        for group in comparison.groups
    ]


def _mean_cells(comparison: Comparison, group: Group) -> list[Cell]:
    means = {name: comparison.estimate(group, name) for name in comparison.metrics}
    return [(mean_text(m), m.mean == comparison.best(name)) for name, m in means.items()]


def _difference_cells(comparison: Comparison, group: Group) -> list[Cell]:
    if group == comparison.reference:
        return [("reference", False) for _ in comparison.metrics]
    return [
        (difference_text(comparison.difference(group, name)), False) for name in comparison.metrics
    ]


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[str]:
    texts = [[f"**{_markdown(t)}**" if best else _markdown(t) for t, best in row] for row in rows]
    lines = [[_markdown(title) for title in head], ["---"] * len(head), *texts]
    return [f"| {' | '.join(line)} |" for line in lines]


def _latex_table(head: Sequence[str], rows: Sequence[Sequence[Cell]], labels: int) -> list[str]:
    """A tabular whose first columns are labels, and the others numbers."""
    columns = "l" * labels + "r" * (len(head) - labels)
    lines = [" & ".join(_latex(text, best) for text, best in row) for row in rows]
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
    return re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", _one_line(text))


def _latex(text: str, best: bool = False) -> str:
    """Text that LaTeX shows as it is; figures in mathematics, so that signs are signs."""
    if re.fullmatch(r"[\d.,+± \[\]" + MINUS + "]+", text):
        figures = text.replace(MINUS, "-").replace("±", r"\pm")
        return f"$\\mathbf{{{figures}}}$" if best else f"${figures}$"
    escaped = "".join(LATEX.get(letter, letter) for letter in _one_line(text))
    return f"{{}}{escaped}" if escaped[:1] in ("[", "*") else escaped  # else an argument of "\\\\"


def _one_line(text: str) -> str:
    return " ".join(text.split())
