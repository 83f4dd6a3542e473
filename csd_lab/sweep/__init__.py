r"""The life of a sweep: jobs that are begun, stopped, killed, gone on with, and never done twice.

A *job* is a resolved config, a *sweep* a folder of jobs. A job is named by a hash of its config
(:mod:`~csd_lab.sweep.identity`), so the same settings are the same job, whatever command, launcher
or machine brings them; its folder holds what it is (``status.json``), and everything that it made.
There is no server and no list of jobs: what stands in the folders is all there is, therefore
nothing can disagree with it after a crash.

Who runs a job holds a lock in its folder (:mod:`~csd_lab.sweep.job`). The system frees the lock
when the process dies, however it dies, so "running" with a free lock reads as interrupted, and two
launches of one sweep share the work without knowing of each other. Every file is written whole or
not at all (:mod:`csd_lab.files`); a job is done only while the outputs that it recorded are there.

::

    waiting -> running -> done
                 |  \-> failed         retried by the next launch, from its last checkpoint
                 \----> interrupted    gone on with by the next launch

No Hydra, no Lightning and no torch here: looking at a sweep takes no time.
"""

from csd_lab.sweep.folder import SweepFolder
from csd_lab.sweep.identity import job_hash
from csd_lab.sweep.job import Attempt, Ending, JobFolder, RunningElsewhereError
from csd_lab.sweep.launches import Launch
from csd_lab.sweep.progress import Progress
from csd_lab.sweep.status import State, Status

__all__ = [
    "Attempt",
    "Ending",
    "JobFolder",
    "Launch",
    "Progress",
    "RunningElsewhereError",
    "State",
    "Status",
    "SweepFolder",
    "job_hash",
]
