r"""The similarity of CLIP as a prior of images (Dream Fields, Jain et al. 2022, arXiv 2112.01455).

Before diffusion models, texts led images by a classifier that was trained for something else. Taken
as a density, and classifier guidance (:mod:`csd_lab.priors.classifier`) of a prior to which all
images are as likely,

.. math::
    p(x \mid y) \propto \exp(s \cos(C(x), C(y))), \qquad
    \hat\epsilon(x_t; y) = -s \, b \nabla_{x_t} \cos(C(x_t / a), C(y))

with C the unit features of CLIP. Particles are pixels. CLIP knows clean images, so that one noise
level serves all timesteps: a little of it, which blurs the gradient over an image's neighbourhood
as the random crops of Dream Fields do.

SDS then follows the gradient of the similarity and a random walk of the noise that it subtracts.
DDS, whose source has the null text and so the estimate 0, follows the gradient alone.
"""

from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from csd_lab.distill.schedules import VariancePreserving
from csd_lab.priors.base import Batch, Prior
from csd_lab.priors.classifier import Classifier, ClassifierGuidance
from csd_lab.priors.schedules import scheduler_config

TIMESTEPS = 1000
"""All of one noise level."""


class ImageTextEncoder(Protocol):
    """Maps images and texts to unit vectors of one space."""

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> unit features (B, E), differentiable."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """B texts -> unit features (B, E)."""


@final
class ClipClassifier(Classifier):
    """How similar CLIP finds images and texts.

    Args:
        encoder: a frozen CLIP.
        schedule: noise levels of the images.
    """

    def __init__(self, encoder: ImageTextEncoder, schedule: VariancePreserving) -> None:
        super().__init__()
        self.encoder = encoder
        self.schedule = schedule
        self._texts: dict[str, Tensor] = {}

    def log_prob(self, x_t: Tensor, texts: tuple[str, ...], t: Tensor) -> Tensor:
        """The cosine of C(x_t / a) and C(y), in [-1, 1], (B,)."""
        images = self.encoder.features((x_t / self.schedule.alpha(t)).clamp(0, 1))
        return (images * torch.stack([self._text(text) for text in texts]).to(images)).sum(1)

    def _text(self, text: str) -> Tensor:
        """C(y), (E,), computed once."""
        if text not in self._texts:
            with torch.no_grad():
                self._texts[text] = self.encoder.encode_texts([text])[0]
        return self._texts[text]


@final
class AnyImage(Prior):
    """To which all images are as likely: the noise that it expects is 0. Particles are pixels.

    Args:
        schedule: noise levels.
        max_batch: samples that are evaluated together at most.
    """

    def __init__(self, schedule: VariancePreserving, max_batch: int = 64) -> None:
        super().__init__(
            schedule=schedule,
            scheduler_config=scheduler_config(schedule),
            latent_channels=3,
            latent_scale=1,
            size_multiple=1,
            max_batch=max_batch,
        )
        self.freeze()

    def encode(
        self,
        images: Tensor,
        noise: Tensor | None = None,  # noqa: ARG002
        wrap: bool = False,  # noqa: ARG002
    ) -> Tensor:
        """The images themselves."""
        return images

    def decode(self, latents: Tensor, wrap: bool = False) -> Tensor:  # noqa: ARG002
        """The pixels themselves, bounded as images are."""
        return latents.clamp(0, 1)

    def condition(self, images: Tensor, wrap: bool = False) -> None:
        """None: images say nothing of others here."""

    def _embed(self, text: str) -> Tensor:  # noqa: ARG002
        return torch.zeros(())

    def _noise(self, batch: Batch, t: Tensor) -> Tensor:  # noqa: ARG002
        return torch.zeros_like(batch.x_t)


def clip_score(
    encoder: ImageTextEncoder,
    scale: float = 3000.0,
    noise: float = 0.05,
    max_batch: int = 64,
) -> ClassifierGuidance:
    """A prior of images that CLIP finds similar to a caption.

    Args:
        encoder: a frozen CLIP, which goes where the prior goes if it is a module.
        scale: s, finite.
        noise: b, in (0, 1), in units of the pixels.
        max_batch: images that are evaluated together at most.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 < noise < 1:
        raise ValueError(f"noise must be between 0 and 1, both excluded, got {noise}")
    kept = torch.full((TIMESTEPS,), 1 - noise**2, dtype=torch.float64)
    schedule = VariancePreserving(kept)
    classifier = ClipClassifier(encoder, schedule)
    return ClassifierGuidance(AnyImage(schedule, max_batch), classifier, scale)
