"""The command line that comparisons share."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from csd_lab import world
from csd_lab.data import EditData
from csd_lab.launch import quiet_libraries

from .bench import Bench
from .cells import Cell, Plan, fill
from .tables import show

METHODS: Mapping[str, tuple[str, ...]] = {
    "csd_edit": (),
    "identity": ("kernel=identity", "method.distiller.normalize=row"),
    "ip2p": ("method=ip2p",),
    "ip2p_shared": ("method=ip2p", "method.noise=shared"),
}
"""Config overrides by the names that methods have in tables."""


class Subject(NamedTuple):
    """What is compared.

    Attributes:
        edits_of: the edits that the scene of a seed allows.
        data_of: the task of a cell.
        metrics: to show, each with whether higher is better.
        overrides: of the config, that choose the data.
        methods: config overrides by the name of a method.
    """

    edits_of: Callable[[int], Sequence[world.Edit]]
    data_of: Callable[[Cell], EditData]
    metrics: Mapping[str, bool]
    overrides: tuple[str, ...] = ()
    methods: Mapping[str, tuple[str, ...]] = METHODS


def arguments(
    description: str, file: str, seeds: int, one: int, many: int
) -> argparse.ArgumentParser:
    """A parser of what all comparisons take.

    Args:
        description: of the script.
        file: where cells are kept by default.
        seeds: of each edit by default.
        one: instructions a scene with one right answer by default.
        many: and with many.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first scene")
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--one", type=int, default=one, help="instructions with one right answer")
    parser.add_argument("--many", type=int, default=many, help="instructions with many")
    parser.add_argument("--methods", nargs="+", help="some of them, the one to compare with first")
    parser.add_argument("--file", type=Path, default=Path(file))
    parser.add_argument("--table-only", action="store_true", help="show what is in the file")
    parser.add_argument("overrides", nargs="*", help="config overrides for all methods")
    return parser


def compare(subject: Subject, options: argparse.Namespace) -> None:
    """Do the cells that are missing, and print the tables."""
    quiet_libraries()
    plan = Plan(
        options.first,
        options.scenes,
        options.seeds,
        options.methods or list(subject.methods),
        subject.edits_of,
        options.one,
        options.many,
    )

    def prepare() -> Callable[[Cell], dict[str, float]]:
        methods = {name: subject.methods[name] for name in plan.methods}
        bench = Bench(methods, [*subject.overrides, *options.overrides])
        return lambda cell: bench.run(cell.method, cell.seed, subject.data_of(cell))

    if not options.table_only:
        fill(options.file, plan, prepare)
    show(options.file, plan, subject.metrics)
