r"""Depths as pictures.

Colours run with 1 / D, so that what is near has most of them, through matplotlib's viridis, whose
steps look even: violet is far, yellow near. Their ends are the same for all frames: the values that
2 % and 98 % of all opaque pixels stay below. What is not opaque (O < 1/2) is grey.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from torch import Tensor

OPAQUE = 0.5
BACKGROUND = 0.85
"""Grey of what is not opaque."""
SHARES = (0.02, 0.98)


class DepthClip(NamedTuple):
    """Depths over frames.

    Attributes:
        depth: (F, H, W), > 0, in world units.
        opacity: (F, H, W), in [0, 1].
    """

    depth: Tensor
    opacity: Tensor


def depth_range(clips: Sequence[DepthClip]) -> tuple[float, float]:
    """The depths where colours begin and end, near and far; both 1 where nothing is opaque."""
    inverse = torch.cat([1 / clip.depth[clip.opacity >= OPAQUE] for clip in clips])
    if not len(inverse):
        return 1.0, 1.0
    low, high = np.quantile(inverse.cpu().numpy(), SHARES).tolist()
    return 1 / high, 1 / low


def colour_depth(clip: DepthClip, near: float, far: float) -> Tensor:
    """A clip of depths as a clip of colours, (F, 3, H, W), in [0, 1].

    Args:
        clip: the depths.
        near: this and what is nearer is yellow.
        far: this and what is farther is violet; not below ``near``.
    """
    span = max(1 / near - 1 / far, 1e-12)
    share = ((1 / clip.depth - 1 / far) / span).clamp(0, 1).cpu().numpy()
    coloured = matplotlib.colormaps["viridis"](share)[..., :3]
    pictures = torch.from_numpy(coloured).float().permute(0, 3, 1, 2)
    opaque = (clip.opacity >= OPAQUE).cpu()[:, None]
    return pictures.where(opaque, torch.tensor(BACKGROUND))


def colour_depths(clips: Mapping[str, DepthClip]) -> dict[str, Tensor]:
    """Clips of depths under one range, which their labels tell.

    Args:
        clips: by label.
    """
    near, far = depth_range(list(clips.values()))
    return {
        f"{label}: depth, {near:.3g} (yellow) to {far:.3g}": colour_depth(clip, near, far)
        for label, clip in clips.items()
    }
