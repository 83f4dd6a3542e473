"""What the ranks of a test do: many small runs in one launch, since a launch takes seconds."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from csd_lab.build import build
from csd_lab.callbacks import LastCheckpoint, NonFiniteGradientError, NonFiniteGuard
from csd_lab.callbacks.turns import first_rank_alone
from csd_lab.composition import config_folder
from csd_lab.distill import (
    RBF,
    Bandwidth,
    ClassifierFree,
    CollaborativeScoreDistillation,
    NoiseResidual,
    SigmaSquared,
    UniformTimesteps,
    VariancePreserving,
)
from csd_lab.launch import GROUPS
from csd_lab.particles import ParticleModule, SceneModule
from csd_lab.priors import GaussianMixture
from csd_lab.run_folder import RunFolder
from csd_lab.types import Conditioning

STEPS, HALF = 6, 3
COLOURS = (
    "experiment=colours",
    "data.frames=5",
    "data.size=8",
    "metrics=pixels",
)
EMBEDDED = (
    "prior=embedded",
    "prior.dtype=float32",
    "data.frames=4",
    "data.size=32",
    "metrics=pixels",
    "trainer.max_steps=4",
)

PANORAMA = (
    *("data=world_panorama", "data.height=32", "data.width=80", "modality.window=8"),
    *("prior=embedded", "prior.dtype=float32", "metrics=pixels", "trainer.max_steps=4"),
)

SCENE = (
    *("data=world_scene", "data.count=5", "data.held_out=2", "data.size=32", "data.views=3"),
    *("field.resolution=8", "field.coarse=6", "field.fine=6", "modality.recipe.loss.rays=50"),
    *("prior=embedded", "prior.dtype=float32", "metrics=pixels", "prompt=make it sepia"),
)

COUPLED = "synctweedies"
"""Every rank evaluates all particles of it."""

ALONE = "csd_edit, bfloat16, one sample at a time"

RUNS = {
    "csd": COLOURS,
    "csd in batches of 2": (*COLOURS, "data.batch_size=2"),
    "csd in batches of 4": (*COLOURS, "data.batch_size=4"),
    "csd, clean kernel": (*COLOURS, "method.distiller.kernel_space=clean"),
    "csd, shared noise, adam": (*COLOURS, "method.noise=shared", "optimizer=adam"),
    "csd, imq kernel": (*COLOURS, "kernel=imq", "data.batch_size=3"),
    "sds in batches of 2": (*COLOURS, "method=sds", "data.batch_size=2"),
    "csd_edit, embedded prior": EMBEDDED,
    "csd_edit, embedded prior, clean kernel in batches of 2": (
        *EMBEDDED,
        "method.distiller.kernel_space=clean",
        "data.batch_size=2",
    ),
    "csd_edit, embedded prior, perceptual kernel in batches of 2": (
        *EMBEDDED,
        "method.distiller.kernel_space=perceptual",
        "distance=lpips",
        "data.batch_size=2",
        "prior.max_batch=1",  # batches of other sizes round otherwise, and gradients enlarge it
    ),
    "dds, embedded prior": (*EMBEDDED, "method=dds"),
    "vsd, embedded prior": (
        *EMBEDDED,
        "method=vsd",
        "method.distiller.residual.learner.learning_rate=1e-4",
        "data.batch_size=2",
    ),
    "panorama, windows in batches of 5": (*PANORAMA, "data.batch_size=5"),
    "panorama, tapered windows in batches of 5": (
        *PANORAMA,
        "data.batch_size=5",
        "modality.taper=hann",
    ),
    "ring, all windows, tapered": (*PANORAMA, "data.wrap=true", "modality.taper=hat"),
    "panorama, regions": (
        *PANORAMA,
        "data.batch_size=3",
        "regions=[{prompt: make it sepia, strip: [0,2]}, {prompt: make it dark, strip: [1,2]}]",
    ),
    "panorama, windows that shift, regions": (
        *PANORAMA,
        "data.batch_size=3",
        "modality.shift=true",
        "regions=[{prompt: make it sepia, strip: [0,2]}, {prompt: make it dark, strip: [1,2]}]",
    ),
    "panorama, prompts in turn": (
        *PANORAMA,
        "data.batch_size=4",
        "prompt=[make it night, make the sky orange]",
        "trainer.max_steps=2",
    ),
    "ip2p, second order": (*EMBEDDED, "method=ip2p", "sampler=unipc"),
    "ip2p, with noise in steps": (*EMBEDDED, "method=ip2p", "sampler=euler_ancestral"),
    "multidiffusion": (*PANORAMA, "method=multidiffusion"),
    "scene, updates of its images": (
        *SCENE,
        *("modality.recipe.steps=3", "modality.updates.times=2", "modality.updates.fit=2"),
        *("modality.updates.last=2", "trainer.max_steps=2"),
    ),
    "scene, straight through its cameras": (
        *SCENE,
        *("method=csd", "modality.recipe.steps=3", "trainer.max_steps=2"),
        # Adam would make full steps also of gradients that are nothing but rounding
        *("modality.scene_optimizer._target_=torch.optim.SGD", "modality.scene_optimizer.lr=2.0"),
        "~modality.scene_optimizer.betas",
    ),
    COUPLED: (*PANORAMA, "method=synctweedies"),
    ALONE: (*EMBEDDED, "prior.dtype=bfloat16", "prior.max_batch=1"),
}
"""Overrides by name; all of them must end the same on any number of ranks."""


class Outcome(NamedTuple):
    """What a run gave.

    Attributes:
        latents: of all frames at the end, (F, C, h, w); of a scene its parameters, (P,).
        start: those at the beginning.
        ids: of the last step.
        kernel: shape of the last step's kernel matrix; None without a kernel.
        samples: that the network evaluated, by rank.
        scalars: of the last step.
        learnt: low-rank weights that were zero at first, in one row; None where nothing learns.
    """

    latents: Tensor
    start: Tensor
    ids: list[int]
    kernel: tuple[int, ...] | None
    samples: list[int]
    scalars: dict[str, float]
    learnt: Tensor | None


def composed(*overrides: str) -> str:
    """The resolved config of a run with only the callbacks that change a result, as YAML."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("run", overrides=["trainer=ddp", *overrides], return_hydra_config=True)
    choices = {group: config.hydra.runtime.choices[group] for group in GROUPS}
    OmegaConf.set_struct(config, False)
    for name in ("hydra", "sweep"):
        config.pop(name, None)
    config.choices = choices
    config.logger = {}
    config.callbacks = {"stop": config.callbacks.stop, "checkpoint": config.callbacks.checkpoint}
    return OmegaConf.to_yaml(config, resolve=True)


