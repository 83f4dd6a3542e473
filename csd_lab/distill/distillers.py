"""Score distillation, alone and collaborative: from residuals to gradients of the particles.

Score distillation takes each residual delta_i (see ``residuals``) by itself. Collaborative score
distillation (Kim et al. 2023, arXiv 2307.04787) is SVGD on the noisy particles: it mixes the
residuals by a kernel, and subtracts the kernel's repulsion.

    gradient_i = w(t) delta_i
    gradient_i = w(t)/N [ sum_j k(x_t^j, x_t^i) delta_j - sum_j grad_{x_t^j} k(x_t^j, x_t^i) ]

The kernel may compare something else that tells of the particles (see ``perceptual``).

    residual          by itself                     collaborative
    against noise     SDS (arXiv 2209.14988)        CSD
    against source    DDS (arXiv 2304.07090)        CSD-Edit

The gradient is meant for x_i, in the DEscent sense: an optimiser subtracts it. The network's
Jacobian is left out, as in all of these papers: the network is evaluated, never differentiated,
and ``surrogate_loss`` carries the gradient on through x_i = g(theta, i).
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple, final, get_args

import torch
from torch import Tensor

from csd_lab.checks import check_choice, check_finite
from csd_lab.distill.guidance import NoisePredictor
from csd_lab.distill.kernels import (
    Kernel,
    KernelOutput,
    at_least_float32,
    effective_neighbours,
    mean_affinity,
)
from csd_lab.distill.learners import Learner
from csd_lab.distill.perceptual import Appearance, ImageEmbedding, merged
from csd_lab.distill.residuals import Particles, Residual, ResidualRule
from csd_lab.distill.schedules import NoiseSchedule, Weight
from csd_lab.distill.svgd import Normalize, SteinDirection, shared_scores, stein_direction
from csd_lab.types import Blend, Conditioning

RepulsionScale = Literal["paper", "sigma"]
KernelSpace = Literal["noisy", "clean", "perceptual"]


class Distillation(NamedTuple):
    """The outcome of a step.

    Attributes:
        gradient: to be subtracted from the particles, (N, C, h, w), in their dtype.
        scalars: diagnostics by name, each (). Norms are Euclidean, of a particle's part of the
            gradient, averaged over the particles.
        kernel: what the kernel gave; None without a kernel.
    """

    gradient: Tensor
    scalars: dict[str, Tensor]
    kernel: KernelOutput | None


class Distiller(ABC):
    """Turns particles into gradients, in three phases. Calling the distiller does all of them.

    ``residual`` evaluates the network: each process for its own particles. ``pull_back``, which
    few methods have, takes a repulsion of features back to latents, by a product with the Jacobian
    of what makes them: each process for its own particles, with the residuals of all. ``combine``
    is cheap, and each process does it for all particles.

    A subclass evaluates the network in ``evaluate``, and makes gradients of it in ``combine``.

    Attributes:
        couples: whether particles look at each other within the network, so that one process must
            evaluate all of them; else each evaluates its share.
    """

    couples: ClassVar[bool] = False

    @property
    def done(self) -> bool:
        """Whether the particles hold clean latents now."""
        return True

    def start(self, source: Tensor, noise: Tensor, conditioning: Conditioning) -> Tensor:  # noqa: ARG002
        """Where the particles begin, for all of them; forgets whatever was done before.

        Args:
            source: clean latents of the images, (F, C, H, W).
            noise: standard normal, (F, C, H, W).
            conditioning: of the images; its texts are those of the first prompt.

        Returns:
            (F, C, H, W): the source, unless a method begins elsewhere.
        """
        return source

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on, besides the particles: tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Go on from a state, after ``start``."""

    @abstractmethod
    def evaluate(self, prior: NoisePredictor, particles: Particles) -> Residual:
        """The residual of particles that were looked at."""

    def learner(self, prior: Any) -> Learner | None:  # noqa: ARG002
        """What is to be trained on the particles of this prior; None where nothing is."""
        return None

    @final
    @torch.no_grad()
    def residual(
        self,
        prior: NoisePredictor,
        x: Tensor,
        source: Tensor | None,
        conditioning: Conditioning,
        noise: Tensor,
        t: Tensor,
    ) -> Residual:
        """Evaluates the network, without gradients.

        Args:
            prior: predicts noise.
            x: particles, (N, C, h, w), in the prior's latent units; may require grad.
            source: source particles, (N, C, h, w); None where the residual needs none.
            conditioning: texts and image condition.
            noise: e, (N, C, h, w), standard normal.
            t: timestep, () of int64.

        Returns:
            The residual of these particles.

        Raises:
            ValueError: shapes or the number of texts do not fit x, or a needed source is missing.
        """
        particles = Particles(x, source, conditioning, noise, t)
        _check(particles)
        return self.evaluate(prior, particles)

    def pull_back(
        self,
        prior: Any,  # noqa: ARG002
        x: Tensor,  # noqa: ARG002
        residual: Residual,  # noqa: ARG002
        first: int = 0,  # noqa: ARG002
    ) -> Tensor | None:
        """The ``repulsion`` of some particles' residuals, without gradients of its own.

        Args:
            prior: the one that was evaluated.
            x: some particles, (n, C, h, w), as they were given to ``residual``; n may be 0.
            residual: of all particles of the step.
            first: the row of the first of x among them; the others follow.

        Returns:
            (n, C, h, w); None where ``combine`` has no need of it, the same for all of a step.
        """
        return None

    @abstractmethod
    def combine(self, residual: Residual, schedule: NoiseSchedule, t: Tensor) -> Distillation:
        """The gradient of all particles, without gradients of its own.

        Args:
            residual: of all particles of the step.
            schedule: of the prior.
            t: timestep, () of int64.
        """

    @final
    def __call__(
        self,
        prior: NoisePredictor,
        x: Tensor,
        source: Tensor | None,
        conditioning: Conditioning,
        noise: Tensor,
        t: Tensor,
    ) -> Distillation:
        """All phases, for particles of which one process has all; see ``residual``."""
        residual = self.residual(prior, x, source, conditioning, noise, t)
        residual = residual._replace(repulsion=self.pull_back(prior, x, residual))
        return self.combine(residual, prior.schedule, t)


