"""From a composed config to a finished run folder, in this process or in several."""

import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from csd_lab.build import Run, build
from csd_lab.callbacks import (
    GracefulStop,
    finish_abandoned_wandb,
    finish_wandb,
    results_after,
    write_page,
)
from csd_lab.data import EditData
from csd_lab.files import atomic_path
from csd_lab.messages import WRONG_INPUT, one_line
from csd_lab.priors.pipeline_folder import EMBEDDED
from csd_lab.processes import RankFailedError, RanksStoppedError, ignore_stops, supervise
from csd_lab.run_folder import RunFolder
from csd_lab.settings import (
    all_steps,
    check,
    describe,
    edits_views,
    prompts_in_turn,
    rank_count,
    samples,
)
from csd_lab.sweep.identity import HOW, says_how
from csd_lab.sweep.job import Ending, ending_of
from csd_lab.sweep.progress import read_progress
from csd_lab.sweep.status import State, read_status
from csd_lab.text import listed
from csd_lab.types import EditTask

log = logging.getLogger(__name__)

GROUPS = (
    "modality",
    "method",
    "kernel",
    "guidance",
    "field",
    "sampler",
    "prior",
    "data",
    "optimizer",
)
"""Config groups whose choices say what a run is."""

MEASURED = "callbacks.evaluate.suite"
"""The setting that refers to the metrics."""

FILES = {"path", "target", "mask", "reconstruction", "cache"}
"""What settings are called that name files or folders."""

SCHEDULES = ("method.timesteps.steps", "optimizer.scheduler.steps", "modality.growth.steps")
"""Settings that say how long schedules are; a run that goes on keeps its own."""

RESUMABLE = ("trainer", "callbacks", "logger", "metrics")
"""Groups whose settings may change when a run goes on; the others make it another run."""


class RefusedError(ValueError):
    """A rank refuses its settings or its input."""


def launch(config: DictConfig, root: Path, go_on: bool = False) -> Ending:
    """Run a config in the folder ``root``, in this process or in several that it supervises.

    Args:
        config: what to run, settled.
        root: the run's folder.
        go_on: from the folder's checkpoint, if there is one.

    Returns:
        How the run ended.

    Raises:
        ValueError: if the input is wrong; nothing was run then.
    """
    folder = RunFolder(root)
    checkpoint = folder.checkpoint if go_on and folder.checkpoint.is_file() else None
    check(config)
    quiet_libraries()
    if (ranks := rank_count(config.trainer)) > 1:
        return launch_ranks(config, folder, checkpoint, ranks)
    return begin(build(config, folder), config, folder, checkpoint)


def begin(run: Run, config: DictConfig, folder: RunFolder, checkpoint: Path | None) -> Ending:
    """Say what a run is, and train; of several ranks the first one speaks.

    Raises:
        Exception: what failed, on one of several ranks.
    """
    facts = describe(config, run.data)
    if run.trainer.is_global_zero:
        if checkpoint is None:
            folder.clear()  # of a former run, which none may go on with or take this for
        with atomic_path(folder.config) as path:
            OmegaConf.save(config, path, resolve=True)
        Console().print(table_of("", facts))
        print(f"folder: {folder.root}")
    return train(run, folder, checkpoint, facts)


def launch_ranks(
    config: DictConfig, folder: RunFolder, checkpoint: Path | None, ranks: int
) -> Ending:
    """Run a config in several processes, which end when this one does.

    Raises:
        ValueError: if the input is wrong; nothing was run then.
    """
    text = OmegaConf.to_yaml(config, resolve=True)
    try:
        return supervise(launch_rank, text, folder.root, checkpoint, ranks=ranks)
    except RanksStoppedError as stopped:
        ending = Ending(128 + stopped.received, str(stopped))
    except RankFailedError as failed:
        if failed.error == RefusedError.__name__:
            raise ValueError(failed.message) from failed
        log.error("%s\n%s", failed, failed.details)
        ending = Ending(1, str(failed), failed.details)
    finish_ranks(config, folder, ending)
    return ending


def launch_rank(config: str, root: Path, checkpoint: Path | None) -> Ending:
    """What a rank does: the run of a resolved config, as YAML, without Hydra.

    Raises:
        RefusedError: if the input is wrong; nothing was run then.
        Exception: what failed.
    """
    folder = RunFolder(root)
    log_to(folder.log, int(os.environ["RANK"]))
    quiet_libraries()
    settings = cast(DictConfig, OmegaConf.create(config))
    try:
        run = build(settings, folder)
    except WRONG_INPUT as error:
        raise RefusedError(one_line(error)) from error
    return begin(run, settings, folder, checkpoint)


