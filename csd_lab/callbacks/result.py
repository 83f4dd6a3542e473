"""The present result of a run, at the size that its source has."""

from typing import TypeVar

import pytorch_lightning as pl
import torch

from csd_lab.data import EditData, SceneData
from csd_lab.fields import enlarged, flow
from csd_lab.particles import EditModule, OfScene
from csd_lab.types import Artefact

Module = TypeVar("Module", bound=EditModule)


def known(module: pl.LightningModule, kind: type[Module]) -> Module:
    """The module, known to be of a kind.

    Raises:
        TypeError: if it is of another one.
    """
    if not isinstance(module, kind):
        raise TypeError(f"module must be of {kind.__name__}, got {type(module).__name__}.")
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
    edit = known(module, EditModule)
    task = data.task._replace(windows=data.windows)
    edited = edit.export().float().cpu()
    if data.detail != "residual":
        return Artefact(data.restore(edited), task)
    return Artefact(data.restore(edited, edit.export_source().float().cpu()), task)


@torch.no_grad()
def with_flow(result: Artefact, data: EditData, module: pl.LightningModule) -> Artefact:
    """A result with how its frames see one another, where they are views of a scene.

    Depth is rendered at the size of the prior's images: a user's may have a hundred times the rays.
    """
    if not isinstance(data, SceneData) or not isinstance(module, OfScene):
        return result
    cameras = data.shown
    views = [module.result.view(cameras, index) for index in range(len(cameras))]
    depth = torch.stack([view.depth for view in views]).cpu()
    opacity = torch.stack([view.opacity for view in views]).cpu()
    found = flow(cameras, depth, opacity)
    return result._replace(flow=enlarged(found, *result.edited.shape[2:]))


def measurable(trainer: pl.Trainer, module: pl.LightningModule) -> Artefact:
    """What metrics are given: :func:`artefact`, and of scenes how its frames see one another.

    Raises:
        TypeError: if the trainer holds other data, or the module is of another kind.
    """
    return with_flow(artefact(trainer, module), edit_data(trainer), module)
