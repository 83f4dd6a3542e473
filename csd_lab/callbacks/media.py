"""Videos and pictures of a run: previews on the way, the edited clip beside others at the end."""

from collections.abc import Mapping
from typing import Any, final

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from csd_lab.baselines import ScheduledSampler, sample_images
from csd_lab.callbacks.every import check_every, is_turn
from csd_lab.callbacks.result import artefact, edit_data, known
from csd_lab.callbacks.turns import first_rank_alone
from csd_lab.checks import is_whole
from csd_lab.data import EditData, write_image, write_video
from csd_lab.distill import particle_noise
from csd_lab.metrics.answers import answer_frames
from csd_lab.particles import EditModule, VideoParticles
from csd_lab.report import contact_sheet, side_by_side
from csd_lab.run_folder import RunFolder
from csd_lab.types import Artefact

SOURCE, EDITED, ANSWER = "source", "edited", "right answer"


@final
class Preview(pl.Callback):
    """Writes a contact sheet of the present result each ``every`` steps.

    Args:
        every: steps between two previews; None: none.

    Raises:
        ValueError: if ``every`` is not positive.
    """

    def __init__(self, every: int | None = 20) -> None:
        check_every(every)
        self.every = every

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        """Write the preview if it is its turn."""
        del args
        if not is_turn(trainer.global_step, self.every):
            return
        with first_rank_alone(trainer) as first:
            if first:
                self._write(trainer, pl_module)

    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        path = RunFolder(trainer.default_root_dir).previews / f"step_{trainer.global_step:06d}.png"
        glance = known(pl_module, EditModule).under_way()
        if glance is None:
            result = artefact(trainer, pl_module)
            before, after = _called(pl_module)
            rows, names = {before: result.task.source, after: result.edited}, None
        else:
            rows, names = {k: v.float().cpu() for k, v in glance.rows.items()}, glance.names
        write_image(path, contact_sheet(rows, title=f"step {trainer.global_step}", names=names))


@final
class WriteMedia(pl.Callback):
    """Writes the edited clip, the clip beside its source, and a contact sheet of both.

    Where the right answers are known, and are not the source, the nearest one stands beside, and so
    does what sampling each frame alone would give: what consistency buys is then to be seen. Of one
    image, source, edited image and right answer are written as PNG files of the source's own size.

    Args:
        alone: samples single frames; None: leave that out.
        alone_up_to: pixels of all frames, in the prior's size, up to which they are sampled alone:
            for a large clip that could take as long as its edit.
    """

    def __init__(self, alone: ScheduledSampler | None = None, alone_up_to: int = 2**19) -> None:
        if not is_whole(alone_up_to, 0):
            raise ValueError(f"alone_up_to must be a whole number of pixels, got {alone_up_to!r}.")
        self.alone = alone
        self.alone_up_to = alone_up_to

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the files."""
        folder = RunFolder(trainer.default_root_dir)
        result = artefact(trainer, pl_module)
        task = result.task
        before, after = (SOURCE, EDITED) if len(task.source) == 1 else _called(pl_module)
        rows = {before: task.source, **self._alone(trainer, pl_module, result)}
        rows[after] = result.edited
        if task.targets is not None and not torch.equal(task.targets[0], task.source):
            rows[ANSWER] = answer_frames(result)
        if len(task.source) == 1:
            _write_images(folder, edit_data(trainer), rows)
        else:
            write_video(folder.edited, result.edited, task.fps)
            write_video(folder.side_by_side, side_by_side(rows), task.fps)
        title = task.instruction or task.target_caption
        write_image(folder.contact_sheet, contact_sheet(rows, title=title))

    def _alone(
        self, trainer: pl.Trainer, module: pl.LightningModule, result: Artefact
    ) -> dict[str, Tensor]:
        data = edit_data(trainer)
        if (
            self.alone is None
            or not isinstance(module, VideoParticles)
            or result.task.targets is None
            or module.prior.reads != "instruction"
            or len(module.prompts) > 1
            or data.frames[:, 0].numel() > self.alone_up_to
        ):
            return {}
        prior = module.prior
        frames = data.frames.to(module.device)
        shape = prior.latent_channels, *(side // prior.latent_scale for side in frames.shape[2:])
        ids = torch.arange(len(frames))
        noise = particle_noise(self.alone.seed, 0, ids, shape, self.alone.noise).to(frames)
        edited = sample_images(
            self.alone, prior, frames, module.prompt, noise, module.negative_prompt
        )
        reference = module.export_source().float().cpu() if data.detail == "residual" else None
        return {"each frame alone": data.restore(edited.float().cpu(), reference)}


def _called(module: pl.LightningModule) -> tuple[str, str]:
    return known(module, EditModule).called


def _write_images(folder: RunFolder, data: EditData, rows: Mapping[str, Tensor]) -> None:
    """Write images of the source's own size, with its opacity, and one with all of them."""
    files = {
        SOURCE: folder.source_image,
        EDITED: folder.edited_image,
        ANSWER: folder.answer_image,
    }
    for label, path in files.items():
        if label in rows:
            write_image(path, data.to_write(rows[label])[0])
    write_image(folder.side_by_side_image, side_by_side(rows)[0])
