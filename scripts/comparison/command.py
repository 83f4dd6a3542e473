"""The command line that comparisons share."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from csd_lab import world
from csd_lab.data import EditData
from csd_lab.launch import quiet_libraries

from .bench import Bench, Sample
from .cells import Cell, Plan, fill
from .tables import show

DISTILLED: Mapping[str, tuple[str, ...]] = {
    "csd_edit": (),
    "identity": ("kernel=identity", "method.distiller.normalize=row"),
}
SAMPLED = {"ip2p": "independent", "ip2p_shared": "shared"}


class Subject(NamedTuple):
    """What is compared.

    Attributes:
        edits_of: the edits that the scene of a seed allows.
        data_of: the task of a cell.
        sample: how it is edited by sampling.
        metrics: to show, each with whether higher is better.
        overrides: of the config, that choose the data.
        distilled: config overrides of the methods that distil, by name.
    """

    edits_of: Callable[[int], Sequence[world.Edit]]
    data_of: Callable[[Cell], EditData]
    sample: Sample
    metrics: Mapping[str, bool]
    overrides: tuple[str, ...] = ()
    distilled: Mapping[str, tuple[str, ...]] = DISTILLED


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
    parser.add_argument("--sampling-steps", type=int, default=20)
    parser.add_argument("--sampling-guidance", type=float, nargs=2, default=(3.0, 1.5))
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
        options.methods or [*subject.distilled, *SAMPLED],
        subject.edits_of,
        options.one,
        options.many,
    )

    def prepare() -> Callable[[Cell], dict[str, float]]:
        bench = Bench(
            {name: own for name, own in subject.distilled.items() if name in plan.methods},
            SAMPLED,
            subject.sample,
            options.sampling_steps,
            tuple(options.sampling_guidance),
            [*subject.overrides, *options.overrides],
        )
        return lambda cell: bench.run(cell.method, cell.seed, subject.data_of(cell))

    if not options.table_only:
        fill(options.file, plan, prepare)
    show(options.file, plan, subject.metrics)
