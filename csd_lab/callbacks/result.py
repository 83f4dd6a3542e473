"""The present result of a run, at the size that its source has."""

import pytorch_lightning as pl

from csd_lab.data import EditData
from csd_lab.particles import ParticleModule
from csd_lab.types import Artefact


def artefact(trainer: pl.Trainer, module: pl.LightningModule) -> Artefact:
    """What the module gives now, restored to the size of the data's source.

    Raises:
        TypeError: if the trainer holds other data, or the module is of another kind.
    """
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, EditData):
        raise TypeError(f"data must be EditData, got {type(data).__name__}.")
    if not isinstance(module, ParticleModule):
        raise TypeError(f"module must be a ParticleModule, got {type(module).__name__}.")
    return Artefact(data.restore(module.export().float().cpu()), data.task)
