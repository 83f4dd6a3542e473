r"""Pix2Video: a clip edited frame after frame, each with the features of the first and the former.

Ceylan, Huang and Mitra 2023, arXiv 2303.12688. Each frame is inverted by itself with the source's
caption, and sampled from there with the target's. In the decoder of the unet, keys and values of
self attention come from the tokens of the first and of the preceding frame, without the frame's
own. In the first half of the steps, latents are drawn towards the preceding frame's predicted clean
latents,

.. math::
    x_{t'}^i \leftarrow x_{t'}^i - \lambda \nabla_{x_0^i}\, \mathrm{mean}\,(x_0^{i-1} - x_0^i)^2
      = x_{t'}^i - p\,(x_0^i - x_0^{i-1}), \qquad p = \frac{2 \lambda}{C h w}.

The gradient is that of the mean alone, not through the network. The paper's :math:`\lambda` = 100
for 4 x 64 x 64 latents is p = 0.0122, which means the same for latents of any size.

All that a frame takes from others is of the same step, and of the same layer or an earlier one:
frames in order within one call, evaluated together or one after the other, give the same.

The paper samples a depth-conditioned model (SD-2-depth). This is the method for text-to-image
priors, which have no depth channel: what keeps the layout is inversion alone.
"""

from typing import final

import torch
from torch import Tensor

from csd_lab.baselines.attention import Section, SharedKeys, hooked
from csd_lab.baselines.base import Followed
from csd_lab.baselines.inversion import InvertingSampler, invert
from csd_lab.baselines.schedulers import SchedulerFactory
from csd_lab.checks import check_finite, check_share
from csd_lab.distill import Guidance, NoisePredictor, Residual
from csd_lab.types import Conditioning

DECODER: tuple[Section, ...] = ("up",)
"""Sections of the unet in which frames attend to others."""


@final
class Pix2Video(InvertingSampler):
    """Samples the frames of a clip, each in sight of the first and the preceding one.

    Args:
        guidance: combines the predictions; the paper uses classifier-free guidance of 7.5.
        scheduler: makes a DDIM scheduler.
        steps: of inversion, and of sampling.
        pull: p, share of the way to the preceding frame's clean latents.
        pull_until: share of the steps in which there is a pull, in [0, 1].

    Raises:
        ValueError: an argument is not allowed.
    """

    def __init__(
        self,
        guidance: Guidance,
        scheduler: SchedulerFactory,
        steps: int,
        pull: float = 0.0122,
        pull_until: float = 0.52,
    ) -> None:
        super().__init__(guidance, scheduler, steps)
        check_finite("pull", pull)
        check_share("pull_until", pull_until)
        self.pull, self.pull_until = pull, pull_until

    def invert(self, source: Tensor, source_caption: str, target_caption: str) -> Tensor:  # noqa: ARG002
        """Keeps nothing but the noise."""
        return invert(self.network, self.scheduler, source, source_caption)[-1]

    def estimate(
        self, prior: NoisePredictor, x_t: Tensor, conditioning: Conditioning, t: Tensor
    ) -> Tensor:
        """The guided noise of all frames, (F, C, h, w)."""
        branches = self.branches(conditioning)
        count = len(branches)
        rows = range(count * len(x_t))
        sources = [(row % count, max(row - count, row % count)) for row in rows]
        with hooked(self.network.unet, SharedKeys(rows, sources, DECODER)):
            noise = self.ask(prior, [x_t] * count, list(branches), t)
        return self.combined(branches, noise)

    def follow(self, residual: Residual, t: Tensor) -> Followed:
        """Where DDIM's step and the pull lead."""
        clean = residual.x_0
        after = self.advance(residual.delta, t, residual.x_t)
        if not self.reached(self.pull_until):
            # the first frame has no frame before it, and is its own
            before = torch.cat([clean[:1], clean[:-1]])
            after = after - self.pull * (clean - before)
        return Followed(after, {})
