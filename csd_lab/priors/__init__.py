"""What gives noise predictions; the only home of diffusers, with the baselines.

:class:`Prior` and :class:`GaussianMixture` are light; the diffusion models are imported from
their own modules (``stable_diffusion``, ``instruct_pix2pix``), which load diffusers.
"""

from csd_lab.priors.analytic import GaussianMixture
from csd_lab.priors.base import Prior

__all__ = ["GaussianMixture", "Prior"]
