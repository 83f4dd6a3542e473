"""The launcher: a process a job, as many at once as this machine has room for.

Jobs come from a fork server that has imported the program once, so that each begins in an instant
and shares its memory with the others. A job's process is a session of its own: Ctrl-C reaches only
the launcher, which passes it on, once to stop and a second time to kill.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from types import FrameType
from typing import Any, Literal, NamedTuple, final

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig, open_dict
from omegaconf.basecontainer import BaseContainer

from csd_lab.composition import config_hash
from csd_lab.jobs import JobFailedError
from csd_lab.sweep.folder import SweepFolder
from csd_lab.sweep.job import JobFolder
from csd_lab.sweep.slots import AUTO_JOBS, Place, Slots, cores, wanted_devices
from csd_lab.sweep.worker import Worker

PRELOADED = ["csd_lab.launch"]

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that bound the threads of a process."""


class Demand(NamedTuple):
    """What a job is and wants.

    Attributes:
        folder: the job's.
        devices: how many; None: all that there are.
        on_cpu: whether it wants no GPU.
    """

    folder: JobFolder
    devices: int | None
    on_cpu: bool


class Running(NamedTuple):
    """A job that runs."""

    worker: Worker
    demand: Demand
    place: Place


@final
class LocalLauncher(Launcher):
    """Runs jobs on this machine.

    Args:
        devices: GPUs to use, as CUDA_VISIBLE_DEVICES names them; "auto": all that are visible;
            None: none.
        jobs_per_device: jobs at once on each of them.
        jobs: jobs at once where there is no GPU; "auto": as many as cores, 4 at most.

    Raises:
        ValueError: if an argument is none of these.
    """

    def __init__(
        self,
        devices: str | Sequence[int | str] | None = "auto",
        jobs_per_device: int = 1,
        jobs: int | Literal["auto"] = "auto",
    ) -> None:
        if devices not in ("auto", None) and not isinstance(devices, list | tuple | ListConfig):
            raise ValueError(
                "hydra.launcher.devices must be auto, null or a list such as [0,1], "
                f"got {devices!r}."
            )
        self.devices = devices
        self.jobs_per_device = jobs_per_device
        self.jobs = min(cores(), AUTO_JOBS) if jobs == "auto" else jobs
        Slots((), jobs_per_device, self.jobs)  # refuses bad numbers before anything starts
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.task_function: TaskFunction | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run jobs, as many at once as there is room for.

        Raises:
            SystemExit: if a signal stopped the launch; the jobs that ran have ended then.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        own_threads = "OMP_NUM_THREADS" not in os.environ
        with environment(dict.fromkeys(THREADS, "1") if own_threads else {}):
            forkserver.ensure_running()  # each job says itself how many threads it takes
        slots = Slots(self.names(context), self.jobs_per_device, self.jobs)
        instances = Singleton.get_state()["instances"]

        def start(overrides: Sequence[str], index: int, place: Place) -> Worker:
            threads = slots.threads(place) if own_threads else None
            call = (self.hydra_context, self.config, list(overrides), index, self.task_function)
            variables = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(place.devices)}
            return Worker(context, execute, *call, instances, threads, environment=variables)

        dispatch = Dispatch(slots, start, self.demand, self.halted)
        return dispatch.run(job_overrides, initial_job_idx)

    def names(self, context: BaseContext) -> list[str]:
        """Names of the GPUs to use; empty: none."""
        if self.devices is None:
            return []
        if not isinstance(self.devices, str):
            return [str(name) for name in self.devices]
        count = Worker(context, count_gpus).outcome().value or 0
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return (visible.split(",") if visible else [str(i) for i in range(count)])[:count]

    def demand(self, overrides: Sequence[str]) -> Demand:
        """What the job with these overrides is and wants."""
        assert self.config is not None
        assert self.hydra_context is not None
        loader = self.hydra_context.config_loader
        config = loader.load_sweep_config(self.config, list(overrides))
        HydraConfig.instance().set_config(config)
        folder = SweepFolder(config.hydra.sweep.dir).job(config_hash(config))
        on_cpu = config.trainer.get("accelerator") == "cpu"
        return Demand(folder, wanted_devices(config.trainer.get("devices", 1)), on_cpu)

    def halted(self, results: Sequence[JobReturn]) -> bool:
        """Whether no further job is to begin, since one has failed."""
        assert self.config is not None
        failed = any(result.status is JobStatus.FAILED for result in results)
        return failed and self.config.sweep.on_error == "stop"


