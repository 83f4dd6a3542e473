r"""Consistency of neighbouring views: each beside the one before it, warped into its place.

With the flow from view f + 1 to view f (:class:`csd_lab.types.Flow`), W_f the view f read
bilinearly at the places of the flow's grid, and M_f the pixels that are visible there,

.. math::
    \text{warped\_rmse}_f = \Big( \frac{1}{3 |M_f|} \sum_{p \in M_f} \lVert e_{f+1}(p) - W_f(p)
      \rVert^2 \Big)^{1/2}, \qquad
    \text{warped\_lpips}_f = \text{LPIPS}\big(e_{f+1},\; M_f W_f + (1 - M_f)\, e_{f+1}\big),

of edited views e. The perceptual distance of masked warped views is that of Huang et al. 2021,
"Learning to Stylize Novel Views", arXiv 2105.13509, who say no more about how they mask; the root
mean square stands beside it in Liu et al. 2023, "StyleRF", arXiv 2303.10598, and Liu et al. 2024,
"StyleGaussian", arXiv 2403.07807. They call this short-range consistency for views whose cameras
are neighbours and long-range for distant ones: which of the two is measured here is a matter of
how densely the views follow each other. Their flow is estimated from the frames; here it is given,
as by :func:`csd_lab.fields.flow` from depth.

What the scene's own depth does not place, such as where it contradicts itself, is not compared:
read both beside ``warped_visible``, the share of pixels in M. A scene whose depth is bad is
compared on few.

Views that are resampled do not match exactly, and neither do surfaces that shine: the source's own
value is the floor. Plain grey is perfectly consistent: read both beside a metric of the edit.
"""

from typing import final

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from csd_lab.metrics.base import FLOW, TWO_FRAMES, ArtefactMetric, clip_mean, minimum_size
from csd_lab.metrics.perceptual import SMALLEST, DistanceMetric
from csd_lab.types import Artefact, Flow


def warped(views: Tensor, flow: Flow) -> Tensor:
    """Each view but the last, as it is seen from the next.

    Args:
        views: (F, 3, H, W).
        flow: between neighbours.

    Returns:
        (F - 1, 3, H, W); of no meaning where ``flow.visible`` is not set.
    """
    return grid_sample(views[:-1], flow.grid, padding_mode="border", align_corners=False)


def warped_rmse(views: Tensor, flow: Flow) -> Tensor:
    """Root mean square difference of each view to the one before, warped, over visible pixels.

    Args:
        views: (F, 3, H, W).
        flow: between neighbours.

    Returns:
        (F - 1,); NaN where nothing is visible.
    """
    squares = (warped(views, flow) - views[1:]).square().mean(1) * flow.visible
    return (squares.sum((1, 2)) / flow.visible.sum((1, 2))).sqrt()


def known_flow(artefact: Artefact) -> Flow:
    """The flow of an artefact.

    Raises:
        ValueError: it is unknown.
    """
    if artefact.flow is None:
        raise ValueError(f"flow of artefact {artefact.task.name!r} must be known, got None")
    return artefact.flow


@final
class WarpedRmse(ArtefactMetric):
    """Difference of each view to the one before, warped by the flow; mean over a clip's pairs.

    Root mean square over visible pixels and channels, then the mean over pairs, then over clips.
    """

    basename = "warped_rmse"
    needs = (FLOW, TWO_FRAMES)
    unit = "of [0, 1]"
    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    pool = staticmethod(clip_mean)

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return warped_rmse(artefact.edited, known_flow(artefact))


@final
class WarpedVisible(ArtefactMetric):
    """Share of pixels that ``warped_rmse`` compares; mean over a clip's pairs."""

    basename = "warped_visible"
    needs = (FLOW, TWO_FRAMES)
    unit = "share of pixels"
    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0
    pool = staticmethod(clip_mean)

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return known_flow(artefact).visible.float().mean((1, 2))


@final
class WarpedLpips(DistanceMetric):
    """Perceptual distance of each view to the one before, warped by the flow.

    Pixels that are not visible there are taken from the view itself, so that they add little. Mean
    over a clip's pairs, then over clips; a pair where nothing is visible is undefined.
    """

    basename = "warped_lpips"
    needs = (FLOW, TWO_FRAMES, minimum_size(SMALLEST))
    pool = staticmethod(clip_mean)

    def _per_frame(self, artefact: Artefact) -> Tensor:
        flow, views = known_flow(artefact), artefact.edited
        filled = torch.where(flow.visible[:, None], warped(views, flow), views[1:])
        distances = self.distance(views[1:], filled).to(self.device)  # the network's is its own
        return torch.where(flow.visible.any(2).any(1), distances, torch.nan)
