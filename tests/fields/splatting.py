r"""Gaussians rasterised without CUDA, each at every pixel, as Kerbl et al. 2023 do and gsplat does.

With W the rotation of a camera and J the Jacobian of its projection at the mean, a Gaussian's image
has the covariance :math:`J W R \operatorname{diag}(s^2) R^T W^T J^T`, to which 0.3 pixels squared
are added, and the opacity :math:`o\, e^{-d^T \Sigma^{-1} d / 2}`, at most 0.999, 0 below 1/255.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

BLUR, MOST, LEAST = 0.3, 0.999, 1 / 255


def splat(
    *, means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane, far_plane,
    render_mode,
) -> tuple[Tensor, Tensor, dict]:  # fmt: skip
    """What gsplat's ``rasterization`` gives for the same arguments."""
    assert render_mode == "RGB+ED"
    half = rotations(quats) * scales[:, None]
    colours, alphas = [], []
    for world, lens in zip(viewmats, Ks, strict=True):
        local = means @ world[:3, :3].T + world[:3, 3]
        kept = ((local[:, 2] > near_plane) & (local[:, 2] < far_plane)).nonzero()[:, 0]
        kept = kept[local[kept, 2].argsort()]
        depth = local[kept, 2:]
        places = (local[kept] @ lens.T)[:, :2] / depth
        flat = jacobians(local[kept], lens) @ world[:3, :3] @ half[kept]
        alpha = opacities[kept] * shapes(places, flat @ flat.mT, height, width)
        alpha = alpha.clamp(max=MOST).where(alpha >= LEAST, 0.0)
        weights = alpha * pad((1 - alpha).cumprod(dim=1)[:, :-1], (1, 0), value=1.0)
        covered = weights.sum(dim=1, keepdim=True)
        seen = weights @ torch.cat([colors[kept], depth], dim=1)
        expected = torch.cat([seen[:, :3], seen[:, 3:] / covered.clamp(min=1e-10)], dim=1)
        colours.append(expected.view(height, width, 4))
        alphas.append(covered.view(height, width, 1))
    return torch.stack(colours), torch.stack(alphas), {}


def rotations(quaternions: Tensor) -> Tensor:
    """Of quaternions w, x, y, z, (G, 4), of any length: (G, 3, 3)."""
    w, x, y, z = normalize(quaternions, dim=1).unbind(dim=1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def jacobians(local: Tensor, lens: Tensor) -> Tensor:
    """Of pixels by places (G, 3) in a camera's frame: (G, 2, 3)."""
    depth = local[:, 2]
    slant = -local[:, :2] / depth[:, None]
    across = torch.eye(2).expand(len(local), 2, 2).to(local)
    focal = lens.diagonal()[:2, None]
    return focal * torch.cat([across, slant[:, :, None]], dim=2) / depth[:, None, None]


def shapes(places: Tensor, covariances: Tensor, height: int, width: int) -> Tensor:
    """Gaussians of height 1 at all pixels, row by row: (H W, G)."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns, rows], dim=2).flatten(0, 1).to(places) + 0.5
    away = pixels[:, None] - places
    inverse = torch.linalg.inv(covariances + BLUR * torch.eye(2).to(places))
    return (-torch.einsum("pgi,gij,pgj->pg", away, inverse, away) / 2).exp()
