"""Runs in groups, and what can be said of the groups."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, final

from csd_lab.compare.curves import Curves, curves_of
from csd_lab.compare.keys import ABSENT, FREE, Cells, differing_keys, key_of
from csd_lab.compare.results import RunRecord
from csd_lab.compare.statistics import (
    Estimate,
    bootstrap_estimate,
    paired_scenes,
    scene_means,
    student_estimate,
)
from csd_lab.notes import MetricNote
from csd_lab.text import hint

SCENE = ("data.clip_seed", "data.scene_seed", "data.path")
"""Settings that say which scene a run is about: the procedural world's, or a file."""
MATCHED = ("prompt", "seed")
"""Settings in which two runs of one scene must agree to be compared."""
PREFERRED = ("csd_edit_best", "csd_edit", "rbf", "rbf_paper")
"""The reference where none is chosen is the group with most of these values."""
FIDELITY = ("clip_direction", "psnr_answer", "psnr_target", "clip_text", "ssim_target")
CONSISTENCY = ("lpips_consecutive", "intra_lpips", "clip_consecutive", "agreement", "error_spread")
"""Beginnings of metrics that say most: of the edit, and of its consistency."""
BETWEEN = " · "


class Group(NamedTuple):
    """Runs with the same values of the keys that are grouped by.

    Attributes:
        label: these values.
        cells: the same, as indices of the keys' labels.
        runs: places in :attr:`Comparison.readable` of its runs that are done.
        unfinished: how many others it has.
    """

    label: str
    cells: Cells
    runs: tuple[int, ...]
    unfinished: int


