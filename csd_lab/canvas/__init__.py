"""A canvas of any size, seen through parts of it; pure tensors.

windows   overlapping windows, which are the particles of one large image
tiles     coding a large image tile by tile, without seams
regions   which prompt holds where, and how much of it a window sees
"""

from csd_lab.canvas.regions import (
    Box,
    Mask,
    PromptedRegion,
    Region,
    Strip,
    region_masks,
    window_weights,
)
from csd_lab.canvas.tiles import Tiling
from csd_lab.canvas.windows import WindowGrid

__all__ = [
    "Box",
    "Mask",
    "PromptedRegion",
    "Region",
    "Strip",
    "Tiling",
    "WindowGrid",
    "region_masks",
    "window_weights",
]