def texts() -> dict[str, str]:
    """The configs of all runs, by name."""
    return {name: composed(f"trainer.max_steps={STEPS}", *run) for name, run in RUNS.items()}


def of_all_ranks(value: Any) -> list[Any]:
    """A value of each rank."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def run(
    text: str,
    folder: Path,
    ranks: int,
    steps: int | None = None,
    checkpoint: Path | None = None,
    callback: pl.Callback | None = None,
) -> Outcome:
    """Make one run in the ranks of which this is one."""
    config: Any = OmegaConf.create(text)
    config.trainer.devices = ranks
    config.trainer.max_steps = steps or config.trainer.max_steps
    if ranks == 1:
        config.trainer.strategy = "auto"  # one process, without anything of several
    data, module, trainer = build(config, RunFolder(folder))
    if callback is not None:
        trainer.callbacks.insert(0, callback)
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    latest = module.latest
    kernel = latest.distillation.kernel
    return Outcome(
        *moved(module),
        latest.ids.tolist(),
        None if kernel is None else tuple(kernel.matrix.shape),
        of_all_ranks(module.prior.samples_evaluated),
        {name: float(value) for name, value in trainer.callback_metrics.items()},
        None if module.learner is None else later_weights(module.learner),
    )


def moved(module: Any) -> tuple[Tensor, Tensor]:
    """What a run moves, as it is and as it was at first."""
    if isinstance(module, SceneModule):
        return parameters(module.scene), parameters(module.source_scene)
    return module.latents.detach().clone(), module.original.clone()


def parameters(module: nn.Module) -> Tensor:
    """All parameters in one row."""
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def later_weights(learner: nn.Module) -> Tensor:
    """The second of each pair of weights, B, which is zero until something is learnt."""
    return torch.cat([p.detach().flatten() for p in list(learner.parameters())[1::2]])


class Report(NamedTuple):
    """What a launch gave.

    Attributes:
        outcomes: of the runs, by name.
        checkpoint: of a run that ended half way.
        resumed: latents of a run that went on from such a checkpoint; None if there was none.
        shared: parameters of :class:`Turning` after some steps.
        refusals: what each rank said of a gradient that is not finite, and its latents' change.
        stopped: at which step each rank stopped when one was asked to.
    """

    outcomes: dict[str, Outcome]
    checkpoint: Path
    resumed: Tensor | None
    shared: Tensor
    refusals: list[tuple[str, float]]
    stopped: list[int]


def everything(texts: dict[str, str], folder: Path, ranks: int, half: Path | None) -> Report:
    """All that a launch of so many ranks is to show.

    Args:
        texts: configs by name.
        folder: to write in.
        ranks: how many there are.
        half: checkpoint of a run that ended half way, on another number of ranks.
    """
    outcomes = {name: run(text, folder / name, ranks) for name, text in texts.items()}
    text = texts["csd in batches of 2"]
    run(text, folder / "half", ranks, HALF)
    resumed = None
    if half is not None:
        resumed = run(text, folder / "resumed", ranks, checkpoint=half).latents
    return Report(
        outcomes,
        RunFolder(folder / "half").checkpoint,
        resumed,
        turned(ranks),
        of_all_ranks(refusal(ranks)),
        of_all_ranks(stopped_by_one(text, folder / "stopped", ranks)),
    )


class Turning(ParticleModule):
    """Views of one picture, from all sides: every particle depends on every parameter.

    Never sees less than one particle in ``render``, whatever ranks there are.
    """

    def __init__(self, **distillation: Any) -> None:
        super().__init__(**distillation)
        picture = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(3))
        self.picture = nn.Parameter(picture)

    def render(self, ids: Tensor) -> Tensor:
        assert len(ids)
        return torch.stack([self.picture.rot90(int(i), (1, 2)) for i in ids])

    def source(self, ids: Tensor) -> Tensor:
        return torch.zeros(len(ids), 3, 4, 4)

    def conditioning(self, ids: Tensor) -> Conditioning:
        return Conditioning(tuple("anything" for _ in ids))

    def export(self) -> Tensor:
        return self.picture.detach()[None]

    def export_source(self) -> Tensor:
        return self.export()


def turning() -> Turning:
    """Four views of a picture under a mixture of two colours."""
    means = torch.stack([torch.full((3, 4, 4), 0.3), torch.full((3, 4, 4), 0.7)])
    prior = GaussianMixture(means, VariancePreserving.scaled_linear(), scales=0.1)
    distiller = CollaborativeScoreDistillation(
        NoiseResidual(ClassifierFree(1.0)), RBF(Bandwidth()), SigmaSquared()
    )
    return Turning(
        prior=prior,
        distiller=distiller,
        timesteps=UniformTimesteps(20, 500),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    )


def fit(
    module: ParticleModule,
    batches: list[list[int]],
    ranks: int,
    *callbacks: pl.Callback,
    folder: Path | None = None,
    strategy: Any = "auto",
) -> pl.Trainer:
    """Train on these batches."""
    trainer = pl.Trainer(
        max_steps=len(batches),
        accelerator="cpu",
        devices=ranks,
        strategy=strategy,
        logger=False,
        enable_checkpointing=any(isinstance(c, LastCheckpoint) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )
    loader = torch.utils.data.DataLoader([torch.tensor(b) for b in batches], batch_size=None)
    trainer.fit(module, loader)
    return trainer


def turned(ranks: int) -> Tensor:
    """The picture after steps of four, two and one views."""
    module = turning()
    fit(module, [[0, 1, 2, 3], [2, 0], [3], [1, 3, 0, 2]], ranks)
    return module.picture.detach().clone()


def spoil(module: ParticleModule) -> None:
    """Have the last particle's noise estimate be NaN."""
    predict = module.prior.predict_noise

    def spoiled(queries: Any, t: Tensor) -> list[Tensor]:
        estimates = predict(queries, t)
        if not dist.is_initialized() or dist.get_rank() == dist.get_world_size() - 1:
            estimates[0][-1, 0, 0, 0] = torch.nan
        return estimates

    module.prior.predict_noise = spoiled  # type: ignore[method-assign]