def finish_ranks(config: DictConfig, folder: RunFolder, ending: Ending) -> None:
    """Write the page of a run whose ranks ended without an ending of their own."""
    data: EditData = instantiate(config.data)
    facts = describe(config, data)
    progress = read_progress(folder.progress)
    step = progress.step if progress else 0
    tell(folder, data.task, (step, all_steps(config)), facts, ending)
    if ending.state is State.FAILED:
        print(f"csd-lab: {ending.error} (details: {folder.log})", file=sys.stderr)
    loggers = [instantiate(part, folder=folder.root) for part in config.logger.values() if part]
    finish_abandoned_wandb(loggers, ending.code)


def log_to(path: Path, rank: int) -> None:
    """Have a rank log into the run's log, beside the others; all but the first only errors."""
    logging.basicConfig(
        filename=path,
        level=logging.ERROR if rank else logging.INFO,
        format=f"[%(asctime)s][rank {rank}][%(name)s][%(levelname)s] - %(message)s",
        encoding="utf-8",
    )


def settle(config: DictConfig, folder: RunFolder) -> DictConfig:
    """The config to run: the composed one, or the saved one of the run to go on with.

    Raises:
        ValueError: if the run to go on with has no checkpoint, or if a setting is overridden that
            would make it another run.
    """
    if not config.resume:
        choices = HydraConfig.get().runtime.choices
        named = {group: choices[group] for group in GROUPS}
        OmegaConf.update(config, "choices", named, force_add=True)
        OmegaConf.update(config, "started_in", str(Path.cwd()), force_add=True)
        return config
    if not folder.checkpoint.is_file():
        raise ValueError(
            f"resume: {str(folder.root)!r} holds no checkpoint to go on from; start it anew."
        )
    saved = cast(DictConfig, OmegaConf.load(folder.config))
    steps = saved.trainer.max_steps
    for override in HydraConfig.get().overrides.task:
        key = override.lstrip("+~").partition("=")[0]
        if key == "resume":
            continue
        if not says_how(key) and (key.split(".")[0] not in RESUMABLE or key in RESUMABLE):
            allowed = ", ".join([*(f"{group}.*" for group in RESUMABLE), *HOW[:3]])
            raise ValueError(
                "resume goes on with the run's own settings; "
                f"only {allowed} may change, got {key!r}."
            )
        OmegaConf.update(saved, key, OmegaConf.select(config, key), force_add=True)
    if OmegaConf.select(saved, MEASURED) is not None:
        OmegaConf.update(saved, MEASURED, saved.metrics)
    check_steps(saved, steps)
    tell_schedules(saved, steps)
    find_sources(saved)
    saved.resume = None
    return saved


def find_sources(config: DictConfig) -> None:
    """Have relative paths of a run that goes on mean what they meant where it began."""
    for settings in mappings(config):
        for key in FILES & settings.keys():
            named = settings[key]
            if isinstance(named, str) and not Path(named).expanduser().is_absolute():
                begun = Path(config.get("started_in", ""), named)
                if begun.exists() and named != EMBEDDED:
                    settings[key] = str(begun)


def mappings(node: Any) -> Iterator[DictConfig]:
    """All mappings in a resolved config."""
    if isinstance(node, DictConfig):
        yield node
    children = node.values() if isinstance(node, DictConfig) else node
    for child in children if isinstance(node, DictConfig | ListConfig) else ():
        yield from mappings(child)


def check_steps(config: DictConfig, former: int) -> None:
    """Check that a run that goes on can have other steps than it had.

    Raises:
        ValueError: if it has, and these were shared out when it began.
    """
    shared_out = prompts_in_turn(config) > 1 or edits_views(config)
    if config.trainer.max_steps != former and (shared_out or samples(config)):
        raise ValueError(
            f"trainer.max_steps must stay as it was, {former}, where prompts follow one another, "
            "views of a scene are edited or a method samples, got "
            f"{config.trainer.max_steps}."
        )


