"""From a composed config to an attempt at a job: claimed, run, and recorded whatever comes.

Everything here is cheap until a job really runs, so that a job that is done costs nothing.
"""

import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig

from csd_lab.composition import config_hash
from csd_lab.messages import FAILED, WRONG, WRONG_INPUT, is_fault, one_line
from csd_lab.sweep.folder import SweepFolder
from csd_lab.sweep.job import Attempt, Ending, JobFolder, RunningElsewhereError, ending_of
from csd_lab.sweep.launches import wants
from csd_lab.sweep.objectives import objective_values
from csd_lab.sweep.status import State, Status
from csd_lab.text import listed

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks at a job that runs elsewhere."""

NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
"""What a sweep may be called; its folder may be one in another."""

ON_ERROR = ("continue", "stop")

NOT_OWN = ("sweep.", "sweep=", "hparams_search=", "resume=")
"""How overrides begin that say nothing of what a job is."""


class JobFailedError(Exception):
    """A job of a sweep failed; its status tells more."""


def single_run(config: DictConfig, folder: JobFolder, overrides: Sequence[str]) -> Ending:
    """Run one config that is no part of a sweep, or go on with it.

    Args:
        config: as composed.
        folder: the run's.
        overrides: as typed.

    Returns:
        How the run ended; a refused setting, or a folder that another process runs, is one too.
    """
    try:
        with stoppable(), folder.attempt() as attempt:
            return single_attempt(config, folder, attempt, overrides)
    except RunningElsewhereError as error:
        return Ending(WRONG, one_line(error))
    except WRONG_INPUT as error:
        log.exception("Nothing was run.")
        ending = refusal(error)
        if ending.code == WRONG:
            folder.discard()
        else:
            print(f"csd-lab: {ending.error} (details: {folder.files.log})", file=sys.stderr)
        return ending


def single_attempt(
    config: DictConfig, folder: JobFolder, attempt: Attempt, changed: Sequence[str]
) -> Ending:
    """Run a claimed config and record how it ended.

    Args:
        config: as composed.
        folder: the run's.
        attempt: the claim.
        changed: overrides, as typed.

    Raises:
        ValueError: if its settings are refused; a run to go on with is then as it was.
    """
    from csd_lab.launch import launch, settle  # heavy
    from csd_lab.settings import unused

    go_on = bool(config.resume)
    if go_on and not changed and attempt.former and (lost := folder.missing(attempt.former)):
        raise ValueError(
            f"resume: {str(folder.root)!r} was done, and its {lost[0]} is missing; start it anew."
        )
    former = attempt.former.overrides if go_on and attempt.former else ()
    overrides = [*former, *changed]
    try:
        config = settle(config, folder.files)
        name = (
            attempt.former.hash if go_on and attempt.former and not changed else config_hash(config)
        )
        check_same(folder, attempt, name)
        if go_on and changed:
            check_unfinished(attempt, folder, config)
        attempt.begin(name, overrides)
        if not go_on:
            folder.files.check_free(config.data.get("path"), config.data.get("target"))
        if not go_on and (hint := unused(config, overrides)):
            print(f"csd-lab: {hint}", file=sys.stderr)
        ending = launch(config, folder.root, go_on)
    except WRONG_INPUT as error:
        if attempt.former is not None:
            attempt.withdraw()
        end(attempt, refusal(error))
        raise
    end(attempt, ending)
    return ending


def check_same(folder: JobFolder, attempt: Attempt, name: str) -> None:
    """Look that a job of a sweep stays the job that its folder is named by.

    Raises:
        ValueError: if it would be another.
    """
    former = attempt.former
    if former is not None and former.launch and former.hash != name:
        raise ValueError(
            f"{str(folder.root)!r} is a job of a sweep, and its settings name its folder; "
            "give the sweep's command with the new settings, which adds the jobs that they mean."
        )


def check_unfinished(attempt: Attempt, folder: JobFolder, config: DictConfig) -> None:
    """Look that a run whose settings are changed has steps left to which they apply.

    Raises:
        ValueError: if it is finished.
    """
    from csd_lab.settings import all_steps  # heavy

    done, progress = attempt.former, folder.progress()
    finished = done is not None and done.state is State.DONE
    if finished and progress is not None and progress.step >= all_steps(config):
        raise ValueError(
            f"resume: {str(folder.root)!r} is finished, so that other settings change nothing; a "
            "larger trainer.max_steps makes it longer, and csd-lab-evaluate has other metrics."
        )


def sweep_job(config: DictConfig, folder: JobFolder, overrides: Sequence[str]) -> Any:
    """Run one job of a sweep, unless it is done or another process runs it.

    What it prints goes to its output.log. It goes on from its checkpoint if there is one.

    Args:
        config: as composed.
        folder: the job's.
        overrides: the job's own, as typed.

    Returns:
        The figures that ``sweep.objectives`` names; None without them.

    Raises:
        JobFailedError: if it failed.
        SystemExit: if a signal stopped it.
    """
    check_sweep(config)
    name = config_hash(config)
    status = folder.status()
    runs = status is not None and status.state is State.RUNNING  # or is looked at: a claim tells
    if is_done(status, name) or not (runs or may_begin(config, folder, status)):
        return objectives(config, folder)
    try:
        with output_to(folder.files.output), stoppable():
            ending = sweep_attempt(config, folder, name, overrides)
    except RunningElsewhereError:
        return objectives(config, folder)
    except OSError as error:  # nothing can be written, not even what became of it
        raise JobFailedError(one_line(error)) from error
    if ending.state is State.INTERRUPTED:
        raise SystemExit(ending.code)
    if ending.state is State.FAILED:
        raise JobFailedError(ending.error)
    return objectives(config, folder)


def sweep_attempt(
    config: DictConfig, folder: JobFolder, name: str, overrides: Sequence[str]
) -> Ending:
    """Claim a job, run it and record how it ended.

    Raises:
        RunningElsewhereError: if another process runs it, or was quicker.
        OSError: if what became of it cannot be written.
    """
    with folder.attempt(config.sweep.launch or "") as attempt:
        former = attempt.former
        if is_done(former, name) or not may_begin(config, folder, former):
            raise RunningElsewhereError(f"{folder.root.name} was tried elsewhere.")
        go_on = former is not None and former.hash == name and not folder.missing(former)
        if not go_on:
            folder.files.checkpoint.unlink(missing_ok=True)
        attempt.begin(name, overrides)
        try:
            from csd_lab.launch import launch, settle  # heavy

            ending = launch(settle(config, folder.files), folder.root, go_on)
        except WRONG_INPUT as error:
            log.exception("Nothing was run.")
            ending = refusal(error)
        except Exception as error:
            log.exception("The job failed.")
            ending = ending_of(error)
        end(attempt, ending)
    return ending


def refusal(error: BaseException) -> Ending:
    """The ending of a run that did not begin: by wrong input, or by the fault of a part."""
    code = FAILED if is_fault(error) else WRONG
    return ending_of(error)._replace(code=code, error=one_line(error))


def end(attempt: Attempt, ending: Ending) -> None:
    """Record an ending; where that cannot be, the ending's own error says more."""
    try:
        attempt.end(ending)
    except OSError:
        if ending.state is State.DONE:
            raise


