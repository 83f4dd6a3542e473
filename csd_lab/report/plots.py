"""Plots of a run: what the kernel saw, and how its figures went over steps."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from csd_lab.files import atomic_path
from csd_lab.html import line_to_show

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, which colour-blind readers can tell apart."""
DOTS_PER_INCH = 130
NOISY_FROM = 30
"""Steps from which on a running mean is drawn over the raw values."""


class Panel(NamedTuple):
    """Curves that share a pair of axes.

    Attributes:
        title: what is shown.
        unit: of the vertical axis.
        curves: label of each curve by the name of its column.
        log: whether the vertical axis is logarithmic where values span more than a decade.
    """

    title: str
    unit: str
    curves: Mapping[str, str]
    log: bool = False


PANELS = (
    Panel(
        "Gradient of a particle and its parts",
        "Euclidean norm, mean over particles",
        {
            "gradient_norm": "gradient",
            "attraction_norm": "attraction",
            "repulsion_norm": "repulsion",
        },
        log=True,
    ),
    Panel("Kernel bandwidth", "h (squared distance)", {"bandwidth": "h"}, log=True),
    Panel("Effective neighbours", "particles", {"effective_neighbours": "neighbours"}),
    Panel("Affinity of different particles", "mean k(x_j, x_i)", {"mean_affinity": "affinity"}),
    Panel("Timestep", "t", {"t": "t"}),
    Panel(
        "What the scene is held to",
        "weighted, mean over particles",
        {
            "penalty_sparsity": "sparsity",
            "penalty_opacity": "opacity",
            "penalty_orientation": "orientation",
            "penalty_smoothness": "smoothness",
        },
        log=True,
    ),
)
"""What is known of the scalars that runs log at every step; others get a panel of their own."""


def plot_kernels(path: Path | str, matrices: Mapping[int, Any]) -> None:
    """Draw the kernel matrix of the first, the middle and the last of some steps.

    The diagonal, k(x_i, x_i) = 1, is left grey, so that the colours tell the others apart.

    Args:
        path: of the PNG to write.
        matrices: by step, each N x N (array or tensor on the CPU), where entry (i, j) is
            k(x_j, x_i); N may differ from step to step.

    Raises:
        ValueError: if there is none, or one is not square.
    """
    if not matrices:
        raise ValueError("matrices must hold at least one step, got none.")
    steps = sorted(matrices)
    chosen = sorted({steps[0], steps[len(steps) // 2], steps[-1]})
    shown = [_off_diagonal(matrices[step]) for step in chosen]
    low, high = _limits(shown)
    figure = Figure(figsize=(3.6 * len(chosen) + 1.0, 4.2), layout="constrained")
    axes = figure.subplots(1, len(chosen), squeeze=False)[0]
    for axis, step, matrix in zip(axes, chosen, shown, strict=True):
        picture = axis.imshow(matrix, vmin=low, vmax=high, cmap="viridis", interpolation="nearest")
        axis.set_facecolor("#c8ccd1")
        axis.set_title(f"step {step}", fontsize=11)
        axis.set_xlabel("particle j")
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        _annotate(axis, matrix, (low + high) / 2)
    axes[0].set_ylabel("particle i")
    bar = figure.colorbar(picture, ax=list(axes), shrink=0.9, pad=0.02)
    bar.set_label("affinity k(x_j, x_i)")
    _save(figure, path)


def plot_scalars(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw logged scalars over steps, related ones in one panel.

    Args:
        path: of the PNG to write.
        rows: one a step, with its number under ``step``; values are numbers or their text, and
            empty or absent where nothing was logged.
    """
    columns = _columns(rows)
    panels = [panel for panel in PANELS if any(name in columns for name in panel.curves)]
    known = {name for panel in panels for name in panel.curves}
    panels += [Panel(name, "", {name: name}) for name in columns if name not in known]
    lines = max(1, math.ceil(len(panels) / 2))
    figure = Figure(figsize=(10.5, 2.9 * lines), layout="constrained")
    axes = list(figure.subplots(lines, 2, squeeze=False).flat)
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel, columns)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if not panels:
        axes[0].text(0.5, 0.5, "nothing was logged", ha="center", transform=axes[0].transAxes)
    _save(figure, path)


def _off_diagonal(matrix: Any) -> npt.NDArray[np.float64]:
    """The matrix with NaN on its diagonal.

    Raises:
        ValueError: if it is not square.
    """
    values = np.array(matrix, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or values.size == 0:
        raise ValueError(f"a kernel matrix must be N x N with N >= 1, got shape {values.shape}.")
    np.fill_diagonal(values, np.nan)
    return values


def _limits(matrices: Sequence[npt.NDArray[np.float64]]) -> tuple[float, float]:
    """Range of the colours; [0, 1] where all entries are equal."""
    values = np.concatenate([matrix[np.isfinite(matrix)] for matrix in matrices])
    if values.size == 0 or np.ptp(values) < 1e-6:
        return 0.0, 1.0
    return float(values.min()), float(values.max())


def _annotate(axis: Axes, matrix: npt.NDArray[np.float64], middle: float) -> None:
    """Write the values into a small matrix."""
    if len(matrix) > 8:
        return
    for (i, j), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            colour = "black" if value > middle else "white"
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, npt.NDArray[np.float64]]:
    """Steps and values, (2, K), of each column that has any, in order of appearance."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and value not in ("", None):
                points.setdefault(str(name), []).append((float(row["step"]), float(value)))
    return {name: np.array(sorted(values)).T for name, values in points.items()}


def _draw(axis: Axes, panel: Panel, columns: Mapping[str, npt.NDArray[np.float64]]) -> None:
    drawn = []
    for colour, (name, label) in zip(COLOURS, panel.curves.items(), strict=False):
        if name not in columns:
            continue
        steps, values = columns[name]
        smooth = len(values) >= NOISY_FROM
        axis.plot(steps, values, color=colour, lw=1, alpha=0.3 if smooth else 1, marker=".", ms=3)
        if smooth:
            axis.plot(steps, _running_mean(values), color=colour, lw=2)
        axis.plot([], [], color=colour, lw=2, label=label)
        drawn.append(values[np.isfinite(values)])
    if panel.log and _spans_decades(np.concatenate(drawn)):
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axis.set_title(line_to_show(panel.title)[:80], fontsize=11, loc="left", parse_math=False)
    axis.set_ylabel(panel.unit, fontsize=9)
    axis.set_xlabel("step", fontsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(color="#e3e6ea", lw=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if len(panel.curves) > 1:
        axis.legend(frameon=False, fontsize=9)


def _spans_decades(values: npt.NDArray[np.float64]) -> bool:
    return bool(values.size and values.min() > 0 and values.max() > 20 * values.min())


def _running_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean of the finite among about a tenth of the values around each; fewer at the ends."""
    half = max(1, len(values) // 20)
    window = np.ones(2 * half + 1)
    finite = np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0.0), window, "same")
    count = np.convolve(finite.astype(float), window, "same")
    return np.where(count > 0.5, total / np.maximum(count, 1), np.nan)


def _save(figure: Figure, path: Path | str) -> None:
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH)
