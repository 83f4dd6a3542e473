"""What a composed config says: looked at before anything is built, and told in a few words."""

import re
from collections.abc import Sequence
from typing import Any, cast, get_args

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from csd_lab.checks import check_choice, check_whole, is_finite
from csd_lab.data import EditData, SceneData, TextScene
from csd_lab.distill import Sampler
from csd_lab.distill.noise import NoiseMode
from csd_lab.messages import missing
from csd_lab.sweep.slots import devices_asked
from csd_lab.types import EditTask

PARTS = {"kernel": "kernel", "scheduler": "sampler"}
"""The config groups of parts that only some methods have, by their names in a method."""

OF_METHODS = ("kernel", "sampler", "distance", "guidance")
"""Config groups that only some methods use."""

OF_MODALITIES = ("field", "method", "optimizer")
"""Config groups that only some modalities use."""

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
"""Where a trainer may compute."""


def check(config: DictConfig) -> None:
    """Look at the plain values that no constructor looks at.

    Raises:
        ValueError: names the setting, what is allowed, and what was given.
    """
    if OmegaConf.is_missing(config, "prompt"):
        raise ValueError("prompt must say what to do, such as prompt='make it night', got '???'.")
    if lacking := sorted(OmegaConf.missing_keys(config)):
        raise ValueError(missing(lacking[0]))
    for group in ("experiment", "hparams_search"):
        if isinstance(config.get(group), DictConfig):
            raise ValueError(
                f"{group} must be a file that begins with '# @package _global_': the settings of "
                f"{', '.join(map(str, config[group]))} in it change nothing otherwise."
            )
    check_prompt(config)
    check_path(config.data.get("path"))
    check_whole("trainer.max_steps", config.trainer.max_steps)
    check_choice("method.noise", config.method.noise, get_args(NoiseMode))
    if not isinstance(config.seed, int) or not 0 <= config.seed < 2**32:
        raise ValueError(f"seed must be a whole number in [0, 2**32), got {config.seed!r}.")
    check_whole("modality.updates.times", updates(config))
    check_devices(config.trainer)


def check_path(path: Any) -> None:
    """Look at where data lie, if they lie anywhere.

    Raises:
        ValueError: if it is empty, or an address.
    """
    if path == "":
        raise ValueError("data.path must be a file or a folder, got ''.")
    if isinstance(path, str) and re.match(r"[A-Za-z]\w+://", path):
        raise ValueError(
            f"data.path must be a file or a folder, got {path!r}; addresses are not fetched: "
            "download it first."
        )


def check_devices(trainer: DictConfig) -> None:
    """Look that a trainer computes where this machine can.

    Raises:
        ValueError: names the setting, what is allowed, and what was given.
    """
    accelerator = trainer.accelerator
    if accelerator not in ACCELERATORS:
        raise ValueError(
            f"trainer.accelerator must be one of {', '.join(ACCELERATORS)}, got {accelerator!r}."
        )
    gpus, mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    if accelerator in ("gpu", "cuda") and not gpus and not (accelerator == "gpu" and mps):
        raise ValueError(
            f"trainer.accelerator must be cpu or auto, since there is no GPU here, got "
            f"{accelerator!r}; take trainer=cpu."
        )
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not gpus and not mps)
    if on_cpu and not re.fullmatch(r"auto|[1-9]\d*", str(trainer.devices)):
        raise ValueError(
            "trainer.devices must be how many processes there are to be on a CPU, at least 1, or "
            f"auto, got {trainer.devices!r}."
        )
    if gpus and accelerator in ("auto", "gpu", "cuda"):
        check_gpus(trainer, gpus)


def check_gpus(trainer: DictConfig, there: int) -> None:
    """Look that a trainer wants GPUs that are there.

    Raises:
        ValueError: says how many there are.
    """
    wanted = devices_asked(trainer.devices)
    if isinstance(wanted, list):
        wrong = len(set(wanted)) < len(wanted) or max(wanted) >= there
    else:
        wrong = wanted is not None and not 1 <= wanted <= there
    if wrong:
        raise ValueError(
            f"trainer.devices must be auto, 1 to {there}, or a list of numbers from 0 to "
            f"{there - 1}, of the GPUs that are here, got {trainer.devices!r}. (A job of a sweep "
            "sees its own alone: say how many here, and which in hydra.launcher.devices.)"
        )


