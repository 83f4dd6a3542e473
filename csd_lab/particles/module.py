"""What every LightningModule of this package gives, however it is trained: images.

Of a scene it gives the scene, too.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, final

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from csd_lab.fields import Cameras, PosedViews, Scene
from csd_lab.particles.recipe import bar
from csd_lab.types import Kind

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
PREVIEWED = 8
"""Images that a preview shows of each kind, at most."""
GLANCED = 4
"""Views of a scene that are looked at on the way."""
GLANCE = 2**16
"""Pixels of all these together, at most: a second of rays on one core."""
PATIENCE = 2**18
"""Pixels that are rendered without a word."""


class Glance(NamedTuple):
    """A few images that show how far a run is.

    Attributes:
        rows: images by what they are, (K, 3, H, W) each, in [0, 1].
        names: of the K images of each row, such as "view 3".
    """

    rows: Mapping[str, Tensor]
    names: tuple[str, ...]


def check_trainer(trainer: pl.Trainer) -> None:
    """Check that a trainer leaves numbers and steps as modules of this package take them.

    Raises:
        ValueError: if it does not.
    """
    if trainer.precision not in PRECISIONS:
        raise ValueError(
            f"trainer.precision must be one of {', '.join(PRECISIONS)}, got {trainer.precision!r}; "
            "prior.dtype sets the precision of the network alone."
        )
    if (batches := trainer.accumulate_grad_batches) != 1:
        raise ValueError(
            "trainer.accumulate_grad_batches must be 1, since each step moves particles of its "
            f"own, got {batches}; lower prior.max_batch if memory is short."
        )


class EditModule(pl.LightningModule, ABC):
    """Something whose present result can be looked at, beside what it was made from.

    Attributes:
        takes: the kind of data that it is made from; their ``inputs`` are arguments of its
            constructor.
        steps_per_batch: for how many steps running it wants the same batch of particle ids.
        called: what readers are told that the task's frames and the result are.
    """

    takes: ClassVar[Kind]
    steps_per_batch: int = 1
    called: tuple[str, str] = ("source", "edited together")

    @abstractmethod
    def export(self) -> Tensor:
        """The present result as images, (F, 3, H, W), in [0, 1]."""

    @abstractmethod
    def export_source(self) -> Tensor:
        """What :meth:`export` would give without any edit, (F, 3, H, W), in [0, 1]."""

    def under_way(self) -> Glance | None:
        """Images that show how far it is, where :meth:`export` does not yet.

        Or where that takes longer than one would wait for a look; None: :meth:`export` does.
        """
        return None


class OfScene(ABC):
    """A module whose result is a scene, to be looked at from anywhere."""

    @property
    @abstractmethod
    def around(self) -> Cameras:
        """Cameras that have seen, or would see, the scene from where it is worth it."""

    @property
    @abstractmethod
    def scenes(self) -> Mapping[str, Scene]:
        """By what they are called: what it was made from, if that is worth a look; last, itself."""

    @final
    @property
    def result(self) -> Scene:
        """The scene as it is now."""
        return list(self.scenes.values())[-1]


def some_of(count: int, most: int) -> Tensor:
    """Numbers of so many things at most, evenly from the first to the last: (K,), int64."""
    return torch.linspace(0, count - 1, min(most, count)).round().long()


@torch.no_grad()
def glance_at(scene: Scene, views: PosedViews, called: tuple[str, str]) -> Glance:
    """A few views, and what is seen of a scene there, small enough not to hold up the steps.

    Args:
        scene: to look at.
        views: of the capture that it was made from, (V, 3, H, W).
        called: what readers are told that the capture and the scene are.
    """
    ids = some_of(len(views.images), GLANCED)
    cameras = views.cameras.select(ids).within(GLANCE)
    size = (cameras.height, cameras.width)
    captured = interpolate(views.images[ids], size, mode="bilinear", antialias=True)
    rows = dict(zip(called, (captured, scene.views(cameras)), strict=True))
    return Glance(rows, names_of("view", ids))


def names_of(kind: str, ids: Tensor) -> tuple[str, ...]:
    """What readers are told that the images with these numbers are."""
    return tuple(f"{kind} {number}" for number in ids.tolist())


@torch.no_grad()
def rendered(scene: Scene, cameras: Cameras) -> Tensor:
    """All images of cameras, (V, 3, H, W); a bar shows how far it is, where it takes long."""
    long = len(cameras) * cameras.height * cameras.width > PATIENCE
    return scene.views(cameras, progress=bar("rendering", long))
