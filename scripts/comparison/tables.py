"""Tables of a comparison: means with 95 % intervals, and paired differences to the first method."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from .cells import Plan, cell_of, read

Rows = Sequence[dict[str, Any]]


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half width of its 95 % t-interval; NaN where there are fewer than two values."""
    if len(values) < 2:
        return float(values.mean()) if len(values) else math.nan, math.nan
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(half)


def per_scene(rows: Rows, method: str, metric: str) -> dict[int, float]:
    """Mean of a metric over a scene's instructions and seeds: scenes are the independent units."""
    values: dict[int, list[float]] = {}
    for row in rows:
        value = row["metrics"].get(metric)
        if row["method"] == method and value is not None and math.isfinite(value):
            values.setdefault(row["scene"], []).append(value)
    return {scene: float(np.mean(each)) for scene, each in values.items()}


def table(rows: Rows, methods: Sequence[str], metrics: Mapping[str, bool], title: str) -> Table:
    """Means with intervals, and below each the paired difference to the first method.

    Args:
        rows: finished cells.
        methods: in the order in which they are shown.
        metrics: those to show, each with whether higher is better.
        title: of the table.
    """
    shown = [m for m in metrics if any(m in row["metrics"] for row in rows)]
    out = Table("method", *(m + (" ↑" if metrics[m] else " ↓") for m in shown), title=title)
    for method in methods:
        means, differences = [], []
        for metric in shown:
            own, first = per_scene(rows, method, metric), per_scene(rows, methods[0], metric)
            mean, half = interval(np.array(list(own.values())))
            means.append(f"{mean:.4g} ± {half:.2g}")
            both = sorted(own.keys() & first.keys())
            mean, half = interval(np.array([own[scene] - first[scene] for scene in both]))
            differences.append(f"{mean:+.3g} ± {half:.2g}")
        out.add_row(method, *means)
        if method != methods[0]:
            out.add_row(f"  less {methods[0]}", *differences, style="dim")
    return out


def show(path: Path, plan: Plan, metrics: Mapping[str, bool]) -> None:
    """Print what a file holds of a plan, instructions with one and with many answers apart.

    Args:
        path: the file.
        plan: which cells of it.
        metrics: those to show, each with whether higher is better.
    """
    chosen = {cell for cell, _ in plan.cells()}
    rows = [row for row in read(path) if cell_of(row) in chosen]
    console = Console(width=240)
    for many, title in ((False, "one right answer"), (True, "many right answers")):
        part = [row for row in rows if row["many"] is many]
        if part:
            console.print(table(part, plan.methods, metrics, f"{title}: {len(part)} edits"))
