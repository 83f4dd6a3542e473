"""What wandb calls a run, and what it logs: known to who writes and to who reads."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from csd_lab.files import atomic_path
from csd_lab.html import line_to_show
from csd_lab.run_folder import RunFolder
from csd_lab.sweep.status import Status, read_status

STEP = "step"
"""The axis of all curves: training steps done before the one that logs."""

VIDEO, SHEET, PLOTS = "side_by_side", "contact_sheet", "plots"
PATH, DEPTH, MESH = "path", "depth", "mesh"
"""Names of what a run shows, on scenes too; plots are called plots/kernel and so on."""

NAME_LETTERS, PROMPT_LETTERS, TAG_LETTERS = 128, 40, 64
"""Longest names and tags that wandb takes, and the prompt's part of a name."""

SAID = ("method", "kernel", "prompt", "seed")
ASIDE = ("resume", "logger", "sweep", "hydra")
"""Overrides that a run's name says already, and roots of those that make no other run."""

ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


class Identity(NamedTuple):
    """What wandb calls a run.

    Attributes:
        id: in a sweep, the job's hash and a short one of the sweep's name, since sweeps share
            jobs; of a single run, drawn once and kept in its folder; "" if it has none yet.
        group: the sweep's name; None for a single run.
        job_type: the method.
        name: method, kernel, prompt, seed and the job's other overrides, shortened.
        tags: the choices of the config's groups.
    """

    id: str
    group: str | None
    job_type: str | None
    name: str
    tags: tuple[str, ...]


def identity(folder: RunFolder, config: Mapping[str, Any]) -> Identity:
    """What to call the run in a folder.

    Args:
        folder: of the run. It belongs to a sweep if it is called as its job's hash.
        config: resolved.
    """
    status = read_status(folder.status)
    in_sweep = status is not None and status.hash == folder.root.resolve().name
    sweep = str(config["sweep"]["name"]) if in_sweep else None
    choices = config.get("choices") or {}
    return Identity(
        id=f"{status.hash}-{_digest(sweep)}" if status and sweep else kept_id(folder),
        group=sweep,
        job_type=choices.get("method"),
        name=_name(config, choices, status),
        tags=tuple(dict.fromkeys(shortened(str(c), TAG_LETTERS) for c in choices.values())),
    )


def shown(folder: RunFolder) -> dict[str, Path]:
    """The videos, pictures and surfaces that a run has to show, by their names."""
    files = {
        VIDEO: folder.side_by_side,
        SHEET: folder.contact_sheet,
        PATH: folder.path,
        DEPTH: folder.depth,
        MESH: folder.mesh_glb,
    }
    plots = {f"{PLOTS}/{plot.stem}": plot for plot in sorted(folder.plots.glob("*.png"))}
    return {name: file for name, file in files.items() if file.is_file()} | plots


def keep_id(folder: RunFolder, new: str) -> str:
    """The id that the folder's run has had before, or the new one, kept there from now on."""
    if not kept_id(folder):
        with atomic_path(folder.wandb_id) as path:
            path.write_text(new, encoding="utf-8")
    return kept_id(folder)


def kept_id(folder: RunFolder) -> str:
    """The id that was kept in a run's folder; "" if there is none."""
    file = folder.wandb_id
    return file.read_text(encoding="utf-8").strip() if file.is_file() else ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:4]


def _name(config: Mapping[str, Any], choices: Mapping[str, Any], status: Status | None) -> str:
    prompt = shortened(str(config.get("prompt") or ""), PROMPT_LETTERS)
    words = [choices.get("method"), choices.get("kernel"), prompt and f'"{prompt}"']
    words.append(f"seed {config.get('seed')}")
    for override in status.overrides if status else ():
        key, equals, value = override.lstrip("+~").partition("=")
        if key not in SAID and key.split(".")[0] not in ASIDE:
            words.append(f"{key.split('.')[-1]}{equals}{value}")  # the room is scarce
    return shortened(" ".join(word for word in words if word), NAME_LETTERS)


def shortened(text: str, letters: int) -> str:
    """Text on one line of at most so many letters."""
    line = line_to_show(text)
    return line if len(line) <= letters else line[: letters - 1].rstrip() + ELLIPSIS
