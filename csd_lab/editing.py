"""Edits from Python, which leave no run's folder: a config in, edited frames out.

::

    config = csd_lab.compose("data.path=clip.mp4", "prompt=make it sepia", "method=dds")
    frames = csd_lab.edit(config).result.edited  # (F, 3, H, W), in [0, 1]
"""

from typing import Any, NamedTuple

import pytorch_lightning as pl
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig

from csd_lab.build import module_for
from csd_lab.callbacks import NonFiniteGuard, StepProgress
from csd_lab.callbacks.result import measurable
from csd_lab.composition import composed
from csd_lab.data import EditData
from csd_lab.messages import one_line
from csd_lab.particles import EditModule
from csd_lab.priors import Prior
from csd_lab.settings import all_steps, check, rank_count
from csd_lab.typed import find_own_parts, prepare
from csd_lab.types import Artefact


class Edit(NamedTuple):
    """An edit.

    Attributes:
        result: edited frames at the source's size, and the task that they answer.
        module: as it ended: particles, or a scene.
        data: what was edited.
    """

    result: Artefact
    module: EditModule
    data: EditData


def compose(*overrides: str) -> DictConfig:
    """The config that ``csd-lab`` runs with these overrides.

    Args:
        *overrides: as they would be typed, such as ``prompt=make it sepia``.

    Returns:
        The config, and its ``choices`` of parts by group.

    Raises:
        ValueError: if an argument is no override, or there is no such part or setting.
    """
    if any(override.startswith("resume=") for override in overrides):
        raise ValueError("resume goes on with a run's folder, which an edit from Python has not.")
    find_own_parts()
    try:
        return composed(*prepare(list(overrides)))
    except HydraException as error:
        raise ValueError(one_line(error, overrides)) from error


def edit(
    config: DictConfig, data: EditData | None = None, prior: Prior | None = None, **trainer: Any
) -> Edit:
    """Edit what a config says, by all of its steps, in this process.

    Args:
        config: as :func:`compose` gives it.
        data: the task; None: the config's.
        prior: to be used for several edits, where the trainer computes; None: the config's.
        **trainer: of :class:`pytorch_lightning.Trainer`, in the place of the config's, such as
            ``enable_progress_bar=False``. Of the config's callbacks there are a bar and the guard
            against gradients that are not finite, and no loggers.

    Returns:
        The edit, which metrics can be given: ``suite.evaluate(edit.result)``.

    Raises:
        ValueError: if any part refuses its settings or its input, or several processes are wanted.
        NonFiniteGradientError: if particles would be lost.
    """
    check(config)
    if rank_count(config.trainer) > 1:
        raise ValueError(
            f"trainer.devices must be 1, since an edit from Python is one process, got "
            f"{config.trainer.devices!r}; several share an edit of the csd-lab command."
        )
    pl.seed_everything(config.seed, verbose=False)
    data = instantiate(config.data) if data is None else data
    callbacks: list[pl.Callback] = [NonFiniteGuard()]
    if trainer.get("enable_progress_bar", True):
        callbacks.append(StepProgress())
    options = {"logger": False, "enable_checkpointing": False, "callbacks": callbacks} | trainer
    runner: pl.Trainer = instantiate(config.trainer, max_steps=all_steps(config), **options)
    module = module_for(config, data, runner, prior)
    runner.fit(module, data)
    return Edit(measurable(runner, module), module, data)
