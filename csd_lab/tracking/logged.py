"""What runs log to wandb, as far as a view of them must know it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from csd_lab.compare.keys import differing_keys
from csd_lab.compare.results import LOADER, SECONDS, RunRecord, load_runs
from csd_lab.notes import MetricNote
from csd_lab.tracking.identity import PLOTS, SHEET, VIDEO, identity, shown

CURVES = (
    "gradient_norm",
    "attraction_norm",
    "repulsion_norm",
    "bandwidth",
    "mean_affinity",
    "effective_neighbours",
)
"""Scalars that every method with a kernel logs at every step."""

NOT_CURVES = ("t", "epoch")


class Logged(NamedTuple):
    """What some runs of a project log.

    Attributes:
        project: of wandb.
        entity: user or team; "" for the default one.
        groups: the sweeps' names; () for all runs of the project.
        metrics: final metrics by name, with what they mean.
        curves: names of scalars over steps.
        media: names of videos, pictures and surfaces.
        settings: dotted keys of wandb's config that differ between the runs.
    """

    project: str
    entity: str = ""
    groups: tuple[str, ...] = ()
    metrics: Mapping[str, MetricNote] = {}
    curves: tuple[str, ...] = CURVES
    media: tuple[str, ...] = (VIDEO, SHEET, f"{PLOTS}/kernel")
    settings: tuple[str, ...] = ("choices.method", "choices.kernel", "seed")


def logged_by(paths: Iterable[Path]) -> Logged:
    """What the runs in and below some folders have logged.

    Raises:
        ValueError: if there are none, none of them logs to wandb, or they are of several projects.
    """
    paths = list(paths)
    pairs = [(run, config) for run in load_runs(paths) if (config := _config(run))]
    runs, configs = [run for run, _ in pairs], [config for _, config in pairs]
    placed = [place for run, config in pairs if (place := _place(run, config)) is not None]
    if not placed:
        raise ValueError(
            f"none of the runs in {', '.join(repr(str(path)) for path in paths)} logs to wandb; "
            "make them with logger=wandb."
        )
    projects = sorted({place[:2] for place in placed})
    if len(projects) > 1:
        names = ", ".join("/".join(part for part in project if part) for project in projects)
        raise ValueError(f"the runs must be of one project of wandb, they are of {names}.")
    entity, project = projects[0]
    groups = {place[2] for place in placed}
    metrics = {name: note for run in runs for name, note in run.notes.items() if name != SECONDS}
    curves = {name for run in runs for name in run.curves()} - set(metrics) - set(NOT_CURVES)
    return Logged(
        project=project,
        entity=entity,
        groups=() if "" in groups else tuple(sorted(groups)),
        metrics=metrics,
        curves=tuple(sorted(curves)),
        media=tuple(sorted({name for run in runs for name in shown(run.folder)})),
        settings=_settings(runs, configs),
    )


def _config(run: RunRecord) -> dict[str, Any]:
    """The run's resolved config; {} if there is none that can be read."""
    try:
        content = yaml.load(run.folder.config.read_text(encoding="utf-8"), LOADER)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _place(run: RunRecord, config: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Entity, project and group of a run, "" where there is none; None if wandb knows it not."""
    logger = (config.get("logger") or {}).get("wandb")
    if not logger:
        return None
    group = logger.get("group") or identity(run.folder, config).group
    return str(logger.get("entity") or ""), str(logger["project"]), str(group or "")


def _settings(runs: Sequence[RunRecord], configs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What differs between runs of these configs, as wandb's config calls it."""
    groups = {str(group) for config in configs for group in config.get("choices") or {}}
    return tuple(
        f"choices.{key.name}" if key.name in groups else key.name for key in differing_keys(runs)
    )
