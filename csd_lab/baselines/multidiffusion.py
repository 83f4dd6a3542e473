"""MultiDiffusion: overlapping windows of a canvas, whose steps are averaged at every t.

Bar-Tal et al. 2023, arXiv 2302.08113. The canvas is noise; at each timestep every window takes the
scheduler's step by itself, and where windows overlap the canvas gets their mean: see
:mod:`csd_lab.distill.sampling`. With a text-to-image prior it generates, with Instruct-Pix2Pix it
edits, each window under its own part of the source. Regions have the prompts that hold in a window
blended in its noise estimate, by their shares.
"""

from typing import ClassVar, final

from csd_lab.baselines.base import ScheduledSampler, check_deterministic
from csd_lab.distill import Need
from csd_lab.priors.base import Prior


@final
class MultiDiffusion(ScheduledSampler):
    """Samples the windows of a canvas together; equals diffusers' panorama pipeline.

    Args:
        guidance: see :class:`ScheduledSampler`, as all others.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"windows"})

    def check(self, prior: Prior) -> None:  # noqa: ARG002
        """Raises ValueError if the scheduler draws noise in its steps."""
        check_deterministic(self)
