r"""What every modality shares: particles, noised together, moved by a distilled gradient.

One step of every method of this package, with theta the module's parameters:

.. math::
    x_i = g(\theta, i), \qquad
    \theta \leftarrow \theta - \mathrm{lr} \sum_i \nabla_i \frac{\partial x_i}{\partial \theta}

where the distiller gives :math:`\nabla_i` (N x C x h x w) from one timestep t, shared by all
particles, and noise that depends on the seed, the step and the particle's id alone. The layout of
batches, ranks and processes therefore never changes a result, and a resumed run equals an
uninterrupted one.

On R ranks, all of which see the same ids, rank r has the share :math:`S_r` of the N particles (the
shares partition them, differ by one at most, and may be empty). It renders them and evaluates the
network for them alone; then every rank gathers the residuals of all, and computes the same

.. math::
    (\nabla_1, \dots, \nabla_N) = \mathrm{combine}(\delta_1, \dots, \delta_N;\, x_t^1, \dots, x_t^N)

which takes what a kernel takes, not what a network does. A gradient is a constant, so it needs no
path between ranks, and the sum over particles is one over ranks:

.. math::
    \sum_i \nabla_i \frac{\partial x_i}{\partial \theta}
    = \sum_r \frac{\partial}{\partial \theta} \sum_{i \in S_r} \langle x_i, \nabla_i \rangle

whatever the particles share of theta. A sampler that couples particles within the network
(:mod:`csd_lab.distill.sampling`) is evaluated by every rank for all of them instead.
DistributedDataParallel takes the sum, told to leave out its mean:
a mean times R would be rounded twice, while a sum with zeros is exact. What a network rounds
differently in batches of another size is then all that tells several processes from one.
A modality need not know about ranks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any, NamedTuple, final

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from csd_lab.distill import (
    Distillation,
    Distiller,
    Residual,
    Sampler,
    TimestepSampler,
    particle_noise,
    surrogate_loss,
)
from csd_lab.distill.noise import NoiseMode
from csd_lab.priors import Prior
from csd_lab.types import Conditioning

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


class Step(NamedTuple):
    """What the latest training step did, for the callbacks.

    On several ranks this is the same on all of them: it is of all particles of the step.

    Attributes:
        number: of the step, from 0.
        ids: ids of its particles, (N,).
        timestep: t, shape ().
        residual: what the network gave for each particle.
        distillation: gradient, scalars and kernel.
    """

    number: int
    ids: Tensor
    timestep: Tensor
    residual: Residual
    distillation: Distillation


class ParticleModule(pl.LightningModule, ABC):
    """A set of particles under a frozen prior.

    A modality supplies the map from its parameters to particles (:meth:`render`), the source and
    the conditions of each (:meth:`source`, :meth:`conditioning`) and the result (:meth:`export`).

    Args:
        prior: frozen model that predicts noise.
        distiller: turns noise predictions into a gradient on particles.
        timesteps: draws t from (seed, step); None for a sampler, which has its own.
        optimizer: makes the optimiser from the parameters.
        scheduler: makes the learning-rate schedule, stepped once a step; None: constant.
        noise: ``independent`` for each particle, or ``shared`` by all.
        seed: of timesteps and noise.

    Raises:
        ValueError: if an argument is out of range, or the prior is not one for the distiller.
    """

    def __init__(
        self,
        prior: Prior,
        distiller: Distiller,
        timesteps: TimestepSampler | None,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        noise: NoiseMode = "independent",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if noise not in ("independent", "shared"):
            raise ValueError(f"noise must be 'independent' or 'shared', got {noise!r}.")
        if isinstance(distiller, Sampler):
            distiller.bind(prior)
        elif timesteps is None:
            raise ValueError("timesteps must be given to a distiller, got None.")
        else:
            timesteps.check(prior.schedule)
        self.prior = prior
        self.distiller = distiller
        self.timesteps = timesteps
        self.noise: NoiseMode = noise
        self.seed = seed
        self.origin = 0  # the step from which randomness and annealing count
        self._latest: Step | None = None
        self.strict_loading = False  # the frozen prior is not part of a checkpoint
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._new: tuple[dict[str, Any], dict[str, Any]] = ({}, {})

    @abstractmethod
    def render(self, ids: Tensor) -> Tensor:
        """Particles with these ids as latents, (N, C, h, w), differentiable in the parameters."""

    @abstractmethod
    def source(self, ids: Tensor) -> Tensor:
        """Source latents of these particles, (N, C, h, w), without gradient."""

    @abstractmethod
    def conditioning(self, ids: Tensor) -> Conditioning:
        """What the prior is conditioned on for these particles."""

    @abstractmethod
    def export(self) -> Tensor:
        """The present result as images, (F, 3, H, W), in [0, 1]."""

    @abstractmethod
    def export_source(self) -> Tensor:
        """What :meth:`export` would give without any edit, (F, 3, H, W), in [0, 1]."""

    @final
    @property
    def latest(self) -> Step:
        """What the latest training step did.

        Raises:
            RuntimeError: if there was none yet.
        """
        if self._latest is None:
            raise RuntimeError("The module has made no step yet.")
        return self._latest

    @final
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Distil once for the particles ``batch`` (ids, (N,)); the loss carries the gradient."""
        del batch_idx
        step = self.global_step - self.origin
        shares = self._shares(batch)
        mine = shares[self.global_rank]
        x = self.render(mine) if len(mine) else self.render(batch[:1])[:0]  # ranks need a graph
        t = self._timestep(step)
        if isinstance(self.distiller, Sampler) and self.distiller.couples:
            residual = self._residual(batch, self.render(batch), step, t)
        else:
            own = self._residual(mine, x, step, t)
            residual = Residual(*(self._of_all(part, shares) for part in own))
        distillation = self.distiller.combine(residual, self.prior.schedule, t)
        self._latest = Step(self.global_step, batch, t, residual, distillation)
        # rows are named by their step, however a run goes on
        scalars: dict[str, Tensor | float] = {"step": float(self.global_step), "t": t.float()}
        self.log_dict({**scalars, **distillation.scalars}, batch_size=len(batch))
        own_gradient = distillation.gradient.split([len(ids) for ids in shares])[self.global_rank]
        return surrogate_loss(x, own_gradient)

    @final
    def on_fit_start(self) -> None:
        """Have ranks sum their gradients.

        Raises:
            ValueError: if there are several, under another strategy than ddp.
        """
        if self.trainer.world_size == 1:
            return
        model = self.trainer.strategy.model
        if not isinstance(model, DistributedDataParallel):
            raise ValueError(
                "trainer.strategy must be ddp on several devices, such as with trainer=ddp, got "
                f"{type(self.trainer.strategy).__name__}."
            )
        model.register_comm_hook(None, _sum_over_ranks)

    def _timestep(self, step: int) -> Tensor:
        """The timestep that all particles of a step share, ()."""
        if isinstance(self.distiller, Sampler):
            return self.distiller.timestep(step)
        assert self.timesteps is not None  # the constructor has seen to it
        return self.timesteps(self.seed, step)

    def _residual(self, ids: Tensor, x: Tensor, step: int, t: Tensor) -> Residual:
        """What the network says of the particles ``ids``, rendered as x, (N, C, h, w)."""
        noise = particle_noise(
            self.seed, step, ids, tuple(x.shape[1:]), self.noise, device=x.device, dtype=x.dtype
        )
        return self.distiller.residual(
            self.prior, x, self.source(ids), self.conditioning(ids), noise, t
        )

    def _shares(self, batch: Tensor) -> tuple[Tensor, ...]:
        """The ids of each rank's particles."""
        ranks = 1 if self._trainer is None else self._trainer.world_size
        return batch.tensor_split(ranks)

    def _of_all(self, part: Tensor, shares: tuple[Tensor, ...]) -> Tensor:
        """A part of the residual for all particles, (N, ...), from the rank's own, (n, ...)."""
        if len(shares) == 1:
            return part
        most = len(shares[0])  # no share is larger than the first
        padded = part.new_zeros(most, *part.shape[1:])
        padded[: len(part)] = part
        gathered = [torch.empty_like(padded) for _ in shares]
        dist.all_gather(gathered, padded)
        return torch.cat([rows[: len(ids)] for rows, ids in zip(gathered, shares, strict=True)])

    @final
    def configure_optimizers(self) -> Any:
        """Optimiser over what the modality declares trainable, and its schedule by steps.

        Raises:
            ValueError: if a sampler's steps are not to be taken as they are.
        """
        if isinstance(self.distiller, Sampler):
            check_unit_step(self._optimizer, self._scheduler)
        optimizer = self._optimizer([p for p in self.parameters() if p.requires_grad])
        if self._scheduler is None:
            self._new = (deepcopy(optimizer.state_dict()), {})
            return optimizer
        scheduler = self._scheduler(optimizer)
        self._new = (deepcopy(optimizer.state_dict()), deepcopy(scheduler.state_dict()))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    @final
    def renew_optimizer(self) -> None:
        """Give optimiser and learning rate the state back in which they were made."""
        optimizer, scheduler = deepcopy(self._new)
        self.trainer.optimizers[0].load_state_dict(optimizer)
        for config in self.trainer.lr_scheduler_configs:
            config.scheduler.load_state_dict(scheduler)

    @final
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the frozen prior out: it is named by the config and can be gigabytes."""
        state = checkpoint["state_dict"]
        for key in [key for key in state if key.startswith("prior.")]:
            del state[key]
        if isinstance(self.distiller, Sampler):
            checkpoint["sampler"] = self.distiller.state_dict()

    @final
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the sampler's state."""
        if isinstance(self.distiller, Sampler):
            self.distiller.load_state_dict(checkpoint["sampler"])


def check_unit_step(optimizer: OptimizerFactory, scheduler: SchedulerFactory | None) -> None:
    """Check that an optimiser's step is the gradient itself, and stays so.

    Raises:
        ValueError: if it is not.
    """
    parameter = nn.Parameter(torch.zeros(2))
    tried = optimizer([parameter])
    for _ in range(2):
        parameter.grad = torch.tensor([1.0, -2.0])
        tried.step()
    if scheduler is not None or parameter.tolist() != [-2.0, 4.0]:
        raise ValueError(
            "optimizer must be unit for a method that samples, whose steps are its own, got "
            f"{type(tried).__name__} with other steps."
        )


def _sum_over_ranks(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """What DistributedDataParallel does with gradients, without the mean."""
    del state
    future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return future.then(lambda done: done.value()[0])
