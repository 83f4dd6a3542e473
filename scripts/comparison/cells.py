"""Cells of a comparison (method, scene, instruction, seed), done one by one and kept in a file.

Every finished cell is a line of the file, so that a comparison can be stopped at any time and goes
on where it was; files of several shares can be joined.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from rich.progress import track

from csd_lab import world


class Cell(NamedTuple):
    """One edit of one scene by one method."""

    method: str
    scene: int
    instruction: str
    seed: int


class Edit(Protocol):
    """What can be asked for."""

    @property
    def instruction(self) -> str:
        """In words."""

    @property
    def many(self) -> bool:
        """Whether there are many right answers."""


UNLEARNT = "into something else"
"""How instructions end that the embedded prior has not learnt ("turn the box into something else",
docs/prior.md). Whoever leaves the picture as it is comes nearest to their answers, so that they
tell nothing of the methods."""


class Plan(NamedTuple):
    """Which cells there are.

    Attributes:
        first: number of the first scene; that of number k has seed ``HELD_OUT_SEED + 1000 + k``.
        scenes: how many.
        seeds: of each instruction and scene.
        methods: by name.
        edits_of: what can be asked for of the scene of a seed.
        one: instructions with one right answer for each scene.
        many: instructions with many for each scene.
        first_edits: how many of these, with one answer and with many, are cells; None: all.
        spare: whether others take the place of drawn instructions that the prior has not learnt.
    """

    first: int
    scenes: int
    seeds: int
    methods: Sequence[str]
    edits_of: Callable[[int], Sequence[Edit]]
    one: int = 4
    many: int = 3
    first_edits: tuple[int, int] | None = None
    spare: bool = False

    def cells(self) -> Iterator[tuple[Cell, bool]]:
        """All cells, each with whether its instruction has many answers.

        Instructions are drawn among those that the scene allows, by a generator of its own; then
        those are left out that the prior has not learnt.
        """
        for index in range(self.first, self.first + self.scenes):
            scene = world.HELD_OUT_SEED + 1000 + index
            edits = self.edits_of(scene)
            rng = np.random.default_rng(scene)
            drawn = (self.one, self.many)
            for many, count, kept in zip(
                (False, True), drawn, self.first_edits or drawn, strict=True
            ):
                names = {edit.instruction for edit in edits if edit.many is many}
                for name in self.drawn(names, count, rng)[:kept]:
                    for seed in range(self.seeds):
                        for method in self.methods:
                            yield Cell(method, scene, name, seed), many

    def drawn(self, names: Iterable[str], count: int, rng: np.random.Generator) -> list[str]:
        """So many of these instructions at most, those alone that the prior has learnt."""
        every = sorted(names)
        drawn = list(map(str, rng.choice(every, min(count, len(every)), replace=False)))
        if self.spare:
            drawn += map(str, rng.permutation([name for name in every if name not in drawn]))
        return [name for name in drawn if not name.endswith(UNLEARNT)][:count]


def read(path: Path) -> list[dict[str, Any]]:
    """The finished cells of a file; a line cut short by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def cell_of(row: dict[str, Any]) -> Cell:
    """The cell that a line of the file is about."""
    return Cell(row["method"], row["scene"], row["instruction"], row["seed"])


def fill(
    path: Path,
    plan: Plan,
    settings: Mapping[str, str],
    prepare: Callable[[], Callable[[Cell], dict[str, float]]],
    keep: bool = False,
) -> None:
    """Do the cells of a plan that the file does not hold yet.

    Args:
        path: the file.
        plan: what it is to hold.
        settings: a hash of each method's; what the file holds of other settings is done again.
        prepare: loads what is needed, and gives what does a cell: its metrics.
        keep: do nothing again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = {cell_of(row): row.get("settings") for row in read(path)}
    missing = [
        (cell, many)
        for cell, many in plan.cells()
        if cell not in held or not (keep or held[cell] == settings[cell.method])
    ]
    if not missing:
        return
    if former := sum(cell in held for cell, _ in missing):
        print(f"{former} cells of other settings are done again; --keep leaves them as they are.")
    do = prepare()
    with path.open("a", encoding="utf-8") as file:
        if not ends_a_line(path):
            file.write("\n")
        for cell, many in track(missing, "cells"):
            own = {"settings": settings[cell.method], "many": many, "metrics": do(cell)}
            file.write(json.dumps(cell._asdict() | own) + "\n")
            file.flush()


def ends_a_line(path: Path) -> bool:
    """Whether what is written next begins a line: not after a kill in the middle of one."""
    content = path.read_bytes()
    return not content or content.endswith(b"\n")
