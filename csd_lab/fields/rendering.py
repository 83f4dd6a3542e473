r"""Volume rendering: what a ray sees of densities and colours along it.

Mildenhall et al. 2020, arXiv 2003.08934. A ray o + t d is cut at t_0 < t_1 < ... < t_S. Piece k
has the density and colour of its middle, and

.. math::
    \alpha_k = 1 - e^{-\sigma_k (t_{k+1} - t_k)}, \qquad
    w_k = \alpha_k \prod_{j < k} (1 - \alpha_j), \qquad O = \sum_k w_k,

.. math::
    C = \sum_k w_k c_k + (1 - O)\, c_\text{background}(d), \qquad
    D = \frac{1}{O} \sum_k w_k \frac{t_k + t_{k+1}}{2}.

Pieces are cut evenly in s, where t is linear in s near the camera and grows without bound far away
(:func:`stretch`), each moved at random within its place if noise is given. A second pass may cut
where the first one saw something: at quantiles of w (:func:`resample`).
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Rendering(NamedTuple):
    """What R rays see.

    Attributes:
        colour: (R, 3).
        opacity: O, (R,), in [0, 1].
        depth: D along the ray, in world units, (R,); that of the last piece where O is 0.
        weights: w, (R, S).
        places: the middle of every piece along the ray, in world units, (R, S).
    """

    colour: Tensor
    opacity: Tensor
    depth: Tensor
    weights: Tensor
    places: Tensor


def composite(density: Tensor, colour: Tensor, edges: Tensor, background: Tensor) -> Rendering:
    """Colours, opacities and depths of rays.

    Args:
        density: sigma >= 0 of each piece, (R, S), per world unit.
        colour: of each piece, (R, S, 3).
        edges: where rays are cut, t, (R, S + 1), ascending.
        background: colour behind everything, (R, 3).
    """
    absorbed = density * edges.diff(dim=1)
    alpha = -torch.expm1(-absorbed)
    before = absorbed.cumsum(dim=1) - absorbed
    weights = torch.exp(-before) * alpha
    opacity = weights.sum(dim=1)
    middle = (edges[:, 1:] + edges[:, :-1]) / 2
    seen = (weights * middle).sum(dim=1) / opacity.clamp(min=1e-10)
    depth = torch.where(opacity > 1e-10, seen, middle[:, -1])
    light = (weights[..., None] * colour).sum(dim=1) + (1 - opacity)[:, None] * background
    return Rendering(light, opacity, depth, weights, middle)


def stretch(s: Tensor, near: float, far: float, linear: float) -> Tensor:
    """Distances t of places s in [0, 1]: near at 0, far at 1.

    Half of the pieces lie evenly up to ``linear``, the others beyond it, evenly in 1 / t.

    Args:
        s: of any shape.
        near: >= 0, below ``linear``.
        far: above ``linear``.
        linear: up to where t is linear in s.
    """
    low = near + 2 * s * (linear - near)
    share = (2 * s - 1).clamp(min=0)
    high = 1 / (1 / linear + share * (1 / far - 1 / linear))
    return torch.where(s < 0.5, low, high)


def cut(count: int, pieces: int, noise: Tensor | None = None) -> Tensor:
    """Where rays are cut, as places s in [0, 1]: (count, pieces + 1), ascending.

    Args:
        count: of the rays, R.
        pieces: S, of each.
        noise: uniform in [0, 1), (R, S + 1), which moves each cut within half a piece of its place;
            None: none is moved.
    """
    places = torch.linspace(0, 1, pieces + 1)
    if noise is None:
        return places.expand(count, -1)
    moved = places.to(noise) + (noise - 0.5) / pieces
    return moved.clamp(0, 1)


def resample(edges: Tensor, weights: Tensor, pieces: int, noise: Tensor | None = None) -> Tensor:
    """New cuts at quantiles of the weights of old pieces.

    Args:
        edges: of the old pieces, (R, S + 1), ascending.
        weights: of the old pieces, (R, S), >= 0; a little is added to each, so that nothing is
            never looked at.
        pieces: S', how many new ones.
        noise: uniform in [0, 1), (R, S' + 1), moves the quantiles within half a piece; None: none.

    Returns:
        (R, S' + 1), ascending, without gradient.
    """
    weights = weights.detach() + 0.01 / weights.shape[1]
    cumulative = torch.cat([torch.zeros_like(weights[:, :1]), weights.cumsum(dim=1)], dim=1)
    cumulative = cumulative / cumulative[:, -1:]
    quantile = cut(len(weights), pieces, noise).to(cumulative).contiguous()
    index = torch.searchsorted(cumulative, quantile, right=True).clamp(1, edges.shape[1] - 1)
    below, above = cumulative.gather(1, index - 1), cumulative.gather(1, index)
    start, stop = edges.gather(1, index - 1), edges.gather(1, index)
    share = ((quantile - below) / (above - below).clamp(min=1e-12)).clamp(0, 1)
    return (start + share * (stop - start)).detach()
