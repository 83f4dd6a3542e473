r"""Sampling, seen as a descent: a sampler's step is one step of length 1 along a gradient.

A sampler of a diffusion model goes from noise x_T over x_{t_1}, x_{t_2}, ... to a clean x_0, each
step a function of the guided noise estimate, x_{t_{k+1}} = S_k(x_{t_k}, eps_w(x_{t_k}; s, y)). With

.. math::
    \nabla_i = x_{t_k}^i - S_k\big(x_{t_k}^i, \epsilon_w(x_{t_k}^i; s_i, y)\big)

the descent :math:`x \leftarrow x - \nabla` is the sampler. So what holds for particles that are
distilled holds for particles that are sampled: they are shared out to processes, follow regions
and several prompts in turn, go on from a checkpoint. And the windows of a canvas, whose gradients
are averaged where they overlap, take the mean of all windows' steps,

.. math::
    x \leftarrow x - \frac{\sum_i P_i^T \nabla_i}{\sum_i P_i^T 1}
      = \frac{\sum_i P_i^T S_k(P_i x, \epsilon_i)}{\sum_i P_i^T 1},

which is MultiDiffusion (Bar-Tal et al. 2023, arXiv 2302.08113, equation 5).
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from torch import Tensor

from csd_lab.distill.distillers import Distiller

Need = Literal["captions", "clip", "windows", "views"]


class Sampler(Distiller, ABC):
    """A method that samples: its particles are noisy on the way, and it takes steps of length 1.

    A subclass evaluates the network in ``evaluate``, and gives the difference to where a step leads
    in ``combine``. All particles are in every step.

    Attributes:
        needs: what it cannot do without: ``captions`` of source and target, a ``clip`` of frames,
            the overlapping ``windows`` of a canvas, or ``views`` of a scene.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    @abstractmethod
    def bind(self, prior: Any) -> None:
        """Make ready for the prior that will be asked.

        Args:
            prior: a :class:`csd_lab.priors.Prior`.

        Raises:
            ValueError: the prior lacks what this method needs.
        """

    @abstractmethod
    def timestep(self, step: int) -> Tensor:
        """The timestep of a step, counted from the start: ()."""
