"""The picture of a comparison: its methods in the plane of two metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from csd_lab.compare.statistics import Estimate

from .cells import Plan
from .published import Column, Panel, Published, Strip, panels, strips
from .tables import mean, rows_of

COLOURS = 10
MARKERS = "os^DvPX"
"""As many as have no divisor in common with the number of colours: 70 pairs, all different."""

PANEL = 4.6
"""Width and height of a panel, in inches."""

LETTER = 0.07
"""Of the legend, in inches."""

HALO = [withStroke(linewidth=2, foreground="white")]


def draw(published: Published, cells: Path, plan: Plan, path: Path) -> None:
    """Draw what there is to draw of a comparison: a plane of two metrics, or differences.

    Args:
        published: the comparison.
        cells: file of finished cells.
        plan: which of them.
        path: of the picture.
    """
    rows = rows_of(cells, plan)
    if found := strips(published, rows):
        figure = differences(published, found)
    elif planes := panels(published, rows):
        figure = plane(published, planes)
    else:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def differences(published: Published, found: list[Strip]) -> Figure:
    """Draw how far methods are from the first one, with intervals, a row for each."""
    height = 0.26 * max(len(strip.gains) for strip in found) + 1.4
    figure = Figure(figsize=(3.8 * len(found) + 2.6, height), layout="constrained")
    FigureCanvasAgg(figure)
    row = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
    for axes, strip in zip(row, found, strict=True):
        draw_strip(axes, published, strip)
    row[0].invert_yaxis()
    return figure


def draw_strip(axes: Axes, published: Published, strip: Strip) -> None:
    """Draw differences in one metric; those whose interval holds 0 are grey."""
    for number, gain in enumerate(strip.gains.values()):
        higher = published.subject.metrics[strip.column.metric]
        clear = gain.low > 0 or gain.high < 0
        better = (gain.mean > 0) is higher
        colour = ("C2" if better else "C3") if clear else "0.6"
        reach = [[gain.mean - gain.low], [gain.high - gain.mean]]
        axes.errorbar(gain.mean, number, xerr=reach, fmt="o", color=colour, ms=4, elinewidth=1.2)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(strip.gains)), list(strip.gains))
    axes.set_title(strip.title, fontsize="small")
    axes.set_xlabel(
        f"{_name(published, strip.column)}\nless that of {strip.first}", fontsize="small"
    )
    axes.grid(alpha=0.3)


def plane(published: Published, found: list[Panel]) -> Figure:
    """Draw all methods in the plane of two metrics."""
    longest = max(map(len, [published.legend, *(published.points or published.labels.values())]))
    width = PANEL * len(found) + LETTER * longest + 0.6
    figure = Figure(figsize=(width, PANEL), layout="constrained")
    FigureCanvasAgg(figure)
    row = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, panel in zip(row, found, strict=True):
        draw_panel(axes, published, panel)
    figure.legend(
        *row[0].get_legend_handles_labels(),
        loc="outside right upper",
        title=published.legend,
        fontsize="small",
        title_fontsize="small",
        alignment="left",
    )
    return figure


def draw_panel(axes: Axes, published: Published, panel: Panel) -> None:
    """Draw lines through methods, or a point with its intervals for each method."""
    there = {row["method"] for row in panel.rows}
    lines = published.points or {label: {"": name} for name, label in published.labels.items()}
    for number, (label, methods) in enumerate(lines.items()):
        shown = {text: method for text, method in methods.items() if method in there}
        if shown:
            _line(axes, panel, shown, {"label": label, **style_of(number)})
    axes.set_title(panel.title, fontsize="medium")
    axes.margins(0.1)
    axes.set_xlim(_within(axes.get_xlim(), panel.along))
    axes.set_ylim(_within(axes.get_ylim(), panel.up))
    axes.set_xlabel(_name(published, panel.along))
    axes.set_ylabel(_name(published, panel.up))
    axes.grid(alpha=0.3)


def style_of(number: int) -> dict[str, str]:
    """Colour and marker of the method of a number, which is empty once colours come again."""
    return {
        "color": f"C{number % COLOURS}",
        "marker": MARKERS[number % len(MARKERS)],
        "fillstyle": "full" if number < COLOURS else "none",
    }


def _line(axes: Axes, panel: Panel, methods: Mapping[str, str], style: Mapping[str, Any]) -> None:
    """Means of methods, by what is written at the ends; the intervals of a single one, too.

    Those of several would hide each other.
    """
    x = [mean(panel.rows, method, panel.along.metric) for method in methods.values()]
    y = [mean(panel.rows, method, panel.up.metric) for method in methods.values()]
    single = len(methods) == 1
    axes.errorbar(
        [each.mean for each in x],
        [each.mean for each in y],
        xerr=_reach(x[0], panel.along) if single else None,
        yerr=_reach(y[0], panel.up) if single else None,
        linewidth=1,
        elinewidth=0.8,
        clip_on=False,
        **style,
    )
    names = list(methods)
    for end in (0, -1):
        axes.annotate(
            names[end],
            (x[end].mean, y[end].mean),
            xytext=(5, 5),
            textcoords="offset points",
            color=style["color"],
            fontsize="small",
            path_effects=HALO,
        )


def _within(ends: tuple[float, float], column: Column) -> tuple[float, float]:
    """The part of an interval that a metric can take."""
    return max(ends[0], column.bounds[0]), min(ends[1], column.bounds[1])


def _reach(estimate: Estimate, column: Column) -> list[list[float]]:
    """How far an interval goes down and up from its mean, within the bounds of the metric."""
    low, high = _within((estimate.low, estimate.high), column)
    return [[estimate.mean - low], [high - estimate.mean]]


def _name(published: Published, column: Column) -> str:
    """What a metric is called, with an arrow to where it is better."""
    higher = published.subject.metrics[column.metric]
    return f"{column.label} ({'higher is better →' if higher else '← lower is better'})"
