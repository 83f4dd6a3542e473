"""Compares video edits on held-out clips of the world, paired, with 95 % intervals.

    python scripts/compare_video.py                  # all cells that are not in the file yet
    python scripts/compare_video.py --clips 4 --seeds 1 --methods csd_edit identity
    python scripts/compare_video.py --first 10 --clips 10 --file half.jsonl   # a share of the work
    python scripts/compare_video.py --table-only

Methods, all with the same prior and metrics; distillations with the default guidance, sampling with
the guidance that suits it better (--sampling-guidance):

    csd_edit     CSD-Edit as configured by default
    identity     the same distillation with the identity kernel, at the same step size
    ip2p         Instruct-Pix2Pix sampling of every frame, independent noise
    ip2p_shared  the same with one noise for all frames

Every finished cell (method, clip, instruction, seed) is a line of a file, so that the script can be
stopped at any time and goes on where it was; files of several shares can be joined. Defaults were
chosen on other clips than the table shows: those from --first 1000 on.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats

from csd_lab import world
from csd_lab.baselines.instruct_pix2pix import InstructPix2PixSampler
from csd_lab.cli import config_folder
from csd_lab.data import WorldClip
from csd_lab.distill import DualGuidance
from csd_lab.launch import prompt_for, quiet_libraries
from csd_lab.metrics import MetricSuite
from csd_lab.priors import Prior
from csd_lab.types import Artefact

DISTILLED = {
    "csd_edit": [],
    "identity": ["kernel=identity", "method.distiller.normalize=row"],
}
SAMPLED = {"ip2p": "independent", "ip2p_shared": "shared"}
METRICS = (
    "clip_direction_tiny",
    "psnr_target",
    "error_spread",
    "lpips_consecutive_tiny",
    "agreement",
    "psnr_answer",
    "colour_spread",
    "saturation",
    "seconds",
    "samples",
)
LOWER_IS_BETTER = {"error_spread", "lpips_consecutive_tiny", "colour_spread", "seconds", "samples"}


class Cell(NamedTuple):
    """One edit of one clip by one method."""

    method: str
    clip: int
    instruction: str
    seed: int


def cells(first: int, clips: int, seeds: int, methods: list[str]) -> Iterator[tuple[Cell, bool]]:
    """All cells of clips from a number on, each with whether its instruction has many answers.

    Every clip has four one-to-one and three one-to-many instructions, drawn among those that its
    scene allows by a generator of its own.
    """
    for index in range(first, first + clips):
        seed = world.HELD_OUT_SEED + 1000 + index
        edits = world.edits_for(world.sample_scene(seed))
        rng = np.random.default_rng(seed)
        for many, count in ((False, 4), (True, 3)):
            names = sorted({edit.instruction for edit in edits if edit.many is many})
            for name in rng.choice(names, min(count, len(names)), replace=False):
                for run in range(seeds):
                    for method in methods:
                        yield Cell(method, seed, str(name), run), many


def composed(*overrides: str) -> DictConfig:
    """The default config with these overrides."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("run", overrides=list(overrides))


