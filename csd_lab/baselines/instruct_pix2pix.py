"""Instruct-Pix2Pix: the baseline that samples each frame, or window, by itself.

Brooks et al. 2023, arXiv 2211.09800. From noise x_T, a scheduler's steps follow

    eps_w = eps(0, n) + s_I (eps(s, n) - eps(0, n)) + s_T (eps(s, y) - eps(s, n))

down to a clean latent, each image under its own source s. Nothing ties images together but the
noise that they start from, if it is shared.
"""

from typing import final

from csd_lab.baselines.base import ScheduledSampler, check_takes_image
from csd_lab.priors.base import Prior


@final
class InstructPix2Pix(ScheduledSampler):
    """Samples an edit of each particle. Equals diffusers' pipeline for the same noise.

    Args:
        guidance: combines the predictions; Brooks et al. use s_T = 7.5, s_I = 1.5.
        scheduler: see :class:`ScheduledSampler`, as all others.
    """

    def check(self, prior: Prior) -> None:
        """Raises ValueError if the prior takes no image condition."""
        check_takes_image(prior)
