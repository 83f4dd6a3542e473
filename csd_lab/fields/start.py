r"""What a scene is before anything is known of it: a soft ball of density in the middle.

DreamFusion (Poole et al. 2022, arXiv 2209.14988) begins so: what is to be made finds something that
can be seen, and that is in the middle.

.. math::
    \sigma(p) = \sigma_0\, e^{-\lVert p \rVert^2 / (2 s^2)}
"""

import math
from typing import final

from torch import Tensor

from csd_lab.checks import check_not_negative, check_positive


@final
class Blob:
    """A soft ball of density around the origin.

    Args:
        size: s, in world units, > 0.
        depth: optical depth along a line through its middle, sigma_0 s sqrt(2 pi), >= 0: what is
            behind it shows through to a share exp(-depth).
        grey: how bright it is, in (0, 1); with 0.5 it does not stand out from a new background.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, size: float = 0.5, depth: float = 2.0, grey: float = 0.5) -> None:
        check_positive("size", size)
        check_not_negative("depth", depth)
        if not 0 < grey < 1:
            raise ValueError(f"grey must be above 0 and below 1, got {grey}")
        self.size = size
        self.grey = grey
        self.peak = depth / (size * math.sqrt(2 * math.pi))

    def __call__(self, points: Tensor) -> Tensor:
        """Sigma at points (P, 3): (P,), per world unit."""
        return self.peak * (-points.square().sum(dim=1) / (2 * self.size**2)).exp()
