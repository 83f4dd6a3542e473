"""`csd-lab`: the command line, from what a user typed to a run and its exit code.

Exit codes: 0 done, 1 failed, 2 wrong input (nothing was run), 128 + n stopped by signal n.
"""

import os
import signal
import sys
from importlib.metadata import version
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from csd_lab.composition import config_folder
from csd_lab.jobs import own_overrides, single_run, sweep_job
from csd_lab.messages import WRONG, WRONG_INPUT, one_line
from csd_lab.sweep.job import JobFolder
from csd_lab.text import tolerate_letters
from csd_lab.typed import find_own_parts, prepare


def main() -> None:
    """Run the command line in ``sys.argv`` and exit with its code."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us instead of Hydra's printout
    tolerate_letters()
    if "--version" in sys.argv:
        print(f"csd-lab {version('csd-lab')}")
        return
    try:
        sys.argv[1:] = prepare(sys.argv[1:])
        find_own_parts()
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="run")(job)()
    except BrokenPipeError:  # who reads has had enough, as head has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except WRONG_INPUT as error:
        print(f"csd-lab: {one_line(error, sys.argv[1:])}", file=sys.stderr)
        sys.exit(WRONG)
    except KeyboardInterrupt:
        print("csd-lab: stopped.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def job(config: DictConfig) -> Any:
    """Run one composed config in the folder that Hydra made for it.

    Returns:
        None for a single run, else what :func:`csd_lab.jobs.sweep_job` gives.

    Raises:
        SystemExit: if a single run did not end well, or a signal stopped a job of a sweep.
        JobFailedError: if a job of a sweep failed; Hydra's launchers then go on with the others.
    """
    hydra_config = HydraConfig.get()
    folder = JobFolder(hydra_config.runtime.output_dir)
    overrides = own_overrides(hydra_config.overrides.task)
    if hydra_config.mode is RunMode.MULTIRUN:
        return sweep_job(config, folder, overrides)
    ending = single_run(config, folder, overrides)
    if ending.code == WRONG:
        print(f"csd-lab: {ending.error}", file=sys.stderr)
    if ending.code:
        sys.exit(ending.code)
    return None


if __name__ == "__main__":
    from csd_lab import cli  # by its name, under which other processes find the job, too

    cli.main()
