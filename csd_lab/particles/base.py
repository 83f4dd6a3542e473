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

which takes what a kernel takes, not what a network does. Where a kernel compares features
(:mod:`csd_lab.distill.perceptual`), these are gathered with the residuals; the repulsion is then
one of features, which each rank pulls back to its own particles, and all gather that, too.
A gradient is a constant, so it needs no path between ranks, and the sum over particles is one over
ranks:

.. math::
    \sum_i \nabla_i \frac{\partial x_i}{\partial \theta}
    = \sum_r \frac{\partial}{\partial \theta} \sum_{i \in S_r} \langle x_i, \nabla_i \rangle

whatever the particles share of theta. A sampler that couples particles within the network
(:mod:`csd_lab.distill.sampling`) is evaluated by every rank for all of them instead.
DistributedDataParallel takes the sum, told to leave out its mean:
a mean times R would be rounded twice, while a sum with zeros is exact. What a network rounds
differently in batches of another size is then all that tells several processes from one.
A modality need not know about ranks.

A modality whose theta gets other parameters on the way, such as a grid that is refined, says so
(:meth:`ParticleModule.change_parameters`): the optimiser meets the new ones as new ones, and what
sums over ranks is made again. Its checkpoint may then hold other shapes than a new module has,
which :meth:`ParticleModule.take_shapes` is to bring about before anything is loaded.

A residual may own a learner (:mod:`csd_lab.distill.learners`), with parameters phi. Its loss is
added to what carries the particles' gradient,

