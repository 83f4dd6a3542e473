"""Saturation of the edited frames and of the answer that they should show.

Averaging several right answers gives a greyish clip that every frame agrees on: agreement is worth
something only where the clip is about as saturated as its answer.
"""

from typing import final

from torch import Tensor

from csd_lab.metrics.answers import answer_frames
from csd_lab.metrics.base import ANY_ANSWER, ArtefactMetric
from csd_lab.types import Artefact


def saturation(frames: Tensor) -> Tensor:
    """Mean over pixels of max - min over R, G, B (HSV's chroma), 0 for grey.

    Args:
        frames: (F, 3, H, W) in [0, 1].

    Returns:
        (F,) in [0, 1].
    """
    return (frames.amax(1) - frames.amin(1)).mean((1, 2))


@final
class Saturation(ArtefactMetric):
    """Saturation of the edited frames, mean over frames; compare with ``saturation_answer``."""

    basename = "saturation"
    unit = "of [0, 1]"
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return saturation(artefact.edited)


@final
class SaturationAnswer(ArtefactMetric):
    """Saturation of the right answer that the clip gave, mean over frames: what to compare with."""

    basename = "saturation_answer"
    needs = (ANY_ANSWER,)
    unit = "of [0, 1]"
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return saturation(answer_frames(artefact))
