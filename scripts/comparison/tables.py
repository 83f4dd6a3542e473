"""Tables of a comparison: means with 95 % intervals, and paired differences to the first method.

Scenes are independent, edits of one scene are not: :mod:`csd_lab.compare.statistics` has the rules.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from csd_lab.compare.statistics import Estimate, scene_means, student_estimate

from .cells import Plan, cell_of, read

Rows = Sequence[dict[str, Any]]


class Extent(NamedTuple):
    """How much a set of edits takes in.

    Attributes:
        edits: how many they are.
        scenes: of how many scenes.
        instructions: for a scene, at most.
        seeds: how many there are.
    """

    edits: int
    scenes: int
    instructions: int
    seeds: int

    def __str__(self) -> str:
        whole = self.edits == self.scenes * self.instructions * self.seeds
        counted = (
            _count(self.scenes, "scene"),
            f"{'' if whole else 'up to '}{_count(self.instructions, 'instruction')} for each",
            _count(self.seeds, "seed"),
        )
        return f"{_count(self.edits, 'edit')} ({', '.join(counted)})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def edit_of(row: dict[str, Any]) -> tuple:
    """What a row is about, whoever made it: (scene, instruction, seed)."""
    return row["scene"], row["instruction"], row["seed"]


def extent_of(rows: Rows) -> Extent:
    """How much the edits of these rows take in."""
    edits = {edit_of(row) for row in rows}
    asked = Counter(scene for scene, _ in {edit[:2] for edit in edits})
    seeds = {seed for _, _, seed in edits}
    return Extent(len(edits), len(asked), max(asked.values(), default=0), len(seeds))


def on_common_edits(rows: Rows, methods: Sequence[str]) -> Rows:
    """The rows of methods on the edits that all of them made."""
    made = [{edit_of(row) for row in rows if row["method"] == method} for method in methods]
    common = set.intersection(*made)
    return [row for row in rows if row["method"] in methods and edit_of(row) in common]


def alike(rows: Rows, methods: Sequence[str]) -> list[list[str]]:
    """Methods in groups that made about the same edits, most edits first.

    Means of different edits are not comparable. Methods of a group share with the first method
    edits of as many instructions for a scene and of as many seeds; the first one leads each group.

    Args:
        rows: finished cells.
        methods: at least one, each with rows.
    """
    first, *others = methods
    if not others:
        return [[first]]
    groups: dict[tuple[int, int], list[str]] = {}
    for method in others:
        shared = extent_of(on_common_edits(rows, [first, method]))
        groups.setdefault((shared.instructions, shared.seeds), [first]).append(method)
    return [groups[key] for key in sorted(groups, key=math.prod, reverse=True)]


def values(rows: Rows, method: str, metric: str) -> dict[tuple, float]:
    """A method's values of a metric where it is defined, by (scene, instruction, seed)."""
    return {
        edit_of(row): value
        for row in rows
        if row["method"] == method
        and (value := row["metrics"].get(metric)) is not None
        and math.isfinite(value)
    }


def mean(rows: Rows, method: str, metric: str) -> Estimate:
    """The mean over scenes, with Student's interval."""
    return over_scenes(values(rows, method, metric))


def difference(rows: Rows, method: str, reference: str, metric: str) -> Estimate:
    """The mean difference to a reference over scenes, of the edits that both made."""
    own, other = values(rows, method, metric), values(rows, reference, metric)
    return over_scenes({edit: own[edit] - other[edit] for edit in own if edit in other})


def over_scenes(found: Mapping[tuple, float]) -> Estimate:
    """The mean over scenes of that over instructions of that over seeds, by what edits give."""
    asked = scene_means([(edit[:2], value) for edit, value in found.items()])
    return student_estimate(scene_means([(edit[:1], mean) for edit, (mean, _) in asked.items()]))


def shown_metrics(rows: Rows, metrics: Mapping[str, bool]) -> list[str]:
    """Those that are there."""
    return [name for name in metrics if any(name in row["metrics"] for row in rows)]


def table(rows: Rows, methods: Sequence[str], metrics: Mapping[str, bool], title: str) -> Table:
    """Means with intervals, and below each the paired difference to the first method.

    Args:
        rows: finished cells.
        methods: in the order in which they are shown.
        metrics: those to show, each with whether higher is better.
        title: of the table.
    """
    shown = shown_metrics(rows, metrics)
    out = Table("method", *(m + (" ↑" if metrics[m] else " ↓") for m in shown), title=title)
    for method in methods:
        means = [mean(rows, method, metric) for metric in shown]
        out.add_row(method, *(f"{each.mean:.4g} ± {each.half:.2g}" for each in means))
        if method != methods[0]:
            gains = [difference(rows, method, methods[0], metric) for metric in shown]
            cells = (f"{each.mean:+.3g} ± {each.half:.2g}" for each in gains)
            out.add_row(f"  less {methods[0]}", *cells, style="dim")
    return out


def rows_of(path: Path, plan: Plan) -> list[dict[str, Any]]:
    """The finished cells of a plan that a file holds, but for those of seeds that are not whole.

    Of a cell that was done again, with other settings, the last counts.
    """
    latest = {cell_of(row): row for row in read(path)}
    chosen = {cell for cell, _ in plan.cells()}
    return of_whole_seeds([row for cell, row in latest.items() if cell in chosen])


def of_whole_seeds(rows: Rows) -> list[dict[str, Any]]:
    """Rows of a method's first seed, and of those others that have all scenes of that one."""
    scenes: dict[tuple[str, int], set[int]] = {}
    for row in rows:
        scenes.setdefault((row["method"], row["seed"]), set()).add(row["scene"])
    first = {method: scenes[method, seed] for method, seed in sorted(scenes, reverse=True)}
    return [row for row in rows if scenes[row["method"], row["seed"]] >= first[row["method"]]]


def show(path: Path, plan: Plan, metrics: Mapping[str, bool]) -> None:
    """Print what a file holds of a plan, instructions with one and with many answers apart.

    Args:
        path: the file.
        plan: which cells of it.
        metrics: those to show, each with whether higher is better.
    """
    rows = rows_of(path, plan)
    console = Console(width=240)
    for many, title in ((False, "one right answer"), (True, "many right answers")):
        part = [row for row in rows if row["many"] is many]
        if part:
            console.print(table(part, plan.methods, metrics, f"{title}: {len(part)} edits"))
