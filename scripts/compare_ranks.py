"""How far results depend on the number of processes, and what several gain, as a printed table.

    python scripts/compare_ranks.py                           # 1, 2 and 3 processes on the CPU
    python scripts/compare_ranks.py --ranks 1 4 8 trainer.accelerator=gpu data.frames=24

Each row is a run of the default method on so many processes, without evaluation and media. Three
ways of evaluating the network are compared: in float32, in the type that the prior chooses by
itself, and in that type with every sample alone (prior.max_batch=1). The size of a share is the
size of a batch, and a network's rounding depends on that; one sample at a time, it does not.
"""

import argparse
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from comparison.bench import be_quiet
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from csd_lab.build import build
from csd_lab.composition import composed
from csd_lab.processes import supervise
from csd_lab.run_folder import RunFolder

WARM_UP = 1

VARIANTS = {
    "float32": ["prior.dtype=float32"],
    "default": ["prior.dtype=auto"],
    "one at a time": ["prior.dtype=auto", "prior.max_batch=1"],
}


class Measure(NamedTuple):
    """What a run gave.

    Attributes:
        latents: at the end.
        moved: largest change of a latent since the beginning.
        seconds: of a step, the median after the first.
        samples: of the network in a step, by rank.
        dtype: of the network.
    """

    latents: torch.Tensor
    moved: float
    seconds: float
    samples: list[float]
    dtype: str


class Clock(pl.Callback):
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        """Note the time."""
        del args
        self.times.append(time.perf_counter())


def measure(text: str, folder: Path) -> Measure:
    """Make a run in the ranks of which this is one."""
    be_quiet()
    config: Any = OmegaConf.create(text)
    data, module, trainer = build(config, RunFolder(folder))
    clock = Clock()
    trainer.callbacks.append(clock)
    trainer.fit(module, data)
    gaps = [b - a for a, b in zip(clock.times[WARM_UP - 1 :], clock.times[WARM_UP:], strict=False)]
    samples: list[float] = [0.0] * trainer.world_size
    own = module.prior.samples_evaluated / trainer.global_step
    if trainer.world_size > 1:
        dist.all_gather_object(samples, own)
    latents = module.latents.detach().cpu()
    moved = (latents - module.source_latents.cpu()).abs().max()
    dtype = next((str(p.dtype) for n, p in module.prior.named_parameters() if "unet" in n), "-")
    return Measure(
        latents,
        float(moved),
        sorted(gaps)[len(gaps) // 2],
        samples if trainer.world_size > 1 else [own],
        dtype.removeprefix("torch."),
    )


def text_of(ranks: int, overrides: list[str]) -> str:
    """The resolved config of a run on so many processes, with nothing beside its steps."""
    whole = ["trainer=ddp", f"trainer.devices={ranks}", "+trainer.enable_progress_bar=false"]
    whole += ["+trainer.enable_checkpointing=false", *overrides]
    config = composed(*whole)
    OmegaConf.set_struct(config, False)
    config.callbacks, config.logger = {}, {}
    config.pop("sweep", None)
    return OmegaConf.to_yaml(config, resolve=True)


def measure_all(texts: dict[str, str], folder: Path) -> dict[str, Measure]:
    """All variants in one launch, whose processes take long to start."""
    return {variant: measure(text, folder / variant) for variant, text in texts.items()}


def table_of(found: dict[int, dict[str, Measure]]) -> Table:
    """The measures by number of processes and variant, compared with the first number."""
    table = Table("network", "ranks", "difference", "moved", "s a step", "samples a step")
    table.title = "Largest difference of a latent to the first row's, and largest move of one"
    first = next(iter(found.values()))
    for variant in VARIANTS:
        for ranks, measures in found.items():
            each = measures[variant]
            difference = (each.latents - first[variant].latents).abs().max()
            table.add_row(
                variant if variant == each.dtype else f"{variant} ({each.dtype})",
                str(ranks),
                f"{float(difference):.2g}",
                f"{each.moved:.3g}",
                f"{each.seconds:.2f}",
                " + ".join(f"{samples:g}" for samples in each.samples),
            )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=10, help="steps a run")
    parser.add_argument("overrides", nargs="*", help="settings of the runs, such as data.frames=8")
    options = parser.parse_args()
    if options.steps <= WARM_UP:
        parser.error(f"--steps must be above {WARM_UP}, which warm up, got {options.steps}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same threads on any number of processes
    overrides = ["metrics=pixels", f"trainer.max_steps={options.steps}", *options.overrides]
    found: dict[int, dict[str, Measure]] = {}
    with TemporaryDirectory() as folder:
        for ranks in options.ranks:
            texts = {
                name: text_of(ranks, [*overrides, *variant]) for name, variant in VARIANTS.items()
            }
            found[ranks] = supervise(measure_all, texts, Path(folder), ranks=ranks)
    Console().print(table_of(found))


if __name__ == "__main__":
    main()