@final
class Comparison:
    """Runs, grouped by some of their settings.

    Args:
        runs: all of them, whatever became of them.
        by: settings to group by; None: the parts (method, kernel, ...) whose choice differs, and
            whatever else was varied among runs of one scene, prompt and seed.
        unit: settings that say which scene a run is about; None: the clip.
        reference: label of the group that others are compared with, such as "csd_edit" or
            "csd_edit, rbf"; None: the one most like the defaults.
        metrics: which; None: all that any run has, those that say most first.

    Attributes:
        runs: as given.
        readable: those with a config; indices of runs are places in this list.
        keys: the settings that differ, and those of ``by`` and ``unit``, by name.
        by: settings that are grouped by; () is one group of all.
        unit: settings that say which scene a run is about.
        groups: in order of their values.
        metrics: by name.
        reference: the group that others are compared with.

    Raises:
        ValueError: if no run has such a setting, or such a metric, or no group such a label.
    """

    def __init__(
        self,
        runs: Sequence[RunRecord],
        by: Sequence[str] | None = None,
        unit: Sequence[str] | None = None,
        reference: str | None = None,
        metrics: Sequence[str] | None = None,
    ) -> None:
        self.runs = list(runs)
        self.readable = [run for run in runs if run.config]
        if not self.readable:
            raise ValueError(f"none of the {len(self.runs)} runs has a config.yaml to compare by.")
        self.keys = {key.name: key for key in differing_keys(self.readable)}
        self.unit = self._known("unit", SCENE if unit is None else unit, some=unit is None)
        self.by = self._default_by() if by is None else self._known("by", by)
        for name in (*self.by, *self.unit, *MATCHED):
            self.keys.setdefault(name, key_of(self.readable, name))
        self.metrics = self._known_metrics(metrics)
        self.groups = self._grouped()
        self.reference = self._referred(reference)
        self._estimates: dict[tuple[Group, str], Estimate] = {}
        self._differences: dict[tuple[Group, str], Estimate] = {}

    def scene(self, run: int) -> Cells:
        """Which scene a run is about."""
        return self._cells(run, self.unit)

    def estimate(self, group: Group, metric: str) -> Estimate:
        """Mean of a metric over the group's scenes, with Student's interval."""
        if (group, metric) not in self._estimates:
            values = [(self.scene(run), self._value(run, metric)) for run in group.runs]
            self._estimates[group, metric] = student_estimate(scene_means(values))
        return self._estimates[group, metric]

    def difference(self, group: Group, metric: str) -> Estimate:
        """Mean paired difference to the reference over scenes, with a bootstrap interval."""
        if (group, metric) not in self._differences:
            ours, theirs = self._by_cell(group, metric), self._by_cell(self.reference, metric)
            scene = {cell: cell[: len(self.unit)] for cell in ours}
            self._differences[group, metric] = bootstrap_estimate(
                paired_scenes(ours, theirs, scene)
            )
        return self._differences[group, metric]

    def better(self, group: Group, metric: str) -> tuple[int, int]:
        """In how many scenes the group is better than the reference, and in how many worse.

        (0, 0) for metrics where neither direction is better.
        """
        sign = {True: 1, False: -1, None: 0}[self.metrics[metric].higher_is_better]
        ours, theirs = self._by_cell(group, metric), self._by_cell(self.reference, metric)
        scene = {cell: cell[: len(self.unit)] for cell in ours}
        gains = [sign * mean for mean, _ in paired_scenes(ours, theirs, scene).values()]
        return sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)

    def best(self, metric: str) -> float | None:
        """The best mean of all groups; None if neither direction is better, or for one group."""
        higher = self.metrics[metric].higher_is_better
        means = [self.estimate(group, metric).mean for group in self.groups]
        means = [mean for mean in means if not math.isnan(mean)]
        if higher is None or len(means) < 2:
            return None
        return (max if higher else min)(means)

    def curve(self, group: Group, scalar: str) -> list[tuple[float, Estimate]]:
        """A scalar over steps: (step, mean over the group's scenes with Student's interval)."""
        values = self.curves.values[scalar]
        estimates = [
            student_estimate(
                scene_means([(self.scene(run), float(values[run, point])) for run in group.runs])
            )
            for point in range(len(self.curves.steps))
        ]
        return [
            (float(step), estimate)
            for step, estimate in zip(self.curves.steps, estimates, strict=True)
            if estimate.scenes
        ]

    @cached_property
    def curves(self) -> Curves:
        """The curves of the readable runs."""
        return curves_of(self.readable)

    @cached_property
    def matched(self) -> tuple[str, ...]:
        """Settings in which two runs of one scene must agree to be compared.

        Beside prompt and seed, those that were varied and of which all groups have a value.
        """
        always = tuple(name for name in MATCHED if not self._is_told(name))
        given = (*self.by, *self.unit, *always)
        others = [name for name in self.keys if name not in MATCHED and self._varies(name, given)]
        return (*always, *(name for name in others if self._is_shared(name)))

    @cached_property
    def pooled(self) -> tuple[str, ...]:
        """Settings that differ between runs of a group that nothing tells apart: averaged over."""
        given = (*self.by, *self.unit, *self.matched)
        return tuple(name for name in self.keys if self._varies(name, given))

    @property
    def done(self) -> list[int]:
        """Places of the readable runs that are done."""
        return [place for place, run in enumerate(self.readable) if run.state == "done"]

    def values(self, group: Group) -> tuple[str, ...]:
        """The group's values of the keys that are grouped by, as text."""
        return self._labels(group.cells)

    def scenes(self, group: Group) -> int:
        """How many scenes the group's finished runs are about."""
        return len({self.scene(run) for run in group.runs})

    def _cells(self, run: int, names: Sequence[str]) -> Cells:
        return tuple(self.keys[name].cells[run] for name in names)

    def _value(self, run: int, metric: str) -> float:
        return self.readable[run].metrics.get(metric, math.nan)

    def _by_cell(self, group: Group, metric: str) -> dict[Cells, float]:
        names = (*self.unit, *self.matched)
        values = [(self._cells(run, names), self._value(run, metric)) for run in group.runs]
        return {cell: mean for cell, (mean, _) in scene_means(values).items()}

    def _known(self, what: str, names: Sequence[str], some: bool = False) -> tuple[str, ...]:
        """The names, once it is known that runs have such settings.

        Raises:
            ValueError: if no run has one of them, unless ``some`` of them are enough.
        """
        there = {name for run in self.readable for name in run.config}
        for name in names:
            if name not in there and not some:
                raise ValueError(f"{what}: no run has a setting {name!r}{hint(name, there)}.")
        return tuple(name for name in dict.fromkeys(names) if name in there)

    def _default_by(self) -> tuple[str, ...]:
        parts = [n for n in self.keys if "." not in n and n not in FREE and n != "data"]
        chosen = sorted(parts, key=_usual_order)
        told = [name for name in (*FREE, *self.unit) if name in self.keys]
        for name, key in self.keys.items():
            swept = len({*key.labels} - {ABSENT}) > 1 and name not in told
            if swept and self._varies(name, (*chosen, *told)):
                chosen.append(name)
        return tuple(chosen) or self._known("by", ("method",), some=True)

    def _varies(self, name: str, given: Sequence[str]) -> bool:
        """Whether runs differ in a setting that agree in all of some others."""
        seen: dict[Cells, int] = {}
        cells = enumerate(self.keys[name].cells)
        return any(seen.setdefault(self._cells(run, given), cell) != cell for run, cell in cells)

    def _is_told(self, name: str) -> bool:
        """Whether a setting, or one that changes with it, is grouped by or says the scene."""
        return bool({name, *self.keys[name].family} & {*self.by, *self.unit})

    def _is_shared(self, name: str) -> bool:
        """Whether all groups have runs of one value of a setting."""
        values: dict[Cells, set[int]] = {}
        for run, cell in enumerate(self.keys[name].cells):
            values.setdefault(self._cells(run, self.by), set()).add(cell)
        return bool(set.intersection(*values.values()))

    def _known_metrics(self, names: Sequence[str] | None) -> dict[str, MetricNote]:
        there = dict.fromkeys(
            name
            for place in self.done
            for name, value in self.readable[place].metrics.items()
            if not math.isnan(value)
        )
        notes = {n: note for place in self.done for n, note in self.readable[place].notes.items()}
        for name in names or ():
            if name not in there:
                raise ValueError(f"metrics: no finished run has {name!r}{hint(name, there)}.")
        return {
            name: notes.get(name, MetricNote()) for name in names or key_metrics_first(list(there))
        }

    def _grouped(self) -> list[Group]:
        places: dict[Cells, list[int]] = {}
        for run in range(len(self.readable)):
            places.setdefault(self._cells(run, self.by), []).append(run)
        done = set(self.done)
        return [
            Group(
                BETWEEN.join(self._labels(cells)) or "all runs",
                cells,
                tuple(r for r in runs if r in done),
                sum(r not in done for r in runs),
            )
            for cells, runs in sorted(places.items())
        ]

    def _labels(self, cells: Cells) -> tuple[str, ...]:
        pairs = zip(self.by, cells, strict=True)
        return tuple(self.keys[name].labels[cell] for name, cell in pairs)

    def _referred(self, label: str | None) -> Group:
        if label is None:
            with_results = [g for g in self.groups if g.runs] or self.groups
            return max(with_results, key=lambda g: len({*PREFERRED} & {*g.label.split(BETWEEN)}))
        wanted = [part.strip() for part in label.replace(BETWEEN, ",").split(",")]
        found = [g for g in self.groups if g.label == label or g.label.split(BETWEEN) == wanted]
        if not found:
            there = ", ".join(repr(group.label) for group in self.groups)
            raise ValueError(f"reference must be one of the groups {there}, got {label!r}.")
        return found[0]


def key_metrics_first(metrics: Sequence[str]) -> list[str]:
    """The same names, those that say most first: of the edit and of consistency in turns."""
    leading = [
        name
        for prefixes in zip(FIDELITY, CONSISTENCY, strict=True)
        for prefix in prefixes
        for name in metrics
        if name.startswith(prefix)
    ]
    return list(dict.fromkeys([*leading, *metrics]))


def _usual_order(part: str) -> tuple[int, str]:
    usual = ("method", "kernel", "guidance", "prior")
    return (usual.index(part) if part in usual else len(usual)), part
