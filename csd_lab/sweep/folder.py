"""A sweep's folder: all its jobs, and what can be done with them afterwards."""

import shutil
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import final

from csd_lab.sweep.job import JobFolder, RunningElsewhereError
from csd_lab.sweep.launches import Launch
from csd_lab.sweep.status import State, Status


@final
class SweepFolder:
    """A folder of jobs, each in a folder that is named by its hash.

    Args:
        root: its path; need not exist yet.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.launch_file = self.root / "launch.json"

    def __repr__(self) -> str:
        return f"SweepFolder({str(self.root)!r})"

    @property
    def latest(self) -> Launch | None:
        """The launch that began last; None if there was none."""
        return Launch.read(self.launch_file)

    def job(self, name: str) -> JobFolder:
        """The folder of the job with this hash; need not exist yet."""
        return JobFolder(self.root / name)

    def jobs(self) -> Iterator[tuple[JobFolder, Status]]:
        """All jobs with what they are now, by name."""
        if not self.root.is_dir():
            return
        for path in sorted(self.root.iterdir()):
            job = JobFolder(path)
            if path.is_dir() and (status := job.status()) is not None:
                yield job, status

    def enlist(self, name: str, overrides: tuple[str, ...]) -> None:
        """Make a job known that nobody has begun.

        Raises:
            OSError: if its folder cannot be written.
        """
        job = self.job(name)
        if job.files.status.is_file():
            return
        try:
            with job.hold(patience=0):
                if not job.files.status.is_file():
                    job.put(Status(State.WAITING, overrides, name))
        except RunningElsewhereError:
            return  # another launch was quicker

    def failed_in(self, launch: str) -> bool:
        """Whether a job has failed in this launch."""
        return any(s.state is State.FAILED and s.launch == launch for _, s in self.jobs())

    def retry(self) -> list[JobFolder]:
        """Have failed jobs wait for the next launch, whatever ``sweep.retry`` says.

        Returns:
            The jobs that wait now and had failed before.

        Raises:
            OSError: if a status cannot be written.
        """
        return [job for job, status in self.jobs() if status.state is State.FAILED and _wait(job)]

    def prune(self, states: Collection[State], keep: Collection[str] | None = None) -> list[Path]:
        """Folders that pruning would delete, by name; running jobs are never among them.

        Args:
            states: delete jobs that are one of these.
            keep: delete also jobs whose hash is not one of these; None: no other job.
        """
        return [job.root for job, status in self.jobs() if _falls(job, status, states, keep)]

    def delete(
        self, root: Path, states: Collection[State], keep: Collection[str] | None = None
    ) -> bool:
        """Delete a job's folder, if pruning still would: nobody runs it, or has done it since.

        Args:
            root: of the job.
            states: see :meth:`prune`.
            keep: likewise.

        Returns:
            Whether it was deleted.

        Raises:
            OSError: if it cannot be.
        """
        job = JobFolder(root)
        try:
            with job.hold():
                status = job.status(held=True)
                if status is None or not _falls(job, status, states, keep):
                    return False
                shutil.rmtree(root)
        except RunningElsewhereError:
            return False
        return True


def _falls(
    job: JobFolder, status: Status, states: Collection[State], keep: Collection[str] | None
) -> bool:
    """Whether pruning deletes a job."""
    unwanted = keep is not None and job.root.name not in keep
    return status.state is not State.RUNNING and (status.state in states or unwanted)


def _wait(job: JobFolder) -> bool:
    """Have a job wait, if it has failed and nobody tries it again by now."""
    try:
        with job.hold():
            status = job.status(held=True)
            if status is None or status.state is not State.FAILED:
                return False
            job.put(replace(status, state=State.WAITING))
    except RunningElsewhereError:
        return False
    return True
