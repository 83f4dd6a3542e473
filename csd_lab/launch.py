"""From a composed config to objects, from objects to a finished run folder.

The only place besides :mod:`csd_lab.cli` that knows Hydra. Parts are built cheapest first, so that
wrong input is told before a network is loaded.
"""

import json
import logging
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast, get_args

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from csd_lab.callbacks import GracefulStop, finish_wandb, write_page
from csd_lab.data import EditData
from csd_lab.distill.noise import NoiseMode
from csd_lab.files import atomic_path
from csd_lab.particles import OptimizerFactory, ParticleModule
from csd_lab.priors import Prior
from csd_lab.report import Status
from csd_lab.run_folder import RunFolder
from csd_lab.types import EditTask

log = logging.getLogger(__name__)

GROUPS = ("modality", "method", "kernel", "guidance", "prior", "data", "optimizer")
"""Config groups whose choices say what a run is."""

RESUMABLE = ("trainer", "callbacks", "logger", "metrics")
"""Groups whose settings may change when a run goes on; the others make it another run."""


class Run(NamedTuple):
    """The objects of one run."""

    data: EditData
    module: ParticleModule
    trainer: pl.Trainer


def launch(config: DictConfig, root: Path) -> int:
    """Run a config in the folder ``root``.

    Returns:
        The exit code: 0 done, 1 failed, 128 + n stopped by signal n.

    Raises:
        ValueError: if the input is wrong; nothing was run then.
    """
    folder = RunFolder(root)
    config = settle(config, folder)
    checkpoint = folder.checkpoint if config.resume else None
    config.resume = None
    check(config)
    quiet_libraries()
    run = build(config, folder)
    with atomic_path(folder.config) as path:
        OmegaConf.save(config, path, resolve=True)
    facts = describe(config, run)
    Console().print(table_of("", facts))
    print(f"folder: {folder.root}")
    return train(run, folder, checkpoint, facts)


def settle(config: DictConfig, folder: RunFolder) -> DictConfig:
    """The config to run: the composed one, or the saved one of the run to go on with.

    Raises:
        ValueError: if the run to go on with has no checkpoint, or if a setting is overridden that
            would make it another run.
    """
    if not config.resume:
        choices = HydraConfig.get().runtime.choices
        named = {group: choices[group] for group in GROUPS}
        OmegaConf.update(config, "choices", named, force_add=True)
        return config
    if not folder.checkpoint.is_file():
        raise ValueError(
            f"resume: {str(folder.root)!r} holds no checkpoint to go on from; start it anew."
        )
    saved = cast(DictConfig, OmegaConf.load(folder.config))
    for override in HydraConfig.get().overrides.task:
        key = override.lstrip("+~").partition("=")[0]
        if key == "resume":
            continue
        if key.split(".")[0] not in RESUMABLE or key in RESUMABLE:
            allowed = ", ".join(f"{group}.*" for group in RESUMABLE)
            raise ValueError(
                "resume goes on with the run's own settings; "
                f"only {allowed} may change, got {key!r}."
            )
        OmegaConf.update(saved, key, OmegaConf.select(config, key), force_add=True)
    saved.resume = str(folder.root)
    return saved


def check(config: DictConfig) -> None:
    """Look at the plain values that no constructor looks at.

    Raises:
        ValueError: names the setting, what is allowed, and what was given.
    """
    if OmegaConf.is_missing(config, "prompt"):
        raise ValueError("prompt must say what to do, such as prompt='make it night', got '???'.")
    if config.prompt is not None and not isinstance(config.prompt, str):
        kind = type(OmegaConf.to_object(config).get("prompt")).__name__  # type: ignore[union-attr]
        raise ValueError(f"prompt must be text, got {kind}; put it in quotes.")
    if isinstance(config.prompt, str) and not config.prompt.strip():
        raise ValueError("prompt must not be empty; say what to do: prompt='make it night'.")
    steps = config.trainer.max_steps
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"trainer.max_steps must be a whole number of at least 1, got {steps!r}.")
    if config.method.noise not in get_args(NoiseMode):
        raise ValueError(
            f"method.noise must be one of {get_args(NoiseMode)}, got {config.method.noise!r}."
        )
    if not isinstance(config.seed, int) or not 0 <= config.seed < 2**32:
        raise ValueError(f"seed must be a whole number in [0, 2**32), got {config.seed!r}.")


