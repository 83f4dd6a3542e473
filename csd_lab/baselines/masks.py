"""Where an edit may happen: masks from the cross attention of words.

Hertz et al. 2022 (arXiv 2208.01626, section 3, "Local editing"): the probabilities with which a
place attends to chosen words are averaged over heads and layers of one resolution, the largest of
3 x 3 neighbours is taken, and what exceeds a share of the maximum is where these words are.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from csd_lab.baselines.attention import Place


def mask_places(places: Collection[Place], size: tuple[int, int], limit: int) -> list[Place]:
    """The cross attentions that tell where words are: the finest of those that are coarse enough.

    Args:
        places: of all attentions.
        size: height and width of the latents.
        limit: query tokens at most.
    """
    coarse = [place for place in places if place.cross and place.queries(size) <= limit]
    finest = max((place.queries(size) for place in coarse), default=0)
    return [place for place in coarse if place.queries(size) == finest]


def attended(maps: Mapping[Place, Tensor], tokens: Sequence[int], size: tuple[int, int]) -> Tensor:
    """How much each place attends to some tokens, (F, 1, h, w), float32.

    Args:
        maps: cross attention of places of one resolution, (F, heads, Q, L) each; at least one.
        tokens: places of the words' tokens in the caption.
        size: height and width of the latents.
    """
    layers = [each[..., list(tokens)].float().sum(dim=3).mean(dim=1) for each in maps.values()]
    grid = next(iter(maps)).grid(size)
    return torch.stack(layers).mean(dim=0).unflatten(1, grid)[:, None]


def mask_of(attention: Tensor, threshold: float, size: tuple[int, int]) -> Tensor:
    """1 where attention exceeds a share of its maximum, else 0.

    Args:
        attention: >= 0, (F, 1, h, w).
        threshold: that share, in [0, 1].
        size: height and width of the mask.

    Returns:
        (F, 1, *size), float32; 0 everywhere for a frame without attention.
    """
    spread = functional.interpolate(functional.max_pool2d(attention, 3, 1, 1), size=size)
    return (spread > threshold * spread.amax(dim=(2, 3), keepdim=True)).float()
