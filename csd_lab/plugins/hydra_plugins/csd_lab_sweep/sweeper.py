"""The sweeper: which jobs a command means, which of them are to be done, and how it went.

How a job lives is told in :mod:`csd_lab.sweep`.
"""

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from csd_lab.composition import config_hash
from csd_lab.data.base import expanded
from csd_lab.jobs import check_sweep, own_overrides, stoppable
from csd_lab.messages import one_line
from csd_lab.settings import unused
from csd_lab.sweep.folder import SweepFolder
from csd_lab.sweep.inputs import written_at
from csd_lab.sweep.job import JobFolder
from csd_lab.sweep.launches import Launch, go_on, wants
from csd_lab.sweep.report import report
from csd_lab.sweep.status import State
from csd_lab.sweep.watch import Watch
from csd_lab.text import listed

log = logging.getLogger(__name__)

MANY = 50
"""So many jobs take seconds to compose."""

POLL = 1.0
"""Seconds between two looks at jobs that run elsewhere."""


class Job(NamedTuple):
    """A job that the command means.

    Attributes:
        folder: where it lives.
        overrides: that Hydra's launcher is given.
        reads: the media that it edits, if they lie in files.
    """

    folder: JobFolder
    overrides: tuple[str, ...]
    reads: tuple[Path, ...]


@final
class ResumableSweeper(Sweeper):
    """Runs every combination of the values given, as far as it is not done.

    Args:
        params: values that belong to the sweep itself, by name, as they would be typed.
    """

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = dict(params or {})
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives, and make the launcher that is configured.

        Raises:
            ValueError: if the launcher's package is not installed.
        """
        self.hydra_context = hydra_context
        self.config = config
        try:
            self.launcher = Plugins.instance().instantiate_launcher(
                hydra_context=hydra_context, task_function=task_function, config=config
            )
        except RuntimeError as error:  # of a plugin that Hydra does not know
            raise ValueError(str(error)) from error

    def sweep(self, arguments: list[str]) -> Any:
        """Plan, launch, wait for what others run, and report.

        Raises:
            SystemExit: unless all jobs are done.
            HydraException, ValueError: if a job cannot be composed; nothing was run then.
        """
        assert self.config is not None
        check_sweep(self.config)
        folder = SweepFolder(self.config.hydra.sweep.dir)
        jobs = self.plan(folder, arguments)
        tell_stale(jobs)
        launch = Launch.now(sys.argv, [job.folder.root.name for job in jobs])
        launch.write(folder.launch_file)
        for job in jobs:
            folder.enlist(job.folder.root.name, tuple(own_overrides(job.overrides)))
        console = own_console()
        watch = Watch([job.folder for job in jobs], console, self.config.sweep.metric)
        lost: dict[str, str] = {}
        try:
            with stoppable(), watch:
                self.run(jobs, launch.id, lost)
        finally:
            metric = self.config.sweep.metric
            all_done = report(watch.rows, folder, console, lost, go_on(sys.argv), metric)
        if not all_done:
            sys.exit(1)

    def plan(self, folder: SweepFolder, arguments: Sequence[str]) -> list[Job]:
        """The jobs that the command means, each once, in its order.

        Values that are typed take the place of the sweep's own, and other data that of its data.
        """
        assert self.config is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        given = [f"{key}={value}" for key, value in self.own(arguments).items()]
        combinations = self.combinations([*given, *arguments])
        if len(combinations) > MANY:
            print(f"Composing {len(combinations)} jobs.", flush=True)
        jobs: dict[str, Job] = {}
        hints: Counter[str] = Counter()
        for overrides in combinations:
            config = loader.load_sweep_config(self.config, overrides)
            HydraConfig.instance().set_config(config)
            name = config_hash(config)
            if hint := idle_in(config, overrides):
                hints[hint] += 1
            named = [config.data.get(key) for key in ("path", "target")]
            reads = tuple(expanded(path) for path in named if isinstance(path, str))
            jobs.setdefault(name, Job(folder.job(name), tuple(overrides), reads))
        for hint, count in hints.items():
            print(f"In {count} of {len(combinations)} jobs {hint}", flush=True)
        return list(jobs.values())

    def combinations(self, arguments: Sequence[str]) -> list[list[str]]:
        """The overrides of every combination of the values given."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides(list(arguments))
        combinations: list[list[str]] = BasicSweeper.split_arguments(parsed, None)[0]
        return combinations

    def own(self, arguments: Sequence[str]) -> dict[str, str]:
        """The sweep's own values that what is typed leaves."""
        assert self.config is not None
        assert self.hydra_context is not None
        typed = {argument.partition("=")[0] for argument in arguments}
        own = {key: value for key, value in self.params.items() if key not in typed}
        if not any(key.startswith("data.") for key in own):
            return own
        loader = self.hydra_context.config_loader
        config = loader.load_sweep_config(self.config, self.combinations(arguments)[0])
        lost = [k for k in own if k.startswith("data.") and k[len("data.") :] not in config.data]
        if lost:
            data = config.hydra.runtime.choices.data
            print(f"Not swept, since data={data} has none: {', '.join(lost)}.", flush=True)
        return {key: value for key, value in own.items() if key not in lost}

    def run(self, jobs: Sequence[Job], launch: str, lost: dict[str, str]) -> None:
        """Launch what is wanted; wait for what others run, and take over what they leave.

        Args:
            jobs: those of the command.
            launch: id of the launch.
            lost: takes the errors of jobs whose folder does not tell them, by the job's name.
        """
        assert self.config is not None
        left = list(jobs)
        begun = 0
        while left:
            retry = self.config.sweep.retry
            todo = [job for job in left if wants(job.folder.status(), launch, retry)]
            if todo:
                self.launch(todo, launch, begun, lost)
                begun += len(todo)
            left = running(left)
            while left and len(running(left)) == len(left):
                time.sleep(POLL)

    def launch(self, jobs: Sequence[Job], launch: str, begun: int, lost: dict[str, str]) -> None:
        """Give jobs to the launcher that is configured; jobs that it drops are told as not done."""
        assert self.launcher is not None
        batch = [[*job.overrides, f"sweep.launch={launch}"] for job in jobs]
        try:
            results: Sequence[JobReturn] = self.launcher.launch(batch, initial_job_idx=begun)
        except Exception as error:  # some of Hydra's launchers end with the first job that dies
            log.exception("The launcher gave up.")
            lost[""] = f"The launcher gave up: {one_line(error)}"
            return
        for job, result in zip(jobs, results, strict=False):
            if result.status is JobStatus.FAILED:
                lost[job.folder.root.name] = str(result._return_value)


