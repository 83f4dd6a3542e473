"""Reconstructs scenes of the world: how near, how fast, and with how much memory.

    python scripts/benchmark_scenes.py                           # 8 scenes, 800 steps
    python scripts/benchmark_scenes.py --scenes 2 field.resolution=64,96,128

Held out are 24 views between the 48 that are followed. Novel views stand elsewhere: midway between
others, all at one height. Depth is compared along rays, where the exact scene is nearer than 20 m.
Every reconstruction runs in a process of its own, so that its peak memory is its own.
"""

import argparse
import time
from dataclasses import replace

import torch
from comparison.apart import apart, peak_megabytes, say
from comparison.bench import be_quiet, quiet_trainer
from hydra.utils import instantiate
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from csd_lab import world
from csd_lab.compare.statistics import scene_means, student_estimate
from csd_lab.composition import composed
from csd_lab.data.world_capture import cameras_around, pinholes
from csd_lab.fields import Scene

HEIGHT, FAR = 1.7, 20.0
"""Of the novel cameras, and up to where depth is compared; in metres."""
COLUMNS = {
    "held": "held out, dB",
    "novel": "novel, dB",
    "worst": "worst novel view, dB",
    "depth": "median error of depth, %",
    "seconds": "seconds",
    "megabytes": "peak MB",
}


def psnr(seen: Tensor, exact: Tensor) -> Tensor:
    """In dB, of each of some images, (V,)."""
    return -10 * (seen - exact).square().mean(dim=(1, 2, 3)).log10()


@torch.no_grad()
def novel(scene: Scene, seed: int, size: int) -> Tensor:
    """PSNR of views from elsewhere, (12,), in dB."""
    exact, _ = world.scene_and_edit(seed, None)
    cameras = [
        replace(camera, position=(camera.position[0], HEIGHT, camera.position[2]))
        for camera in cameras_around(exact, 12, 0.25)
    ]
    seen = scene.views(pinholes(cameras, size, size), torch.arange(12))
    return psnr(seen, world.render_views(exact, cameras, size, size))


def measure(seed: int, overrides: list[str]) -> dict[str, float]:
    """All figures of one reconstruction."""
    config = composed("experiment=reconstruct", f"data.scene_seed={seed}", *overrides)
    data = instantiate(config.data)
    module = instantiate(config.modality)(**data.inputs)
    began = time.perf_counter()
    quiet_trainer(config.trainer.max_steps, enable_checkpointing=False).fit(module, data)
    seconds = time.perf_counter() - began
    elsewhere = novel(module.scene, seed, data.size)
    with torch.no_grad():
        depth = torch.stack([module.scene.view(data.shown, i).depth for i in range(24)])
    exact = data.edit.depth[data.shown_ids]
    near = exact < FAR
    return {
        "held": float(psnr(module.export(), data.task.source).mean()),
        "novel": float(elsewhere.mean()),
        "worst": float(elsewhere.min()),
        "depth": 100 * float(((depth - exact).abs() / exact)[near].median()),
        "seconds": seconds,
        "megabytes": peak_megabytes(),
    }


def variants(overrides: list[str]) -> list[list[str]]:
    """Overrides with each of the values that one of them lists."""
    found: list[list[str]] = [[]]
    for override in overrides:
        key, _, values = override.partition("=")
        found = [[*known, f"{key}={value}"] for known in found for value in values.split(",")]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="config overrides, of several values each")
    options = parser.parse_args()
    be_quiet()
    if options.only is not None:
        say(measure(options.only, options.overrides))
        return
    table = Table("settings", *COLUMNS.values(), title=f"{options.scenes} scenes of 48 views")
    for chosen in variants(options.overrides):
        seeds = [world.HELD_OUT_SEED + 1000 + k for k in range(options.scenes)]
        name = " ".join(chosen) or "default"
        rows = [apart(__file__, seed, *chosen) for seed in track(seeds, name)]
        table.add_row(name, *(cell(rows, column) for column in COLUMNS))
    Console(width=160).print(table)


def cell(rows: list[dict[str, float]], name: str) -> str:
    """Mean and 95 % interval of a figure over scenes."""
    found = student_estimate(scene_means([((k,), row[name]) for k, row in enumerate(rows)]))
    half = "" if len(rows) < 2 else f" ± {found.half:.1f}"
    return f"{found.mean:.1f}{half}"


if __name__ == "__main__":
    main()
