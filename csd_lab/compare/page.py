"""The comparison as one HTML file: tables, charts and clips that can be regrouped in the browser.

The page holds every run's settings, metrics and curves, and computes means and intervals by the
rules of :mod:`csd_lab.compare.statistics` (a test drives a browser and compares the figures).
"""

import base64
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

import numpy as np
from markupsafe import Markup

from csd_lab.compare.comparison import (
    BETWEEN,
    CONSISTENCY,
    FIDELITY,
    MATCHED,
    PREFERRED,
    Comparison,
)
from csd_lab.compare.results import RunRecord
from csd_lab.compare.statistics import ENOUGH, RESAMPLES, levels
from csd_lab.files import atomic_path
from csd_lab.html import content_policy, data_uri, fit_to_show, relative_link, render
from csd_lab.run_folder import RunFolder

Media = Literal["auto", "embed", "link"]

HERE = Path(__file__).parent / "assets"
BASE_STYLE = Path(__file__).parent.parent / "report" / "page.css"
SCRIPTS = ("statistics.js", "figures.js", "elements.js", "charts.js", "clips.js", "page.js")
BUDGET = 24 * 2**20
"""Bytes of clips that are embedded; a kind of clips that does not fit as a whole is linked."""
SCALARS = ("gradient_norm", "loss")
MEGABYTE = 2**20


class Edit(TypedDict):
    """A clip or an image of a run, as the page's script takes it."""

    address: str
    picture: bool


class Kind(NamedTuple):
    """A kind of results that each run has one of, a clip or an image.

    Attributes:
        name: of the attribute of a run's folder for its clip.
        image: of that for its image.
        label: for readers.
    """

    name: str
    image: str
    label: str

    def path(self, folder: RunFolder) -> Path:
        """The file of a run, which may have none."""
        clip: Path = getattr(folder, self.name)
        image: Path = getattr(folder, self.image)
        return image if image.is_file() else clip


KINDS = (
    Kind("edited", "edited_image", "edits"),
    Kind("side_by_side", "side_by_side_image", "edits beside their sources"),
)


