"""How a scene is made for cameras, and how it comes to show their views."""

import logging
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import final

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from csd_lab.fields import Bounds, Cameras, PixelLoss, PosedViews, Scene, SceneFitter, bounds_of
from csd_lab.fields.scene import Progress
from csd_lab.run_folder import RunFolder

log = logging.getLogger(__name__)


def _elsewhere(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> bool:
    """Whether scenes of two captures have nothing to do with each other, by their buffers.

    Views that are left out move a scene's middle a little, and its size.
    """
    sizes = [name for name in here if name.rpartition(".")[2] in ("scale", "unit")]
    if not all(0.5 <= float(here[name] / there[name]) <= 2.0 for name in sizes):
        return True
    middles = [name for name in here if name.rpartition(".")[2] == "centre"]
    return any(
        float((here[name] - there[name]).norm()) > float(here[name.replace("centre", "scale")])
        for name in middles
    )


def exponential_decay(optimizer: Optimizer, steps: int, final: float) -> LRScheduler:
    """A learning rate that falls to a share ``final`` of itself within ``steps``, then stays."""
    return LambdaLR(optimizer, lambda step: final ** min(1.0, step / steps))


def bar(title: str, show: bool = True) -> Progress:
    """Goes through steps and shows, on standard error, how far they are."""
    return partial(track, description=title, console=Console(file=sys.stderr), disable=not show)


SceneFactory = Callable[[Bounds], Scene]


@final
class SceneRecipe:
    """A scene fitted to views before anything is edited.

    Args:
        scene: makes it for its bounds.
        loss: error of a step.
        learning_rate: of Adam.
        steps: of the reconstruction.
        final_rate: the learning rate falls to this share of itself on the way.
        reconstruction: a run folder of ``experiment=reconstruct`` with the same views and kind of
            scene, whose result is taken instead; None: the scene is reconstructed.

    Raises:
        ValueError: an argument is out of range, or the folder holds no such run.
    """

    def __init__(
        self,
        scene: SceneFactory,
        loss: PixelLoss,
        learning_rate: float = 0.1,
        steps: int = 400,
        final_rate: float = 0.1,
        reconstruction: Path | str | None = None,
    ) -> None:
        if steps < 0:
            raise ValueError(f"steps must be at least 0, got {steps}")
        if not 0 < final_rate <= 1:
            raise ValueError(f"final_rate must be in (0, 1], got {final_rate}")
        self.make = scene
        self.loss = loss
        self.learning_rate = learning_rate
        self.steps = steps
        self.final_rate = final_rate
        self.reconstruction = None if reconstruction is None else RunFolder(reconstruction)
        if self.reconstruction is not None and not self.reconstruction.checkpoint.is_file():
            raise ValueError(
                "reconstruction must be the folder of a run of experiment=reconstruct, got "
                f"{str(reconstruction)!r}, which holds no checkpoint"
            )

    def rehearse(self) -> None:
        """Make a scene once for nothing, so that it refuses bad settings early.

        Raises:
            ValueError: if it does.
        """
        self.make(Bounds(torch.zeros(3), 1.0))

    def scene(self, cameras: Cameras) -> Scene:
        """A new scene for these cameras."""
        return self.make(bounds_of(cameras))

    def fitter(self, cameras: Cameras) -> SceneFitter:
        """A new scene for these cameras, with what fits it."""
        return SceneFitter(self.scene(cameras), self.loss, self.learning_rate)

    def reconstruct(self, fitter: SceneFitter, views: PosedViews, show: bool = True) -> None:
        """Have a new scene show views.

        Args:
            fitter: of the scene.
            views: what it is to show.
            show: have a progress bar.

        Raises:
            ValueError: the reconstruction to take is of another kind.
        """
        if self.reconstruction is not None:
            self._take(fitter.scene, self.reconstruction)
            return
        error = fitter.fit(views, self.steps, self.final_rate, bar("reconstructing", show))
        level = -10 * torch.tensor(error).log10()
        log.info("reconstructed in %d steps: %.1f dB on its own pixels", self.steps, level)

    @staticmethod
    def _take(scene: Scene, run: RunFolder) -> None:
        """Take the scene that a run ended with."""
        state = torch.load(run.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        prefix = "scene."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if not own:
            raise ValueError(
                "reconstruction must be the folder of a run of experiment=reconstruct, got "
                f"{str(run.root)!r}, a run of something else"
            )
        buffers = scene.named_buffers()
        places = {name: place.cpu().clone() for name, place in buffers if name in own}
        try:
            scene.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(
                f"reconstruction: {str(run.root)!r} holds another kind of scene, or one of another "
                "resolution; take the settings of field that it was made with"
            ) from error
        if _elsewhere(places, own):
            raise ValueError(
                f"reconstruction: {str(run.root)!r} holds the scene of another capture, which lies "
                "elsewhere or has another size; take one of these views, or of some of them"
            )
