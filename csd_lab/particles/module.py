"""What every LightningModule of this package gives, however it is trained: images.

Of a scene it gives the scene, too.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import final

import pytorch_lightning as pl
from torch import Tensor

from csd_lab.fields import Cameras, Scene


class EditModule(pl.LightningModule, ABC):
    """Something whose present result can be looked at, beside what it was made from.

    Attributes:
        steps_per_batch: for how many steps running it wants the same batch of particle ids.
        called: what readers are told that the task's frames and the result are.
    """

    steps_per_batch: int = 1
    called: tuple[str, str] = ("source", "edited together")

    @abstractmethod
    def export(self) -> Tensor:
        """The present result as images, (F, 3, H, W), in [0, 1]."""

    @abstractmethod
    def export_source(self) -> Tensor:
        """What :meth:`export` would give without any edit, (F, 3, H, W), in [0, 1]."""


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
