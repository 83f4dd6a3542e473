"""Checkpoints that are whole or not there."""

import io
from pathlib import Path
from typing import Any, final

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from csd_lab.files import atomic_path


@final
class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it, and moves it there.

    Lightning's own writer passes through the system's temporary folder. Where that is another disk
    the last move is a copy, and whoever is killed meanwhile leaves half a checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OSError: if it cannot be written; the former one is then as it was.
        """
        if storage_options is not None:
            raise TypeError("storage_options must be None: checkpoints are plain files.")
        content = io.BytesIO()  # torch hides a full disk behind an error of its own
        torch.save(checkpoint, content)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getbuffer())
