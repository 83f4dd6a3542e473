"""What was recorded from the official CSD implementation, and how it is followed."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from csd_lab.distill import (
    RBF,
    Bandwidth,
    CollaborativeScoreDistillation,
    Distiller,
    DualGuidance,
    ScoreDistillation,
    SigmaSquared,
    SourceResidual,
    Weight,
    surrogate_loss,
)

from .helpers import ClosedForm

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
OFFICIAL = RBF(Bandwidth("official"))
CANVAS_WINDOW = 64  # latents; the windows of the image and region modes are square


@cache
def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def csd_edit(text: float, image: float) -> Distiller:
    residual = SourceResidual(DualGuidance(text, image))
    return CollaborativeScoreDistillation(residual, OFFICIAL, SigmaSquared())


def by_itself(text: float, image: float, weight: Weight) -> Distiller:
    return ScoreDistillation(SourceResidual(DualGuidance(text, image)), weight)


def assert_close(ours: Tensor, recorded: Tensor) -> None:
    torch.testing.assert_close(ours, recorded, rtol=0, atol=1e-5)


class Trajectory:
    """A recorded run: its settings, its randomness, and the latents that it ends with."""

    def __init__(self, case: str) -> None:
        arrays = golden("analytic_trajectory")
        self.settings = json.loads(str(arrays[f"{case}__cfg"]))
        self.timesteps = torch.from_numpy(arrays[f"{case}__t"])
        self.drawn = arrays[f"{case}__perms"]
        self.trace = torch.from_numpy(arrays[f"{case}__sum_norm"])
        self.final = torch.from_numpy(arrays[f"{case}__final"])
        self.scales = (self.settings["gs"], self.settings["igs"])
        self.prior = ClosedForm()

    def source(self) -> Tensor:
        rng = np.random.default_rng(self.settings["seed"])
        shape = (self.settings["n"], 4, self.settings["h"], self.settings["w"])
        return torch.from_numpy((rng.standard_normal(shape) * 0.8).astype(np.float32))

    def noise(self, step: int, k: int, shape: tuple[int, ...]) -> Tensor:
        rng = np.random.default_rng([self.settings["seed"], step, k])
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))

    def windows(self, step: int) -> list[tuple[slice, slice]]:
        """Of a canvas: rows of windows at the recorded stride, those that the step drew."""
        starts = [
            range(0, self.settings[side] - CANVAS_WINDOW + 1, self.settings["stride"])
            for side in ("h", "w")
        ]
        every = [
            (slice(top, top + CANVAS_WINDOW), slice(left, left + CANVAS_WINDOW))
            for top in starts[0]
            for left in starts[1]
        ]
        return [every[i] for i in self.drawn[step]]

    def follow(self, gradient: Callable[[int, Tensor, Tensor], Tensor]) -> None:
        """Runs SGD on gradient(step, x, source), and compares all steps with the record."""
        source = self.source()
        x = source.clone().requires_grad_()
        optimizer = torch.optim.SGD([x], lr=self.settings["lr"], weight_decay=self.settings["wd"])
        decay = torch.optim.lr_scheduler.StepLR(
            optimizer, self.settings["decay_iter"], self.settings["decay_rate"]
        )
        for step in range(self.settings["steps"]):
            optimizer.zero_grad()
            surrogate_loss(x, gradient(step, x, source)).backward()
            optimizer.step()
            decay.step()
            seen = torch.stack([x.detach().double().sum(), x.detach().double().norm()])
            torch.testing.assert_close(seen, self.trace[step], rtol=0, atol=1e-3)
        assert_close(x.detach(), self.final)
