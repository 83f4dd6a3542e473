"""Sweeps of the program: what is done again and what is not, and what is told."""

import json
import os
import subprocess
import time

import pytest
import torch
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import HydraContext, RunMode
from hydra_plugins.csd_lab_sweep.sweeper import ResumableSweeper

from csd_lab.commands.sweep import main
from csd_lab.composition import config_folder
from csd_lab.data import write_image
from csd_lab.sweep import State

STEPS = "trainer.max_steps=2"
BREAKS = "optimizer.optimizer.lr=1.0,1e38"
"""The second of these fails at its second step, since its gradient is not finite."""


def states(folder):
    return [status.state for _, status in folder.jobs()]


def attempts(folder):
    return {status.overrides[-1]: status.attempts for _, status in folder.jobs()}


def latents(job):
    return torch.load(job.files.checkpoint, weights_only=True)["state_dict"]["latents"]


def errors(outcome):
    """The lines that are of errors."""
    return [line for line in outcome.err.splitlines() if line.strip()]


def test_the_same_command_again_does_nothing_and_a_new_value_adds_a_job(sweep, folder, tmp_path):
    first = sweep(STEPS, "seed=0,1,0")
    assert first.code == 0, first.out + first.err
    assert states(folder) == [State.DONE] * 2  # the third is the first
    times = {job.root: status.ended for job, status in folder.jobs()}
    again = sweep(STEPS, "seed=0,1")
    assert again.code == 0
    assert {job.root: status.ended for job, status in folder.jobs()} == times
    more = sweep(STEPS, "seed=range(3)")
    assert more.code == 0
    assert attempts(folder) == {"seed=0": 1, "seed=1": 1, "seed=2": 1}
    job, status = next(iter(folder.jobs()))
    assert status.hash == job.root.name
    assert "gradient_norm" not in more.out
    output = job.files.output.read_text()
    assert "folder:" in output
    assert "gradient_norm" in output
    assert "metrics.json" in status.outputs
    assert not any(name.startswith("checkpoints") for name in status.outputs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]


def test_media_that_have_changed_since_a_job_was_done_are_told(sweep, folder, tmp_path):
    for number in range(2):
        write_image(tmp_path / "frames" / f"{number}.png", torch.full((3, 16, 16), 0.3))
    light = ("prior=colours", "prior.size=16", "guidance=classifier_free", "metrics=pixels")
    own = ("data.path=frames", "prompt=make it red", "callbacks.media.alone=null", STEPS)
    assert sweep(*own, "seed=0", light=light).code == 0
    again = sweep(*own, "seed=0,1", light=light)
    assert again.code == 0
    assert "changed since" not in again.out
    later = time.time() + 60
    os.utime(tmp_path / "frames" / "1.png", (later, later))
    told = sweep(*own, "seed=0,1", light=light)
    assert told.code == 0
    assert "frames: changed since 2 of these jobs were done" in told.out
    assert attempts(folder) == {"seed=0": 1, "seed=1": 1}


def test_who_else_computes_the_same_is_the_same_job(sweep, folder):
    assert sweep(STEPS, "seed=0,1").code == 0
    assert sweep("seed=1,0", STEPS, "sweep.retry=false", "kernel=rbf").code == 0
    assert set(attempts(folder).values()) == {1}


def test_what_failed_is_told_and_tried_again_by_the_next_launch(sweep, folder, capsys):
    outcome = sweep("trainer.max_steps=3", BREAKS)
    assert outcome.code == 1
    assert sorted(states(folder)) == [State.DONE, State.FAILED]
    job, status = next(item for item in folder.jobs() if item[1].state is State.FAILED)
    assert status.exit_code == 1
    assert "is not finite" in status.error
    assert "NonFiniteGradientError" in status.traceback
    assert "lr=1e+38" in outcome.out  # with its overrides and its folder
    assert str(job.root.name) in outcome.out
    assert "Go on with: csd-lab -m" in outcome.out
    assert sweep("trainer.max_steps=3", BREAKS, "sweep.retry=false").code == 1
    assert sorted(attempts(folder).values()) == [1, 1]
    assert sweep("trainer.max_steps=3", BREAKS).code == 1
    assert sorted(attempts(folder).values()) == [1, 2]

    with pytest.raises(SystemExit) as stop:
        main(["status", str(folder.root)])
    shown = capsys.readouterr().out
    assert stop.value.code == 1
    assert "1 done, 1 failed" in shown
    assert "optimizer.optimizer.lr=1e+38 " in shown
    with pytest.raises(SystemExit):
        main(["status", "--json", str(folder.root)])
    told = {job["state"]: job for job in json.loads(capsys.readouterr().out)["jobs"]}
    assert told["done"]["metrics"]
    assert told["failed"]["differs_by"] == "optimizer.optimizer.lr=1e+38"
    with pytest.raises(SystemExit) as stop:
        main(["status", "--metric", "psnr_answr", str(folder.root)])
    assert stop.value.code == 2
    assert "--metric must be one of" in capsys.readouterr().err

    with pytest.raises(SystemExit):
        main(["retry", str(folder.root)])
    assert "Go on with: " in capsys.readouterr().out
    assert sweep("trainer.max_steps=3", BREAKS, "sweep.retry=false").code == 1
    assert sorted(attempts(folder).values()) == [1, 3]

    with pytest.raises(SystemExit) as stop:
        main(["prune", "--failed", "--yes", str(folder.root)])
    assert stop.value.code == 0
    assert states(folder) == [State.DONE]


