"""How evenly the windows of a step update a canvas, next to a plain random choice.

    python scripts/coverage.py             # the table
    python scripts/coverage.py --seeds 20  # over more streams

A latent is updated by a step if one of the step's windows holds it, since the gradient of
overlapping windows is averaged. The table says how often the latent that is updated least, and the
one that is updated most, come up in 200 steps; over several seeds it is the least and the most of
all. The first rows are the official setting: 512 x 1920 pixels, windows of 64 latents at stride 16.
"""

import argparse
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from csd_lab.canvas import WindowGrid
from csd_lab.data.windows import WindowBatches

STEPS = 200


class Setting(NamedTuple):
    """A canvas in latents and a number of windows a step."""

    height: int
    width: int
    batch_size: int
    wrap: bool = False


SETTINGS = (
    Setting(64, 240, 4),
    Setting(64, 240, 8),
    Setting(64, 240, 2),
    Setting(64, 240, 1),
    Setting(64, 240, 4, wrap=True),
    Setting(82, 240, 8),
    Setting(128, 128, 4),
    Setting(128, 240, 4),
    Setting(128, 240, 8),
    Setting(256, 1024, 16),
    Setting(256, 1024, 16, wrap=True),
)


class Spread(NamedTuple):
    """Least and most of some counts."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}..{self.most}"


def spread(counts: Iterable[Tensor]) -> Spread:
    """Over all seeds."""
    whole = torch.stack(list(counts))
    return Spread(int(whole.min()), int(whole.max()))


def updates(grid: WindowGrid, batches: list[Tensor]) -> Tensor:
    """In how many of the batches each latent is held, (H, W)."""
    counts = torch.zeros(grid.height, grid.width, dtype=torch.int64)
    for batch in batches:
        counts += grid.coverage(batch) > 0
    return counts


def balanced(grid: WindowGrid, size: int, seed: int) -> list[Tensor]:
    """The batches of this package."""
    stream = WindowBatches(grid, size, seed)
    return [stream.batch(k) for k in range(STEPS)]


def random(grid: WindowGrid, size: int, seed: int) -> list[Tensor]:
    """Different windows, drawn at random for each step, as in the official code."""
    generator = np.random.default_rng(seed)
    return [torch.from_numpy(generator.permutation(len(grid))[:size]) for _ in range(STEPS)]


def table(seeds: int) -> Table:
    """A row a setting."""
    shown = Table(
        "canvas",
        "windows",
        "a step",
        "updates, random",
        "updates, balanced",
        "uses of a window",
        title=f"Updates of a latent in {STEPS} steps, least..most over {seeds} seeds",
    )
    for setting in SETTINGS:
        grid = WindowGrid(setting.height, setting.width, (64, 64), (16, 16), setting.wrap)
        ours = [balanced(grid, setting.batch_size, seed) for seed in range(seeds)]
        plain = [random(grid, setting.batch_size, seed) for seed in range(seeds)]
        uses = [torch.bincount(torch.cat(batches), minlength=len(grid)) for batches in ours]
        shown.add_row(
            f"{setting.height} x {setting.width}{' ring' if setting.wrap else ''}",
            str(len(grid)),
            str(setting.batch_size),
            str(spread(updates(grid, batches) for batches in plain)),
            str(spread(updates(grid, batches) for batches in ours)),
            str(spread(uses)),
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    Console().print(table(parser.parse_args().seeds))


if __name__ == "__main__":
    main()
