"""`csd-lab-sweep`: look at a sweep, have failed jobs tried again, delete what is of no use."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from csd_lab.commands.arguments import Parser, exit_code
from csd_lab.sweep.folder import SweepFolder
from csd_lab.sweep.job import JobFolder
from csd_lab.sweep.launches import Launch, go_on
from csd_lab.sweep.status import State, Status
from csd_lab.sweep.table import Row, differing, figures_of, row_of, table_of
from csd_lab.text import hint

HELP = "Look at a sweep, have failed jobs tried again, delete what is of no use."

EPILOG = """\
examples:
  csd-lab-sweep status outputs/sweeps/guidance          the table of all jobs
  csd-lab-sweep status --json outputs/sweeps/guidance   the same for programs
  csd-lab-sweep retry outputs/sweeps/guidance           have failed jobs wait for the next launch
  csd-lab-sweep prune --failed outputs/sweeps/guidance  delete the folders of failed jobs
  csd-lab-sweep prune --unwanted outputs/sweeps/guidance
                                  delete jobs that the latest command no longer asks for

exit codes: 0 all jobs are done (status), or what was asked for was done; 1 not all are done, or
you declined; 2 wrong input.
"""

DELETABLE = (State.FAILED, State.INTERRUPTED, State.WAITING, State.DONE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    options = parser().parse_args(arguments)
    sys.exit(exit_code("csd-lab-sweep", lambda: options.run(options)))


def parser() -> Parser:
    """What can be typed."""
    usage = "csd-lab-sweep status|retry|prune [options] FOLDER"
    whole = Parser("csd-lab-sweep", usage, HELP, EPILOG)
    commands = whole.add_subparsers(
        prog="csd-lab-sweep", required=True, metavar="status|retry|prune"
    )

    def command(name: str, does: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=does, description=f"{does.capitalize()}.")

    look = command("status", "show all jobs of a sweep")
    look.add_argument("--json", action="store_true", help="as JSON, for programs")
    look.add_argument("--metric", help="which metric to show")
    look.set_defaults(run=status)
    again = command("retry", "have failed jobs wait for the next launch")
    again.set_defaults(run=retry)
    less = command("prune", "delete jobs, but none that run")
    for state in DELETABLE:
        less.add_argument(f"--{state}", action="store_true", help=f"delete those that are {state}")
    less.add_argument(
        "--unwanted",
        action="store_true",
        help="delete those that the latest command no longer asks for",
    )
    less.add_argument("--yes", action="store_true", help="do not ask")
    less.set_defaults(run=prune)
    for each in (look, again, less):
        each.add_argument("folder", type=Path, help="of the sweep: outputs/sweeps/NAME")
    return whole


def status(options: argparse.Namespace) -> int:
    """Show the jobs of a sweep."""
    folder = sweep_folder(options.folder)
    jobs = list(folder.jobs())
    rows = [row_of(job, found) for job, found in jobs]
    check_figure(options.metric, rows)
    unfinished = any(found.state is not State.DONE for _, found in jobs)
    if options.json:
        print(json.dumps(as_json(folder, jobs), indent=2))
        return int(unfinished)
    console = Console()
    console.print(table_of(rows, options.metric))
    for job, found in jobs:
        if found.error and found.state in (State.FAILED, State.INTERRUPTED):
            console.print(f"{job.root}: {found.error}", markup=False, soft_wrap=True)
    if unfinished and folder.latest:
        console.print(f"Go on with: {typed(folder.latest)}", markup=False, soft_wrap=True)
    return int(unfinished)


def check_figure(name: str | None, rows: Sequence[Row]) -> None:
    """Check that a job has a figure that is to be shown, where any job has one.

    Raises:
        ValueError: if none has.
    """
    known = dict.fromkeys(figure for row in rows for figure in figures_of(row))
    if name is not None and known and name not in known:
        raise ValueError(
            f"--metric must be one of {', '.join(known)}, got {name!r}{hint(name, known)}."
        )


def as_json(folder: SweepFolder, jobs: Sequence[tuple[JobFolder, Status]]) -> dict[str, Any]:
    """All that is known of a sweep, in JSON's types."""
    texts = differing({job.root.name: found.overrides for job, found in jobs})
    return {
        "folder": str(folder.root),
        "command": list(folder.latest.command) if folder.latest else None,
        "jobs": [
            {
                **found.to_json(),
                "folder": str(job.root),
                "differs_by": texts[job.root.name],
                "step": progress.step if (progress := job.progress()) else None,
                "steps": progress.steps if progress else None,
                "metrics": dict(row_of(job, found).metrics),
            }
            for job, found in jobs
        ],
    }


def retry(options: argparse.Namespace) -> int:
    """Have failed jobs wait."""
    folder = sweep_folder(options.folder)
    changed = folder.retry()
    print(f"{len(changed)} failed {plural(changed)} waiting now.")
    if changed and folder.latest:
        print(f"Go on with: {typed(folder.latest)}")
    return 0


def prune(options: argparse.Namespace) -> int:
    """Delete jobs."""
    folder = sweep_folder(options.folder)
    states = [state for state in DELETABLE if getattr(options, state)]
    if options.unwanted and folder.latest is None:
        raise ValueError(
            "--unwanted goes by the sweep's latest command, and the launch.json that holds it is "
            "missing or damaged."
        )
    keep = folder.latest.jobs if options.unwanted and folder.latest else None
    if not states and keep is None:
        choices = " ".join(f"--{state}" for state in DELETABLE)
        raise ValueError(f"Say which jobs to delete: {choices} --unwanted.")
    roots = folder.prune(states, keep)
    for root in roots:
        print(root)
    if not roots:
        print("There is nothing to delete.")
        return 0
    if not options.yes and not agreed(f"Delete these {len(roots)} folders?"):
        return 1
    deleted = sum(folder.delete(root, states, keep) for root in roots)
    print(f"{deleted} of {len(roots)} deleted.")
    return 0


def sweep_folder(root: Path) -> SweepFolder:
    """A sweep's folder.

    Raises:
        ValueError: if it holds no job.
    """
    folder = SweepFolder(root)
    if next(folder.jobs(), None) is None:
        raise ValueError(
            f"folder must be that of a sweep, such as outputs/sweeps/default; {str(root)!r} holds "
            "no job."
        )
    return folder


def typed(launch: Launch) -> str:
    """The command of a launch, to be typed where it was."""
    command = go_on(launch.command)
    here = Path.cwd() == Path(launch.folder)
    return command if here else f"cd {shlex.quote(launch.folder)} && {command}"


def plural(jobs: Sequence[object]) -> str:
    """The noun and its verb for so many jobs."""
    return "job is" if len(jobs) == 1 else "jobs are"


def agreed(question: str) -> bool:
    """Whether a person says yes; where nobody can be asked, nobody does."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print("Nothing is deleted: nobody answered; --yes does not ask.", file=sys.stderr)
        return False


if __name__ == "__main__":
    main()
