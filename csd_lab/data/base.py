"""What all data to be edited share: a task, its frames for a prior, batches of particle ids."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, final

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from csd_lab.checks import check_switch, check_whole
from csd_lab.data.checks import check_batch_size
from csd_lab.data.fit import Detail, Fit, Side
from csd_lab.data.opacity import Opacity
from csd_lab.types import EditTask, Kind, Windows


class EditData(pl.LightningDataModule, ABC):
    """A task, its frames as a prior takes them, and batches of particle ids for its steps.

    A subclass supplies :meth:`read`, :attr:`inputs` and :meth:`batches`, and looks at what it was
    given in its constructor as far as that is cheap, so that wrong input is told before anything
    heavy is loaded.

    Args:
        batch_size: particles a step; None: all.
        seed: of the order of the particles; it does not choose what is edited.
        resolution: about how long a side of the fitted frames is, in pixels; None: as the source.
        side: which side that is; see :class:`csd_lab.data.fit.Fit`.
        detail: how edited frames come back to the source's size; see there too.
        wrap: the frames are rings; see there too.

    Attributes:
        kind: what it holds, which a modality must take.
        suited: the modalities that do, for who chose another one.
        windows: where the windows of one large image lie, in the user's pixels; None: nowhere.
        opacity: of the source, once the task is read; None: opaque.
    """

    kind: ClassVar[Kind]
    suited: ClassVar[str]

    def __init__(
        self,
        batch_size: int | None = None,
        seed: int = 0,
        resolution: int | None = None,
        side: Side = "short",
        detail: Detail = "resize",
        wrap: bool = False,
    ) -> None:
        super().__init__()
        check_batch_size(batch_size, None)
        check_whole("seed", seed, 0)
        check_switch("wrap", wrap)
        self.batch_size = batch_size
        self.seed = seed
        self.resolution = resolution
        self.side: Side = side
        self.detail: Detail = detail
        self.wrap = wrap
        self.windows: Windows | None = None
        self.opacity: Opacity | None = None
        self._multiple = 1

    @abstractmethod
    def read(self) -> EditTask:
        """Make the task; its frames have the size that the user gave."""

    @property
    @abstractmethod
    def inputs(self) -> dict[str, Any]:
        """What a module is made from, beside prompts and the prior: arguments of its constructor.

        Raises:
            ValueError: if the frames cannot be fitted.
        """

    @abstractmethod
    def batches(self, start: Callable[[], int]) -> IterableDataset[Tensor]:
        """Batches of particle ids, (B,), int64, without end; ``start`` gives the first one's k."""

    @final
    @cached_property
    def task(self) -> EditTask:
        """The task at the user's size, read when it is first asked for."""
        return self.read()

    @final
    def fit_to(self, multiple: int) -> None:
        """Make the sides of :attr:`frames` multiples of this many pixels, as a prior wants it."""
        self._multiple = multiple

    @final
    @property
    def fit(self) -> Fit:
        """The maps between the user's size and the prior's.

        Raises:
            ValueError: if the frames cannot be fitted.
        """
        height, width = self.task.source.shape[-2:]
        return self.fit_of(height, width)

    @final
    def fit_of(self, height: int, width: int) -> Fit:
        """The maps for frames of this size."""
        size = (height, width)
        return Fit(size, self._multiple, self.fitted_side, self.side, self.detail, self.wrap)

    @property
    def fitted_side(self) -> int | None:
        """About how long :attr:`side` of the fitted frames is, in pixels; None: as the source."""
        return self.resolution

    @final
    @property
    def frames(self) -> Tensor:
        """The source as the prior takes it, (F, 3, h, w), in [0, 1]."""
        return self.fit.apply(self.task.source)

    @final
    def restore(self, edited: Tensor, reference: Tensor | None = None) -> Tensor:
        """Edited frames at the user's size.

        Args:
            edited: (F, 3, h, w), in [0, 1], of the size of :attr:`frames`.
            reference: what these would be without an edit, such as the autoencoded source;
                None: :attr:`frames`. Only ``detail="residual"`` looks at it.

        Returns:
            (F, 3, H, W), in [0, 1], of the size of ``task.source``.
        """
        return self.fit.restore(edited, self.task.source, reference)

    @final
    def to_write(self, edited: Tensor) -> Tensor:
        """Edited frames at the user's size, (F, 3, H, W), as they are to be written.

        Returns:
            (F, 3, H, W), or (F, 4, H, W) with the source's opacity where it has one.
        """
        return edited if self.opacity is None else self.opacity.put_on(edited)

    @final
    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batches of particle ids, (B,), int64, without end, from the trainer's present step on."""
        return DataLoader(self.batches(self._next_batch), batch_size=None)

    def _next_batch(self) -> int:
        if self.trainer is None:
            return 0
        return self.trainer.global_step * self.trainer.accumulate_grad_batches


def expanded(path: Path | str) -> Path:
    """The path, with a leading ``~/`` replaced by the user's home."""
    return Path(path).expanduser() if str(path).startswith("~/") else Path(path)
