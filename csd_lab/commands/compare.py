"""`csd-lab-compare`: runs beside each other, as a page and as tables.

Exit codes: 0 done, 2 wrong input.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from csd_lab.commands.arguments import COMPARISON, Parser, exit_code, run_folders
from csd_lab.compare import Comparison, load_runs
from csd_lab.compare.figures import mean_text
from csd_lab.compare.page import Media, write_comparison_page
from csd_lab.compare.statistics import Estimate
from csd_lab.compare.tables import csv_table, latex, markdown
from csd_lab.files import atomic_path
from csd_lab.text import listed

COLUMNS = 3
"""Metrics in the terminal's table, if they fit; the files have all."""
LABEL = 24
"""Widest column of labels there, in characters."""
FIGURE = 13
"""Narrowest column of figures there."""

EPILOG = """\
examples:
  csd-lab-compare outputs/sweeps/guidance                      a sweep
  csd-lab-compare outputs/sweeps/* --out outputs/all           several
  csd-lab-compare outputs/sweeps/guidance --by method,guidance.text --reference dds,7.5
  csd-lab-compare runs --metrics psnr_answer,lpips_consecutive_tiny --unit data.path

It writes comparison.html (one self-contained page: open it in a browser; runs can be regrouped,
filtered and sorted there), comparison.csv (all figures), comparison.md and comparison.tex.

A scene counts once: its runs (seeds, prompts) are averaged before intervals are made, since only
scenes are independent. Differences to the reference are paired by scene, prompt and seed.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit with its code where that is not 0."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    command = shlex.join(["csd-lab-compare", *arguments])
    if code := exit_code("csd-lab-compare", lambda: _compare(options, command)):
        sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "csd-lab-compare",
        "csd-lab-compare FOLDER [FOLDER ...] [options]",
        "Compare runs: means with 95 % intervals, paired differences, trade-offs, curves and clips,"
        "\non one page without a server, and as tables.",
        EPILOG,
    )
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        help="folders of sweeps or runs, or folders that hold them",
    )
    parser.add_argument(
        "--out", type=Path, help="where to write (default: the folder that was given, or holds all)"
    )
    parser.add_argument(
        "--by",
        type=_names,
        help="settings to group by, with commas (default: everything that differs, but for "
        "seeds, prompts and scenes)",
    )
    parser.add_argument(
        "--reference",
        help='group that others are compared with, such as "dds" or "csd_edit_best,rbf" '
        "(default: the group next to the defaults)",
    )
    parser.add_argument(
        "--metrics", type=_names, help="metrics to show, with commas (default: all)"
    )
    parser.add_argument(
        "--unit",
        type=_names,
        help="settings that say which scene a run is about, with commas (default: data.clip_seed, "
        "data.scene_seed or data.path)",
    )
    _add_media(parser)
    return parser


def _add_media(parser: argparse.ArgumentParser) -> None:
    """Whether clips are part of the page; "auto" if neither is said."""
    media = parser.add_mutually_exclusive_group()
    media.add_argument(
        "--link",
        dest="media",
        action="store_const",
        const="link",
        default="auto",
        help="link to the clips instead of embedding them (default: embed those that fit in 24 MB)",
    )
    media.add_argument(
        "--embed",
        dest="media",
        action="store_const",
        const="embed",
        help="embed all clips, however large the page becomes",
    )


def _compare(options: argparse.Namespace, command: str) -> None:
    """Read, compare, write and tell.

    Args:
        options: as they were given.
        command: what was typed.

    Raises:
        ValueError: if a folder, a setting, a metric or a group is not there.
        OSError: if a file cannot be written.
    """
    folders = run_folders(options.folders)
    comparison = Comparison(
        load_runs(folders),
        by=options.by,
        unit=options.unit,
        reference=options.reference,
        metrics=options.metrics,
    )
    out = options.out or _shared(folders)
    for ending, table in {".csv": csv_table, ".md": markdown, ".tex": latex}.items():
        with atomic_path(out / f"{COMPARISON}{ending}") as path:
            path.write_text(table(comparison), encoding="utf-8", errors="replace")
    page = out / f"{COMPARISON}.html"
    media: Media = options.media
    write_comparison_page(page, comparison, _title(folders), command, media, options.metrics)
    _tell(comparison, page)


def _tell(comparison: Comparison, page: Path) -> None:
    """Print the table of means, the runs that are not in it, and where the page is."""
    console = Console()
    wide = console.options.update(max_width=10_000)  # else what is measured is cut to the console
    tables = (_table(comparison, columns) for columns in range(COLUMNS, 0, -1))
    for table in tables:
        if console.measure(table, options=wide).minimum <= console.width:
            break
    console.print(table)
    left_out = [run for run in comparison.runs if run.state != "done"]
    for run in left_out[:10]:
        console.print(Text(f"not finished: {run.name}: {run.state}, {run.reason}", "yellow"))
    if len(left_out) > 10:
        console.print(f"and {len(left_out) - 10} more, see the page")
    print(f"Page: {page}")


def _table(comparison: Comparison, columns: int) -> Table:
    """Means of the first few metrics."""
    names = list(comparison.metrics)[:columns]
    best = {name: comparison.best(name) for name in names}
    table = Table(box=SIMPLE_HEAD, caption="mean over scenes ± 95 %", caption_justify="left")
    for key in comparison.by or ("group",):
        table.add_column(Text(key), no_wrap=True, max_width=LABEL)
    table.add_column("scenes", justify="right")
    texts = {
        name: [figure_text(comparison.estimate(group, name)) for group in comparison.groups]
        for name in names
    }
    for name in names:
        width = max(FIGURE, *map(len, texts[name]))
        title = Text(f"{name} {comparison.metrics[name].arrow}".strip())
        table.add_column(title, justify="right", overflow="fold", min_width=width)
    for place, group in enumerate(comparison.groups):
        figures = (
            Text(
                texts[name][place],
                "bold" if comparison.estimate(group, name).mean == best[name] else "",
            )
            for name in names
        )
        labels = map(Text, comparison.values(group) or (group.label,))
        table.add_row(*labels, str(comparison.scenes(group)), *figures)
    return table


def figure_text(estimate: Estimate) -> str:
    """A mean with its interval, in one line."""
    return mean_text(estimate).replace(" ", "\N{NO-BREAK SPACE}")


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def _shared(folders: Sequence[Path]) -> Path:
    """The folder that was given, or the one that holds all that were."""
    return (
        folders[0]
        if len(folders) == 1
        else Path(os.path.commonpath([f.resolve() for f in folders]))
    )


def _title(folders: Sequence[Path]) -> str:
    names = list(dict.fromkeys(folder.resolve().name for folder in folders))
    return f"Comparison of {listed(names)}"


if __name__ == "__main__":
    main()
