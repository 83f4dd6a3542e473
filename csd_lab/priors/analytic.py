r"""A Gaussian mixture as a prior: exact noise predictions at every noise level, no network.

The mixture p(x) = sum_k w_k N(x; m_k, S_k), noised to x_t = a_t x + b_t e, stays a mixture,

.. math::
    p_t(x_t) = \sum_k w_k \, N(x_t; a_t m_k, a_t^2 S_k + b_t^2 I), \qquad
    \epsilon(x_t) = -b_t \nabla \log p_t(x_t)

so that guidance, distillation and sampling can be compared with exact answers.

A text selects the weights w. An image condition s is a noisy observation of the particle,
s = x + tau n with n ~ N(0, I), and the conditional p(x | s) is again a mixture:

.. math::
    w_k \to w_k N(s; m_k, S_k + \tau^2 I), \quad
    m_k \to m_k + S_k (S_k + \tau^2 I)^{-1} (s - m_k), \quad
    S_k \to \tau^2 S_k (S_k + \tau^2 I)^{-1}

Each component is treated in the eigenbasis of its covariance, where all of these are diagonal.
"""

from collections.abc import Mapping, Sequence
from math import inf, log, pi
from typing import NamedTuple, final

import torch
from torch import Tensor

from csd_lab.checks import check_positive
from csd_lab.distill.schedules import VariancePreserving
from csd_lab.priors.base import Batch, Prior
from csd_lab.priors.schedules import scheduler_config
from csd_lab.types import Text

Weights = Tensor | Sequence[float]


class Components(NamedTuple):
    """The mixture that each of B samples sees, each component in its own eigenbasis.

    Attributes:
        log_weights: (B, K), up to a constant.
        means: (B, K, D).
        variances: (B, K, D).
    """

    log_weights: Tensor
    means: Tensor
    variances: Tensor

    def diffused(self, alpha: Tensor, sigma: Tensor) -> "Components":
        """The mixture of alpha x + sigma e."""
        return Components(
            self.log_weights, alpha * self.means, alpha**2 * self.variances + sigma**2
        )

    def observed(self, z: Tensor, noise: float) -> "Components":
        """The mixture given an observation with Gaussian noise, z, (B, K, D)."""
        total = self.variances + noise**2
        square = (z - self.means) ** 2 / total + total.log()
        gain = self.variances / total
        return Components(
            self.log_weights - square.sum(-1) / 2,
            self.means + gain * (z - self.means),
            gain * noise**2,
        )

    def log_joint(self, z: Tensor) -> Tensor:
        """The logarithms of w_k N(z), weights normalised, for z, (B, K, D): (B, K)."""
        square = (z - self.means) ** 2 / self.variances + self.variances.log() + log(2 * pi)
        return self.log_weights.log_softmax(-1) - square.sum(-1) / 2


