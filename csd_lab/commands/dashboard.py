"""`csd-lab-dashboard`: a workspace and a report in wandb that compare methods with baselines.

Exit codes: 0 made, 1 the server did not take it, 2 wrong input.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csd_lab.commands.arguments import Parser, exit_code, run_folders
from csd_lab.notes import MetricNote
from csd_lab.sweep.report import OFFLINE, not_uploaded
from csd_lab.text import on_one_line

if TYPE_CHECKING:
    from csd_lab.tracking.logged import Logged

HELP = """\
Make a workspace and a report in wandb that compare the methods of a sweep: bars and a table of all
final metrics by method, fidelity against consistency, curves over steps, videos side by side.

  csd-lab-dashboard outputs/sweeps/guidance              what the runs in this folder logged
  csd-lab-dashboard --project csd_lab --group guidance   a sweep whose folder is elsewhere

Where nobody is logged in, the same specification is written to a file, and you are told which
commands upload the runs and make the dashboard later.
"""

EPILOG = """\
Runs log to wandb with logger=wandb. Without a folder, the names of the metrics are those of
csd-lab's own configs (--metrics). Exit codes: 0 made, 1 the server did not take it, 2 wrong input.
"""


def main() -> None:
    """Run the command line in ``sys.argv`` and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Make the views that the arguments name, and return the exit code."""
    options = parser().parse_args(arguments)

    def show() -> int:
        if options.folders:
            options.folders = run_folders(options.folders)
        logged = what_is_logged(options)
        if missing_extra():
            raise ValueError("wandb-workspaces is not installed: pip install 'csd-lab[dashboard]'.")
        return make(logged, options, arguments)

    return exit_code("csd-lab-dashboard", show)


def parser() -> Parser:
    """The options."""
    parser = Parser(
        "csd-lab-dashboard",
        "csd-lab-dashboard [FOLDER ...] [--project NAME] [options]",
        HELP,
        EPILOG,
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="sweeps or runs")
    parser.add_argument("--project", metavar="NAME", help="of wandb (default: that of the runs)")
    parser.add_argument("--entity", metavar="NAME", help="user or team (default: that of the runs)")
    parser.add_argument("--group", nargs="+", metavar="NAME", help="sweeps (default: of the runs)")
    parser.add_argument(
        "--metrics", default="default", metavar="NAME", help="config of metrics (without a folder)"
    )
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="write the specification there, logged in or not"
    )
    return parser


def what_is_logged(options: argparse.Namespace) -> "Logged":
    """What the views are about.

    Raises:
        ValueError: if there are no such runs, or neither a folder nor a project is given.
    """
    from csd_lab.tracking.logged import Logged, logged_by

    if options.folders:
        logged = logged_by(options.folders)
    elif options.project:
        logged = Logged(options.project, metrics=known_metrics(options.metrics))
    else:
        raise ValueError("give the folder of a sweep, or --project.")
    given = {
        "project": options.project,
        "entity": options.entity,
        "groups": options.group and tuple(options.group),
    }
    return logged._replace(**{name: value for name, value in given.items() if value})


def known_metrics(choice: str) -> dict[str, MetricNote]:
    """The metrics of a file of configs/metrics, with what they mean.

    Raises:
        ValueError: if there is no such file, or a network cannot be loaded.
    """
    from csd_lab.commands.evaluate import metric_suite

    return {name: metric.note for name, metric in metric_suite(choice, []).metrics.items()}


def missing_extra() -> bool:
    """Whether the optional dependency of this command is not there."""
    from importlib.util import find_spec

    return find_spec("wandb_workspaces") is None


def make(logged: "Logged", options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Save the views in wandb, or in a file where that cannot be; return the exit code.

    Raises:
        OSError: if the file cannot be written.
    """
    from csd_lab.tracking.server import NOBODY, decide_mode
    from csd_lab.tracking.views import report, specification, workspace

    views = workspace(logged), report(logged)
    mode = decide_mode()
    online = mode.name == "online"
    file = options.file
    if file is None and not online:
        file = (options.folders[0] if options.folders else Path()) / "dashboard.json"
    if file is not None:
        write(file, specification(*views))
        print(f"specification: {file}")
    if online:
        return save(*views)
    login = ["wandb login"] if mode.why == NOBODY else []
    if "WANDB_MODE" in os.environ:
        login = ["unset WANDB_MODE", *login]
    again = shlex.join(["csd-lab-dashboard", *arguments])
    later = " && ".join([*login, *uploads(options.folders), again])
    why = mode.why or f"wandb is {mode.name}"
    print(f"Not saved in wandb, since {why}; later: {later}")
    return 0


def write(file: Path, specification: dict[str, Any]) -> None:
    """Write a specification; the file appears whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    from csd_lab.files import atomic_path

    with atomic_path(file) as path:
        text = json.dumps(specification, indent=2, ensure_ascii=False)
        path.write_text(text, encoding="utf-8")


def save(workspace: Any, report: Any) -> int:
    """Save both in wandb and print where they are; return the exit code."""
    import wandb

    try:
        entity = workspace.entity or wandb.Api().default_entity
        workspace.entity = report.entity = entity
        print(f"workspace: {workspace.save().url}")
        print(f"report: {report.save().url}")
    except Exception as error:  # the library passes on what its transports raise
        reason = on_one_line(error) or type(error).__name__
        print(f"csd-lab-dashboard: wandb did not take it: {reason[:300]}", file=sys.stderr)
        return 1
    return 0


def uploads(folders: Sequence[Path]) -> list[str]:
    """The command that uploads the offline runs in some folders; none if there are none."""
    parts = (part for folder in folders for part in folder.rglob(OFFLINE))
    places = sorted({part.parent for part in not_uploaded(parts)})
    if not places:
        return []
    if len(places) > 1 and {place.parent.parent for place in places} == set(folders):
        return [f"wandb sync {' '.join(f'{shlex.quote(str(f))}/*/wandb' for f in folders)}"]
    return [shlex.join(["wandb", "sync", *map(str, places)])]


if __name__ == "__main__":
    main()
