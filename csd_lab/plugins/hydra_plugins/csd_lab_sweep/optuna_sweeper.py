"""The sweeper of a search: proposes jobs, has them run as any other jobs, and learns from them."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.csd_lab_sweep.sweeper import Job, ResumableSweeper, own_console
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from csd_lab.jobs import check_sweep, own_overrides, stoppable
from csd_lab.sweep.folder import SweepFolder
from csd_lab.sweep.job import JobFolder
from csd_lab.sweep.launches import Launch, go_on
from csd_lab.sweep.report import report
from csd_lab.sweep.status import State
from csd_lab.sweep.table import read_metrics
from csd_lab.sweep.watch import Watch

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

    from csd_lab.sweep.search import Direction, Search, Trial


@final
class OptunaSweeper(Sweeper):
    """Searches the settings that serve several aims best.

    Args:
        objectives: directions, "maximize" or "minimize", by the names of metrics of metrics.json;
            the name of a backbone at the end may be left out.
        n_trials: how many trials are wanted, with those of earlier launches.
        n_jobs: how many are proposed at a time. All of them are run before the next are proposed.
        sampler: makes one of Optuna's samplers, given ``seed``.
        seed: of what the samplers draw.
        params: what may be tried, by setting, in Hydra's grammar: ``interval(2, 10)``,
            ``range(1, 3, 0.5)``, ``rbf,imq``; one value: fixed. The command line adds to it.
    """

    def __init__(
        self,
        objectives: Mapping[str, "Direction"],
        n_trials: int,
        n_jobs: int,
        sampler: Callable[..., "BaseSampler"],
        seed: int = 0,
        params: Mapping[str, str] | None = None,
    ) -> None:
        for name, number in (("n_trials", n_trials), ("n_jobs", n_jobs)):
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"hydra.sweeper.{name} must be at least 1, got {number!r}.")
        self.objectives = dict(objectives)
        self.n_trials = n_trials
        self.n_jobs = n_jobs
        self.sampler = sampler
        self.seed = seed
        self.params = dict(params or {})
        self.jobs = ResumableSweeper()

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives.

        Raises:
            ValueError: if the launcher's package is not installed.
        """
        self.config = config
        self.settings = config.sweep
        self.folder = SweepFolder(config.hydra.sweep.dir)
        self.parser = OverridesParser.create(config_loader=hydra_context.config_loader)
        self.jobs.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Search, and show what was found.

        Raises:
            SystemExit: unless as many trials as wanted have an answer.
            HydraException, ValueError: if a job cannot be composed, or is no part of this search.
        """
        from csd_lab.sweep.search import Search

        assert self.config is not None
        check_sweep(self.config)
        given = [f"{key}={value}" for key, value in self.params.items()]
        space, fixed = space_of(self.parser.parse_overrides([*given, *arguments]))

        def name(overrides: Sequence[str]) -> str:
            return self.plan([*fixed, *overrides]).folder.root.name

        root = self.folder.root
        search = Search(root, self.objectives, name(()), name, self.sampler, self.seed)
        if self.settings.retry:
            search.retry_failed()
        console = own_console()
        metric = self.settings.metric
        jobs = [self.folder.job(trial.job) for trial in search.trials()]
        watch = Watch(jobs, console, metric)
        lost: dict[str, str] = {}
        try:
            with stoppable(), watch:
                complete = self.search(search, space, fixed, jobs, lost)
        finally:
            done = report(watch.rows, self.folder, console, lost, go_on(sys.argv), metric)
            if search.answered:
                show_front(search, console)
        if not (complete and done):
            sys.exit(1)

    def search(
        self,
        search: "Search",
        space: Mapping[str, "BaseDistribution"],
        fixed: Sequence[str],
        jobs: list[JobFolder],
        lost: dict[str, str],
    ) -> bool:
        """Propose, run and learn until there are as many trials as wanted.

        Args:
            search: knows the trials.
            space: what may be tried.
            fixed: overrides of all jobs.
            jobs: takes those that are proposed.
            lost: takes the errors of jobs whose folder does not tell them, by the job's name.

        Returns:
            Whether it came to that.
        """
        launch = Launch.now(sys.argv, [])
        while trials := search.unfinished() or self.proposed(search, space):
            proposed = tuple(trial.job for trial in search.trials())
            replace(launch, jobs=proposed).write(self.folder.launch_file)
            batch = {t.job: self.plan([*fixed, *t.overrides]) for t in trials}
            for name, job in batch.items():
                self.folder.enlist(name, tuple(own_overrides(job.overrides)))
                if job.folder.root not in [known.root for known in jobs]:
                    jobs.append(job.folder)
            self.jobs.run(list(batch.values()), launch.id, lost)
            learnt = [self.learn(search, trial) for trial in trials]
            if not all(learnt):
                return False
        return True

    def proposed(self, search: "Search", space: Mapping[str, "BaseDistribution"]) -> list["Trial"]:
        """The next trials; none if there are as many as wanted."""
        left = search.left(self.n_trials, self.settings.retry)
        return search.ask(min(self.n_jobs, left), space)

    def learn(self, search: "Search", trial: "Trial") -> bool:
        """Give the figures of a trial's job to the search.

        Returns:
            Whether the search can go on: not if the job was interrupted, or failed where one
            failure is to stop the sweep.

        Raises:
            ValueError: if the job has no figure of an objective's name.
        """
        job = self.folder.job(trial.job)
        status = job.status()
        state = status.state if status else State.WAITING
        if state is State.DONE:
            search.tell(trial, search.values(read_metrics(job)))
        elif state is State.FAILED:
            search.tell(trial, None)
        return state is State.DONE or (
            state is State.FAILED and self.settings.on_error == "continue"
        )

    def plan(self, overrides: Sequence[str]) -> Job:
        """The job that overrides without any choice mean."""
        (job,) = self.jobs.plan(self.folder, overrides)
        return job


def space_of(overrides: Sequence[Override]) -> tuple[dict[str, "BaseDistribution"], list[str]]:
    """What may be tried, by setting, and what is fixed, as typed; of a setting the last one counts.

    Raises:
        ValueError: if there is nothing to try.
    """
    space: dict[str, BaseDistribution] = {}
    fixed: dict[str, str] = {}
    for override in overrides:
        argument = override.input_line or ""
        key = argument.partition("=")[0]
        space.pop(key, None)
        fixed.pop(key, None)
        if override.is_sweep_override():
            space[key] = distribution(override)
        else:
            fixed[key] = argument
    if not space:
        raise ValueError(
            "hydra.sweeper.params must leave something to try, such as "
            "guidance.text=interval(2,10), got one value of each."
        )
    return space, list(fixed.values())


def distribution(override: Override) -> "BaseDistribution":
    """The values of a setting, as Optuna says it."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    values: Any = override.value()
    if isinstance(values, IntervalSweep):
        kind: Any = IntDistribution if isinstance(values.start, int) else FloatDistribution
        return kind(values.start, values.end, log="log" in values.tags)
    texts = list(override.sweep_string_iterator())
    if isinstance(values, RangeSweep) and len(texts) > 1:
        whole = all(isinstance(each, int) for each in (values.start, values.stop, values.step))
        number, kind = (int, IntDistribution) if whole else (float, FloatDistribution)
        low, high = sorted(number(text) for text in (texts[0], texts[-1]))
        return kind(low, high, step=abs(number(values.step)))
    return CategoricalDistribution(texts)


def show_front(search: "Search", console: Console) -> None:
    """The trials that no other one beats in all objectives."""
    table = Table("job", *search.objectives, "settings", box=SIMPLE_HEAD)
    table.title = f"Not beaten by any of {search.answered} trials"
    if without := len(search.trials()) - search.answered:
        table.title += f" ({without} more have no figures)"
    for trial, values in search.front():
        settings = Text(" ".join(trial.overrides), overflow="fold")
        table.add_row(trial.job, *(f"{value:.4g}" for value in values), settings)
    console.print(table)
