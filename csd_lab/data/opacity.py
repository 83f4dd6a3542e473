"""What shines through an image: laid under it for the edit, taken out again to write the result."""

from typing import NamedTuple

import torch
from torch import Tensor


class Opacity(NamedTuple):
    """How opaque an image is, and what it was laid over to be edited.

    Attributes:
        alpha: (H, W), in [0, 1].
        background: red, green and blue, in [0, 1].
    """

    alpha: Tensor
    background: tuple[float, float, float]

    def put_on(self, edited: Tensor) -> Tensor:
        r"""Edited images with this opacity, such that over the background they look as edited.

        With e the edited colour over the background b, that is :math:`(e - (1 - a) b) / a`, cut to
        [0, 1]: an image that was not edited comes back with the colours that it had. Where nothing
        of it is to be seen, e is kept.

        Args:
            edited: (..., 3, H, W), in [0, 1].

        Returns:
            (..., 4, H, W), in [0, 1].
        """
        alpha = self.alpha.to(edited).expand(*edited.shape[:-3], 1, *edited.shape[-2:])
        behind = edited.new_tensor(self.background)[:, None, None]
        own = (edited - (1 - alpha) * behind) / alpha.clamp(min=1e-6)
        colour = torch.where(alpha > 0, own.clamp(0, 1), edited)
        return torch.cat([colour, alpha], dim=-3)
