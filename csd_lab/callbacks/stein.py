"""How far the particles are from an analytic prior, while they move."""

from typing import Any, final

import pytorch_lightning as pl

from csd_lab.callbacks.every import check_every, is_turn
from csd_lab.callbacks.result import known
from csd_lab.distill import Radial, kernelized_stein_discrepancy
from csd_lab.particles import ParticleModule
from csd_lab.priors import GaussianMixture
from csd_lab.types import Blend


@final
class SteinDiscrepancy(pl.Callback):
    """Logs ``ksd``, the squared kernelized Stein discrepancy (V-statistic), each ``every`` steps.

    Args:
        kernel: a radial kernel; with a fixed bandwidth the values compare along the run.
        every: steps between two values.

    Raises:
        ValueError: if ``every`` is not positive.
        TypeError: when training starts, if the prior has no exact score.
    """

    def __init__(self, kernel: Radial, every: int = 1) -> None:
        check_every(every)
        self.kernel = kernel
        self.every = every

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse priors whose density is unknown."""
        del trainer
        prior = known(pl_module, ParticleModule).prior
        if not isinstance(prior, GaussianMixture):
            raise TypeError(
                f"the Stein discrepancy needs a prior with an exact score, such as prior=colours, "
                f"got {type(prior).__name__}."
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        """Log the discrepancy of the particles of this step."""
        del args
        module = known(pl_module, ParticleModule)
        prior = module.prior
        if not is_turn(trainer.global_step, self.every) or not isinstance(prior, GaussianMixture):
            return
        x = module.render(module.latest.ids).detach()
        prompt = module.conditioning(module.latest.ids).prompt
        if isinstance(prompt, Blend):
            raise TypeError("the Stein discrepancy needs one prompt a particle, got a blend.")
        score = prior.score(x, text=prompt)
        value = kernelized_stein_discrepancy(x.flatten(1), score.flatten(1), self.kernel, "v")
        module.log("ksd", value)
