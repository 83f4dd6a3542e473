"""From a composed config to objects, from objects to a finished run folder.

The only place besides :mod:`csd_lab.cli` that knows Hydra. Parts are built cheapest first, so that
wrong input is told before a network is loaded.
"""

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from csd_lab.callbacks import GracefulStop, RunFolder, RunStatus, write_page
from csd_lab.data import EditData
from csd_lab.files import atomic_path
from csd_lab.particles import ParticleModule
from csd_lab.priors import Prior
from csd_lab.types import EditTask

log = logging.getLogger(__name__)

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
    check(config)
    quiet_libraries()
    run = build(config, folder)
    config.resume = None
    with atomic_path(folder.config) as path:
        OmegaConf.save(config, path, resolve=True)
    announce(config, run, folder)
    return train(run, folder, checkpoint)


def settle(config: DictConfig, folder: RunFolder) -> DictConfig:
    """The config to run: the composed one, or the saved one of the run to go on with.

    Raises:
        ValueError: if the run to go on with has no checkpoint, or if a setting is overridden that
            would make it another run.
    """
    if not config.resume:
        return config
    if not folder.checkpoint.is_file():
        raise ValueError(
            f"resume: {str(folder.root)!r} holds no checkpoint to go on from; start it anew."
        )
    saved = OmegaConf.load(folder.config)
    assert isinstance(saved, DictConfig)
    for override in HydraConfig.get().overrides.task:
        key = override.lstrip("+~").partition("=")[0]
        if key == "resume":
            continue
        if key.split(".")[0] not in RESUMABLE or key in RESUMABLE:
            allowed = ", ".join(f"{group}.*" for group in RESUMABLE)
            raise ValueError(
                f"resume goes on with the run's own settings; only {allowed} may change, got {key!r}."
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
        raise ValueError("prompt must not be empty; say what to do, such as prompt='make it night'.")
    steps = config.trainer.max_steps
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"trainer.max_steps must be a whole number of at least 1, got {steps!r}.")
    if not isinstance(config.seed, int) or not 0 <= config.seed < 2**32:
        raise ValueError(f"seed must be a whole number in [0, 2**32), got {config.seed!r}.")


def build(config: DictConfig, folder: RunFolder) -> Run:
    """Make the objects of a run, cheapest first.

    Raises:
        ValueError: if any part refuses its settings or its input.
    """
    pl.seed_everything(config.seed, verbose=False)
    data: EditData = instantiate(config.data)
    method = instantiate(config.method)
    optimizer = instantiate(config.optimizer)
    suite = instantiate(config.metrics)
    prior: Prior = instantiate(config.prior)
    data.fit_to(prior.size_multiple)
    module = instantiate(
        config.modality,
        frames=data.frames,
        prompt=prompt(prior, data.task),
        prior=prior,
        distiller=method.distiller,
        timesteps=method.timesteps,
        noise=method.noise,
        optimizer=optimizer.optimizer,
        scheduler=optimizer.scheduler,
        seed=config.seed,
    )
    callbacks = [instantiate(callback) for callback in chosen(config.callbacks)]
    loggers = [instantiate(logger) for logger in chosen(config.logger)]
    for callback in callbacks:
        if hasattr(callback, "suite"):
            callback.suite = suite
    trainer = instantiate(
        config.trainer, default_root_dir=folder.root, callbacks=callbacks, logger=loggers
    )
    return Run(data, module, trainer)
