"""What methods cost with their defaults: seconds, network samples, memory, as printed tables.

    python scripts/benchmark_methods.py
    python scripts/benchmark_methods.py --methods sds csd_edit_best
    python scripts/benchmark_methods.py prior.compile=true     # but for those that look inside

One held-out clip of 8 frames and one panorama of 256 x 64 pixels, an instruction with one right
answer. Each method runs in a process of its own, so that its peak memory is its own, and there
twice: only the second time counts. Seconds are of the edit alone, without what is measured of it.
The machine should be otherwise idle.
"""

import argparse

from comparison.apart import apart, peak_megabytes, say
from comparison.bench import Bench, be_quiet
from comparison.cells import Cell, Plan
from comparison.subjects import (
    PANORAMA_METHODS,
    VIDEO_METHODS,
    Subject,
    clips,
    labels_of,
    overrides_of,
    panoramas,
)
from rich.console import Console
from rich.progress import track
from rich.table import Table

SUBJECTS: dict[str, tuple[Subject, dict[str, str]]] = {
    "clip": (
        clips(8, overrides_of(VIDEO_METHODS)),
        labels_of(VIDEO_METHODS),
    ),
    "panorama": (
        panoramas(256, False, overrides_of(PANORAMA_METHODS)),
        labels_of(PANORAMA_METHODS),
    ),
}


def measure(name: str, method: str, overrides: list[str]) -> dict[str, float]:
    """Seconds, network samples and peak memory in MB of a method's second edit."""
    subject, _ = SUBJECTS[name]
    bench = Bench({method: subject.methods[method]}, [*subject.overrides, *overrides])
    plan = Plan(0, 1, 1, [method], subject.edits_of, one=1, many=0)
    cells: list[Cell] = [cell for cell, _ in plan.cells()]
    for cell in (*cells, *cells):
        found = subject.do(bench, cell)
    return {name: found[name] for name in ("seconds", "samples")} | {"peak": peak_megabytes()}


def table_of(name: str, chosen: list[str] | None, overrides: list[str]) -> Table:
    """The costs of the methods of a subject."""
    subject, labels = SUBJECTS[name]
    methods = [method for method in subject.methods if not chosen or method in chosen]
    rows = {m: apart(__file__, name, m, *overrides) for m in track(methods, f"of a {name}")}
    table = Table("method", "seconds", "network samples", "samples/s", "peak MB")
    table.title = f"An edit of a {name}"
    for method, row in rows.items():
        table.add_row(
            labels[method],
            f"{row['seconds']:.1f}",
            f"{row['samples']:.0f}",
            f"{row['samples'] / row['seconds']:.0f}",
            f"{row['peak']:.0f}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = {method for subject, _ in SUBJECTS.values() for method in subject.methods}
    parser.add_argument("--methods", nargs="+", choices=sorted(names), help="some of them")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="config overrides for all methods")
    options = parser.parse_args()
    be_quiet()
    if options.only:
        say(measure(*options.only, options.overrides))
        return
    tables = [table_of(name, options.methods, options.overrides) for name in SUBJECTS]
    for table in tables:
        Console().print(table)


if __name__ == "__main__":
    main()
