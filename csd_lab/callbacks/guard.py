"""Stops a run when its gradient is no longer finite, before it spoils the particles."""

from typing import final

import pytorch_lightning as pl
from torch import Tensor

from csd_lab.particles import ParticleModule, SceneParticles


class NonFiniteGradientError(ValueError):
    """The distilled gradient holds a NaN or an infinity."""


@final
class NonFiniteGuard(pl.Callback):
    """Raises before the update of a step whose gradient of particles is not finite, or whose loss.

    The parameters are then those of the last good step, and can be saved. All ranks raise in the
    same step: each looks at what was gathered of all particles.

    Raises:
        NonFiniteGradientError: names the step, the particles and t.
    """

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Look at all particles; at the loss where there are none."""
        if isinstance(pl_module, ParticleModule):
            _check_particles(pl_module)  # whose loss carries a gradient, and may be of any size
        elif not bool(loss.isfinite()):
            raise NonFiniteGradientError(
                f"The loss of step {trainer.global_step} is not finite. It would be so again from "
                "the checkpoint; start anew with a smaller optimizer.optimizer.lr."
            )


def _check_particles(module: ParticleModule) -> None:
    """Look at each particle's own residual first, since a kernel spreads a NaN to all.

    Raises:
        NonFiniteGradientError: names the step, the particles and t.
    """
    step = module.latest
    finite = _finite(step.residual.delta) & _finite(step.residual.x_t)
    if finite.all():
        finite = _finite(step.distillation.gradient)
    if not finite.all():
        straight = isinstance(module, SceneParticles)
        rate = "modality.scene_optimizer.lr" if straight else "optimizer.optimizer.lr"
        raise NonFiniteGradientError(
            f"The gradient of step {step.number} is not finite for particle "
            f"{_listed(step.ids, finite)} (t = {int(step.timestep)}). It would be so again "
            f"from the checkpoint; start anew with a smaller {rate} or guidance.text."
        )
    if step.errors is not None and not step.errors.isfinite().all():
        raise NonFiniteGradientError(
            f"What learns from the particles has an error that is not finite in step "
            f"{step.number}, for particle {_listed(step.ids, step.errors.isfinite())}. It "
            "would be so again from the checkpoint; start anew with a smaller learning_rate "
            "of the learner."
        )


def _listed(ids: Tensor, finite: Tensor) -> str:
    """Names of the particles that are not."""
    return ", ".join(str(i) for i in ids[~finite].tolist())


def _finite(tensor: Tensor) -> Tensor:
    """Whether each particle's part of (N, C, h, w) is finite, (N,)."""
    return tensor.flatten(1).isfinite().all(dim=1)
