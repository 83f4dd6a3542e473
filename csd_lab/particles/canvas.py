r"""One image of any size: a canvas of latents is the parameter, and windows of it the particles.

A step takes a batch S of windows, x_i = P_i x, distils their gradients g_i together, and moves
every latent by the mean over the windows that hold it (Kim et al. 2023, section 4.1), weighted by a
taper w, so that what a window says at its edge counts less than what others see in their middle:

.. math::
    x \leftarrow x - \mathrm{lr} \, G, \qquad
    G = \frac{\sum_{i \in S} P_i^T (w \, g_i)}{\sum_{i \in S} P_i^T w},

with all windows in S, and never more than that with some of them (:mod:`csd_lab.canvas.windows`).
A rank weighs and adds up its own share of S; the denominator is of all S, and known to every rank.

With regions, each with a prompt of its own, a window follows all prompts that hold in it, in
proportion to their share of it (:mod:`csd_lab.canvas.regions`): one noise a window serves them all,
so that its source is evaluated once. Elsewhere holds the canvas's own prompt; the empty one keeps
what is there, for methods that distil: the embedded prior was trained to give back its condition
without a text, and for others the source's own estimate, under the same text, is subtracted. But a
window that is partly in a region has one gradient for all of it. So that nothing bleeds into what
is to be kept, G is multiplied by :math:`1 - m`, with m the canvas's own share of every latent.

Windows may lie elsewhere at every step, so that they do not always end at the same places: by how
much the grid is shifted follows from the seed and the step alone. A window's id is its number in
the grid, whose neighbours stay its neighbours; its source, its condition and its prompts are those
of where it lies. Methods that sample cannot have that, since windows or their scheduler remember
the step before.

An image that fits into one window is one particle, whose kernel is 1: CSD is then SDS, and CSD-Edit
is DDS with image guidance. Few windows share little; the more of them, the more there is to agree
on.
"""

from collections.abc import Sequence
from typing import Unpack, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from csd_lab.canvas import PromptedRegion, WindowGrid, region_masks, window_weights
from csd_lab.canvas.regions import WHOLE
from csd_lab.canvas.windows import Taper, check_pair
from csd_lab.checks import is_finite
from csd_lab.distill import Sampler, particle_noise, places_generator
from csd_lab.particles.latents import LatentOptions, LatentParticles
from csd_lab.types import Blend

Sides = int | Sequence[int]
"""One length for both sides, or a height and a width."""