def tell_schedules(config: DictConfig, former: int) -> None:
    """Say which schedules of a run that is made longer or shorter stay as they were made."""
    kept = [name for name in SCHEDULES if OmegaConf.select(config, name) == former]
    if config.trainer.max_steps != former and kept:
        print(
            f"csd-lab: {listed(kept)} stay at {former}, as the run began; one of "
            f"{config.trainer.max_steps} steps from the start would come out otherwise.",
            file=sys.stderr,
        )


def train(run: Run, folder: RunFolder, checkpoint: Path | None, facts: dict[str, str]) -> Ending:
    """Train, write the page whatever comes, and return how it ended.

    Raises:
        Exception: what failed, on one of several ranks: their supervisor knows which failed first.
    """
    ranks = run.trainer.world_size
    if ranks > 1:
        ignore_stops()  # until training listens to them, and when it is over
    try:
        run.trainer.fit(run.module, run.data, ckpt_path=checkpoint, weights_only=True)
    except Exception as error:
        log.exception("The run failed at step %d.", run.trainer.global_step)
        ending = ending_of(error)
        if ranks > 1:
            finish_wandb(run.trainer, ending.code)
            raise
    except BaseException as error:  # a second signal, or what a library exits with
        finish_wandb(run.trainer, ending_of(error).code)
        raise
    else:
        received = stop_signal(run.trainer)
        stopped = f"Stopped by {received.name}." if received else ""
        ending = Ending(128 + received, stopped) if received else Ending(0)
    return conclude(run, folder, facts, ending)


def conclude(run: Run, folder: RunFolder, facts: dict[str, str], ending: Ending) -> Ending:
    """Write the page, tell how the run ended, and return it; no page is a failure too."""
    try:
        finish(run, folder, facts, ending)
    except OSError as error:
        log.exception("The page could not be written.")
        ending = ending if ending.code else ending_of(error)
    if ending.state is State.FAILED:
        print(f"csd-lab: {ending.error} (details: {folder.log})", file=sys.stderr)
    finish_wandb(run.trainer, ending.code)
    return ending


def stop_signal(trainer: pl.Trainer) -> signal.Signals | None:
    """The signal that stopped training; None if none did."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((c.received for c in callbacks if isinstance(c, GracefulStop)), None)


def finish(run: Run, folder: RunFolder, facts: dict[str, str], ending: Ending) -> None:
    """Write the page and tell where it is and how to go on; of several ranks the first one does."""
    if run.trainer.is_global_zero:
        steps = (run.trainer.global_step, run.trainer.max_steps)
        tell(folder, run.data.task, steps, facts, ending)


def tell(
    folder: RunFolder,
    task: EditTask,
    steps: tuple[int, int],
    facts: dict[str, str],
    ending: Ending,
) -> None:
    """Write the page and tell where it is and how to go on, after so many steps of so many."""
    early = ending.state is State.DONE and steps[0] < steps[1]  # by trainer.max_time, or a callback
    of = steps[0] if early else steps[1]
    command = command_of(folder)
    write_page(folder, ending.state, steps[0], of, task, facts, command, ending.error)
    if metrics := results_after(folder, steps[0]).get("metrics"):
        shown = {name: "undefined" if v is None else f"{v:.4g}" for name, v in metrics.items()}
        Console().print(table_of("metric", shown))
    if ending.state is State.INTERRUPTED or early:
        print(f"Stopped after step {steps[0]} of {steps[1]}.")
    if ending.state is not State.DONE and folder.checkpoint.is_file():
        when = "Once its cause is gone, go" if ending.state is State.FAILED else "Go"
        print(f"{when} on with: csd-lab resume={shlex.quote(str(folder.root))}")
    print(f"Report: {folder.report}")


def command_of(folder: RunFolder) -> str:
    """What would have the run in a folder, whoever began it: the command of a run by itself."""
    status = read_status(folder.status)
    return shlex.join(["csd-lab", *(status.overrides if status else ())])


def table_of(heading: str, rows: Mapping[str, str]) -> Table:
    """Names and values for the terminal, where text is text and no markup."""
    table = Table(heading, "", box=SIMPLE_HEAD, show_header=bool(heading))
    for name, value in rows.items():
        table.add_row(Text(name), Text(value))
    return table


def quiet_libraries() -> None:
    """Keep what libraries say about themselves out of the terminal; it goes to the run's log."""
    for name in (
        "pytorch_lightning",
        "lightning_fabric",
        "lightning",
        "transformers",
        "diffusers",
        "open_clip",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
