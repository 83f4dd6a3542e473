"""From a composed config to the objects of a run.

Parts are built cheapest first, so that wrong input is told before a network is loaded.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig

from csd_lab.baselines.base import ScheduledSampler, check_deterministic
from csd_lab.callbacks import AtomicCheckpoints, ProgressFile
from csd_lab.checks import check_switch
from csd_lab.data import CanvasData, ClipData, EditData, SceneData, TextScene
from csd_lab.distill import Distiller, Sampler
from csd_lab.particles import (
    CanvasParticles,
    EditModule,
    ParticleModule,
    Reconstruction,
    TextTo3D,
    check_route,
)
from csd_lab.particles.base import check_clipping, check_unit_step
from csd_lab.particles.module import check_trainer
from csd_lab.particles.scene_route import check_moves_scenes
from csd_lab.particles.text_to_3d import check_caption_prior, check_distils, check_regularisers
from csd_lab.priors import Prior
from csd_lab.priors.latent_diffusion import choose_device
from csd_lab.run_folder import RunFolder
from csd_lab.settings import all_steps, prompts_in_turn
from csd_lab.types import EditTask


class Run(NamedTuple):
    """The objects of one run."""

    data: EditData
    module: EditModule
    trainer: pl.Trainer


def build(config: DictConfig, folder: RunFolder) -> Run:
    """Make the objects of a run, cheapest first.

    Raises:
        ValueError: if any part refuses its settings or its input.
    """
    pl.seed_everything(config.seed, verbose=False)
    data: EditData = instantiate(config.data)
    trainer = instantiate(
        config.trainer,
        max_steps=all_steps(config),
        default_root_dir=folder.root,
        callbacks=[
            *(instantiate(part) for part in config.callbacks.values() if part),
            ProgressFile(),
        ],
        plugins=[AtomicCheckpoints()],
        logger=[instantiate(part, folder=folder.root) for part in config.logger.values() if part],
    )
    return Run(data, module_for(config, data, trainer), trainer)


def module_for(
    config: DictConfig, data: EditData, trainer: pl.Trainer, prior: Prior | None = None
) -> EditModule:
    """The module of a run, when all that goes together has been looked at.

    Args:
        config: of the run.
        data: the task.
        trainer: of the run.
        prior: of the run; None: what the config says, where the trainer computes.

    Raises:
        ValueError: if any part refuses its settings or its input.
    """
    check_trainer(trainer)
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.set_device(trainer.strategy.root_device)  # where a rank's prior is to be loaded
    make = instantiate(config.modality)
    check_together(make, data)
    check_canvas(config, make, data)
    if "recipe" in make.keywords:
        make.keywords["recipe"].rehearse()
    if make.func is Reconstruction:
        check_nothing_to_do(data.task)
        return make(**data.inputs)
    if make.func is TextTo3D:
        check_distils(make.keywords["distiller"])
        check_regularisers(make.keywords["regularisers"])
        check_caption_prior(get_object(config.prior._target_))
    rehearse(make.keywords)
    if make.keywords.get("route") == "renderer":
        check_moves_scenes(make.keywords["distiller"])
        rehearse_optimizer("modality.scene_optimizer", make.keywords["scene_optimizer"])
    check_clipping(make.keywords["distiller"], trainer)
    check_sampler(make.keywords["distiller"], data, prompts_in_turn(config))
    _ = data.task  # a clip that cannot be decoded is told before networks are loaded
    if prior is None:
        prior = prior_of(config, trainer.strategy.root_device)
    module = module_of(config, data, prior, make)
    check_noise(make.keywords["distiller"], module)
    return module


def prior_of(config: DictConfig, device: torch.device) -> Prior:
    """The prior, where the trainer computes.

    Args:
        config: of the run.
        device: of the trainer.

    Raises:
        ValueError: if the prior refuses its settings, or is to be somewhere else.
    """
    wanted = config.prior.get("device", "auto")
    if wanted != "auto" and choose_device(wanted).type != device.type:
        raise ValueError(
            f"prior.device must be auto, or where the trainer computes, {device.type}, got "
            f"{wanted!r}; trainer=cpu or trainer.accelerator says where that is."
        )
    place = {"device": str(device)} if "device" in config.prior else {}
    prior: Prior = instantiate(config.prior, **place)
    return prior


def module_of(
    config: DictConfig, data: EditData, prior: Prior, make: partial[ParticleModule]
) -> ParticleModule:
    """The module of a task, whose data then give batches of its particles.

    Args:
        config: of the run.
        data: the task.
        prior: of the run.
        make: what ``config.modality`` is instantiated as.

    Raises:
        ValueError: if the modality refuses its settings, or the task lacks what the prior reads.
    """
    data.fit_to(prior.size_multiple)
    module = make(**data.inputs, **texts_of(config, data, prior, make), prior=prior)
    if isinstance(data, SceneData):
        data.hold(module.steps_per_batch)
    if isinstance(data, CanvasData) and isinstance(module, CanvasParticles):
        data.lay_windows(module.grid, prior.latent_scale, module.shift)
    return module


def texts_of(
    config: DictConfig, data: EditData, prior: Prior, make: partial[Any]
) -> dict[str, Any]:
    """What a module is told in words, but for what its data tell it.

    Raises:
        ValueError: if the task lacks what the prior reads.
    """
    if isinstance(data, TextScene):
        return {}
    prompt = prompts_for(config, prior, data.task)
    told = {"prompt": prompt, "source_prompt": source_prompt_for(prior, data.task, make)}
    if isinstance(prompt, str):
        return told
    return {**told, "steps_per_prompt": config.trainer.max_steps}


def check_together(make: partial[EditModule], data: EditData) -> None:
    """Check that a modality takes what the data hold.

    Raises:
        ValueError: if windows are to be laid over a clip, or a scene is to be made of one.
    """
    if "route" in make.keywords:
        check_route(make.keywords["route"])
    if getattr(make.func, "takes", None) != data.kind:
        raise ValueError(f"modality must be {data.suited}.")


def check_canvas(config: DictConfig, make: partial[EditModule], data: EditData) -> None:
    """Check what is said of one image alone.

    Raises:
        ValueError: if regions are given of something else, or a switch is neither on nor off.
    """
    on_canvas = make.func is CanvasParticles and isinstance(data, CanvasData)
    if config.regions and not on_canvas:
        raise ValueError(
            "regions must be null but for one image and its windows, on which they lie: "
            "data.path=<an image> or data=world_panorama, with modality=image or panorama."
        )
    for name in ("shift", "keep"):
        if name in make.keywords:
            check_switch(f"modality.{name}", make.keywords[name])


def check_nothing_to_do(task: EditTask) -> None:
    """Check that a capture is only to be reconstructed.

    Raises:
        ValueError: if there is something to do.
    """
    if task.instruction:
        raise ValueError(
            "prompt must not be given to modality=reconstruction, which edits nothing, got "
            f"{task.instruction!r}; leave it out, or take modality=scene. A scene of the world "
            "without an instruction is data=world_capture."
        )


def check_sampler(distiller: Distiller, data: EditData, prompts: int = 1) -> None:
    """Check that a method that samples, if it is one, has all that it needs.

    Args:
        distiller: the method.
        data: what is edited.
        prompts: how many are followed one after the other.

    Raises:
        ValueError: says what is missing.
    """
    if not isinstance(distiller, Sampler):
        return
    if data.batch_size is not None and not isinstance(data, SceneData):
        raise ValueError(
            "data.batch_size must be null for a method that samples, which moves all particles in "
            f"every step, got {data.batch_size}; lower prior.max_batch if memory is short."
        )
    if "windows" in distiller.needs and not isinstance(data, CanvasData):
        kind, parts = ("scene", "views") if isinstance(data, SceneData) else ("clip", "frames")
        raise ValueError(
            f"method must not be {type(distiller).__name__} for a {kind}: it averages windows that "
            f"overlap, and {parts} do not; take data=image or world_panorama, or method=ip2p."
        )
    if "views" in distiller.needs and not isinstance(data, SceneData):
        raise ValueError(
            f"method must not be {type(distiller).__name__} but for a scene, whose views it edits "
            "from their renderings; take data=world_scene or data=capture, or method=ip2p."
        )
    if "clip" in distiller.needs and not isinstance(data, ClipData):
        raise ValueError(
            f"method must not be {type(distiller).__name__} for windows or views: it edits the "
            "frames of a clip; take modality=video, or another method."
        )
    task = data.task
    if "captions" in distiller.needs and prompts > 1:
        raise ValueError(
            f"prompt must be one for {type(distiller).__name__}, which reads captions of source "
            f"and target, got {prompts} in turn."
        )
    if "captions" in distiller.needs and not (task.source_caption and task.target_caption):
        raise ValueError(
            f"data.source_caption and data.target_caption must say what is there and what is to "
            f"be, since {type(distiller).__name__} reads both."
        )


def check_noise(distiller: Distiller, module: ParticleModule) -> None:
    """Check that a sampler draws no noise in its steps where windows overlap.

    Raises:
        ValueError: if it does.
    """
    if isinstance(distiller, ScheduledSampler) and isinstance(module, CanvasParticles):
        windows = torch.arange(len(module.grid))
        if int(module.grid.coverage(windows).max()) > 1:
            check_deterministic(distiller)


def rehearse(parts: Mapping[str, Any]) -> None:
    """Make the optimiser once for nothing, so that it refuses bad settings early.

    Args:
        parts: those of a module that is yet to be made.

    Raises:
        ValueError: if it does, or is none for the method.
    """
    rehearse_optimizer("optimizer.optimizer", parts["optimizer"])
    if isinstance(parts["distiller"], Sampler):
        check_unit_step(parts["optimizer"], parts["scheduler"])


def rehearse_optimizer(name: str, make: partial[torch.optim.Optimizer]) -> None:
    """Make an optimiser once for nothing.

    Args:
        name: of its settings.
        make: what makes it.

    Raises:
        ValueError: if it refuses them.
    """
    try:
        make([torch.nn.Parameter(torch.zeros(1))])
    except TypeError as error:
        given = ", ".join(f"{key}={value!r}" for key, value in make.keywords.items())
        raise ValueError(
            f"{name} must have settings that {make.func.__name__} takes, got {given} ({error})."
        ) from error


def prompts_for(config: DictConfig, prior: Prior, task: EditTask) -> str | tuple[str, ...]:
    """What the particles are to follow: a text, or several one after the other.

    Raises:
        ValueError: if the task lacks what the prior reads.
    """
    if config.regions:  # what they leave is kept as it is, if nothing is said of it
        return config.prompt or ""
    if isinstance(config.prompt, ListConfig):
        return tuple(config.prompt)
    return prompt_for(prior, task)


def source_prompt_for(prior: Prior, task: EditTask, make: partial[Any]) -> str:
    """The text of the source's own estimate: what the modality is told, or the source's caption.

    Priors that read instructions have no caption to read.
    """
    told: str = make.keywords.get("source_prompt", "")
    return told or (task.source_caption if prior.reads == "caption" else "")


def prompt_for(prior: Prior, task: EditTask) -> str:
    """The text that the prior reads: the instruction, or the caption of the result.

    A prior that reads captions takes the instruction for one where there is no caption.

    Raises:
        ValueError: if the task lacks it.
    """
    if prior.reads == "caption":
        return task.target_caption or task.instruction
    if not task.instruction:
        raise ValueError(
            f"prompt must say what to do, since {type(prior).__name__} reads instructions, such as "
            "prompt='make it night'."
        )
    return task.instruction