@final
class CanvasParticles(LatentParticles):
    """Edits one image of any size through its windows.

    Args:
        frames: the image, (1, 3, H, W), in [0, 1]; H and W multiples of the prior's
            ``size_multiple``.
        prompt: target text, or several that are followed one after the other; where there are
            regions, the text of what they leave, "" to keep that as it is.
        window: side of a window in latents, or its height and width; None: the size that the prior
            was trained on, or the whole canvas if it has none.
        stride: from one window to the next, in latents, likewise; None: as ``overlap`` says.
        overlap: of neighbouring windows, as a share of a window, in [0, 1).
        taper: how much a window counts from its edges to its middle; ``constant`` is the paper's.
        shift: whether windows lie elsewhere at every step.
        regions: where other prompts hold.
        transition: width of the passage between regions, in latents.
        keep: whether what no region covers stays exactly as it is, where ``prompt`` is "" and the
            method does not sample; else the empty text is followed there as any other.
        visible: shares of H and W that the user's image takes, from the top left corner, on which
            regions lie; the rest is what it was extended by.
        **options: see :class:`LatentParticles`.

    Attributes:
        grid: the windows, without a shift.

    Raises:
        ValueError: if an argument is out of range, regions come with several prompts, or windows
            of a method that samples are to shift.
    """

    takes = "image"
    masks: Tensor | None

    def __init__(
        self,
        frames: Tensor,
        prompt: str | Sequence[str],
        window: Sides | None = None,
        stride: Sides | None = None,
        overlap: float = 0.75,
        taper: Taper = "constant",
        shift: bool = False,
        regions: Sequence[PromptedRegion] = (),
        transition: float = 0.0,
        keep: bool = False,
        visible: tuple[float, float] = WHOLE,
        **options: Unpack[LatentOptions],
    ) -> None:
        super().__init__(frames, prompt, **options)
        if len(frames) != 1:
            raise ValueError(
                f"frames must be one image, (1, 3, H, W), got {len(frames)}; a clip's frames are "
                "particles of modality=video."
            )
        if regions and len(self.prompts) > 1:
            raise ValueError("prompt must be one text where there are regions, got several.")
        if shift and isinstance(self.distiller, Sampler):
            raise ValueError(
                "shift must be false for a method that samples, whose windows go on from where they"
                f" were, got true for {type(self.distiller).__name__}."
            )
        height, width = self.latents.shape[2:]
        size = _pair("window", window) or self.prior.native_size or (height, width)
        step = _pair("stride", stride) or _strides(size, overlap)
        self.grid = WindowGrid(height, width, size, step, self.wrap, taper)
        self.shift = shift
        self._laid: tuple[int, WindowGrid] | None = None
        self.region_prompts = tuple(region.prompt for region in regions)
        masks = None
        if regions:
            areas = [region.area for region in regions]
            masks = region_masks(areas, height, width, transition, self.wrap, visible)
        self.register_buffer("masks", masks, persistent=False)
        self.keep = keep and not self.prompts[0] and not isinstance(self.distiller, Sampler)

    @property
    def windows(self) -> WindowGrid:
        """Where the windows lie in the present step."""
        if not self.shift:
            return self.grid
        if self._laid is None or self._laid[0] != self.present_step:
            random = places_generator(self.seed, self.present_step)
            down, across = (int(random.integers(r.start, r.stop)) for r in self.grid.reach)
            self._laid = self.present_step, self.grid.shifted((down, across))
        return self._laid[1]

    def shares(self, ids: Tensor) -> Tensor:
        """How much of these windows each prompt has, (N, P), the canvas's own last; see regions."""
        assert self.masks is not None  # the caller has seen to it
        return window_weights(self.masks, self.windows, ids)

    def parts(self, images: Tensor, ids: Tensor) -> Tensor:
        """The windows ``ids`` of a canvas, (N, C, h, w)."""
        return self.windows.crop(images, ids)

    def texts(self, ids: Tensor) -> str | Blend:
        """The prompt, or all that hold in these windows, with their shares."""
        if self.masks is None:
            return self.prompt
        return Blend((*self.region_prompts, self.prompt), self.shares(ids))

    def whole(self, parts: Tensor, ids: Tensor) -> Tensor:
        """The canvas of these windows, (1, C, H, W), their weighted mean where they overlap."""
        return self.grid.average(self.grid.lay(parts * self.grid.weights.to(parts), ids), ids)

    def starting_noise(self) -> Tensor:
        """Noise of the canvas, (1, C, H, W); if it is shared, a window's, over and over."""
        shared = self.noise == "shared"
        size = self.grid.window if shared else (self.grid.height, self.grid.width)
        first = torch.zeros(1, dtype=torch.int64)
        noise = particle_noise(self.seed, 0, first, (self.latents.shape[1], *size))
        rows = torch.arange(self.grid.height) % size[0]
        columns = torch.arange(self.grid.width) % size[1]
        return noise[:, :, rows][..., columns]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Make the weighted sum over windows, which autograd gave, their mean."""
        del optimizer
        assert self.latents.grad is not None
        self.latents.grad = self.windows.average(self.latents.grad, self.latest.ids)
        if self.masks is not None and self.keep:
            self.latents.grad *= 1 - self.masks[-1]


def _pair(name: str, sides: Sides | None) -> tuple[int, int] | None:
    """Height and width."""
    if sides is None:
        return None
    pair = (sides, sides) if isinstance(sides, int) else sides
    check_pair(name, pair)
    return pair[0], pair[1]


def _strides(window: tuple[int, int], overlap: float) -> tuple[int, int]:
    if not (is_finite(overlap) and 0 <= overlap < 1):
        raise ValueError(f"overlap must be a share of a window, from 0 to below 1, got {overlap}.")
    return max(1, round(window[0] * (1 - overlap))), max(1, round(window[1] * (1 - overlap)))
