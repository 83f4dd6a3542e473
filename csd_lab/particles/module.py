"""What every LightningModule of this package gives, however it is trained: images."""

from abc import ABC, abstractmethod

import pytorch_lightning as pl
from torch import Tensor


class EditModule(pl.LightningModule, ABC):
    """Something whose present result can be looked at, beside what it was made from.

    Attributes:
        steps_per_batch: for how many steps running it wants the same batch of particle ids.
    """

    steps_per_batch: int = 1

    @abstractmethod
    def export(self) -> Tensor:
        """The present result as images, (F, 3, H, W), in [0, 1]."""

    @abstractmethod
    def export_source(self) -> Tensor:
        """What :meth:`export` would give without any edit, (F, 3, H, W), in [0, 1]."""
