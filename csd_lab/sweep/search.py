"""A search: which settings serve several aims best, asking Optuna what to try next.

Each trial is a job of a sweep, so all that holds for jobs holds for trials: they are found again by
their settings, gone on with after a kill, compared like any others. What was proposed and what came
of it stands in a journal beside them, to which a line is added for each event. Samplers are made
anew before each batch, with a seed that follows from the number of trials so far; so a search
that was killed and gone on with proposes what it would have proposed without the kill.

Needs the extra ``search``.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, final, get_args

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from csd_lab.sweep.objectives import objective_values

JOURNAL = "search.journal"
"""The file of a search, in its sweep's folder."""

Direction = Literal["maximize", "minimize"]


Name = Callable[[Sequence[str]], str]
"""Gives the name of the job that overrides mean."""


@final
class Trial(NamedTuple):
    """A trial of a search, which is a job of its sweep.

    Attributes:
        number: counts from 0.
        overrides: the settings that it tries, as one would type them.
        job: the name of its job.
    """

    number: int
    overrides: tuple[str, ...]
    job: str


@final
class Search:
    """A search and its journal.

    Args:
        folder: the sweep's; is made if there is none.
        objectives: directions by the names of metrics.
        question: what the search is about, besides the settings that it tries: any text that is
            the same if the trials before are answers to the same question.
        name: names jobs.
        sampler: makes one of Optuna's samplers from a seed, such as ``optuna.samplers.TPESampler``.
        seed: of all samplers.

    Raises:
        ValueError: the objectives are none or have no direction, or the folder holds a search for
            something else, with answers.
        OSError: the journal cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        objectives: Mapping[str, Direction],
        question: str,
        name: Name,
        sampler: Callable[..., BaseSampler],
        seed: int = 0,
    ) -> None:
        check_objectives(objectives)
        self.objectives = dict(objectives)
        self.name = name
        self.sampler = sampler
        self.seed = seed
        self.study = open_study(folder, self.objectives, question)
        self._begun = len(self.study.get_trials(deepcopy=False))

    def trials(self) -> list[Trial]:
        """All trials that were proposed, by number."""
        proposed = self._all(TrialState.RUNNING, TrialState.COMPLETE, TrialState.FAIL)
        return [self._trial(trial) for trial in proposed]

    def unfinished(self) -> list[Trial]:
        """Trials without an answer: those of a launch that was stopped, or is still at it."""
        return [self._trial(trial) for trial in self._all(TrialState.RUNNING)]

    def left(self, wanted: int, retry: bool) -> int:
        """How many trials are still to be proposed, so that ``wanted`` have an answer.

        Args:
            wanted: number of trials.
            retry: whether trials that failed before this launch count for nothing.
        """
        failed = [t for t in self._all(TrialState.FAIL) if not retry or t.number >= self._begun]
        answered = self._all(TrialState.COMPLETE, TrialState.RUNNING)
        return max(0, wanted - len(answered) - len(failed))

    def retry_failed(self) -> None:
        """Have trials proposed once more that failed before this launch, before any new one."""
        trials = self._all(TrialState.FAIL, TrialState.WAITING, TrialState.COMPLETE)
        retried = {t.user_attrs.get("retries") for t in trials}
        for trial in self._all(TrialState.FAIL):
            if trial.number < self._begun and trial.number not in retried:
                self.study.enqueue_trial(trial.params, user_attrs={"retries": trial.number})

    def ask(self, count: int, space: Mapping[str, BaseDistribution]) -> list[Trial]:
        """New trials, which have no answer until :meth:`tell` gives it.

        Args:
            count: how many.
            space: what may be tried, by setting.

        Raises:
            ValueError: if a setting's choices are not those of the trials before.
        """
        number = len(self.study.get_trials(deepcopy=False))
        digest = hashlib.sha256(f"{self.seed} {number}".encode()).digest()
        self.study.sampler = self.sampler(seed=int.from_bytes(digest[:4], "big"))
        return [self._ask(space) for _ in range(count)]

    def tell(self, trial: Trial, values: Sequence[float] | None) -> None:
        """Give the answer to a trial; an answer that another launch gave before stands.

        Args:
            trial: the trial.
            values: of the objectives, in their order; None: it failed.
        """
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        self.study.tell(trial.number, values, state, skip_if_finished=True)

    def values(self, metrics: Mapping[str, float | None]) -> list[float] | None:
        """The values of the objectives among a job's final metrics; None if one is undefined.

        Raises:
            ValueError: if there is no such metric, or several.
        """
        return objective_values("hydra.sweeper.objectives", list(self.objectives), metrics)

    @property
    def answered(self) -> int:
        """How many trials have values."""
        return len(self._all(TrialState.COMPLETE))

    def front(self) -> list[tuple[Trial, tuple[float, ...]]]:
        """The trials that no other one beats in all objectives, with their values, best first."""
        best = [(self._trial(t), tuple(t.values)) for t in self.study.best_trials]
        first = next(iter(self.objectives.values()))
        return sorted(best, key=lambda pair: pair[1][0], reverse=first == "maximize")

    def _ask(self, space: Mapping[str, BaseDistribution]) -> Trial:
        asked = self.study.ask(dict(space))
        overrides = overrides_of(asked.params)
        try:
            job = self.name(overrides)
        except BaseException:
            self.study.tell(asked, state=TrialState.FAIL)  # what cannot be composed is no trial
            raise
        asked.set_user_attr("job", job)  # so that nobody need compose a hundred configs to know
        return Trial(asked.number, overrides, job)

    def _trial(self, frozen: FrozenTrial) -> Trial:
        overrides = overrides_of(frozen.params)
        return Trial(frozen.number, overrides, frozen.user_attrs.get("job") or self.name(overrides))

    def _all(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)


def open_study(folder: Path, objectives: Mapping[str, Direction], question: str) -> optuna.Study:
    """The study of a folder, or a new one; one without answers gives way to another search.

    Raises:
        ValueError: the folder's study has answers and is about something else.
        OSError: the journal cannot be written.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / JOURNAL
    backend = JournalFileBackend(str(path), JournalLock(path))  # type: ignore[arg-type]
    storage = JournalStorage(backend)
    about = {"objectives": list(objectives.items()), "question": question}
    about = json.loads(json.dumps(about))  # as the journal gives it back
    directions = list(objectives.values())
    study = optuna.create_study(
        study_name="search", storage=storage, directions=directions, load_if_exists=True
    )
    differs = [key for key in about if study.user_attrs.get(key, about[key]) != about[key]]
    if differs and study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        raise ValueError(
            f"{str(path)!r} holds a search with other {DIFFERS[differs[0]]}; give this one a "
            "folder of its own, sweep.name=..., or delete that one."
        )
    if differs:
        optuna.delete_study(study_name="search", storage=storage)
        study = optuna.create_study(study_name="search", storage=storage, directions=directions)
    for key, value in about.items():
        if key not in study.user_attrs:
            study.set_user_attr(key, value)
    return study


