"""Looks: functions of one pixel's colour, so that their exact result is known on any picture.

Each takes pictures (..., 3, H, W) in [0, 1] and returns the same shape in [0, 1].
"""

from collections.abc import Callable

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)


def grey(images: Tensor) -> Tensor:
    """Return luma in all three channels."""
    return _luma(images).expand_as(images).clone()


def sepia(images: Tensor) -> Tensor:
    """Return luma as shades of brown."""
    brown = images.new_tensor([1.08, 0.84, 0.56])[:, None, None]
    return (_luma(images) * brown + images.new_tensor([0.04, 0.02, 0.0])[:, None, None]).clamp(0, 1)


def warm(images: Tensor) -> Tensor:
    """Return the picture in late, reddish light."""
    return _gain(images, (1.18, 0.92, 0.58))


def cold(images: Tensor) -> Tensor:
    """Return the picture in bluish light."""
    return _gain(images, (0.58, 0.88, 1.22))


def dark(images: Tensor) -> Tensor:
    """Return the picture underexposed."""
    return images.clamp(0, 1).pow(1.35) * 0.48


def bright(images: Tensor) -> Tensor:
    """Return the picture overexposed."""
    return (1 - (1 - images.clamp(0, 1)).pow(2.2)).clamp(0, 1)


def faded(images: Tensor) -> Tensor:
    """Return the picture with little contrast and little colour."""
    pale = 0.55 * images + 0.45 * _luma(images)
    return (0.42 + 0.46 * pale).clamp(0, 1)


def negative(images: Tensor) -> Tensor:
    """Return the picture's negative."""
    return (1 - images).clamp(0, 1)


LOOKS: dict[str, Callable[[Tensor], Tensor]] = {
    "sepia": sepia,
    "grey": grey,
    "warm": warm,
    "cold": cold,
    "dark": dark,
    "bright": bright,
    "faded": faded,
    "negative": negative,
}


def apply_look(name: str, images: Tensor) -> Tensor:
    """Apply a look by its name.

    Args:
        name: one of ``LOOKS``.
        images: pictures, (..., 3, H, W), in [0, 1].

    Returns:
        Pictures of the same shape, in [0, 1].

    Raises:
        ValueError: the name is unknown, or the third axis from the end is not of length 3.
    """
    if name not in LOOKS:
        raise ValueError(f"name must be one of {', '.join(LOOKS)}, got {name!r}")
    if images.ndim < 3 or images.shape[-3] != 3:
        raise ValueError(
            f"images must have the shape (..., 3, H, W), got {tuple(images.shape)}; "
            "move the colour axis to third from last"
        )
    return LOOKS[name](images)


def _luma(images: Tensor) -> Tensor:
    """Return luma, (..., 1, H, W)."""
    return (images * images.new_tensor(LUMA)[:, None, None]).sum(dim=-3, keepdim=True)


def _gain(images: Tensor, gains: tuple[float, float, float]) -> Tensor:
    """Return the channels multiplied and clipped."""
    return torch.clamp(images * images.new_tensor(gains)[:, None, None], 0, 1)
