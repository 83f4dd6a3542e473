r"""Fits a scene to images: descent along random pixels' errors.

With c_r the colour of pixel r in the images, C(r) what is seen there of the scene (theta), a step
follows the gradient of

.. math::
    L(\theta) = \frac{1}{R} \sum_{r=1}^{R} \frac{1}{3} \lVert C(r) - c_r \rVert^2
      + \lambda\, S(\theta),

with R pixels drawn evenly from all images (or from some of them, where a scene renders whole ones),
and S the scene's own measure of smoothness, or an unbiased estimate of it. What is drawn is a
function of (seed, step): a fit that goes on from a checkpoint equals one that was never
interrupted.
"""

from typing import Any, final

import torch
from torch import Tensor, nn

from csd_lab.checks import check_not_negative, check_positive, check_whole
from csd_lab.fields.scene import PosedViews, Progress, Scene
from csd_lab.streams import Stream, torch_generator


@final
class PixelLoss:
    """The error of a scene at random pixels of images.

    Args:
        rays: R, pixels a step, >= 1.
        smoothness: lambda, >= 0.
        seed: of what is drawn, >= 0.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, rays: int = 1024, smoothness: float = 1e-4, seed: int = 0) -> None:
        check_whole("rays", rays)
        check_not_negative("smoothness", smoothness)
        check_whole("seed", seed, 0)
        self.rays = rays
        self.smoothness = smoothness
        self.seed = seed

    def __call__(
        self, scene: Scene, views: PosedViews, step: int, rank: int = 0, ranks: int = 1
    ) -> tuple[Tensor, Tensor]:
        """The loss of a step, and the mean squared error in it: (), ().

        Of several ranks each takes its share of the pixels; the mean of their losses is the loss.
        """
        generator = torch_generator(Stream.FIT_PIXELS, self.seed, step)
        count, _, height, width = views.images.shape
        place = torch.randint(count * height * width, (self.rays,), generator=generator)
        if scene.views_at_once is not None:
            chosen = torch.randperm(count, generator=generator)[: scene.views_at_once]
            view = chosen[place // (height * width) % len(chosen)]
            place = view * (height * width) + place % (height * width)
        noise = torch.rand(self.rays, scene.randomness, generator=generator)
        place, noise = place.tensor_split(ranks)[rank], noise.tensor_split(ranks)[rank]
        ids, pixel = place // (height * width), place % (height * width)
        rows, columns = pixel // width, pixel % width
        seen = scene.pixels(views.cameras, ids, rows + 0.5, columns + 0.5, noise).colour
        device = views.images.device
        wanted = views.images[ids.to(device), :, rows.to(device), columns.to(device)]
        error = (seen - wanted.to(seen)).square().sum() * (ranks / (3 * self.rays))
        return error + self.smoothness * scene.smoothness(generator), error.detach()


@final
class SceneFitter(nn.Module):
    """A scene that follows images with an optimiser of its own, between the steps of a training.

    Its parameters ask for no gradient but while it is fitted, so that whatever trains beside it
    leaves them alone. Steps taken and the optimiser's state are part of its ``state_dict``.

    Args:
        scene: what is fitted; kept as ``scene``.
        loss: of a step.
        learning_rate: of Adam, > 0.

    Raises:
        ValueError: an argument is out of range.
    """

    taken: Tensor

    def __init__(self, scene: Scene, loss: PixelLoss, learning_rate: float) -> None:
        super().__init__()
        check_positive("learning_rate", learning_rate)
        self.scene = scene.requires_grad_(False)
        self.loss = loss
        self.learning_rate = learning_rate
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))
        self._optimizer = torch.optim.Adam(
            self.scene.parameters(), lr=learning_rate, betas=(0.9, 0.99), fused=True
        )

    def fit(
        self,
        views: PosedViews,
        steps: int,
        final_rate: float | None = None,
        progress: Progress = iter,
    ) -> float:
        """Take steps.

        Args:
            views: what is to be seen; on any device.
            steps: how many.
            final_rate: the learning rate falls to this, a share of itself, exponentially; None: it
                stays.
            progress: goes through the steps, and may stop before their end.

        Returns:
            Mean squared error of the last steps; NaN if there was none.
        """
        error = torch.tensor(torch.nan)
        taken = int(self.taken)
        self.scene.requires_grad_(True)
        with torch.enable_grad():
            for step in progress(range(steps)):
                share = 1.0 if final_rate is None else final_rate ** (step / steps)
                for group in self._optimizer.param_groups:
                    group["lr"] = self.learning_rate * share
                loss, now = self.loss(self.scene, views, taken + step)
                self._optimizer.zero_grad()
                loss.backward()
                self._optimizer.step()
                self.taken += 1
                error = now if step == 0 else 0.9 * error + 0.1 * now
        self._optimizer.zero_grad()
        self.scene.requires_grad_(False)
        return float(error)

    def get_extra_state(self) -> dict[str, Any]:
        """The optimiser's state."""
        return self._optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take up the optimiser's state."""
        self._optimizer.load_state_dict(state)
