"""Run folders for tests: a real one, and many that are made from it with chosen settings."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from csd_lab.run_folder import RunFolder

LIGHT = ("experiment=colours", "data.frames=3", "metrics=pixels", "trainer.max_steps=2")
NOTES = {
    "psnr_answer": {"meaning": "PSNR to the answer.", "higher_is_better": True, "unit": "dB"},
    "lpips_consecutive_tiny": {"meaning": "Jumps.", "higher_is_better": False, "unit": "distance"},
    "agreement": {"meaning": "Share that agrees.", "higher_is_better": True, "unit": ""},
    "saturation": {"meaning": "Saturation.", "higher_is_better": None, "unit": ""},
}


def run_program(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "csd_lab.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)


class Maker:
    """Makes run folders from a real one.

    Args:
        real: folder of a finished run.
    """

    def __init__(self, real: Path) -> None:
        self.real = RunFolder(real)
        self.config = yaml.safe_load(self.real.config.read_text())

    def make(
        self,
        root: Path,
        metrics: Mapping[str, float | None] | None = None,
        steps: int = 0,
        **settings: Any,
    ) -> Path:
        """A finished run with these metrics and settings.

        Args:
            root: where.
            metrics: final values.
            steps: rows of metrics.csv, random around the seed.
            settings: method, kernel, seed, clip or prompt.
        """
        folder = RunFolder(root)
        root.mkdir(parents=True)
        folder.config.write_text(yaml.safe_dump(self._configured(**settings), sort_keys=False))
        values = {"psnr_answer": 20.0} if metrics is None else dict(metrics)
        notes = {name: NOTES[name] for name in values}
        results = {
            "steps": self.config["trainer"]["max_steps"],
            "metrics": values,
            "notes": notes,
            "skipped": {},
        }
        folder.results.write_text(json.dumps(results))
        shutil.copy(self.real.edited, folder.edited)
        shutil.copy(self.real.report, folder.report)
        if steps:
            self._write_steps(folder, steps, settings.get("seed", 0))
        return root

    def _configured(
        self,
        method: str = "csd_edit",
        kernel: str = "rbf",
        seed: int = 0,
        clip: int = 1,
        prompt: str = "make it night",
    ) -> dict[str, Any]:
        config = json.loads(json.dumps(self.config))
        config["choices"] |= {"method": method, "kernel": kernel}
        config["method"]["distiller"]["_target_"] = f"csd_lab.distill.{method}"
        config["kernel"] = {"_target_": f"csd_lab.distill.{kernel}"}
        config["prompt"] = config["data"]["instruction"] = prompt
        config["seed"] = config["data"]["seed"] = config["modality"]["seed"] = seed
        config["data"]["clip_seed"] = clip
        return config

    def _write_steps(self, folder: RunFolder, steps: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        with folder.steps.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "gradient_norm", "bandwidth", "effective_neighbours"])
            for step in range(steps):
                norm = np.exp(-step / steps * 4) * rng.uniform(0.8, 1.2)
                writer.writerow([step, f"{norm:.6g}", f"{100 + step}", ""])


def make_sweep(maker: Maker, root: Path, clips: int = 4, seeds: int = 2, steps: int = 12) -> Path:
    """A sweep of three methods with two kernels over scenes and seeds; differences are known.

    dds is worse than csd_edit by exactly 1 dB in each scene and seed; csd is unrelated to both, and
    lacks one scene. ``agreement`` is defined for odd clips alone.
    """
    rng = np.random.default_rng(0)
    for clip in range(1, clips + 1):
        for seed in range(seeds):
            for kernel in ("rbf", "imq"):
                base = 20 + clip + float(rng.normal())
                for method, shift in (
                    ("csd_edit", 0.0),
                    ("dds", -1.0),
                    ("csd", float(rng.normal())),
                ):
                    if method == "csd" and clip == clips:
                        continue
                    metrics = {
                        "psnr_answer": base + shift,
                        "lpips_consecutive_tiny": float(rng.uniform(0.1, 1)),
                        "agreement": float(rng.integers(1, 5)) / 4 if clip % 2 else None,
                        "saturation": float(rng.uniform()),
                    }
                    settings = {"method": method, "kernel": kernel, "seed": seed, "clip": clip}
                    name = f"{method}-{kernel}-{clip}-{seed}"
                    maker.make(root / name, metrics, steps, **settings)
    return root
