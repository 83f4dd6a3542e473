"""The present result of a run, at the size that its source has."""

import pytorch_lightning as pl
import torch

from csd_lab.data import EditData, SceneData
from csd_lab.fields import flow
from csd_lab.particles import EditModule, ParticleModule, Reconstruction, SceneModule
from csd_lab.types import Artefact


def particle_module(module: pl.LightningModule) -> ParticleModule:
    """The module, known to be one of particles.

    Raises:
        TypeError: if it is of another kind.
    """
    if not isinstance(module, ParticleModule):
        raise TypeError(f"module must be a ParticleModule, got {type(module).__name__}.")
    return module


def edit_module(module: pl.LightningModule) -> EditModule:
    """The module, known to have a result.

    Raises:
        TypeError: if it is of another kind.
    """
    if not isinstance(module, EditModule):
        raise TypeError(f"module must be an EditModule, got {type(module).__name__}.")
    return module


def edit_data(trainer: pl.Trainer) -> EditData:
    """The trainer's data, known to be a task.

    Raises:
        TypeError: if they are of another kind.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, EditData):
        raise TypeError(f"data must be EditData, got {type(data).__name__}.")
    return data


def artefact(trainer: pl.Trainer, module: pl.LightningModule) -> Artefact:
    """What the module gives now, restored to the size of the data's source.

    Raises:
        TypeError: if the trainer holds other data, or the module is of another kind.
    """
    data = edit_data(trainer)
    edit = edit_module(module)
    task = data.task._replace(windows=data.windows)
    edited = edit.export().float().cpu()
    if data.detail != "residual":
        return Artefact(data.restore(edited), task)
    return Artefact(data.restore(edited, edit.export_source().float().cpu()), task)


@torch.no_grad()
def with_flow(result: Artefact, data: EditData, module: pl.LightningModule) -> Artefact:
    """A result with how its frames see one another, where they are views of a scene."""
    if not isinstance(data, SceneData) or not isinstance(module, SceneModule | Reconstruction):
        return result
    cameras = data.capture.cameras.select(data.shown_ids)  # of the size that the user gave
    views = [module.scene.view(cameras, index) for index in range(len(cameras))]
    depth = torch.stack([view.depth for view in views]).cpu()
    opacity = torch.stack([view.opacity for view in views]).cpu()
    return result._replace(flow=flow(cameras, depth, opacity))
