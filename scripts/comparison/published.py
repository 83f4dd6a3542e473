"""A comparison as it is published: tables in Markdown, and what they say in words."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from csd_lab.compare.statistics import ENOUGH, Estimate

from .bench import REFERENCES
from .cells import Plan
from .subjects import Subject
from .tables import Rows, alike, difference, extent_of, mean, on_common_edits, rows_of

UNCLEAR = "neither"
"""Of a difference whose interval holds 0, however wide it is."""


class Column(NamedTuple):
    """A metric as a table shows it.

    Attributes:
        metric: its name.
        label: what it is called.
        bounds: that it cannot pass, nor its interval in a picture.
    """

    metric: str
    label: str
    bounds: tuple[float, float] = (-math.inf, math.inf)


class Panel(NamedTuple):
    """A part of a picture.

    Attributes:
        title: what it is of.
        rows: of the edits that all methods made.
        along: the metric from the left to the right.
        up: the metric from below to above.
    """

    title: str
    rows: Rows
    along: Column
    up: Column


class Strip(NamedTuple):
    """Differences of methods to the first one, in one metric.

    Attributes:
        title: what they are of.
        column: the metric.
        first: what the first method is called.
        gains: of the others, by what they are called: theirs less the first one's.
    """

    title: str
    column: Column
    first: str
    gains: Mapping[str, Estimate]


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
        curve: metrics along x and y of its picture; none: it has no picture.
        against: metrics whose differences to the first method the picture shows instead.
        points: of each line of the picture, its label and the methods that it goes through, by what
            is written at them, if they are its ends; none: every method is a point.
        legend: what the picture's legend begins with.
        heads: of the tables for instructions with one right answer and with many.
        told: methods that have a table of their own, first, and are alone compared in words, the
            first with each other one; none: all are.
        scenes: how many there are.
        seeds: of each edit.
        least: scenes from which on a method is shown.
        spare: whether others take the place of drawn instructions that the prior has not learnt.
    """

    name: str
    title: str
    text: str
    subject: Subject
    labels: Mapping[str, str]
    one: Sequence[Column]
    many: Sequence[Column]
    edits: tuple[int, int]
    curve: tuple[Column, Column] | None
    against: Sequence[Column] = ()
    points: Mapping[str, Mapping[str, str]] = {}
    legend: str = ""
    heads: tuple[str, str] = (
        "Instructions with one right answer",
        "Instructions with many right answers",
    )
    told: Sequence[str] = ()
    scenes: int = 20
    seeds: int = 3
    least: int = ENOUGH
    spare: bool = False

    @property
    def enough(self) -> int:
        """Scenes from which on a method is shown."""
        return min(self.least, self.scenes)

    def plan(self) -> Plan:
        """All cells."""
        methods = list(self.subject.methods)
        edits = self.subject.edits_of
        return Plan(0, self.scenes, self.seeds, methods, edits, *self.edits, spare=self.spare)


def section(published: Published, cells: Path, plan: Plan) -> str:
    """The Markdown of a comparison, from the cells that a file holds of it."""
    rows = rows_of(cells, plan)
    parts = [f"## {published.title}", published.text]
    for many, columns in ((False, published.one), (True, published.many)):
        own = [row for row in rows if row["many"] is many]
        if methods := present(published, own):
            parts.append(f"### {published.heads[many]}")
            told = [method for method in methods if method in published.told]
            for group in [*([told] if len(told) > 1 else []), *alike(own, methods)]:
                parts += _group(published, on_common_edits(own, group), columns)
    if panels(published, rows) or strips(published, rows):
        parts.append(f"![{published.title}](results/{published.name}.png)")
    return "\n\n".join(parts)


def present(published: Published, rows: Rows) -> list[str]:
    """The methods that have cells of enough scenes, in order."""
    scenes = {
        method: {row["scene"] for row in rows if row["method"] == method}
        for method in published.labels
    }
    return [method for method in published.labels if len(scenes[method]) >= published.enough]