def refusal(ranks: int) -> tuple[str, float]:
    """What this rank says when another one's particle is spoiled, and how far the picture moved."""
    module = turning()
    before = module.picture.detach().clone()
    spoil(module)
    try:
        fit(module, [[0, 1, 2, 3]], ranks, NonFiniteGuard())
    except NonFiniteGradientError as error:
        return str(error), float((module.picture.detach() - before).abs().max())
    return "", 0.0


class AskToStop(pl.Callback):
    """Signals one rank alone while a step is under way."""

    def on_before_backward(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == 2 and trainer.global_rank == trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)


def stopped_by_one(text: str, folder: Path, ranks: int) -> int:
    """At which step this rank stops when the last one is asked to stop in the third step."""
    run(text, folder, ranks, callback=AskToStop())
    saved = torch.load(RunFolder(folder).checkpoint, weights_only=True)
    return int(saved["global_step"])


class FailAlone(pl.Callback):
    """Raises in one rank alone, where the others do not look."""

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == 3 and trainer.global_rank == 1:
            raise ArithmeticError("only here")


def fail_alone(folder: Path, ranks: int) -> None:
    """Train until one rank raises."""
    fit(turning(), [[0, 1, 2, 3]] * 6, ranks, LastCheckpoint(every=2), FailAlone(), folder=folder)


class Slow(pl.Callback):
    """Keeps the first rank busy for longer than the others may wait for their common work."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == 1:
            with first_rank_alone(trainer) as first:
                if first:
                    time.sleep(self.seconds)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            time.sleep(self.seconds)


def wait_for_the_first(ranks: int, timeout: float) -> int:
    """Steps done where the first one takes half as long again as the timeout, twice."""
    strategy = DDPStrategy(timeout=timedelta(seconds=timeout))
    batches = [[0, 1, 2, 3]] * 3
    trainer = fit(turning(), batches, ranks, Slow(1.5 * timeout), strategy=strategy)
    return trainer.global_step