@final
class Dispatch:
    """The way of a launch's jobs through this machine.

    Args:
        slots: the places that there are.
        start: makes a job's process from its overrides, its number and its place.
        demand: says what the job with these overrides wants.
        halted: says from the results so far whether no further job is to begin.
    """

    def __init__(
        self,
        slots: Slots,
        start: Callable[[Sequence[str], int, Place], Worker],
        demand: Callable[[Sequence[str]], Demand],
        halted: Callable[[Sequence[JobReturn]], bool],
    ) -> None:
        self.slots = slots
        self.start = start
        self.demand = demand
        self.halted = halted
        self._running: dict[int, Running] = {}
        self._received = 0

    def run(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Run all jobs.

        Args:
            job_overrides: their overrides.
            first: number of the first of them.

        Raises:
            SystemExit: if a signal stopped this; the jobs that ran have ended then.
        """
        results = [JobReturn(overrides=list(overrides)) for overrides in job_overrides]
        waiting = list(range(len(results)))
        wanted: Demand | None = None
        with self._passing_on_signals():
            while self._running or waiting:
                while waiting and not self._received and not self.halted(results):
                    overrides = job_overrides[waiting[0]]
                    wanted = wanted or self.demand(overrides)
                    if self._received:  # while it was composed
                        break
                    place = self.slots.take(wanted.devices, wanted.on_cpu)
                    if place is None:
                        break
                    worker = self.start(overrides, first + waiting[0], place)
                    self._running[waiting.pop(0)] = Running(worker, wanted, place)
                    wanted = None
                    if self._received:  # while it started
                        worker.send_signal(self._received)
                if not self._running:
                    break
                for index in self._ended():
                    results[index] = self._reap(index, results[index])
        if self._received:
            raise SystemExit(128 + self._received)
        return results

    def _ended(self) -> list[int]:
        """Wait until a job has something to say, or ends; the numbers of those."""
        handles = {h: index for index, job in self._running.items() for h in job.worker.handles}
        return sorted({handles[ready] for ready in wait(list(handles))})  # type: ignore[index]

    def _reap(self, index: int, result: JobReturn) -> JobReturn:
        job = self._running[index]
        outcome = job.worker.outcome()
        del self._running[index]
        self.slots.give_back(job.place)
        if outcome.value is not None:
            return outcome.value
        with suppress(OSError):  # the job reads as interrupted all the same
            job.demand.folder.bury(job.worker.pid, outcome.code, outcome.error)
        result.status = JobStatus.FAILED
        result.return_value = JobFailedError(outcome.error)
        return result

    @contextmanager
    def _passing_on_signals(self) -> Iterator[None]:
        """Pass SIGINT and SIGTERM on to the jobs; a second one kills them."""

        def pass_on(number: int, frame: FrameType | None) -> None:
            del frame
            for job in list(self._running.values()):
                if self._received:
                    job.worker.kill()
                else:
                    job.worker.send_signal(number)
            self._received = number

        former = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def execute(
    context: HydraContext,
    config: DictConfig,
    overrides: list[str],
    index: int,
    task_function: TaskFunction,
    instances: dict[Any, Any],
    threads: int | None,
) -> JobReturn:
    """In a job's process: compose the job's config and run it, as Hydra does everywhere."""
    Singleton.set_state({"instances": instances, "omegaconf_resolvers": BaseContainer._resolvers})
    setup_globals()
    if threads is not None:
        limit_threads(threads)
    own = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(own):
        own.hydra.job.id = f"{own.hydra.job.name}_{index}"
        own.hydra.job.num = index
    HydraConfig.instance().set_config(own)
    result = run_job(
        hydra_context=context,
        task_function=task_function,
        config=own,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    if result.status is JobStatus.FAILED:  # as an error that can travel between processes
        result.return_value = JobFailedError(str(result._return_value))
    return result


def count_gpus() -> int:
    """In a process of its own, so that the launcher never touches CUDA: the GPUs that there are."""
    import torch

    return torch.cuda.device_count()


def limit_threads(threads: int) -> None:
    """Have torch, and what this process starts, use so many threads."""
    import torch

    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    torch.set_num_threads(threads)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that hold for a block."""
    former = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