def compared(published: Published, rows: Rows) -> list[str]:
    """The same, without what is no method."""
    return [method for method in present(published, rows) if method not in REFERENCES]


def panels(published: Published, rows: Rows) -> list[Panel]:
    """The parts of the picture, one for each kind of instruction that has both its metrics."""
    found = []
    for many, columns in ((False, published.one), (True, published.many)):
        own = [row for row in rows if row["many"] is many]
        methods = compared(published, own)
        if methods and published.curve and set(published.curve) <= set(columns):
            common = on_common_edits(own, methods)
            title = f"{published.heads[many]}\n{extent_of(common)}"
            found.append(Panel(title, common, *published.curve))
    return found


def strips(published: Published, rows: Rows) -> list[Strip]:
    """The parts of a picture of differences, one for each metric and kind of instruction."""
    found = []
    for many, columns in ((False, published.one), (True, published.many)):
        own = [row for row in rows if row["many"] is many]
        if len(methods := compared(published, own)) < 2:
            continue
        common = on_common_edits(own, methods)
        title = f"{published.heads[many]}\n{extent_of(common)}"
        for column in published.against:
            if column in columns:
                gains = {
                    published.labels[method]: difference(common, method, methods[0], column.metric)
                    for method in methods[1:]
                }
                found.append(Strip(title, column, published.labels[methods[0]], gains))
    return found


def _group(published: Published, rows: Rows, columns: Sequence[Column]) -> Iterator[str]:
    """What the rows are of, their table, and what it says; all methods made the same edits."""
    yield f"All rows are of the same {extent_of(rows)}."
    yield "\n".join(_table(published, rows, columns))
    told = set(published.told or published.labels)
    if told.issuperset(present(published, rows)) and (
        said := "\n".join(_verdicts(published, rows, columns))
    ):
        yield said


def _table(published: Published, rows: Rows, columns: Sequence[Column]) -> Iterator[str]:
    higher = published.subject.metrics
    heads = (f"{column.label} {'↑' if higher[column.metric] else '↓'}" for column in columns)
    yield f"| method | {' | '.join(heads)} |"
    yield "| --- " * (len(columns) + 1) + "|"
    for method in present(published, rows):
        cells = (_text(mean(rows, method, column.metric)) for column in columns)
        yield f"| {published.labels[method]} | {' | '.join(cells)} |"


def _text(estimate: Estimate, sign: str = "") -> str:
    """A mean with its interval, to two significant digits of half its length."""
    if not estimate.scenes:
        return "–"
    if estimate.scenes < 2 or math.isclose(estimate.low, estimate.high, rel_tol=1e-6):
        return f"{estimate.mean:{sign}.6g}"
    digits = max(0, 1 - math.floor(math.log10(estimate.half)))
    return f"{estimate.mean:{sign}.{digits}f} ± {estimate.half:.{digits}f}"


def _verdicts(published: Published, rows: Rows, columns: Sequence[Column]) -> Iterator[str]:
    """For each method: where the first one is clearly better, worse, or neither."""
    first, *others = compared(published, rows)
    for method in others:
        found: dict[str, list[str]] = {"wins": [], "loses": [], UNCLEAR: []}
        for column in columns:
            gain = difference(rows, first, method, column.metric)
            if gain.scenes < 2 or gain.low == gain.high == 0:
                continue
            sense = 1 if published.subject.metrics[column.metric] else -1
            low, high = sorted((sense * gain.low, sense * gain.high))
            kind = "wins" if low > 0 else "loses" if high < 0 else UNCLEAR
            found[kind].append(f"{column.label} ({_text(gain, '+')})")
        said = "; ".join(f"{kind} in {', '.join(each)}" for kind, each in found.items() if each)
        if said:
            yield f"- {published.labels[first]} against {published.labels[method]}: {said}."
