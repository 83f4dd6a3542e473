"""A comparison as it is published: tables in Markdown, what they say in words, and a picture."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from csd_lab.compare.statistics import Estimate

from .cells import Plan
from .subjects import Subject
from .tables import Rows, difference, mean, rows_of


class Column(NamedTuple):
    """A metric as a table shows it.

    Attributes:
        metric: its name.
        label: what it is called.
        digits: after the decimal point.
    """

    metric: str
    label: str
    digits: int


class Published(NamedTuple):
    """A comparison with what is to be said of it.

    Attributes:
        name: of its files.
        title: of its section.
        text: what is compared.
        subject: the comparison.
        labels: of its methods, the one to compare with first.
        one: columns for instructions with one right answer.
        many: columns for those with many.
        edits: instructions a scene, with one right answer and with many.
        curve: metrics along x and y of its picture.
        points: of each line of the picture, its label and the methods that it goes through; none:
            every method is a point.
        heads: of the tables for instructions with one right answer and with many.
        told: methods that are compared in words, the first with each other one; none: all.
        scenes: how many there are.
        seeds: of each edit.
    """

    name: str
    title: str
    text: str
    subject: Subject
    labels: Mapping[str, str]
    one: Sequence[Column]
    many: Sequence[Column]
    edits: tuple[int, int]
    curve: tuple[Column, Column]
    points: Mapping[str, Sequence[str]] = {}
    heads: tuple[str, str] = (
        "Instructions with one right answer",
        "Instructions with many right answers",
    )
    told: Sequence[str] = ()
    scenes: int = 20
    seeds: int = 3

    def plan(self) -> Plan:
        """All cells."""
        methods = list(self.subject.methods)
        return Plan(0, self.scenes, self.seeds, methods, self.subject.edits_of, *self.edits)


def section(published: Published, cells: Path, plan: Plan) -> str:
    """The Markdown of a comparison, from the cells that a file holds of it."""
    rows = rows_of(cells, plan)
    parts = [f"## {published.title}", published.text]
    for many, columns in ((False, published.one), (True, published.many)):
        own = [row for row in rows if row["many"] is many]
        if not own:
            continue
        parts += [
            f"### {published.heads[many]}",
            "\n".join(_table(published, own, columns)),
            "\n".join(_verdicts(published, own, columns)),
        ]
    parts.append(f"![{published.title}](results/{published.name}.png)")
    return "\n\n".join(parts)


def _present(published: Published, rows: Rows) -> list[str]:
    """The methods that have cells, in order."""
    there = {row["method"] for row in rows}
    return [method for method in published.labels if method in there]


def _table(published: Published, rows: Rows, columns: Sequence[Column]) -> Iterator[str]:
    higher = published.subject.metrics
    heads = (f"{column.label} {'↑' if higher[column.metric] else '↓'}" for column in columns)
    yield f"| method | edits | {' | '.join(heads)} |"
    yield "| --- " * (len(columns) + 2) + "|"
    for method in _present(published, rows):
        count = sum(row["method"] == method for row in rows)
        cells = (_text(mean(rows, method, c.metric), c.digits) for c in columns)
        yield f"| {published.labels[method]} | {count} | {' | '.join(cells)} |"


def _text(estimate: Estimate, digits: int, sign: str = "") -> str:
    if not estimate.scenes:
        return "–"
    if estimate.scenes < 2:
        return f"{estimate.mean:{sign}.{digits}f}"
    return f"{estimate.mean:{sign}.{digits}f} ± {estimate.half:.{digits}f}"


def _verdicts(published: Published, rows: Rows, columns: Sequence[Column]) -> Iterator[str]:
    """For each method: where the first one is clearly better, worse, or neither."""
    present = _present(published, rows)
    first, *others = [method for method in present if method in (published.told or present)]
    for method in others:
        found: dict[str, list[str]] = {"wins": [], "loses": [], "ties": []}
        for metric, label, digits in columns:
            gain = difference(rows, first, method, metric)
            if gain.scenes < 2:
                continue
            sense = 1 if published.subject.metrics[metric] else -1
            low, high = sorted((sense * gain.low, sense * gain.high))
            kind = "wins" if low > 0 else "loses" if high < 0 else "ties"
            found[kind].append(f"{label} ({_text(gain, digits, '+')})")
        said = "; ".join(f"{kind} in {', '.join(each)}" for kind, each in found.items() if each)
        if said:
            yield f"- {published.labels[first]} against {published.labels[method]}: {said}."


def draw(published: Published, cells: Path, plan: Plan, path: Path) -> None:
    """Draw all methods in the plane of two metrics, with their intervals."""
    rows = rows_of(cells, plan)
    along, up = published.curve
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    present = _present(published, rows)
    lines = published.points or {published.labels[method]: [method] for method in present}
    for label, methods in lines.items():
        there = [method for method in methods if method in present]
        x = [mean(rows, method, along.metric) for method in there]
        y = [mean(rows, method, up.metric) for method in there]
        axes.errorbar(
            [each.mean for each in x],
            [each.mean for each in y],
            xerr=[each.half for each in x],
            yerr=[each.half for each in y],
            marker="o",
            capsize=2,
            linewidth=1,
            label=label,
        )
    axes.set_xlabel(along.label)
    axes.set_ylabel(up.label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
