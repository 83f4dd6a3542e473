"""Reconstruction: a scene is fitted to the views of a capture; see ``fields/fitting.py``."""

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from csd_lab.fields import Cameras, PosedViews, Scene
from csd_lab.particles.module import EditModule, Glance, OfScene, glance_at, rendered
from csd_lab.particles.recipe import SceneRecipe


@final
class Reconstruction(EditModule, OfScene):
    """A scene that learns to show the views of a capture.

    Args:
        views: of the capture.
        shown: cameras whose images :meth:`export` gives, of views held out.
        recipe: makes the scene; its loss is that of a step.
        optimizer: makes the optimiser from the scene's parameters.
        scheduler: makes the learning-rate schedule, stepped once a step; None: constant.
    """

    takes = "views"
    images: Tensor
    called = ("captured", "reconstructed")

    def __init__(
        self,
        views: PosedViews,
        shown: Cameras,
        recipe: SceneRecipe,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        super().__init__()
        self.cameras = views.cameras
        self.shown = shown
        self.loss = recipe.loss
        self.scene = recipe.scene(views.cameras)
        self.register_buffer("images", views.images, persistent=False)
        self._optimizer = optimizer
        self._scheduler = scheduler

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """The error at random pixels of all views, which ranks share out."""
        del batch, batch_idx
        place = (self.global_step, self.global_rank, self.trainer.world_size)
        loss, error = self.loss(self.scene, PosedViews(self.images, self.cameras), *place)
        scalars: dict[str, Tensor | float] = {
            "step": float(self.global_step),
            "psnr": -10 * error.log10(),
        }
        self.log_dict(scalars, batch_size=self.loss.rays)
        return loss

    def configure_optimizers(self) -> Any:
        """The optimiser of the scene, and its schedule by steps."""
        optimizer = self._optimizer(self.scene.parameters())
        if self._scheduler is None:
            return optimizer
        schedule = {"scheduler": self._scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    @property
    def around(self) -> Cameras:
        """The capture's cameras."""
        return self.cameras

    @property
    def scenes(self) -> Mapping[str, Scene]:
        """The scene alone."""
        return {"scene": self.scene}

    def under_way(self) -> Glance:
        """A few of the captured views, small, and the scene there."""
        return glance_at(self.scene, PosedViews(self.images, self.cameras), self.called)

    @torch.no_grad()
    def export(self) -> Tensor:
        """What the shown cameras see, (F, 3, H, W), in [0, 1]."""
        return rendered(self.scene, self.shown)

    def export_source(self) -> Tensor:
        """The same: nothing is edited."""
        return self.export()
