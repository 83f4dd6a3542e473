"""Procedural textures with the statistics of photographs: for looks to carry over to real media.

Dead leaves (discs that hide each other, sizes by a power law: edges and flat parts at all scales;
Lee, Mumford & Huang 2001), fractal noise (1/f spectrum) through a random palette, gradients, and
mixtures of two of them along a noisy edge.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

DISCS = 70


def textures(seeds: Sequence[int], size: int = 64) -> Tensor:
    """Draw textures.

    Args:
        seeds: B integer seeds; the picture depends on nothing else.
        size: height and width in pixels.

    Returns:
        Pictures, (B, 3, size, size), float32 in [0, 1].
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}; pass a larger number")
    if not len(seeds):
        return torch.empty(0, 3, size, size)
    return torch.stack([_texture(int(seed), size) for seed in seeds])


def _texture(seed: int, size: int) -> Tensor:
    """Draw one texture, (3, size, size)."""
    rng = np.random.default_rng(seed)
    kinds: tuple[Callable[[np.random.Generator, int], Tensor], ...]
    kinds = (_leaves, _fractal, _gradient)
    choice = rng.random()
    if choice < 0.65:
        picture = kinds[0 if choice < 0.3 else 1 if choice < 0.55 else 2](rng, size)
    else:
        one, two = rng.choice(3, size=2, p=(0.4, 0.35, 0.25))
        edge = _noise(rng, size, roughness=0.4)
        mask = ((edge - edge.median()) * 12 + 0.5).clamp(0, 1)
        picture = kinds[one](rng, size) * (1 - mask) + kinds[two](rng, size) * mask
    return picture.clamp(0, 1)


def _colours(rng: np.random.Generator, count: int) -> Tensor:
    """Draw colours around a common mean, (count, 3): natural pictures are not confetti."""
    mean = rng.beta(1.6, 1.6) + rng.normal(scale=0.14, size=3)
    spread = rng.normal(scale=0.10, size=(count, 3)) + rng.normal(scale=0.20, size=(count, 1))
    return torch.from_numpy((mean + spread).clip(0, 1).astype(np.float32))


def _leaves(rng: np.random.Generator, size: int) -> Tensor:
    """Draw dead leaves: each pixel shows the topmost disc that covers it."""
    radius = 0.05 / np.sqrt(rng.uniform(0.01, 1.0, size=DISCS))  # density ~ radius^-3
    centre = rng.uniform(-0.1, 1.1, size=(DISCS, 2))
    discs = torch.from_numpy(np.column_stack([centre, radius]).astype(np.float32))
    fine = 2 * size
    axis = (torch.arange(fine, dtype=torch.float32) + 0.5) / fine
    x, y, r = discs[:, 0, None], discs[:, 1, None], discs[:, 2, None]
    reach = (r * r)[:, :, None] - ((axis - y) ** 2)[:, :, None] - ((axis - x) ** 2)[:, None, :]
    colours = torch.cat([_colours(rng, DISCS), _colours(rng, 1)])
    order = torch.arange(DISCS, 0, -1, dtype=torch.int16)[:, None, None]
    top = DISCS - ((reach > 0) * order).amax(dim=0).long()
    picture = colours[top].permute(2, 0, 1)
    shade = 1 + 0.12 * _noise(rng, size, roughness=0.5)
    return torch.nn.functional.avg_pool2d(picture[None], 2)[0] * shade


def _fractal(rng: np.random.Generator, size: int) -> Tensor:
    """Draw fractal noise and map it through a palette of three colours."""
    value = (0.5 + 0.35 * _noise(rng, size, roughness=float(rng.uniform(0.4, 0.65)))).clamp(0, 1)
    low, middle, high = _colours(rng, 3)[:, :, None, None]
    return torch.where(
        value < 0.5, low + (middle - low) * 2 * value, middle + (high - middle) * (2 * value - 1)
    )


def _gradient(rng: np.random.Generator, size: int) -> Tensor:
    """Draw a smooth transition between two colours, with a soft spot of a third."""
    axis = (torch.arange(size, dtype=torch.float32) + 0.5) / size - 0.5
    angle = rng.uniform(0, 2 * math.pi)
    ramp = (0.5 + math.cos(angle) * axis + math.sin(angle) * axis[:, None]).clamp(0, 1)
    start, end, spot = _colours(rng, 3)[:, :, None, None]
    x, y, width = rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4), rng.uniform(0.1, 0.35)
    weight = torch.exp(-((axis - x) ** 2 + ((axis - y) ** 2)[:, None]) / width**2)
    picture = start + (end - start) * ramp
    return picture + (spot - picture) * 0.8 * weight


def _noise(rng: np.random.Generator, size: int, roughness: float) -> Tensor:
    """Draw octaves of smooth noise, (size, size), deviation about 1."""
    total = torch.zeros(size, size)
    power = 0.0
    for octave in range(5):
        cells, weight = 3 * 2**octave, roughness**octave
        if cells > size // 2:
            break
        grid = torch.from_numpy(rng.normal(size=(1, 1, cells, cells)).astype(np.float32))
        layer = interpolate(grid, size=(size, size), mode="bicubic", align_corners=False)[0, 0]
        total += weight * layer
        power += 0.5 * weight**2
    return total / max(power, 1e-6) ** 0.5
