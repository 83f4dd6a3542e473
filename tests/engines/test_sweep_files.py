"""Every file of configs/sweep and configs/hparams_search: what it says, and that it runs."""

import re

import pytest
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from csd_lab.composition import config_folder
from csd_lab.sweep import SweepFolder

SWEEPS = sorted(path.stem for path in config_folder().glob("sweep/*.yaml"))
SCENES = ("data.clip_seed", "data.scene_seed")
SEARCHES = sorted(path.stem for path in config_folder().glob("hparams_search/*.yaml"))
SMALL = ("trainer.max_steps=2", "callbacks.preview=null")
SHORT = ("data.frames=2",)


def head(group, name):
    """The comment at the top of a file."""
    lines = (config_folder() / group / f"{name}.yaml").read_text().splitlines()
    return [line for line in lines if line.startswith("#")]


def sweeper_of(multirun, *overrides):
    """The sweeper of a multirun, and its config."""
    context, config = multirun(*overrides)
    sweeper = Plugins.instance().instantiate_sweeper(
        hydra_context=context, task_function=len, config=config
    )
    return sweeper, config


ALONE = ("metrics=pixels", "hydra/launcher=basic", "sweep.name=one")
"""A sweep of the one job that is given."""


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_says_what_it_asks_and_has_the_jobs_that_it_says(name, multirun, tmp_path):
    lines = head("sweep", name)
    text = " ".join(line.lstrip("# ") for line in lines)
    assert lines[0] == "# @package _global_"
    assert "?" in text, "the question"
    assert f"csd-lab -m sweep={name} " in text
    assert "prior.path=" in text, "how to take a real prior"
    minutes = int(re.search(r"about (\d+) minutes on two cores", text)[1])
    assert minutes < 10
    sweeper, config = sweeper_of(multirun, f"sweep={name}")
    assert config.sweep.name == name
    jobs = sweeper.plan(SweepFolder(tmp_path), [f"sweep={name}"])
    assert len({job.folder.root.name for job in jobs}) == len(jobs)
    assert len(jobs) == int(re.search(r"(\d+) jobs\.", text)[1])
    own = [dict(item.split("=", 1) for item in job.overrides) for job in jobs]
    prompts = {item["prompt"].strip("'") for item in own}
    assert prompts == {"make it night", "change the sky"}  # one right answer, and several
    scenes = {value for item in own for key, value in item.items() if key in SCENES}
    assert len(scenes) >= 2


def test_values_that_are_typed_take_the_place_of_the_sweeps_own(multirun, tmp_path):
    own = ("sweep=seeds", "seed=range(20,22)", "data.clip_seed=1000000033")
    sweeper, _ = sweeper_of(multirun, *own[:1])
    jobs = sweeper.plan(SweepFolder(tmp_path), own)
    assert len(jobs) == 2 * 2 * 2  # methods, seeds, prompts
    seeds = {item for job in jobs for item in job.overrides if item.startswith("seed=")}
    assert seeds == {"seed=20", "seed=21"}


@pytest.mark.parametrize("name", SWEEPS)
def test_the_first_job_of_a_sweep_runs(name, multirun, tmp_path, csd_lab):
    sweeper, _ = sweeper_of(multirun, f"sweep={name}")
    first = sweeper.plan(SweepFolder(tmp_path), [f"sweep={name}"])[0]
    short = SHORT if any(key.startswith("data.clip_seed=") for key in first.overrides) else ()
    assert csd_lab("-m", *first.overrides, *SMALL, *short, *ALONE) == 0
    ((job, _),) = SweepFolder(tmp_path / "outputs" / "sweeps" / "one").jobs()
    assert job.files.results.is_file()


def test_a_real_prior_takes_one_override(multirun, tiny_ip2p_folder, tmp_path, csd_lab):
    own = ("sweep=baselines", f"prior.path={tiny_ip2p_folder}")
    sweeper, _ = sweeper_of(multirun, *own)
    last = sweeper.plan(SweepFolder(tmp_path), own)[-1]
    assert csd_lab("-m", *last.overrides, *SMALL, *SHORT, *ALONE) == 0
    ((job, _),) = SweepFolder(tmp_path / "outputs" / "sweeps" / "one").jobs()
    assert OmegaConf.load(job.files.config).prior.path == str(tiny_ip2p_folder)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_says_what_it_asks_and_runs(name, tmp_path, csd_lab):
    pytest.importorskip("optuna", minversion="4", reason="the extra search is not installed")
    from csd_lab.sweep.search import JOURNAL

    text = " ".join(line.lstrip("# ") for line in head("hparams_search", name))
    assert "?" in text, "the question"
    assert f"csd-lab -m hparams_search={name} " in text
    few = ("hydra.sweeper.n_trials=2", "hydra/launcher=basic")
    assert csd_lab("-m", f"hparams_search={name}", *SMALL, *SHORT, *few) == 0
    folder = SweepFolder(tmp_path / "outputs" / "sweeps" / "search")
    assert len(list(folder.jobs())) == 2
    assert (folder.root / JOURNAL).is_file()