class WeightedDistiller(Distiller, ABC):
    """A distiller whose residual follows a rule, and whose gradient has a weight.

    Args:
        residual: guided prediction less a baseline.
        weight: w(t).
    """

    def __init__(self, residual: ResidualRule, weight: Weight) -> None:
        self.rule = residual
        self.weight = weight

    @final
    def learner(self, prior: Any) -> Learner | None:
        """What the rule has trained."""
        return self.rule.learner(prior)


@final
class ScoreDistillation(WeightedDistiller):
    """gradient_i = w(t) delta_i: each particle by itself.

    SDS with a ``NoiseResidual``, DDS with a ``SourceResidual``.

    Args:
        residual: guided prediction less a baseline.
        weight: w(t).
    """

    def evaluate(self, prior: NoisePredictor, particles: Particles) -> Residual:
        """What the rule says."""
        return self.rule(prior, particles)

    @torch.no_grad()
    def combine(self, residual: Residual, schedule: NoiseSchedule, t: Tensor) -> Distillation:
        """The gradient of all particles; arguments as in ``Distiller``."""
        gradient = self.weight(schedule, t) * residual.delta
        scalars = {"gradient_norm": mean_norm(gradient)}
        return Distillation(gradient.to(residual.x_t.dtype), scalars, None)


