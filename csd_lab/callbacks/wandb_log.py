"""Weights & Biases: one run a job, online where somebody is logged in, else offline, unasked."""

import json
import os
import platform
import shlex
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from math import nan
from pathlib import Path
from typing import Any, cast, final

import pytorch_lightning as pl
import wandb
import yaml
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from wandb.sdk.lib.runid import generate_id

from csd_lab.callbacks.evaluate import Evaluate
from csd_lab.callbacks.page import PACKAGES
from csd_lab.run_folder import RunFolder
from csd_lab.tracking.identity import STEP, identity, keep_id, shortened, shown
from csd_lab.tracking.server import NOBODY, Mode, decide_mode

MODES = ("online", "offline", "disabled", "shared")
INIT_SECONDS = 15.0
FINISH_SECONDS = 600.0
"""Longest waits for the server: to open a run, and to upload what is left at its end."""

FLUSH_SECONDS = 1.0
"""How much of a killed run may be lost."""


KINDS = {".mp4": wandb.Video, ".png": wandb.Image, ".glb": wandb.Object3D}
"""What wandb shows files as, by how their names end."""


@final
class WandbLog(Logger):
    """A run of wandb that is the folder's run: it says what ran, and goes on when that goes on.

    It is opened with the first thing to log, on rank 0 alone, from the config and the status that
    the folder then holds. Nothing is left in the process for the next job: no current run, no
    environment variable. Where the server does not take it, the run is offline; training goes on.

    Args:
        folder: the run's folder; wandb keeps its files there.
        project: its name.
        entity: user or team; None: the default one of who is logged in.
        group: None: the sweep's name, in a sweep.
        job_type: None: the method.
        name: None: method, kernel, prompt, seed and other overrides.
        tags: None: the choices of the config's groups.
        mode: online, offline, disabled or shared; None: as ``WANDB_MODE`` or ``wandb offline`` say,
            else online if somebody is logged in and the server answers, else offline.
        **settings: more for :func:`wandb.init`, such as ``notes``.

    Raises:
        ValueError: if the mode is unknown.
    """

    def __init__(
        self,
        folder: Path | str,
        project: str = "csd_lab",
        entity: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        mode: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        if mode is not None and mode not in MODES:
            raise ValueError(
                f"logger.wandb.mode must be one of {', '.join(MODES)} or null, got {mode!r}."
            )
        self.folder = RunFolder(folder)
        self.mode = mode
        self._given = {"group": group, "job_type": job_type, "name": name, "tags": tags}
        self._settings = {"project": project, "entity": entity, **settings}
        self._run: wandb.Run | None = None
        self._why = ""

    @property
    def name(self) -> str:
        """The kind of logger."""
        return "wandb"

    @property
    def version(self) -> str:
        """The run's id; "" while there is none."""
        return self._run.id if self._run else ""

    @property
    def run(self) -> wandb.Run:
        """The run, opened if it is not; for rank 0."""
        if self._run is None:
            self._run = self._open()
        return self._run

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Open the run; its config is the folder's, whole and resolved."""
        del params, args, kwargs
        _ = self.run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the scalars of a step."""
        values = {key: value for key, value in metrics.items() if key != "epoch"}
        self.run.log(values if step is None else {**values, STEP: step})

    @rank_zero_only
    def finish(self, exit_code: int) -> None:
        """End the run if it was opened, and say how to upload it if it is offline.

        Args:
            exit_code: 0 marks the run as finished, any other as failed.
        """
        if self._run is None:
            return
        run, self._run = self._run, None
        offline = run.settings.mode == "offline"
        run.finish(exit_code=exit_code)
        self._open_mark.unlink(missing_ok=True)
        if offline:
            why = f" ({self._why})" if self._why else ""
            login = "wandb login && " if self._why == NOBODY else ""
            print(f"wandb is offline{why}; upload with: {login}{self.sync}", file=sys.stderr)

    @rank_zero_only
    def finish_abandoned(self, exit_code: int) -> None:
        """End a run whose process was killed before it could; nothing if there is none.

        Args:
            exit_code: see :meth:`finish`.
        """
        if self._open_mark.is_file():
            self._run = self._open()
            self.finish(exit_code)

    @property
    def _open_mark(self) -> Path:
        """There while a process has the run open."""
        return self.folder.root / "wandb" / "open"

    @property
    def sync(self) -> str:
        """The command that uploads all parts of the run: each resumption has a folder there.

        They carry one id, and wandb uploads them one after another, in order of their beginning.
        """
        return shlex.join(["wandb", "sync", str(self.folder.root.resolve() / "wandb")])

    def _open(self) -> wandb.Run:
        config = yaml.safe_load(self.folder.config.read_text(encoding="utf-8"))
        names = identity(self.folder, config)
        settings = self._settings | names._asdict()
        settings["id"] = names.id or keep_id(self.folder, generate_id())
        settings |= {key: value for key, value in self._given.items() if value is not None}
        settings["config"] = {**config, **provenance(Path.cwd())}
        mode = Mode(self.mode) if self.mode else decide_mode()
        try:
            run = _init(self.folder, mode.name, settings)
        except wandb.Error as error:
            if self.mode == "online" and isinstance(error, wandb.errors.UsageError):
                raise ValueError(
                    "logger.wandb.mode must be offline where nobody is logged in, got 'online'; "
                    f"or log in: wandb login ({shortened(str(error), 100)})"
                ) from error
            if mode.name != "online" or self.mode or "WANDB_MODE" in os.environ:
                raise  # online, or nothing: as it was asked for
            mode = Mode("offline", shortened(str(error), 200) or type(error).__name__)
            wandb.teardown()  # its service holds on to the run that it could not open
            run = _init(self.folder, mode.name, settings)
        self._why = mode.why
        self._open_mark.parent.mkdir(parents=True, exist_ok=True)
        self._open_mark.touch()
        run.define_metric(STEP, hidden=True)
        run.define_metric("*", step_metric=STEP)
        return run


@final
class WandbResult(pl.Callback):
    """Gives the run's media and final figures to wandb; must stand behind their writers."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep for the end the summary of what is measured on the way too."""
        del pl_module
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        names = [name for c in callbacks if isinstance(c, Evaluate) for name in c.suite.metrics]
        for logger in _loggers_here(trainer):
            for name in names:
                logger.run.define_metric(name, step_metric=STEP, summary="none")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what lies in the run's folder."""
        del pl_module
        folder = RunFolder(trainer.default_root_dir)
        for logger in _loggers_here(trainer):
            figures = _figures(folder)
            logger.run.log({**figures, **_media(folder), STEP: max(0, trainer.global_step - 1)})
            logger.run.summary.update(figures)


def finish_wandb(trainer: pl.Trainer, exit_code: int) -> None:
    """End the trainer's wandb runs with the exit code that the program will have.

    Args:
        trainer: whose loggers to end.
        exit_code: 0 marks the run as finished, any other as failed.
    """
    for logger in trainer.loggers:
        if isinstance(logger, WandbLog):
            logger.finish(exit_code)


def finish_abandoned_wandb(loggers: Iterable[Logger], exit_code: int) -> None:
    """End the wandb runs that killed ranks have left open.

    Args:
        loggers: new ones for the run's folder, of any kind.
        exit_code: that the program will have.
    """
    for logger in loggers:
        if isinstance(logger, WandbLog):
            logger.finish_abandoned(exit_code)


def provenance(folder: Path) -> dict[str, Any]:
    """The git commit of a folder, if it is in a repository, and the versions of what runs."""
    versions = {package: version(package) for package in PACKAGES}
    return {
        "git_commit": git_commit(folder),
        "versions": {"python": platform.python_version(), **versions},
    }


def git_commit(folder: Path) -> str | None:
    """The commit that is checked out there, with "-dirty" if files differ from it; None if none."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # no git, or a repository beyond measure
        return None
    return done.stdout.strip() or None


def _init(folder: RunFolder, mode: str, settings: Mapping[str, Any]) -> wandb.Run:
    """Open a run that is no other's, whatever runs this process has or had."""
    return wandb.init(
        dir=str(folder.root),
        mode=cast(Any, mode),
        resume="allow",
        reinit="create_new",
        settings=wandb.Settings(
            quiet=True,
            silent=mode == "offline",  # finish() says what there is to say
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            x_transaction_log_flush_interval=FLUSH_SECONDS,
        ),
        **settings,
    )


def _figures(folder: RunFolder) -> dict[str, float]:
    """The final metrics; NaN where undefined, none where the run did without them."""
    if not folder.results.is_file():
        return {}
    metrics = json.loads(folder.results.read_text(encoding="utf-8"))["metrics"]
    return {name: nan if value is None else value for name, value in metrics.items()}


def _media(folder: RunFolder) -> dict[str, Any]:
    """The videos, pictures and surfaces that there are."""
    return {name: KINDS[file.suffix](str(file)) for name, file in shown(folder).items()}


def _loggers_here(trainer: pl.Trainer) -> list[WandbLog]:
    """The trainer's wandb loggers; none on other ranks than 0."""
    here = trainer.is_global_zero
    return [logger for logger in trainer.loggers if here and isinstance(logger, WandbLog)]
