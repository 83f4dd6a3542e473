"""The command line that comparisons share."""

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from .bench import Bench, be_quiet, fingerprint
from .cells import Plan, fill
from .subjects import Subject
from .tables import show

KEEP = "do no cell again that was made with other settings"


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
    parser.add_argument("--keep", action="store_true", help=KEEP)
    parser.add_argument("overrides", nargs="*", help="config overrides for all methods")
    return parser


def compare(subject: Subject, options: argparse.Namespace) -> None:
    """Do the cells that are missing, and print the tables."""
    show(options.file, filled(subject, options), subject.metrics)


def filled(subject: Subject, options: argparse.Namespace) -> Plan:
    """Do the cells that are missing, if that is wanted, and return which there are."""
    be_quiet()
    check_methods(options.methods or (), subject.methods)
    plan = Plan(
        options.first,
        options.scenes,
        options.seeds,
        options.methods or list(subject.methods),
        subject.edits_of,
        options.one,
        options.many,
    )
    if not options.table_only:
        do_missing(options.file, plan, subject, options.overrides, options.keep)
    return plan


def do_missing(
    path: Path, plan: Plan, subject: Subject, overrides: Sequence[str], keep: bool
) -> None:
    """Do the cells of a plan that the file does not hold with these config overrides.

    Args:
        path: the file.
        plan: which cells.
        subject: what they are of.
        overrides: for all methods.
        keep: do no cell again that it holds with other settings.
    """
    shared = [*subject.overrides, *overrides]
    methods = {name: subject.methods[name] for name in plan.methods}
    settings = {name: fingerprint(*shared, *own) for name, own in methods.items()}
    fill(path, plan, settings, lambda: partial(subject.do, Bench(methods, shared)), keep)


def check_methods(chosen: Iterable[str], methods: Iterable[str]) -> None:
    """Ends the script with one line if these are not all methods of a comparison."""
    if unknown := sorted(set(chosen) - set(methods)):
        raise SystemExit(
            f"--methods must be some of {', '.join(methods)}, got {', '.join(unknown)} "
            "(config overrides stand before it)"
        )
