"""Other launchers than our own: the same jobs, the same results, none done twice."""

import os
import re
import shutil
import signal
import subprocess

import pytest
from engine_runs import (
    all_done,
    figures,
    finished,
    kill_group,
    running,
    start,
    statuses,
)
from hydra.core.plugins import Plugins
from running import wait_for

from csd_lab.composition import config_folder
from csd_lab.sweep import State, SweepFolder

THREE = ("trainer.max_steps=3", "seed=0,1,2")
PRESETS = sorted(path.stem for path in config_folder().glob("hydra/launcher/*.yaml"))


def needs(module):
    """Skip where an engine is not installed."""
    return pytest.importorskip(module, reason=f"{module} is not installed (an extra)")


def slurm_runs():
    """Whether there is a SLURM cluster to talk to."""
    if shutil.which("sinfo") is None:
        return False
    asked = subprocess.run(["sinfo", "-h"], capture_output=True, text=True, check=False)
    return asked.returncode == 0 and bool(asked.stdout.strip())


def launcher_of(multirun, *overrides):
    """The launcher of a multirun."""
    context, config = multirun(*overrides)
    return Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=len, config=config
    )


def twice(where, name, *arguments):
    """Run a sweep of three jobs, and the same command again; what became of the jobs each time."""
    command = (f"hydra/launcher={name}", f"sweep.name={name}", *THREE, *arguments)
    finished(start(where, *command))
    assert all_done(where, name, 3)
    first = statuses(where, name)
    finished(start(where, *command))
    return first, statuses(where, name)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_stands_for_itself_without_a_word_from_hydra(name, multirun, recwarn):
    _, config = multirun(f"hydra/launcher={name}")
    assert config.hydra.launcher._target_.startswith("hydra_plugins.")
    assert not [w for w in recwarn if "schema" in str(w.message)]
    text = (config_folder() / "hydra" / "launcher" / f"{name}.yaml").read_text()
    assert text.startswith("#"), "what it is for"


@pytest.fixture(scope="module")
def by_joblib(tmp_path_factory):
    """A sweep run by joblib, twice: its folder, and what became of the jobs each time."""
    needs("hydra_plugins.hydra_joblib_launcher")
    where = tmp_path_factory.mktemp("joblib")
    return where, *twice(where, "joblib")


def test_joblib_does_every_job_once(by_joblib):
    _, first, second = by_joblib
    assert [status.attempts for status in first.values()] == [1, 1, 1]
    assert len({status.pid for status in first.values()}) == 2  # its workers, both with work
    assert second == first


def test_submitit_goes_on_where_a_cluster_stopped_a_job(by_joblib, tmp_path):
    needs("hydra_plugins.hydra_submitit_launcher")
    name = "submitit_local"
    command = (f"hydra/launcher={name}", f"sweep.name={name}", "seed=0,1,2", "trainer.max_steps=3")
    process = start(tmp_path, *command)
    victim = wait_for(lambda: running(tmp_path, name), process)[0]
    os.kill(victim.pid, signal.SIGUSR2)  # what SLURM sends some time before the end
    finished(process)
    assert all_done(tmp_path, name, 3)
    attempts = {job: status.attempts for job, status in statuses(tmp_path, name).items()}
    assert attempts == {job: 1 + (job == victim.hash) for job in attempts}
    where, *_ = by_joblib
    assert figures(tmp_path, name) == figures(where, "joblib")
    ended = statuses(tmp_path, name)
    finished(start(tmp_path, *command))
    assert statuses(tmp_path, name) == ended


@pytest.mark.slow
def test_submitit_lets_a_job_go_on_that_ran_out_of_time(tmp_path):
    needs("hydra_plugins.hydra_submitit_launcher")
    name = "submitit_local"
    endless = ("trainer.max_steps=1000000", "seed=0", "hydra.launcher.timeout_min=1")
    process = start(tmp_path, f"hydra/launcher={name}", f"sweep.name={name}", *endless)

    def step_of(state, attempts):
        for job, status in SweepFolder(tmp_path / "outputs" / "sweeps" / name).jobs():
            if status.state is state and status.attempts == attempts and job.progress():
                return job.progress().step
        return 0

    try:
        stopped = wait_for(lambda: step_of(State.INTERRUPTED, 1), process)
        assert wait_for(lambda: step_of(State.RUNNING, 2), process) >= stopped
    finally:
        kill_group(process)


def test_slurm_is_told_what_is_configured(multirun, tmp_path, monkeypatch):
    needs("submitit")
    if shutil.which("srun") is None:  # submitit asks no more than whether it is there
        srun = tmp_path / "bin" / "srun"
        srun.parent.mkdir()
        srun.touch(mode=0o755)
        monkeypatch.setenv("PATH", f"{srun.parent}{os.pathsep}{os.environ['PATH']}")
    given = {
        "partition": ("gpu", "--partition=gpu"),
        "timeout_min": (90, "--time=90"),
        "gpus_per_node": (2, "--gpus-per-node=2"),
        "cpus_per_task": (6, "--cpus-per-task=6"),
        "mem_gb": (48, "--mem=48GB"),
        "signal_delay_s": (75, "--signal=USR2@75"),
        "account": ("vision", "--account=vision"),
    }
    launcher = launcher_of(
        multirun,
        "hydra/launcher=submitit_slurm",
        "sweep.name=night",
        "hydra.launcher.max_num_timeout=7",
        *(f"hydra.launcher.{key}={value}" for key, (value, _) in given.items()),
    )
    executor = launcher.executor()._executor
    script = executor._make_submission_file_text("command", "id")
    for _, flag in given.values():
        assert f"#SBATCH {flag}\n" in script
    assert "#SBATCH --job-name=csd-lab-night\n" in script
    assert executor.max_num_timeout == 7
    assert re.search(r"--output=.*/outputs/sweeps/night/\.submitit/", script)


@pytest.mark.slow
@pytest.mark.skipif(not slurm_runs(), reason="there is no SLURM cluster here")
def test_slurm_runs_jobs_and_goes_on_with_them(by_joblib, tmp_path):
    needs("hydra_plugins.hydra_submitit_launcher")
    name = "submitit_slurm"
    command = (f"hydra/launcher={name}", f"sweep.name={name}", *THREE)
    small = ("gpus_per_node=null", "cpus_per_task=1", "mem_gb=1", "timeout_min=10")
    process = start(tmp_path, *command, *(f"hydra.launcher.{item}" for item in small))
    victim = wait_for(lambda: running(tmp_path, name), process)[0]
    os.kill(victim.pid, signal.SIGUSR2)
    finished(process, 1800)  # SLURM lets a job wait for two minutes that goes back to the queue
    assert all_done(tmp_path, name, 3)
    assert statuses(tmp_path, name)[victim.hash].attempts == 2
    where, *_ = by_joblib
    assert figures(tmp_path, name) == figures(where, "joblib")


@pytest.mark.slow
def test_ray_does_every_job_once(by_joblib, tmp_path):
    needs("hydra_plugins.hydra_ray_launcher")
    first, second = twice(tmp_path, "ray")
    assert second == first
    where, *_ = by_joblib
    assert figures(tmp_path, "ray") == figures(where, "joblib")
