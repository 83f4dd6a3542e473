r"""Guidance by a classifier of noisy images (Dhariwal & Nichol 2021, arXiv 2105.05233).

A prior that knows no text follows one by a classifier's gradient,

.. math::
    \hat\epsilon(x_t; y) = \epsilon(x_t) - s \, b_t \nabla_{x_t} \log p(y \mid x_t, t)

which at s = 1 is Bayes' rule, :math:`\nabla \log p_t(x_t \mid y) = \nabla \log p_t(x_t) +
\nabla \log p(y \mid x_t, t)`, and beyond sharpens it.

For a mixture of Gaussians the classifier is exact, whatever weights a text stands for:

.. math::
    \log p(y \mid x_t, t) = \log p_t(x_t \mid y) - \log p_t(x_t) + \log p(y)

and the last term, which has no gradient, is left out.
"""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from csd_lab.checks import check_finite
from csd_lab.priors.analytic import GaussianMixture
from csd_lab.priors.base import Batch, Prior


class Classifier(nn.Module, ABC):
    """Says how well noisy images fit texts."""

    @abstractmethod
    def log_prob(self, x_t: Tensor, texts: tuple[str, ...], t: Tensor) -> Tensor:
        """The logarithm of p(y | x_t, t), up to what does not depend on x_t.

        Args:
            x_t: noisy particles, (B, C, h, w).
            texts: y, one a particle; none is empty.
            t: timestep, ().

        Returns:
            (B,), differentiable in x_t; each depends on its own particle alone.
        """


@final
class MixtureClassifier(Classifier):
    """The exact classifier of a mixture's texts; a text of one component gives its posterior.

    Args:
        mixture: knows the texts.
    """

    def __init__(self, mixture: GaussianMixture) -> None:
        super().__init__()
        self.mixture = mixture

    def log_prob(self, x_t: Tensor, texts: tuple[str, ...], t: Tensor) -> Tensor:
        """By the ratio of p_t(x_t | y) and p_t(x_t): (B,)."""
        return self.mixture.log_prob(x_t, t, texts) - self.mixture.log_prob(x_t, t)


@final
class ClassifierGuidance(Prior):
    """A prior that is asked without a text, and led to it by a classifier.

    Without a text there is no guidance, so that classifier-free guidance of scale w on top of it
    multiplies s by w.

    Args:
        prior: predicts the noise; its own texts are not used.
        classifier: of noisy images.
        scale: s, finite.
    """

    def __init__(self, prior: Prior, classifier: Classifier, scale: float = 1.0) -> None:
        check_finite("scale", scale)
        super().__init__(
            schedule=prior.schedule,
            scheduler_config=prior.scheduler_config,
            latent_channels=prior.latent_channels,
            latent_scale=prior.latent_scale,
            size_multiple=prior.size_multiple,
            max_batch=prior.max_batch,
            native_size=prior.native_size,
        )
        self.takes_image = prior.takes_image
        self.prior = prior
        self.classifier = classifier
        self.scale = scale
        self._texts: list[str] = []
        self.freeze()

    def encode(self, images: Tensor, noise: Tensor | None = None, wrap: bool = False) -> Tensor:
        """As the prior does."""
        return self.prior.encode(images, noise, wrap)

    def decode(self, latents: Tensor, wrap: bool = False) -> Tensor:
        """As the prior does."""
        return self.prior.decode(latents, wrap)

    def images_at_once(self, height: int, width: int) -> int:
        """As the prior has it."""
        return self.prior.images_at_once(height, width)

    def condition(self, images: Tensor, wrap: bool = False) -> Tensor | None:
        """As the prior does."""
        return self.prior.condition(images, wrap)

    def _embed(self, text: str) -> Tensor:
        """The number of a text among those that were seen."""
        if text not in self._texts:
            self._texts.append(text)
        return torch.tensor(self._texts.index(text))

    def _noise(self, batch: Batch, t: Tensor) -> Tensor:
        null = self.prior.embed(("",) * len(batch.x_t)).to(batch.x_t.device)
        noise = self.prior._noise(batch._replace(text=null), t)
        texts = [self._texts[number] for number in batch.text.tolist()]
        rows = [row for row, text in enumerate(texts) if text]
        if not rows:
            return noise
        slope = self._slope(batch.x_t[rows], tuple(texts[row] for row in rows), t)
        guided = noise.clone()
        guided[rows] -= (self.scale * self.schedule.sigma(t) * slope).to(noise.dtype)
        return guided

    def _slope(self, x_t: Tensor, texts: tuple[str, ...], t: Tensor) -> Tensor:
        """The gradient of the classifier's logarithms, (B, C, h, w)."""
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.classifier.log_prob(x_t, texts, t).sum(), x_t)
        return slope
