"""Work that the first rank does alone while training goes on: the others wait, however long."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

PATIENCE = timedelta(days=1)
"""How long ranks wait for the first one's own work. It may measure for hours; if it dies instead,
they learn of it at once. The ranks' common work has the strategy's own, shorter timeout."""


@contextmanager
def first_rank_alone(trainer: pl.Trainer) -> Iterator[bool]:
    """A block that only the first rank should fill; all ranks must come by.

    Args:
        trainer: of this rank.

    Yields:
        Whether this is the first rank.
    """
    yield trainer.is_global_zero
    if trainer.world_size > 1:
        dist.barrier(patient_group())


@cache
def patient_group() -> Any:
    """A group of all ranks that waits on the CPU for :data:`PATIENCE`; all make it together."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)
