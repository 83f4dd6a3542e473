"""The networks, built once, and edits by them as `csd-lab` would make them."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import csd_lab
from csd_lab.composition import composed
from csd_lab.data import EditData
from csd_lab.launch import GROUPS, quiet_libraries
from csd_lab.metrics import MetricSuite
from csd_lab.priors import Prior
from csd_lab.types import Artefact, Windows

Metrics = Callable[[Artefact], dict[str, float]]
"""Gives metrics by name."""


def fingerprint(*overrides: str) -> str:
    """A hash of all that an edit with these overrides depends on."""
    config = composed(*overrides)
    parts = {name: OmegaConf.to_container(config[name], resolve=True) for name in GROUPS}
    text = json.dumps([parts, config.trainer.max_steps], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def be_quiet() -> None:
    """Keep what libraries say about themselves out of the terminal: scripts have no log for it."""
    quiet_libraries()
    logging.getLogger("py.warnings").propagate = False
    logging.getLogger("py.warnings").addHandler(logging.NullHandler())


QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
"""Settings of a trainer that says nothing."""


def quiet_trainer(steps: int, **options: Any) -> pl.Trainer:
    """A trainer that says nothing."""
    return pl.Trainer(max_steps=steps, logger=False, **QUIET, **options)


class Timed(NamedTuple):
    """An edit with what it took.

    Attributes:
        edit: as it ended.
        cost: seconds and network samples.
    """

    edit: csd_lab.Edit
    cost: dict[str, float]


UNCHANGED, AUTOENCODED = "unchanged", "autoencoded"
REFERENCES = (UNCHANGED, AUTOENCODED)
"""What methods are measured against: the source, and an exact answer as the prior would show it."""


class Bench:
    """Does cells.

    Args:
        methods: config overrides of each, by name.
        overrides: config overrides for all methods; those of a method win.
    """

    def __init__(self, methods: Mapping[str, Sequence[str]], overrides: Sequence[str]) -> None:
        self.configs = {name: composed(*overrides, *own) for name, own in methods.items()}
        self.priors: dict[str, Prior] = {}
        self.suite: MetricSuite = instantiate(composed(*overrides).metrics)

    def run(
        self,
        method: str,
        seed: int,
        data: EditData | None = None,
        settings: Mapping[str, Any] | None = None,
        more: Metrics | None = None,
        windows: Windows | None = None,
    ) -> dict[str, float]:
        """All metrics of one edit of a task, with its seconds and network samples.

        Args:
            method: by name; of ``REFERENCES``: no method, but a picture that is known.
            seed: of the edit.
            data: the task; None: what the method's config says.
            settings: of the config, for this edit alone.
            more: metrics besides those of the config.
            windows: where metrics look for seams; None: where the edit had its windows.
        """
        if method in REFERENCES:
            assert data is not None  # of a task that is given
            result, cost = self.reference(method, data), {"seconds": 0.0, "samples": 0.0}
        else:
            done, cost = self.edit(method, seed, data, settings)
            result = done.result
        if windows is not None:
            result = result._replace(task=result.task._replace(windows=windows))
        return self.suite.evaluate(result) | (more(result) if more else {}) | cost

    @torch.no_grad()
    def reference(self, name: str, data: EditData) -> Artefact:
        """The source as it is, or its first right answer through the prior's autoencoder."""
        if name == UNCHANGED:
            return Artefact(data.task.source, data.task)
        assert data.task.targets is not None  # of the world
        prior = self._prior(self.configs[name].prior)
        data.fit_to(prior.size_multiple)
        answer = data.fit.apply(data.task.targets[0])
        return Artefact(data.restore(prior.decode(prior.encode(answer))), data.task)

    def edit(
        self,
        method: str,
        seed: int,
        data: EditData | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Timed:
        """One edit of a task; arguments as those of :meth:`run`."""
        config = self.configs[method].copy()
        config.seed = seed
        for key, value in (settings or {}).items():
            OmegaConf.update(config, key, value)
        prior = self._prior(config.prior)
        before, start = prior.samples_evaluated, time.perf_counter()
        done = csd_lab.edit(config, data, prior, **QUIET)
        seconds, samples = time.perf_counter() - start, prior.samples_evaluated - before
        return Timed(done, {"seconds": seconds, "samples": float(samples)})

    def _prior(self, config: DictConfig) -> Prior:
        """The prior of this config, which methods share."""
        key = json.dumps(OmegaConf.to_container(config, resolve=True), sort_keys=True)
        if key not in self.priors:
            self.priors[key] = instantiate(config)
        return self.priors[key]