DIFFERS = {"objectives": "objectives", "question": "settings than those that are searched"}
"""What a search may differ in, as the error says it."""


@final
class JournalLock:
    """A lock that the system frees if its holder dies, and that repairs what the holder left.

    Whoever is killed in the middle of a line leaves a part of it, to which the next line would be
    glued. That part was never acknowledged to anybody, so it is cut off.

    Args:
        path: of the journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        """Wait for the lock; True."""
        self._lock.acquire()
        with self._path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            if file.read(1) not in (b"", b"\n"):
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Let the lock go."""
        self._lock.release()


def check_objectives(objectives: Mapping[str, Direction]) -> None:
    """See that there are objectives, each with a direction.

    Raises:
        ValueError: if not.
    """
    allowed = get_args(Direction)
    if not objectives or any(direction not in allowed for direction in objectives.values()):
        raise ValueError(
            "hydra.sweeper.objectives must name metrics with their directions, such as "
            "{clip_direction: maximize, lpips_consecutive: minimize}, "
            f"got {dict(objectives)!r}."
        )


def overrides_of(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings of a trial, as one would type them: 2.4, not 2.4000000000000004."""
    return tuple(
        f"{key}={float(f'{value:.12g}') if isinstance(value, float) else value}"
        for key, value in params.items()
    )
