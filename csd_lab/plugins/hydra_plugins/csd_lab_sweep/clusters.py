"""submitit's launchers, with jobs that go on after a timeout and that fail alone.

A cluster ends a job when its time is over, and some end it whenever somebody else needs its place.
Before that they send a signal, to every process of the job. Here the job takes the signal as a wish
to stop: it finishes its step, writes its checkpoint, says "interrupted" and is put into the queue
again, where it goes on from that checkpoint.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals

from csd_lab.sweep.job import JobFolder, RunningElsewhereError
from csd_lab.sweep.status import State

if TYPE_CHECKING:
    from submitit import AutoExecutor, Job

try:
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher
except ImportError:  # an extra; Hydra then knows no such launcher
    BaseSubmititLauncher = None

WARNING_SIGNAL = signal.SIGUSR2
"""What submitit has a cluster send before the end."""

SHARED = (
    "name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node",
    "stderr_to_stdout",
)  # fmt: skip
"""Settings that all of submitit's executors know."""

POLL = 0.5
"""Seconds between two looks at jobs."""

if BaseSubmititLauncher is not None:

    class ClusterLauncher(BaseSubmititLauncher):  # type: ignore[misc, valid-type]
        """What both launchers share; see submitit for the settings.

        Args:
            submitit_folder: where submitit keeps what it submits, and the output of its jobs.
            max_num_timeout: how often a job may run out of time and be put into the queue again.
            **params: of submitit's executor: shared ones as they are called there, those of one
                executor without the executor's name.
        """

        def __call__(
            self,
            sweep_overrides: list[str],
            job_dir_key: str,
            job_num: int,
            job_id: str,
            singleton_state: dict[type, Singleton],
        ) -> JobReturn:
            """Run one job; called by submitit in the job's process, each time that it begins."""
            Singleton.set_state(singleton_state)
            setup_globals()
            wait_again(self._folder(sweep_overrides))
            with stop_when_warned() as warned:
                try:
                    return super().__call__(
                        sweep_overrides, job_dir_key, job_num, job_id, singleton_state
                    )
                except SystemExit:
                    if not warned.is_set():
                        raise
            requeue = signal.getsignal(WARNING_SIGNAL)
            requeue(WARNING_SIGNAL, None)  # type: ignore[operator, misc]
            raise SystemExit(128 + WARNING_SIGNAL)

        def launch(
            self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
        ) -> list[JobReturn]:
            """Submit jobs and wait for all of them, whatever becomes of each."""
            state = Singleton.get_state()
            calls = [
                (list(overrides), "hydra.sweep.dir", index, f"job_id_for_{index}", state)
                for index, overrides in enumerate(job_overrides, start=initial_job_idx)
            ]
            return self._results(calls)

        def _results(self, calls: list[tuple[Any, ...]]) -> list[JobReturn]:
            jobs = self.executor().map_array(self, *zip(*calls, strict=True))
            return [returned(job) for job in jobs]

        def executor(self) -> "AutoExecutor":
            """What jobs are submitted to, as it is configured.

            Raises:
                ValueError: if there is no SLURM here, or submitit knows no such setting.
            """
            import submitit

            params = dict(self.params)
            folder, timeouts = params.pop("submitit_folder"), params.pop("max_num_timeout")
            own = {f"{self._EXECUTOR}_max_num_timeout": timeouts}
            named = {k if k in SHARED else f"{self._EXECUTOR}_{k}": v for k, v in params.items()}
            try:
                executor = submitit.AutoExecutor(folder, cluster=self._EXECUTOR, **own)
                executor.update_parameters(**named)
            except (RuntimeError, NameError, AssertionError) as error:  # in submitit's own words
                raise ValueError(f"hydra.launcher: {error}") from error
            return executor

        def _folder(self, overrides: list[str]) -> JobFolder:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
            return JobFolder(Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir)

    @final
    class SlurmLauncher(ClusterLauncher):
        """Jobs on a cluster, as one array of SLURM's."""

        _EXECUTOR = "slurm"

    @final
    class SubmititLocalLauncher(ClusterLauncher):
        """Jobs on this machine, run as on a cluster; to try out what will run there.

        Args:
            jobs: how many run at once.
            **params: as for the others.
        """

        _EXECUTOR = "local"

        def __init__(self, jobs: int, **params: Any) -> None:
            super().__init__(**params)
            self.jobs = jobs

        def _results(self, calls: list[tuple[Any, ...]]) -> list[JobReturn]:
            executor = self.executor()
            jobs: list[Job[JobReturn]] = []
            try:
                for call in calls:
                    while sum(not job.done() for job in jobs) >= self.jobs:
                        time.sleep(POLL)
                    jobs.append(executor.submit(self, *call))
                return [returned(job) for job in jobs]
            finally:
                for job in jobs:
                    if not job.done():
                        job.cancel()


def returned(job: "Job[JobReturn]") -> JobReturn:
    """What a job returned; an error in its place if it ended without a word."""
    from submitit.core.utils import UncompletedJobError

    try:
        return job.results()[0]
    except UncompletedJobError as error:
        lost = JobReturn(status=JobStatus.FAILED)
        lost.return_value = error
        return lost


def wait_again(job: JobFolder) -> None:
    """Have an interrupted job wait for its turn, since a queue begins it once more."""
    status = job.status()
    if status is not None and status.state is State.INTERRUPTED:
        with suppress(RunningElsewhereError), job.hold():
            job.put(replace(status, state=State.WAITING))


@contextmanager
def stop_when_warned() -> Iterator[threading.Event]:
    """Turns a cluster's warning into SIGTERM for this process alone, which stops the job well.

    The warning goes to the processes that the job started, too, which would die of it. They inherit
    that it is blocked. Here a thread waits for it; threads that were there before do not block
    it, and may get it in its place, hence the handler.

    Yields:
        An event that is set once the warning came.
    """
    warned = threading.Event()
    over = threading.Event()

    def stop(*received: object) -> None:
        del received
        if not warned.is_set():
            warned.set()
            os.kill(os.getpid(), signal.SIGTERM)

    def wait() -> None:
        while not over.is_set():
            if signal.sigtimedwait({WARNING_SIGNAL}, POLL) is not None:
                stop()

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {WARNING_SIGNAL})
    handler = signal.signal(WARNING_SIGNAL, stop)
    thread = threading.Thread(target=wait, name="warning", daemon=True)
    thread.start()
    try:
        yield warned
    finally:
        over.set()
        thread.join()
        signal.signal(WARNING_SIGNAL, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