@final
class GaussianMixture(Prior):
    """A mixture of K Gaussians over particles of a shape, mostly (C, h, w).

    Images, latents and image conditions are one and the same: encoding changes nothing, and
    decoding cuts what lies outside [0, 1].

    Args:
        means: m_k, (K, *shape); their type and device are the mixture's.
        schedule: noise levels.
        scales: standard deviations, > 0: a number, (K,), or (K, *shape).
        covariances: S_k in place of scales, (K, D, D), positive definite, D the size of shape.
        weights: w_k, (K,), >= 0, relative; None for equal ones.
        prompts: weights, (K,), by text; a text that is not among them is refused, but for "",
            which stands for ``weights`` unless it is given. None: every text stands for
            ``weights``.
        image_noise: tau, > 0; None for a prior without an image condition.
        max_batch: samples that are evaluated together at most.

    Raises:
        ValueError: an argument is out of range, or of a wrong shape.
    """

    means: Tensor
    variances: Tensor
    basis: Tensor | None

    def __init__(
        self,
        means: Tensor,
        schedule: VariancePreserving,
        *,
        scales: Tensor | float | None = None,
        covariances: Tensor | None = None,
        weights: Weights | None = None,
        prompts: Mapping[str, Weights] | None = None,
        image_noise: float | None = None,
        max_batch: int = 1024,
    ) -> None:
        if means.ndim < 2 or not means.is_floating_point():
            raise ValueError(
                "means must be a floating-point tensor of shape (K, *shape), "
                f"got {tuple(means.shape)} of {means.dtype}"
            )
        if image_noise is not None:
            check_positive("image_noise", image_noise)
        super().__init__(
            schedule=schedule,
            scheduler_config=scheduler_config(schedule),
            latent_channels=means.shape[1],
            latent_scale=1,
            size_multiple=1,
            max_batch=max_batch,
            native_size=(means.shape[2], means.shape[3]) if means.ndim == 4 else None,
        )
        self.shape = tuple(means.shape[1:])
        self.image_noise = image_noise
        self.takes_image = image_noise is not None
        variances, basis = _spread(means, scales, covariances)
        centres = means.flatten(1)
        if basis is not None:
            centres = torch.einsum("kd,kde->ke", centres, basis)
        self.register_buffer("means", centres)
        self.register_buffer("variances", variances)
        self.register_buffer("basis", basis)
        default = torch.ones(len(means)) if weights is None else weights
        self._weights = {"": _log_weights("weights", default, means)}
        for text, given in ({} if prompts is None else prompts).items():
            self._weights[text] = _log_weights(f"prompts[{text!r}]", given, means)
        self._any_text = prompts is None
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
        """The latents themselves, bounded as images are."""
        return latents.clamp(0, 1)

    def condition(self, images: Tensor, wrap: bool = False) -> Tensor | None:  # noqa: ARG002
        """The images themselves; None without ``image_noise``."""
        return None if self.image_noise is None else images.detach()

    def log_prob(
        self, x: Tensor, t: Tensor | None = None, text: Text = "", image: Tensor | None = None
    ) -> Tensor:
        """Log density of the noised mixture, differentiable.

        Args:
            x: particles, (N, *shape).
            t: timestep, (); None for the mixture without noise.
            text: selects the weights.
            image: observation s of each particle, (N, *shape); None for none.

        Returns:
            (N,).
        """
        components = self._components(x, text, image).diffused(*self._levels(t))
        return components.log_joint(self._rotate(x)).logsumexp(-1)

    def score(
        self, x: Tensor, t: Tensor | None = None, text: Text = "", image: Tensor | None = None
    ) -> Tensor:
        """Gradient of ``log_prob`` with respect to x, in closed form: (N, *shape)."""
        components = self._components(x, text, image).diffused(*self._levels(t))
        return self._score(x, components)

    def sample(
        self, count: int, text: str = "", generator: torch.Generator | None = None
    ) -> Tensor:
        """Samples of the mixture without noise, (count, *shape)."""
        weights = self.embed(text)[0].softmax(-1).cpu()
        device, dtype = self.means.device, self.means.dtype
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator).to(device)
        noise = torch.randn(count, self.means.shape[1], generator=generator, dtype=dtype).to(device)
        z = self.means[chosen] + self.variances[chosen].sqrt() * noise
        x = z if self.basis is None else torch.einsum("nd,ned->ne", z, self.basis[chosen])
        return x.unflatten(1, self.shape)

    def _embed(self, text: str) -> Tensor:
        if text in self._weights:
            return self._weights[text]
        if self._any_text:
            return self._weights[""]
        known = ", ".join(repr(each) for each in self._weights)
        raise ValueError(f"text must be one of the mixture's prompts, {known}, got {text!r}")

    def _noise(self, batch: Batch, t: Tensor) -> Tensor:
        components = self._mixture(batch.text, batch.image, batch.has_image)
        alpha, sigma = self._levels(t)
        return -sigma * self._score(batch.x_t, components.diffused(alpha, sigma))

    def _levels(self, t: Tensor | None) -> tuple[Tensor, Tensor]:
        """a_t and b_t; 1 and 0 without a timestep."""
        if t is None:
            return torch.tensor(1.0), torch.tensor(0.0)
        return self.schedule.alpha(t), self.schedule.sigma(t)

    def _components(self, x: Tensor, text: Text, image: Tensor | None) -> Components:
        has_image = torch.full((len(x),), image is not None, device=x.device)
        return self._mixture(self.embed(text).to(x.device), image, has_image)

    def _mixture(self, log_weights: Tensor, image: Tensor | None, has_image: Tensor) -> Components:
        """The mixture without noise that each sample sees, given its image condition."""
        count = len(has_image)
        means = self.means.expand(count, -1, -1)
        variances = self.variances.expand(count, -1, -1)
        prior = Components(log_weights.expand(count, -1), means, variances)
        if image is None:
            return prior
        if self.image_noise is None:
            raise ValueError("this mixture takes no image condition: give it image_noise")
        return _where(has_image, prior.observed(self._rotate(image), self.image_noise), prior)

    def _score(self, x: Tensor, components: Components) -> Tensor:
        z = self._rotate(x)
        share = components.log_joint(z).softmax(-1)
        pull = share[..., None] * (components.means - z) / components.variances
        if self.basis is None:
            return pull.sum(1).unflatten(1, self.shape)
        return torch.einsum("nkd,ked->ne", pull, self.basis).unflatten(1, self.shape)

    def _rotate(self, x: Tensor) -> Tensor:
        """Samples (N, *shape) in the eigenbasis of each component, (N, K, D)."""
        flat = x.flatten(1)
        if self.basis is None:
            return flat[:, None].expand(-1, len(self.means), -1)
        return torch.einsum("ne,ked->nkd", flat.to(self.basis.dtype), self.basis)