.. math::
    \sum_{i \in S_r} \Big[ \langle x_i, \nabla_i \rangle
    + \tfrac{1}{N} |\epsilon_\phi(x_u^i) - e'_i|^2 / D \Big]

and since neither part depends on the other's parameters, one backward pass and one sum over ranks
serve both. Each then has an optimiser of its own; the learner's is not that of the config, whose
learning rate and its schedule are meant for particles.
"""

import gc
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple, Required, TypedDict, final

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from csd_lab.distill import (
    Distillation,
    Distiller,
    Learner,
    Residual,
    Sampler,
    TimestepSampler,
    WeightedDistiller,
    particle_noise,
    surrogate_loss,
    timestep_generator,
)
from csd_lab.distill.noise import NoiseMode
from csd_lab.particles.lessons import Lessons
from csd_lab.particles.module import EditModule, check_trainer
from csd_lab.particles.ranks import of_all, sum_over_ranks
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
        errors: of what learns from the particles, for each of them, (N,); None where nothing does.
    """

    number: int
    ids: Tensor
    timestep: Tensor
    residual: Residual
    distillation: Distillation
    errors: Tensor | None = None


class ParticleOptions(TypedDict, total=False):
    """What a modality hands on to :class:`ParticleModule`, which says what it is."""

    prior: Required[Prior]
    distiller: Required[Distiller]
    timesteps: Required[TimestepSampler | None]
    optimizer: Required[OptimizerFactory]
    scheduler: SchedulerFactory | None
    noise: NoiseMode
    seed: int


class ParticleModule(EditModule, ABC):
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
            if isinstance(distiller, WeightedDistiller):
                distiller.rule.check(timesteps)
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
        self.learner = distiller.learner(prior)
        self._lessons = None if self.learner is None else Lessons(self.learner)

    @abstractmethod
    def render(self, ids: Tensor) -> Tensor:
        """Particles with these ids as latents, (N, C, h, w), differentiable in the parameters."""

    @abstractmethod
    def source(self, ids: Tensor) -> Tensor | None:
        """Source latents of these particles, (N, C, h, w), without gradient; None: none."""

    @abstractmethod
    def conditioning(self, ids: Tensor) -> Conditioning:
        """What the prior is conditioned on for these particles."""

    def penalties(self, ids: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """What the modality adds to the loss for its particles ``ids`` of a step, each () by name.

        Asked for after they were rendered. Summed over ranks, each with ids of its own, all with
        the same names.

        Args:
            ids: of the rank's particles, (n,); n may be 0.
        """
        return {}

    def take_shapes(self, state: Mapping[str, Tensor]) -> None:
        """Give the module's tensors the shapes of a checkpoint's ``state``, before it is loaded."""

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
    @property
    def present_step(self) -> int:
        """The step under way, or the next one, counted from where its prompt begins."""
        return 0 if self._trainer is None else self.global_step - self.origin

    @final
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Distil once for the particles ``batch`` (ids, (N,)); the loss carries the gradient."""
        del batch_idx
        step = self.present_step
        shares = self._shares(batch)
        mine = shares[self.global_rank]
        x = self.render(mine) if len(mine) else self.render(batch[:1])[:0]  # ranks need a graph
        t = self._timestep(step)
        if self.distiller.couples:
            residual = self._residual(batch, self.render(batch), step, t)
        else:
            own = self._residual(mine, x, step, t)
            gathered = (None if part is None else of_all(part, shares) for part in own)
            residual = self._pulled_back(Residual._make(gathered), x, shares)
        distillation = self.distiller.combine(residual, self.prior.schedule, t)
        self._latest = Step(self.global_step, batch, t, residual, distillation)
        # rows are named by their step, however a run goes on
        scalars: dict[str, Tensor | float] = {"step": float(self.global_step), "t": t.float()}
        self.log_dict({**scalars, **distillation.scalars}, batch_size=len(batch))
        own_gradient = distillation.gradient.split([len(ids) for ids in shares])[self.global_rank]
        loss = surrogate_loss(x, own_gradient)
        for name, penalty in self.penalties(mine).items():
            loss = loss + penalty
            mean = penalty.detach() / len(batch)
            options: dict[str, Any] = {"sync_dist": True, "reduce_fx": "sum"}
            self.log(f"penalty_{name}", mean, batch_size=len(batch), **options)
        if self._lessons is None:
            return loss
        lesson = self._lesson(self._lessons.learner, x, shares, step)
        return loss + self._lessons.scaled(lesson, self._scaler)

    @property
    def _scaler(self) -> GradScaler | None:
        """What keeps the trainer's gradients from being too small for half precision."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def _lesson(self, learner: Learner, x: Tensor, shares: tuple[Tensor, ...], step: int) -> Tensor:
        """The rank's part of the loss by which a learner follows the particles, ()."""
        mine = shares[self.global_rank]
        draw = timestep_generator(self.seed, step, "learn").integers(self.prior.schedule.num_steps)
        shape = tuple(x.shape[1:])
        noise = particle_noise(
            self.seed, step, mine, shape, device=x.device, dtype=x.dtype, purpose="learn"
        )
        errors = learner.errors(x, self.conditioning(mine), noise, torch.tensor(int(draw)))
        told = of_all(errors.detach(), shares)
        self._latest = self.latest._replace(errors=told)
        self.log("learning_error", told.mean(), batch_size=len(told))
        return errors.sum() / len(told)

    @final
    def on_fit_start(self) -> None:
        """Have ranks sum their gradients.

        Raises:
            ValueError: if there are several, under another strategy than ddp, or the trainer does
                something else to gradients or numbers than the method allows.
        """
        check_trainer(self.trainer)
        check_clipping(self.distiller, self.trainer)
        if self.trainer.world_size == 1:
            return
        model = self.trainer.strategy.model
        if not isinstance(model, DistributedDataParallel):
            raise ValueError(
                "trainer.strategy must be ddp on several devices, such as with trainer=ddp, got "
                f"{type(self.trainer.strategy).__name__}."
            )
        model.register_comm_hook(None, sum_over_ranks)

    @final
    def take_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Have all ranks hold what the first one holds, which may differ by rounding.

        Args:
            tensors: in the same order on all ranks; they are written into.
        """
        if self.trainer.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    @final
    def change_parameters(self, change: Callable[[], None]) -> None:
        """Have some parameters replaced by others of the same names, between two steps.

        The optimiser keeps its state of all others. On several ranks all must call this.

        Args:
            change: replaces them.
        """
        before = dict(self.named_parameters())
        change()
        now = dict(self.named_parameters())
        instead = {id(old): now[name] for name, old in before.items()}
        optimizer = self.trainer.optimizers[0]
        for group in optimizer.param_groups:
            for old in group["params"]:
                if instead[id(old)] is not old:
                    optimizer.state.pop(old, None)
            group["params"] = [instead[id(old)] for old in group["params"]]
        if self.trainer.world_size > 1:
            self._wrap_again()

    def _wrap_again(self) -> None:
        """Have ranks sum the gradients of the parameters that there are now."""
        strategy = self.trainer.strategy
        assert isinstance(strategy, DDPStrategy)  # on_fit_start has seen to it
        strategy.model = None
        gc.collect()  # the former wrapper's hooks on parameters that stay end with it
        model = strategy._setup_model(self)
        model.register_comm_hook(None, sum_over_ranks)
        strategy.model = model

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

    def _pulled_back(self, residual: Residual, x: Tensor, shares: tuple[Tensor, ...]) -> Residual:
        """All residuals, with what each rank has to find for its own particles x knowing them."""
        first = sum(len(ids) for ids in shares[: self.global_rank])
        own = self.distiller.pull_back(self.prior, x, residual, first)
        return residual if own is None else residual._replace(repulsion=of_all(own, shares))

    def _shares(self, batch: Tensor) -> tuple[Tensor, ...]:
        """The ids of each rank's particles."""
        ranks = 1 if self._trainer is None else self._trainer.world_size
        return batch.tensor_split(ranks)

    @final
    def configure_optimizers(self) -> Any:
        """Optimiser over what the modality declares trainable, and its schedule by steps.

        Raises:
            ValueError: if a sampler's steps are not to be taken as they are.
        """
        if isinstance(self.distiller, Sampler):
            check_unit_step(self._optimizer, self._scheduler)
        learnt = () if self.learner is None else tuple(self.learner.parameters())
        elsewhere = {id(p) for p in learnt}
        trained = [p for p in self.parameters() if p.requires_grad and id(p) not in elsewhere]
        optimizer = self._optimizer(trained)
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
    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Let what learns from the particles make its step, and move them."""

        def closure() -> Any:
            assert optimizer_closure is not None  # the loop of automatic optimisation has one
            loss = optimizer_closure()
            if self._lessons is not None:
                self._lessons.step(self._scaler)
            return loss

        super().optimizer_step(epoch, batch_idx, optimizer, closure)

    @final
    def renew_optimizer(self) -> None:
        """Give optimiser and learning rate the state back in which they were made.

        What learns from the particles begins anew, too.
        """
        if self._lessons is not None:
            self._lessons.begin_anew()
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
        checkpoint["distiller"] = self.distiller.state_dict()
        if self._lessons is not None:
            checkpoint["lessons"] = self._lessons.state_dict()

    @final
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the state of the method, and the optimiser of what learns from the particles."""
        self.take_shapes(checkpoint["state_dict"])
        self.distiller.load_state_dict(placed(checkpoint["distiller"], self.device))
        if self._lessons is not None:
            self._lessons.load_state_dict(checkpoint["lessons"])


def placed(state: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """A sampler's state, read from a file, with what its steps combine with particles beside them.

    Args:
        state: plain values and tensors, nested.
        device: of the particles. Tables of a scheduler, of one axis, stay on the CPU.
    """
    return apply_to_collection(state, Tensor, lambda t: t.to(device) if t.ndim > 1 else t)


def check_clipping(distiller: Distiller, trainer: pl.Trainer) -> None:
    """Check that a sampler's steps are not shortened.

    Raises:
        ValueError: if they may be.
    """
    if isinstance(distiller, Sampler) and trainer.gradient_clip_val is not None:
        raise ValueError(
            "trainer.gradient_clip_val must be null for a method that samples, whose steps are its "
            f"own, got {trainer.gradient_clip_val}."
        )


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