def check_prompt(config: DictConfig) -> None:
    """Look at what is to be done.

    Raises:
        ValueError: if it is no text and no list of texts, or empty.
    """
    prompts = config.prompt if isinstance(config.prompt, ListConfig) else [config.prompt]
    if config.prompt is not None and (
        not prompts or not all(isinstance(prompt, str) for prompt in prompts)
    ):
        kind = type(OmegaConf.to_object(config).get("prompt")).__name__  # type: ignore[union-attr]
        raise ValueError(
            f"prompt must be text, got {kind}; put it in quotes. A list of texts in quotes is "
            "followed one after the other."
        )
    if any(isinstance(prompt, str) and not prompt.strip() for prompt in prompts):
        raise ValueError("prompt must not be empty; say what to do: prompt='make it night'.")


def prompts_in_turn(config: DictConfig) -> int:
    """How many prompts are followed one after the other."""
    return len(config.prompt) if isinstance(config.prompt, ListConfig) else 1


def edits_views(config: DictConfig) -> bool:
    """Whether a scene is edited through its images."""
    return "updates" in config.modality and bool(config.modality.route == "images")


def samples(config: DictConfig) -> bool:
    """Whether the method samples, in steps that are its scheduler's."""
    kind = get_object(config.method.distiller._target_)
    return isinstance(kind, type) and issubclass(kind, Sampler)


def updates(config: DictConfig) -> int:
    """How often views of a scene come in hand; 1 where they do not."""
    if not edits_views(config):
        return 1
    times: int = config.modality.updates.times
    return times


def all_steps(config: DictConfig) -> int:
    """How many steps a run takes in all: ``trainer.max_steps`` for each prompt and update."""
    steps: int = config.trainer.max_steps
    return steps * prompts_in_turn(config) * updates(config)


def rank_count(trainer: DictConfig) -> int:
    """How many ranks a trainer wants, at least 1.

    Raises:
        ValueError: if the devices are no number, no list, and not "auto".
    """
    wanted = devices_asked(trainer.devices)
    if wanted is None:
        on_gpus = trainer.accelerator in ("auto", "gpu", "cuda")
        wanted = torch.cuda.device_count() if on_gpus else 1
    return max(1, wanted if isinstance(wanted, int) else len(wanted))


def describe(config: DictConfig, data: EditData) -> dict[str, str]:
    """What a run is, in a few words each."""
    about = {**about_media(data), **about_windows(data), **about_scene(config, data)}
    rest = {"steps": str(config.trainer.max_steps), "seed": str(config.seed)}
    if config.choices.modality == "reconstruction":
        return about | rest
    task, prompts = data.task, prompts_in_turn(config)
    guidance = " ".join(f"{k} {v:g}" for k, v in config.guidance.items() if is_finite(v))
    if prompts > 1:
        rest["steps"] += " for each prompt"
    if (times := updates(config)) > 1:
        views = "all" if data.batch_size is None else str(data.batch_size)
        rest["steps"] += f" for each of {times} updates of {views} views"
    return {
        **about,
        "prompt": task.instruction or task.target_caption,
        **about_captions(config, task),
        **about_regions(config),
        "method": config.choices.method,
        **about_method(config),
        "guidance": f"{config.choices.guidance} ({guidance})",
        "prior": config.choices.prior,
        **rest,
    }


def about_captions(config: DictConfig, task: EditTask) -> dict[str, str]:
    """What a prior reads that does not take instructions; nothing where one does."""
    reads = getattr(get_object(config.prior._target_), "reads", "caption")
    if reads == "instruction" or not task.target_caption or not task.instruction:
        return {}
    before = f"{task.source_caption} → " if task.source_caption else ""
    return {"captions": before + task.target_caption}