def is_done(status: Status | None, name: str) -> bool:
    """Whether the job of this hash is done."""
    return status is not None and status.state is State.DONE and status.hash == name


def may_begin(config: DictConfig, folder: JobFolder, status: Status | None) -> bool:
    """Whether this launch is to try the job now."""
    launch = config.sweep.launch or ""
    if status is not None and status.state is State.DONE:
        return True  # with other settings, such as a run that was made longer
    if not wants(status, launch, config.sweep.retry):
        return False
    stops = config.sweep.on_error == "stop" and launch
    return not (stops and SweepFolder(folder.root.parent).failed_in(launch))


def check_sweep(config: DictConfig) -> None:
    """Look at the settings of the sweep.

    Raises:
        ValueError: names the setting, what is allowed, and what was given.
    """
    name = config.sweep.name
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            "sweep.name must be the name of a folder of letters, digits, '.', '_' and '-', "
            f"got {name!r}."
        )
    if config.sweep.on_error not in ON_ERROR:
        raise ValueError(
            f"sweep.on_error must be one of {ON_ERROR}, got {config.sweep.on_error!r}."
        )
    if not isinstance(config.sweep.retry, bool):
        raise ValueError(f"sweep.retry must be true or false, got {config.sweep.retry!r}.")


def objectives(config: DictConfig, folder: JobFolder) -> Any:
    """The figures that a search goes by, from the metrics.json of a job that is done.

    Returns:
        A number, or as many as ``sweep.objectives`` names; None if it names none.

    Raises:
        JobFailedError: if the job has no such figure.
    """
    names = config.sweep.objectives
    if not names:
        return None
    while (status := folder.status()) is not None and status.state is State.RUNNING:
        time.sleep(POLL)  # another process is at it
    if status is None or status.state is not State.DONE:
        raise JobFailedError(f"{folder.root.name} is {status.state if status else 'not begun'}.")
    figures = json.loads(folder.files.results.read_text(encoding="utf-8"))["metrics"]
    try:
        values = objective_values("sweep.objectives", names, figures)
    except ValueError as error:
        raise JobFailedError(str(error)) from error
    if values is None:
        raise JobFailedError(f"{listed(names)}: undefined for {folder.root.name}.")
    return values[0] if len(values) == 1 else tuple(values)


def own_overrides(task: Sequence[str]) -> list[str]:
    """The overrides that say what a job is, without those of the sweep itself."""
    return [item for item in task if not item.lstrip("+~").startswith(NOT_OWN)]


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM leaves the block as Ctrl-C does, by an exception, so that endings are recorded.

    Only the main thread can have it so; elsewhere the block runs as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    former = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Have all that is printed in a block, also by libraries in C and by children, go to a file.

    Raises:
        OSError: if the file cannot be opened.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a", encoding="utf-8", buffering=1)
    copies = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    try:
        for descriptor in copies:
            os.dup2(file.fileno(), descriptor)
        with redirect_stdout(file), redirect_stderr(file):
            yield
    finally:
        with suppress(OSError):  # a full disk was told by whoever wrote first
            file.close()
        for descriptor, copy in copies.items():
            os.dup2(copy, descriptor)
            os.close(copy)