def test_what_is_no_longer_wanted_can_be_pruned(sweep, folder, monkeypatch):
    assert sweep(STEPS, "seed=0,1").code == 0
    assert sweep(STEPS, "seed=1,2").code == 0
    monkeypatch.setattr("builtins.input", lambda question: "n")
    with pytest.raises(SystemExit) as stop:
        main(["prune", "--unwanted", str(folder.root)])
    assert stop.value.code == 1
    assert len(states(folder)) == 3
    monkeypatch.setattr("builtins.input", lambda question: "y")
    with pytest.raises(SystemExit):
        main(["prune", "--unwanted", str(folder.root)])
    assert set(attempts(folder)) == {"seed=1", "seed=2"}


def test_unwanted_jobs_are_told_by_the_latest_command_alone(sweep, folder, capsys):
    assert sweep(STEPS, "seed=0").code == 0
    folder.launch_file.unlink()
    with pytest.raises(SystemExit) as stop:
        main(["prune", "--failed", "--unwanted", "--yes", str(folder.root)])
    assert stop.value.code == 2
    assert "--unwanted goes by the sweep's latest command" in capsys.readouterr().err


def test_a_setting_that_some_jobs_have_no_use_for_is_told(sweep, folder):
    outcome = sweep(STEPS, "method=sds,csd", "kernel=rbf,imq")
    assert outcome.code == 0
    assert "In 2 of 4 jobs kernel changes nothing: method=sds has no kernel." in outcome.out
    assert len(states(folder)) == 4


def test_a_search_may_name_metrics_without_their_network(sweep, folder):
    wrong = sweep(STEPS, "sweep.objectives=[nothing]", "seed=0")
    assert "sweep.objectives must name metrics of the jobs, out of " in wrong.out
    right = sweep(STEPS, "sweep.objectives=[colour]", "seed=0")
    assert right.code == 0
    assert "sweep.objectives" not in right.out


def test_stop_leaves_the_others_waiting(sweep, folder):
    command = ("trainer.max_steps=3", "optimizer.optimizer.lr=1e38,1.0,0.5", "sweep.on_error=stop")
    assert sweep(*command).code == 1
    assert sorted(states(folder)) == [State.FAILED, State.WAITING, State.WAITING]
    assert sweep(*command).code == 1  # the failed one is tried again, and fails again
    assert sorted(states(folder)) == [State.FAILED, State.WAITING, State.WAITING]
    assert sweep(*command, "sweep.retry=false").code == 1  # now it is not in the way
    assert sorted(states(folder)) == [State.DONE, State.DONE, State.FAILED]


def test_a_job_whose_settings_are_refused_is_one_that_failed(sweep, folder, tmp_path):
    light = ("prior=colours", "prior.size=16", "method=csd", "guidance=classifier_free")
    own = (*light, "metrics=pixels", "data=file", "data.path=clip.mp4", "prompt=x")
    command = (STEPS, "seed=0,1")
    assert sweep(*command, light=own).code == 1
    assert states(folder) == [State.FAILED] * 2
    status = next(iter(folder.jobs()))[1]
    assert status.exit_code == 2
    assert "does not exist" in status.error
    assert sweep("sweep.name=clips", STEPS, "seed=0").code == 0
    clip = next(tmp_path.glob("outputs/sweeps/clips/*/edited.mp4"))
    clip.rename(tmp_path / "clip.mp4")
    assert sweep(*command, light=own).code == 0
    assert states(folder) == [State.DONE] * 2