def about_media(data: EditData) -> dict[str, str]:
    """What is edited: an image, a clip, or views of a scene."""
    frames, _, height, width = data.task.source.shape
    size = f"{width} x {height}"
    if isinstance(data, SceneData):
        count = f"{len(data.capture.images)} views of {size}, {frames} of them shown"
        return {"scene": f"{data.task.name}, {count}"}
    if isinstance(data, TextScene):
        return {"scene": f"from a text, {frames} views of {size} shown, {data.views.count} a step"}
    if frames == 1:
        return {"image": f"{data.task.name}, {size}"}
    return {"clip": f"{data.task.name}, {frames} frames of {size}"}


def about_scene(config: DictConfig, data: EditData) -> dict[str, str]:
    """What a scene is made of; nothing where there is none."""
    return {"field": config.choices.field} if isinstance(data, SceneData | TextScene) else {}


def about_method(config: DictConfig) -> dict[str, str]:
    """The parts that the method has, and others have not."""
    return {
        group: config.choices[group]
        for part, group in PARTS.items()
        if part in config.method.distiller
    }


def unused(config: DictConfig, overrides: Sequence[str]) -> str:
    """What was chosen of a part that the method has not; "" if there is nothing.

    Args:
        config: what is run.
        overrides: as typed.
    """
    reasons = idle(config)
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        for name, reason in reasons.items():
            if f"{key}.".startswith(f"{name}."):
                return f"{key} changes nothing: {reason}."
    return ""


def idle(config: DictConfig) -> dict[str, str]:
    """Why settings change nothing in this run, by their names or those of their groups."""
    choices = config.choices
    settings = used_settings(config)
    used = {name.partition(".")[0] for name in settings}
    user = "method" if "method" in used else "modality"
    users = dict.fromkeys(OF_METHODS, user) | dict.fromkeys(OF_MODALITIES, "modality")
    reasons = {
        group: f"{user}={choices[user]} has no {group}"
        for group, user in users.items()
        if group not in used
    }
    if config.modality.get("route") == "renderer":
        moved = "modality.scene_optimizer moves the scene (modality.route=renderer)"
        updated = "views are not updated (modality.route=renderer)"
        reasons |= {"optimizer": moved, "method.lr": moved, "modality.updates": updated}
    elif "method.lr" not in settings and "lr" in config.method:
        reasons["method.lr"] = f"optimizer={choices.optimizer} has its own, optimizer.optimizer.lr"
    return reasons


def used_settings(config: DictConfig) -> set[str]:
    """The names of what a run is built of: of data, modality and trainer, and what they refer to.

    Args:
        config: as composed, its interpolations not resolved.
    """
    found: set[str] = set()
    left = ["data", "modality", "trainer"]
    while left:
        name = left.pop()
        if name not in found and OmegaConf.select(config, name) is not None:
            found.add(name)
            above, _, last = name.rpartition(".")
            node: Any = OmegaConf.select(config, above) if above else config
            text = str(cast(Any, OmegaConf.to_container(node, resolve=False))[last])
            left += re.findall(r"\$\{(?:oc\.select:)?(\w+(?:\.\w+)*)(?![\w.])", text)
    return found


def about_windows(data: EditData) -> dict[str, str]:
    """How many windows there are, how large, and how many a step; nothing where there are none."""
    if data.windows is None:
        return {}
    boxes = data.windows.boxes
    height, width = (int(side) for side in (boxes[:, 2:] - boxes[:, :2]).max(dim=0).values)
    a_step = "all" if data.batch_size is None else str(data.batch_size)
    return {"windows": f"{len(boxes)} of {width} x {height}, {a_step} of them a step"}


def about_regions(config: DictConfig) -> dict[str, str]:
    """Which prompt holds where; nothing where there are no regions."""
    if not config.regions:
        return {}
    places = [
        f"{region.prompt} ({', '.join(f'{k} {v}' for k, v in region.items() if k != 'prompt')})"
        for region in config.regions
    ]
    return {"regions": "; ".join([*places, f"elsewhere {config.prompt or 'as it is'}"])}
