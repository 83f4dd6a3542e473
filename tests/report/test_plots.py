"""Plots are PNGs of a sensible size for whatever a run may have logged."""

import math
import threading
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_pages import ANY_TEXT

from csd_lab.report import plot_kernels, plot_scalars
from csd_lab.report.plots import _limits, _off_diagonal, _running_mean

NAMES = [
    *("gradient_norm", "attraction_norm", "repulsion_norm", "bandwidth"),
    *("effective_neighbours", "mean_affinity", "t"),
]


def kernel(particles: int, seed: int = 0) -> torch.Tensor:
    x = torch.randn(particles, 4, generator=torch.Generator().manual_seed(seed))
    return torch.exp(-(torch.cdist(x, x) ** 2) / 8)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


@pytest.mark.parametrize(("particles", "steps"), [(1, 1), (2, 2), (8, 7), (24, 3), (300, 2)])
def test_kernels_of_any_size(tmp_path: Path, particles: int, steps: int) -> None:
    matrices = {10 * step: kernel(particles, step) for step in range(steps)}
    plot_kernels(tmp_path / "kernel.png", matrices)
    width, height = size(tmp_path / "kernel.png")
    assert 300 < height < 700
    assert 400 < width < 2000


@pytest.mark.parametrize(
    "matrix", [torch.eye(4), torch.ones(4, 4), torch.full((3, 3), math.nan), kernel(4).numpy()]
)
def test_degenerate_kernels(tmp_path: Path, matrix: Any) -> None:
    plot_kernels(tmp_path / "kernel.png", {0: matrix, 5: matrix})
    size(tmp_path / "kernel.png")


def test_colours_span_the_entries_off_the_diagonal() -> None:
    shown = _off_diagonal(torch.tensor([[1.0, 0.2], [0.3, 1.0]]))
    assert np.isnan(np.diag(shown)).all()
    assert _limits([shown]) == pytest.approx((0.2, 0.3))
    assert _limits([_off_diagonal(torch.eye(3))]) == (0.0, 1.0)


def test_kernels_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        plot_kernels(tmp_path / "kernel.png", {})
    with pytest.raises(ValueError, match=r"must be N x N with N >= 1, got shape \(2, 3\)"):
        plot_kernels(tmp_path / "kernel.png", {0: torch.ones(2, 3)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", [0, 1, 120])
def test_scalars_of_runs_of_any_length(tmp_path: Path, steps: int) -> None:
    rows: list[dict[str, str]] = [
        {"step": str(step), **{name: f"{math.exp(-step / 9) + 1e-3:.9g}" for name in NAMES}}
        for step in range(steps)
    ]
    for row in rows[::20]:
        row["psnr_target"] = "20.5"
    plot_scalars(tmp_path / "scalars.png", rows)
    assert size(tmp_path / "scalars.png")[0] > 1000


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "1e300", ""])
def test_strange_values(tmp_path: Path, value: str) -> None:
    rows = [{"step": str(step), "gradient_norm": "1.5"} for step in range(40)]
    rows[17]["gradient_norm"] = value
    plot_scalars(tmp_path / "scalars.png", rows)
    plot_scalars(tmp_path / "scalars.png", [{"step": "0", "bandwidth": value}])
    size(tmp_path / "scalars.png")


@pytest.mark.filterwarnings("ignore:Glyph", "ignore:Matplotlib currently does not support")
@given(st.dictionaries(ANY_TEXT, st.floats(width=32), max_size=3))
@settings(max_examples=5, deadline=None)
def test_any_name_of_a_column(
    tmp_path_factory: pytest.TempPathFactory, columns: dict[str, float]
) -> None:
    path = tmp_path_factory.getbasetemp() / "scalars.png"
    plot_scalars(path, [{**columns, "step": 0}])
    plot_scalars(path, [{"$\\frac{1}{0}$": 1.0, "step": 0}])


def test_running_mean() -> None:
    values = np.full(100, 3.0)
    assert np.allclose(_running_mean(values), 3)
    values[50] = np.nan
    assert np.allclose(_running_mean(values), 3)
    assert np.allclose(_running_mean(np.arange(100.0))[10:90], np.arange(10, 90))


def test_no_global_state_is_touched(tmp_path: Path) -> None:
    """Plots are drawn from callbacks, maybe of several threads, beside a user's own figures."""
    before = dict(matplotlib.rcParams)
    threads = [
        threading.Thread(target=plot_kernels, args=(tmp_path / f"{i}.png", {0: kernel(6, i)}))
        for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.iterdir())) == 3
    assert dict(matplotlib.rcParams) == before