def build(config: DictConfig, folder: RunFolder) -> Run:
    """Make the objects of a run, cheapest first.

    Raises:
        ValueError: if any part refuses its settings or its input.
    """
    pl.seed_everything(config.seed, verbose=False)
    data: EditData = instantiate(config.data)
    trainer = instantiate(
        config.trainer,
        default_root_dir=folder.root,
        callbacks=[instantiate(part) for part in config.callbacks.values() if part],
        logger=[instantiate(part, folder=folder.root) for part in config.logger.values() if part],
    )
    particles = instantiate(config.modality)
    rehearse(particles.keywords["optimizer"])
    task = data.task  # a clip that cannot be decoded is told before networks are loaded
    prior: Prior = instantiate(config.prior)
    data.fit_to(prior.size_multiple)
    module = particles(frames=data.frames, prompt=prompt_for(prior, task), prior=prior)
    return Run(data, module, trainer)


def rehearse(optimizer: OptimizerFactory) -> None:
    """Make the optimiser once for nothing, so that it refuses bad settings early.

    Raises:
        ValueError: if it does.
    """
    optimizer([torch.nn.Parameter(torch.zeros(1))])


def prompt_for(prior: Prior, task: EditTask) -> str:
    """The text that the prior reads: the instruction, or the caption of the result.

    A prior that reads captions takes the instruction for one where there is no caption.

    Raises:
        ValueError: if the task lacks it.
    """
    if prior.reads == "caption":
        return task.target_caption or task.instruction
    if not task.instruction:
        raise ValueError(
            f"prompt must say what to do, since {type(prior).__name__} reads instructions, such as "
            "prompt='make it night'."
        )
    return task.instruction


def describe(config: DictConfig, run: Run) -> dict[str, str]:
    """What a run is, in a few words each."""
    frames, _, height, width = run.data.task.source.shape
    guidance = " ".join(f"{k} {v:g}" for k, v in config.guidance.items() if isinstance(v, float))
    return {
        "clip": f"{run.data.task.name}, {frames} frames of {width} x {height}",
        "prompt": run.module.conditioning(torch.tensor([0])).prompt,
        "method": config.choices.method,
        "kernel": config.choices.kernel,
        "guidance": f"{config.choices.guidance} ({guidance})",
        "prior": config.choices.prior,
        "steps": str(config.trainer.max_steps),
        "seed": str(config.seed),
    }


def train(run: Run, folder: RunFolder, checkpoint: Path | None, facts: dict[str, str]) -> int:
    """Train, write the page whatever comes, and return the exit code."""
    try:
        run.trainer.fit(run.module, run.data, ckpt_path=checkpoint, weights_only=True)
    except Exception as error:
        log.exception("The run failed at step %d.", run.trainer.global_step)
        finish(run, folder, facts, "failed", str(error))
        print(f"csd-lab: {error} (details: {folder.log})", file=sys.stderr)
        code = 1
    else:
        received = stop_signal(run.trainer)
        code = 128 + received if received else 0
        if received:
            finish(run, folder, facts, "interrupted", f"Stopped by {received.name}.")
        else:
            finish(run, folder, facts, "finished")
    finish_wandb(run.trainer, code)
    return code


def stop_signal(trainer: pl.Trainer) -> signal.Signals | None:
    """The signal that stopped training; None if none did."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((c.received for c in callbacks if isinstance(c, GracefulStop)), None)


def finish(
    run: Run, folder: RunFolder, facts: dict[str, str], status: Status, message: str = ""
) -> None:
    """Write the page and tell where it is and how to go on."""
    step, steps = run.trainer.global_step, run.trainer.max_steps
    write_page(folder, status, step, steps, run.data.task, facts, message)
    if folder.results.is_file():
        metrics = json.loads(folder.results.read_text(encoding="utf-8"))["metrics"]
        shown = {name: "undefined" if v is None else f"{v:.4g}" for name, v in metrics.items()}
        Console().print(table_of("metric", shown))
    if status == "interrupted":
        print(f"Stopped after step {step} of {steps}.")
    if status != "finished":
        print(f"Go on with: csd-lab resume={shlex.quote(str(folder.root))}")
    print(f"Report: {folder.report}")


def table_of(heading: str, rows: Mapping[str, str]) -> Table:
    """Names and values for the terminal, where text is text and no markup."""
    table = Table(heading, "", box=SIMPLE_HEAD, show_header=bool(heading))
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    return table


def quiet_libraries() -> None:
    """Keep what libraries say about themselves out of the terminal; it goes to the run's log."""
    for name in ("pytorch_lightning", "lightning", "transformers", "diffusers", "open_clip"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