@final
class CollaborativeScoreDistillation(WeightedDistiller):
    """SVGD on the noisy particles, their residuals in the place of scores.

    CSD with a ``NoiseResidual``, CSD-Edit with a ``SourceResidual``. One particle gives
    ``ScoreDistillation``, the identity kernel gives it over N.

    Args:
        residual: guided prediction less a baseline.
        kernel: compares the particles.
        weight: w(t).
        normalize: ``n`` divides by N (the paper); ``row`` by sum_j k(x_t^j, x_t^i), so that the
            step does not shrink with N and one learning rate serves any N.
        repulsion: factor of the repulsion; 1 in the paper, 0 for none.
        repulsion_scale: ``paper`` leaves the repulsion as it is; ``sigma`` multiplies it by b_t,
            as delta ~ -b_t score asks for.
        kernel_space: ``noisy`` compares x_t (the paper). ``clean`` compares the predicted x_0,
            which do not hold the independent noise that dominates distances at large t; the
            repulsion is then that between the x_0, the network's Jacobian left out.
            ``perceptual`` compares the decoded particles by ``distance`` (see ``perceptual``).
        distance: of images, for the kernel space ``perceptual``; None with the others. It goes
            where the particles are.
    """

    def __init__(
        self,
        residual: ResidualRule,
        kernel: Kernel,
        weight: Weight,
        normalize: Normalize = "n",
        repulsion: float = 1.0,
        repulsion_scale: RepulsionScale = "paper",
        kernel_space: KernelSpace = "noisy",
        distance: ImageEmbedding | None = None,
    ) -> None:
        super().__init__(residual, weight)
        check_choice("normalize", normalize, get_args(Normalize))
        check_finite("repulsion", repulsion)
        check_choice("repulsion_scale", repulsion_scale, get_args(RepulsionScale))
        check_choice("kernel_space", kernel_space, get_args(KernelSpace))
        _check_distance(kernel_space, distance)
        self.kernel = kernel
        self.normalize: Normalize = normalize
        self.repulsion = repulsion
        self.repulsion_scale = repulsion_scale
        self.kernel_space = kernel_space
        self.appearance = None if distance is None else Appearance(distance)

    def evaluate(self, prior: NoisePredictor, particles: Particles) -> Residual:
        """What the rule says, and the features that the kernel is to compare, if it does."""
        residual = self.rule(prior, particles)
        if self.appearance is None:
            return residual
        return residual._replace(features=self.appearance.features(prior, particles.x))

    @torch.no_grad()
    def pull_back(self, prior: Any, x: Tensor, residual: Residual, first: int = 0) -> Tensor | None:
        """The features' repulsion as one of the particles; arguments as in ``Distiller``."""
        if self.appearance is None or self.repulsion == 0:
            return None
        assert residual.features is not None  # ``evaluate`` has seen to it
        rows = self.kernel(merged(residual.features)).repulsion
        if not rows.any():
            return None
        return self.appearance.pull_back(prior, x, rows[first : first + len(x)])

    def _direction(self, residual: Residual) -> SteinDirection:
        """The direction of SVGD."""
        score = -residual.delta.flatten(1)
        if residual.features is None:
            points = residual.x_0 if self.kernel_space == "clean" else residual.x_t
            return stein_direction(points.flatten(1), score, self.kernel, self.normalize)
        pushed = residual.repulsion
        repulsion = torch.zeros_like(score) if pushed is None else pushed.flatten(1)
        output = self.kernel(merged(residual.features))._replace(repulsion=repulsion)
        return shared_scores(output, score, self.normalize)

    @torch.no_grad()
    def combine(self, residual: Residual, schedule: NoiseSchedule, t: Tensor) -> Distillation:
        """The gradient of all particles; arguments as in ``Distiller``."""
        direction = self._direction(residual)
        # The sign flips here, and nowhere else: SVGD's direction is to be added, a gradient is
        # subtracted. So the gradient holds +K delta and MINUS the repulsion, and a step moves
        # particles down their residuals and away from one another.
        weight = -self.weight(schedule, t)
        scale = schedule.sigma(t) if self.repulsion_scale == "sigma" else 1.0
        attraction = weight * direction.attraction
        repulsion = weight * self.repulsion * scale * direction.repulsion
        gradient = attraction + repulsion
        scalars = {
            "gradient_norm": mean_norm(gradient),
            "attraction_norm": mean_norm(attraction),
            "repulsion_norm": mean_norm(repulsion),
            "bandwidth": direction.kernel.bandwidth,
            "effective_neighbours": effective_neighbours(direction.kernel.matrix),
            "mean_affinity": mean_affinity(direction.kernel.matrix),
        }
        gradient = gradient.view_as(residual.delta).to(residual.x_t.dtype)
        return Distillation(gradient, scalars, direction.kernel)


