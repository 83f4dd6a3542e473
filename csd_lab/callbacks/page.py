"""report.html of a run, from what lies in its folder."""

import platform
import shlex
from collections.abc import Mapping
from importlib.metadata import version
from math import nan
from pathlib import Path
from typing import Any

from csd_lab.callbacks.evaluate import results_after
from csd_lab.notes import MetricNote
from csd_lab.report import RunPage, write_run_page
from csd_lab.run_folder import RunFolder
from csd_lab.sweep.status import State
from csd_lab.types import EditTask

PACKAGES = ("csd-lab", "torch", "diffusers", "transformers", "pytorch-lightning", "hydra-core")


def write_page(
    folder: RunFolder,
    state: State,
    step: int,
    steps: int,
    task: EditTask,
    facts: Mapping[str, str],
    command: str,
    message: str = "",
) -> None:
    """Write the page of a run with whatever it has so far.

    Args:
        folder: of the run.
        state: how it ended.
        step: steps done.
        steps: steps wanted.
        task: what was to be edited.
        facts: what the run is, by name.
        command: what makes such a run.
        message: why it ended, if not because it was finished.

    Raises:
        ValueError: if it has not ended.
    """
    results = results_after(folder, step)
    page = RunPage(
        title=task.name,
        prompt=task.instruction or task.target_caption,
        state=state,
        message=message,
        step=step,
        steps=steps,
        facts=facts,
        metrics={k: nan if v is None else v for k, v in results.get("metrics", {}).items()},
        notes={name: MetricNote(**note) for name, note in results.get("notes", {}).items()},
        skipped=results.get("skipped", {}),
        **_shown(folder, one_image=len(task.source) == 1),
        command=command,
        **_made_by(folder),
    )
    write_run_page(folder.report, page)


def _shown(folder: RunFolder, one_image: bool) -> dict[str, Any]:
    """What the page shows of a folder's files, by its fields."""
    return {
        "videos": {} if one_image else {"": folder.side_by_side},
        "paths": {label: path for label, path in _paths(folder).items() if path.is_file()},
        "files": {
            "points of the surfaces that the cameras see, with their colours": folder.points,
            "the surface, with colours at its vertices": folder.mesh,
            "the same for viewers of glTF": folder.mesh_glb,
        },
        "compared": _images(folder) if one_image else {},
        "pictures": {"contact sheet": folder.contact_sheet},
        "plots": {path.stem: path for path in sorted(folder.plots.glob("*.png"))},
    }


def _made_by(folder: RunFolder) -> dict[str, Any]:
    """What the page says of how the run was made, by its fields."""
    can_go_on = folder.checkpoint.is_file()
    return {
        "config": _read(folder.config),
        "resume": shlex.join(["csd-lab", f"resume={folder.root}"]) if can_go_on else "",
        "environment": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "log": _read(folder.log),
    }


def _images(folder: RunFolder) -> dict[str, Path]:
    """What a run on one image is to be compared by; the right answer only if it was written."""
    images = {"source": folder.source_image, "edited": folder.edited_image}
    answer = {"right answer": folder.answer_image} if folder.answer_image.is_file() else {}
    return images | answer


def _paths(folder: RunFolder) -> dict[str, Path]:
    """The videos that a run on a scene writes beside the clip of what its shown cameras see."""
    return {"colours": folder.path, "depth: near is yellow": folder.depth}


def _read(path: Path) -> str:
    """Text of a file; "" if it is not there."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""