class Bench:
    """The networks, built once, and the edits that they make.

    Args:
        frames: length of the clips.
        sampling_steps: DDIM steps of the sampled methods.
        sampling_guidance: their scales, text and image.
        overrides: config overrides for all methods.
    """

    def __init__(
        self,
        frames: int,
        sampling_steps: int,
        sampling_guidance: tuple[float, float],
        overrides: list[str],
    ) -> None:
        self.frames = frames
        self.steps = sampling_steps
        self.guidance = DualGuidance(*sampling_guidance)
        self.configs = {name: composed(*own, *overrides) for name, own in DISTILLED.items()}
        base = self.configs["csd_edit"]
        self.prior: Prior = instantiate(base.prior)
        self.suite: MetricSuite = instantiate(base.metrics)

    def run(self, cell: Cell) -> dict[str, float]:
        """All metrics of one cell, with its seconds and network samples."""
        data = WorldClip(cell.clip, cell.instruction, frames=self.frames)
        data.fit_to(self.prior.size_multiple)
        before, start = self.prior.samples_evaluated, time.perf_counter()
        edit = self.distil if cell.method in DISTILLED else self.sample
        edited = edit(cell, data)
        cost = {
            "seconds": time.perf_counter() - start,
            "samples": float(self.prior.samples_evaluated - before),
        }
        return self.suite.evaluate(Artefact(data.restore(edited), data.task)) | cost

    def distil(self, cell: Cell, data: WorldClip) -> torch.Tensor:
        """The edit by a distillation, as `csd-lab` would do it."""
        config = self.configs[cell.method].copy()
        config.seed = cell.seed
        prompt = prompt_for(self.prior, data.task)
        module = instantiate(config.modality)(frames=data.frames, prompt=prompt, prior=self.prior)
        trainer = pl.Trainer(
            max_steps=config.trainer.max_steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, data)
        return module.export()

    def sample(self, cell: Cell, data: WorldClip) -> torch.Tensor:
        """The edit by sampling every frame."""
        sampler = InstructPix2PixSampler(
            self.prior,
            self.guidance,
            steps=self.steps,
            noise=SAMPLED[cell.method],
            seed=cell.seed,
        )
        return sampler(data.frames, prompt_for(self.prior, data.task))


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half width of its 95 % t-interval; NaN where there are fewer than two values."""
    if len(values) < 2:
        return float(values.mean()) if len(values) else math.nan, math.nan
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(half)


def per_clip(rows: list[dict], method: str, metric: str) -> dict[int, float]:
    """Mean of a metric over a clip's instructions and seeds: clips are the independent units."""
    values: dict[int, list[float]] = {}
    for row in rows:
        value = row["metrics"].get(metric)
        if row["method"] == method and value is not None and math.isfinite(value):
            values.setdefault(row["clip"], []).append(value)
    return {clip: float(np.mean(each)) for clip, each in values.items()}


def table(rows: list[dict], methods: list[str], title: str) -> Table:
    """Means with intervals, and below each the paired difference to the first method."""
    shown = [m for m in METRICS if any(m in row["metrics"] for row in rows)]
    out = Table(
        "method", *(m + (" ↓" if m in LOWER_IS_BETTER else " ↑") for m in shown), title=title
    )
    for method in methods:
        means, differences = [], []
        for metric in shown:
            own, first = per_clip(rows, method, metric), per_clip(rows, methods[0], metric)
            mean, half = interval(np.array(list(own.values())))
            means.append(f"{mean:.4g} ± {half:.2g}")
            both = sorted(own.keys() & first.keys())
            mean, half = interval(np.array([own[clip] - first[clip] for clip in both]))
            differences.append(f"{mean:+.3g} ± {half:.2g}")
        out.add_row(method, *means)
        if method != methods[0]:
            out.add_row(f"  less {methods[0]}", *differences, style="dim")
    return out


def read(path: Path) -> list[dict]:
    """The finished cells of a file; a line cut short by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first clip")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--sampling-steps", type=int, default=20)
    parser.add_argument("--sampling-guidance", type=float, nargs=2, default=(3.0, 1.5))
    parser.add_argument("--methods", nargs="+", default=[*DISTILLED, *SAMPLED])
    parser.add_argument("--file", type=Path, default=Path("outputs/compare_video.jsonl"))
    parser.add_argument("--table-only", action="store_true", help="show what is in the file")
    parser.add_argument("overrides", nargs="*", help="config overrides for all methods")
    options = parser.parse_args()
    quiet_libraries()
    options.file.parent.mkdir(parents=True, exist_ok=True)
    done = {Cell(r["method"], r["clip"], r["instruction"], r["seed"]) for r in read(options.file)}
    wanted = list(cells(options.first, options.clips, options.seeds, options.methods))
    missing = [(cell, many) for cell, many in wanted if cell not in done]
    if missing and not options.table_only:
        guidance = tuple(options.sampling_guidance)
        bench = Bench(options.frames, options.sampling_steps, guidance, options.overrides)
        with options.file.open("a", encoding="utf-8") as file:
            for cell, many in track(missing, "cells"):
                row = {**cell._asdict(), "many": many, "metrics": bench.run(cell)}
                file.write(json.dumps(row) + "\n")
                file.flush()
    chosen = {cell for cell, _ in wanted}
    rows = [
        row
        for row in read(options.file)
        if Cell(row["method"], row["clip"], row["instruction"], row["seed"]) in chosen
    ]
    console = Console(width=240)
    for many, title in ((False, "one right answer"), (True, "many right answers")):
        part = [row for row in rows if row["many"] is many]
        console.print(table(part, options.methods, f"{title}: {len(part)} edits"))


if __name__ == "__main__":
    main()