def idle_in(config: DictConfig, overrides: Sequence[str]) -> str:
    """What changes nothing in a job, of what was typed; "" if there is nothing.

    Args:
        config: of the job, with Hydra's node.
        overrides: of the job.
    """
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    OmegaConf.update(own, "choices", dict(config.hydra.runtime.choices), force_add=True)
    return unused(own, overrides)


def tell_stale(jobs: Sequence[Job]) -> None:
    """Say which jobs are done with media that have changed since."""
    written = {path: written_at(path) for path in {path for job in jobs for path in job.reads}}
    media: set[str] = set()
    folders: list[str] = []
    for job in jobs if written else ():
        status = job.folder.status()
        if status is not None and status.state is State.DONE:
            changed = {str(path) for path in job.reads if written[path] > status.started}
            media |= changed
            folders += [str(job.folder.root)] if changed else []
    if folders:
        print(
            f"{', '.join(sorted(media))}: changed since {len(folders)} of these jobs were done, "
            f"which are not done again unless you delete {listed(folders)}.",
            flush=True,
        )


def running(jobs: Sequence[Job]) -> list[Job]:
    """Those of the jobs that run, which is elsewhere once the launcher is through."""
    found = [(job, job.folder.status()) for job in jobs]
    return [job for job, status in found if status and status.state is State.RUNNING]


def own_console() -> Console:
    """A console that goes on showing while a job of this process prints into its file."""
    stream = sys.__stdout__
    if stream is None or sys.stdout is not stream:
        return Console(file=sys.stdout)
    own = os.fdopen(os.dup(stream.fileno()), "w", encoding=stream.encoding, errors=stream.errors)
    return Console(file=own)