def write_comparison_page(
    path: Path | str,
    comparison: Comparison,
    title: str,
    command: str = "",
    media: Media = "auto",
    shown: Sequence[str] | None = None,
) -> None:
    """Write the page of a comparison; it appears whole or not at all.

    Args:
        path: of the HTML file.
        comparison: its content, and how it is grouped at first.
        title: its head.
        command: what was typed.
        media: "embed" clips, "link" to them, or "auto": embed each kind that fits into 24 MB.
        shown: metrics that have a column at first; None: those with a better direction.

    Raises:
        OSError: if the file cannot be written, or a clip cannot be read.
    """
    path = Path(path)
    styles = [file.read_text(encoding="utf-8") for file in (BASE_STYLE, HERE / "page.css")]
    script = _script()
    edits, note = _edits(comparison.readable, path.parent, media)
    left_out = [_left_out(comparison, run) for run in comparison.runs if run.state != "done"]
    html = render(
        HERE / "page.html.j2",
        title=title,
        facts=_facts(comparison),
        left_out=left_out,
        total=len(comparison.runs),
        command=command,
        has_metrics=bool(comparison.metrics),
        has_curves=bool(comparison.curves.values),
        has_edits=bool(shown_edits := [edit for places in edits for edit in places.values()]),
        has_clips=not all(edit["picture"] for edit in shown_edits),
        width=comparison.curves.width,
        media_note=note,
        base_style=Markup(styles[0]),
        style=Markup(styles[1]),
        script=Markup(script),
        data=_json(_data(comparison, path.parent, shown)),
        media=_json(edits),
        policy=content_policy(styles, [script], _sources(shown_edits)),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _script() -> str:
    parts = [(HERE / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return "\n".join(["(() => {", '"use strict";', *parts, "})();"])


def _json(content: Any) -> Markup:
    """JSON that may stand in a script element: no character of it ends the element."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(fit_to_show(text))


def _facts(comparison: Comparison) -> dict[str, str]:
    scenes = {comparison.scene(run) for run in comparison.done}
    return {
        "runs": str(len(comparison.runs)),
        "finished": str(len(comparison.done)),
        "scenes": str(len(scenes)),
        "settings that differ": str(sum(key.differs for key in comparison.keys.values())),
    }


def _left_out(comparison: Comparison, run: RunRecord) -> dict[str, str]:
    differing = [key.name for key in comparison.keys.values() if key.differs]
    settings = [f"{name}={run.config[name]}" for name in differing if name in run.config]
    return {
        "name": run.name,
        "state": run.state,
        "reason": run.reason,
        "differences": "   ".join(settings),
        "traceback": run.traceback,
    }


def _data(comparison: Comparison, folder: Path, shown: Sequence[str] | None) -> dict[str, Any]:
    metrics = comparison.metrics
    if shown is None:
        shown = [n for n, note in metrics.items() if note.higher_is_better is not None]
    keys = list(comparison.keys.values())
    return {
        "by": comparison.by,
        "unit": comparison.unit,
        "reference": comparison.reference.label,
        "matched": MATCHED,
        "preferred": PREFERRED,
        "between": BETWEEN,
        "resamples": RESAMPLES,
        "enough": ENOUGH,
        "levels": [None, None, *(levels(n) for n in range(2, len(comparison.readable) + 1))],
        "metrics": [
            {"name": n, "meaning": note.meaning, "higher": note.higher_is_better, "unit": note.unit}
            for n, note in metrics.items()
        ],
        "shown": list(shown) or list(metrics),
        "axes": _axes(list(metrics)),
        "keys": [{"name": k.name, "labels": k.labels, "family": k.family} for k in keys],
        "runs": [
            {
                "name": run.name,
                "state": run.state,
                "reason": run.reason,
                "cells": [key.cells[place] for key in keys],
                "metrics": [_number(run.metrics.get(name)) for name in metrics],
                "report": _link(run.folder.report, folder),
            }
            for place, run in enumerate(comparison.readable)
        ],
        "curves": _curves(comparison),
        "scalar": _first(SCALARS, list(comparison.curves.values)),
    }


def _axes(metrics: Sequence[str]) -> list[int]:
    """Places of the metrics across and upwards at first: consistency, and fidelity of the edit."""
    return [
        metrics.index(n) if (n := _first(kind, metrics)) else 0 for kind in (CONSISTENCY, FIDELITY)
    ]


def _first(wanted: Sequence[str], there: Sequence[str]) -> str:
    """The first name that begins with a wanted one, in the order of these; else the first."""
    found = [name for prefix in wanted for name in there if name.startswith(prefix)]
    return [*found, *there, ""][0]


def _curves(comparison: Comparison) -> dict[str, Any]:
    curves = comparison.curves
    scalars = {
        name: base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()
        for name, values in curves.values.items()
    }
    return {"width": curves.width, "steps": curves.steps.tolist(), "scalars": scalars}


def _edits(
    runs: Sequence[RunRecord], folder: Path, media: Media
) -> tuple[list[dict[str, Edit]], str]:
    """What each run that is done shows, by kind, and what is to be said of that."""
    places: list[dict[str, Edit]] = [{} for _ in runs]
    notes: list[str] = []
    room = BUDGET
    for kind in KINDS:
        paths = [kind.path(run.folder) if run.state == "done" else None for run in runs]
        sizes = {path: path.stat().st_size for path in paths if path and path.is_file()}
        total = sum(sizes.values())
        embed = media == "embed" or (media == "auto" and total <= room)
        room -= total if embed else 0
        for place, path in zip(places, paths, strict=True):
            if path and sizes.get(path):
                address = data_uri(path) if embed else relative_link(path, folder)
                place[kind.name] = {"address": address, "picture": path.suffix == ".png"}
        notes.append(_note(kind, total, embed, media))
    return places, " ".join(notes)


def _sources(edits: Sequence[Edit]) -> tuple[str, ...]:
    """Where the page may take media from: itself, and files beside it only if some are linked."""
    linked = not all(edit["address"].startswith("data:") for edit in edits)
    return ("data:", "'self'", "file:") if linked else ("data:",)


def _note(kind: Kind, total: int, embed: bool, media: Media) -> str:
    size = f"{total / MEGABYTE:.1f} MB"
    if embed:
        return f"The {kind.label} are in this file ({size})."
    why = "as asked" if media == "link" else f"since {BUDGET // MEGABYTE} MB is the limit"
    return (
        f"The {kind.label} ({size}) are linked, {why}: "
        "they are seen while the run folders stay where they are."
    )


def _link(path: Path, folder: Path) -> str | None:
    return relative_link(path, folder) if path.is_file() else None


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