def _where(mask: Tensor, yes: Components, no: Components) -> Components:
    """Rows of ``yes`` where the mask, (B,), is true, else rows of ``no``."""
    return Components(
        torch.where(mask[:, None], yes.log_weights, no.log_weights),
        torch.where(mask[:, None, None], yes.means, no.means),
        torch.where(mask[:, None, None], yes.variances, no.variances),
    )


def _log_weights(name: str, weights: Weights, means: Tensor) -> Tensor:
    """Logarithms of relative weights, (K,)."""
    given = torch.as_tensor(weights, dtype=means.dtype, device=means.device)
    if given.shape != means.shape[:1] or not (given >= 0).all() or not 0 < given.sum() < inf:
        raise ValueError(
            f"{name} must be {len(means)} numbers >= 0, not all 0, got {given.tolist()}"
        )
    return given.log().log_softmax(-1)


def _spread(
    means: Tensor, scales: Tensor | float | None, covariances: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Variances along each component's axes, (K, D), and those axes, the columns of (K, D, D).

    The axes are None where they are the coordinates.
    """
    k, d = means.flatten(1).shape
    if (scales is None) == (covariances is None):
        raise ValueError("one of scales and covariances must be given, and only one")
    if covariances is not None:
        if covariances.shape != (k, d, d):
            raise ValueError(f"covariances must be ({k}, {d}, {d}), got {tuple(covariances.shape)}")
        variances, basis = torch.linalg.eigh(covariances.to(means))
        if not (variances > 0).all():
            raise ValueError("covariances must be positive definite")
        return variances, basis
    given = torch.as_tensor(scales, dtype=means.dtype, device=means.device)
    if given.ndim == 1:
        given = given.reshape(-1, *[1] * (means.ndim - 1))
    if given.shape not in ((), (k, *[1] * (means.ndim - 1)), means.shape) or not (given > 0).all():
        raise ValueError(f"scales must be above 0, and a number, ({k},) or {tuple(means.shape)}")
    return given.square().expand(means.shape).flatten(1).contiguous(), None