def test_a_job_that_lost_an_output_is_done_over(sweep, folder):
    """Its checkpoint is that of the last step, from which there is nothing to go on with."""
    command = ("trainer.max_steps=6", "callbacks.checkpoint.every=3", "seed=0")
    assert sweep(*command).code == 0
    ((job, status),) = folder.jobs()
    whole = latents(job)
    rows = job.files.steps.read_text()
    results = job.files.results.read_text()
    job.files.results.unlink()
    ((job, status),) = folder.jobs()
    assert status.state is State.INTERRUPTED
    assert sweep(*command).code == 0
    ((job, status),) = folder.jobs()
    assert (status.state, status.attempts) == (State.DONE, 2)
    assert job.files.results.read_text() == results
    assert torch.equal(latents(job), whole)
    assert job.files.steps.read_text() == rows


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("kernel=rbf,foo",), "choose from identity, imq, mean, rbf"),
        (("seed=0,1", "kernle=rbf"), "did you mean 'kernel'"),
        (("sweep.on_error=halt",), "sweep.on_error must be one of"),
        (("sweep.retry=2",), "sweep.retry must be true or false"),
        (("sweep.name=../x",), "sweep.name must be"),
        (("resume=x",), "a sweep goes on by its own command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_input_is_told_in_one_line_before_anything_runs(sweep, folder, arguments, told):
    outcome = sweep(*arguments)
    assert outcome.code == 2
    assert len(errors(outcome)) == 1
    assert told in errors(outcome)[0]
    assert states(folder) == []


def test_free_text_is_one_value_where_it_cannot_be_several(sweep, folder):
    outcome = sweep(STEPS, "prompt=make it (really) night: it's dark", "seed=0")
    assert outcome.code == 1
    assert len(states(folder)) == 1  # refused by the world, but as one text
    assert "it's dark" in outcome.out


@pytest.fixture
def full_disk(tmp_path):
    """A mounted disk of 300 KiB for the sweeps; skipped where nobody may mount one."""
    place = tmp_path / "outputs"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_fails_clearly_and_can_be_gone_on_from(sweep, folder, full_disk, tmp_path):
    (full_disk / "ballast").write_bytes(bytes(150_000))
    command = (STEPS, "seed=0,1")
    outcome = sweep(*command)
    assert outcome.code == 1
    assert "No space left on device" in outcome.out
    assert set(states(folder)) <= {State.FAILED, State.INTERRUPTED, State.WAITING}
    mount = ["mount", "-o", "remount,size=50m", str(full_disk)]
    subprocess.run(mount, check=True)
    assert sweep(*command).code == 0
    assert states(folder) == [State.DONE] * 2


def test_a_run_that_another_process_runs_is_one_clear_line(sweep, folder, tmp_path, monkeypatch):
    from csd_lab import cli

    assert sweep(STEPS, "seed=0").code == 0
    ((job, _),) = folder.jobs()
    with job.hold():
        monkeypatch.setattr("sys.argv", ["csd-lab", f"resume={job.root}"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert stop.value.code == 2


CLIPS = {"kernel": "rbf,imq", "data.clip_seed": "1,2", "prompt": "'make it night'"}
WIDE = {"kernel": "rbf,imq", "data.scene_seed": "1,2"}


@pytest.mark.parametrize(
    ("params", "sweep", "typed", "left"),
    [
        (CLIPS, "seeds", (), {"kernel", "data.clip_seed", "prompt"}),
        (CLIPS, "seeds", ("kernel=mean",), {"data.clip_seed", "prompt"}),
        (CLIPS, "seeds", ("data=world",), {"kernel", "data.clip_seed", "prompt"}),
        (CLIPS, "seeds", ("data=file", "data.path=clip.mp4"), {"kernel", "prompt"}),
        (WIDE, "image_guidance", (), {"kernel", "data.scene_seed"}),
        (WIDE, "image_guidance", ("data=world_panorama",), {"kernel", "data.scene_seed"}),
        (WIDE, "image_guidance", ("data=world_scene,world_panorama",), set(WIDE)),
        (WIDE, "image_guidance", ("data=world",), {"kernel"}),
    ],
)
def test_a_sweep_leaves_what_its_own_data_have_for_other_data(params, sweep, typed, left):
    loader = ConfigLoaderImpl(create_config_search_path(str(config_folder())))
    overrides = [f"sweep={sweep}", *typed]
    sweeper = ResumableSweeper(params)
    sweeper.config = loader.load_configuration("run", overrides, RunMode.MULTIRUN)
    sweeper.hydra_context = HydraContext(loader, Callbacks())
    assert sweeper.own(overrides).keys() == left