def surrogate_loss(x: Tensor, gradient: Tensor) -> Tensor:
    """A scalar whose gradient with respect to x is exactly ``gradient``.

    Its value means nothing: log the norm of the gradient instead.

    Args:
        x: particles, (N, C, h, w), a differentiable function of what is optimised.
        gradient: wanted, of the same shape; taken as a constant.

    Returns:
        <x, gradient>, ().

    Raises:
        ValueError: the shapes differ.
    """
    if x.shape != gradient.shape:
        raise ValueError(
            f"gradient must have the shape of x, {tuple(x.shape)}, got {tuple(gradient.shape)}"
        )
    return (at_least_float32(x) * gradient.detach()).sum()


def mean_norm(part: Tensor) -> Tensor:
    """Euclidean norm of each particle's part, (N, *), averaged over the particles: ()."""
    return torch.linalg.vector_norm(part.flatten(1), dim=1).mean()


def _check_distance(space: KernelSpace, distance: ImageEmbedding | None) -> None:
    if space == "perceptual" and distance is None:
        raise ValueError(
            "distance must be a perceptual distance with kernel_space='perceptual', got None: "
            "choose one, such as with distance=lpips"
        )
    if space != "perceptual" and distance is not None:
        raise ValueError(
            f"distance must be None with kernel_space={space!r}, which compares latents, got "
            f"{type(distance).__name__}: choose kernel_space='perceptual', or no distance"
        )


def _check(particles: Particles) -> None:
    x, source, conditioning, noise, _ = particles
    if x.ndim != 4:
        raise ValueError(f"x must be (N, C, h, w), got {tuple(x.shape)}")
    for name, other in {"source": source, "noise": noise}.items():
        if other is not None and other.shape != x.shape:
            raise ValueError(
                f"{name} must have the shape of x, {tuple(x.shape)}, got {tuple(other.shape)}"
            )
    image = conditioning.image
    if image is not None and (len(image), image.shape[2:]) != (len(x), x.shape[2:]):
        raise ValueError(
            "conditioning.image must have one image a particle, of the same height and width as "
            f"x, {tuple(x.shape)}, got {tuple(image.shape)}"
        )
    for name in ("prompt", "source_prompt", "negative_prompt"):
        text = getattr(conditioning, name)
        if isinstance(text, Blend):
            _check_blend(text, len(x))
        elif not isinstance(text, str) and len(text) != len(x):
            raise ValueError(
                f"conditioning.{name} must be one string for all particles, or a tuple with one "
                f"for each of the {len(x)}, got {len(text)}"
            )


def _check_blend(blend: Blend, particles: int) -> None:
    shape, wanted = tuple(blend.weights.shape), (particles, len(blend.texts))
    if shape != wanted:
        raise ValueError(f"conditioning.prompt must have weights of shape {wanted}, got {shape}")
    shares = blend.weights.sum(dim=1)
    if (blend.weights < 0).any() or not torch.allclose(shares, torch.ones_like(shares), atol=1e-4):
        raise ValueError(
            "conditioning.prompt must have weights >= 0 that add up to 1 for each particle, got "
            f"sums from {float(shares.min()):g} to {float(shares.max()):g}"
        )
