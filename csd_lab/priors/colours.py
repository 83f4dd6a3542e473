"""A mixture of plain colours: the smallest prior of images, exact and without a network."""

from collections.abc import Sequence

import torch

from csd_lab.distill.schedules import VariancePreserving
from csd_lab.priors.analytic import GaussianMixture


def colour_mixture(
    colours: Sequence[Sequence[float]], size: int = 64, scale: float = 0.1, max_batch: int = 1024
) -> GaussianMixture:
    """Images that are all of one colour, one of several, with independent noise in each pixel.

    Its scores are exact, so that the kernelized Stein discrepancy of a run can be logged.

    Args:
        colours: K colours, (K, 3), in [0, 1].
        size: height and width, in pixels.
        scale: standard deviation of a pixel, > 0.
        max_batch: samples that are evaluated together at most.

    Raises:
        ValueError: the colours are not (K, 3) in [0, 1].
    """
    table = torch.tensor(colours, dtype=torch.float32)
    if table.ndim != 2 or table.shape[1] != 3 or not bool(((table >= 0) & (table <= 1)).all()):
        raise ValueError(
            f"colours must be triples of numbers in [0, 1], such as [[1, 0, 0], [0, 0, 1]], got "
            f"{[list(colour) for colour in colours]}."
        )
    means = table[:, :, None, None].expand(-1, -1, size, size).contiguous()
    schedule = VariancePreserving.scaled_linear()
    return GaussianMixture(means, schedule, scales=scale, max_batch=max_batch)
