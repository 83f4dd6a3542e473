"""Bad input: one line that says what is wrong, a non-zero exit, and no network loaded."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from csd_lab.composition import composed
from csd_lab.run_folder import RunFolder
from csd_lab.settings import unused

PANORAMA = ("data=world_panorama",)
SCENE = ("data=world_scene", "prompt=make it sepia")
TEXT = ("experiment=text_to_3d",)
HALF = "regions=[{prompt: make it sepia, box: [0,0,1,0.5]}]"
LIGHT = ("experiment=colours", "trainer.max_steps=2")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever is told here must be told before a pipeline's weights are read."""

    def refuse(*args, **kwargs):
        raise AssertionError("A network was loaded before the input was looked at.")

    monkeypatch.setattr("diffusers.UNet2DConditionModel.from_pretrained", refuse)


@pytest.fixture
def media(tmp_path):
    """A folder with all kinds of broken media."""
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "none").mkdir()
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for i, size in enumerate([(32, 32), (32, 48)]):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(mixed / f"{i}.png")
    Image.effect_noise((200, 200), 80).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    for name, change in {
        "single": {"frames": 1},
        "nan": {"pose": float("nan")},
        "fisheye": {"camera_model": "OPENCV_FISHEYE"},
        "lost": {"written": 1},
        "sizes": {"sizes": (8, 12)},
    }.items():
        write_capture(tmp_path / name, **change)
    return tmp_path


def write_capture(folder, frames=2, pose=1.0, camera_model="OPENCV", written=2, sizes=(8, 8)):
    """A capture of grey views, with something wrong."""
    folder.mkdir()
    for index, size in list(enumerate(sizes))[:written]:
        Image.fromarray(np.zeros((size, size, 3), np.uint8)).save(folder / f"{index}.png")
    matrix = np.diag([pose, 1.0, 1.0, 1.0]).tolist()
    views = [{"file_path": f"{i}.png", "transform_matrix": matrix} for i in range(frames)]
    content = {"camera_model": camera_model, "fl_x": 8.0, "frames": views}
    (folder / "transforms.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("data.path=missing.mp4", "prompt=x"), "does not exist"),
        (("data.path=empty.mp4", "prompt=x"), "is empty"),
        (("data.path=text.mp4", "prompt=x"), "is not media"),
        (("data.path=cut.png", "prompt=x"), "cut short"),
        (("data.path=none", "prompt=x"), "has no png"),
        (("data.path=mixed", "prompt=x"), "one size"),
        (("data=capture", "data.path=whole.png", "prompt=x"), "is no transforms.json"),
        (("data.path=https://a.org/b.mp4", "prompt=x"), "download it first"),
        (("data.path=", "prompt=x"), "data.path must be a file or a folder"),
        (("data.path=whole.png",), "prompt must say what to do"),
        (("data.path=whole.png", "prompt="), "prompt must"),
        (("data.path=whole.png", "prompt=???"), "prompt must"),
        (("prompt=[1,2]",), "prompt must be text"),
        (("prompt=[]",), "prompt must be text"),
        (("prompt=['make it night','']",), "prompt must not be empty"),
        (("prompt=['make it night','paint the moon']",), "must be one of the world's"),
        (("modality=image",), "modality must be video for a clip"),
        ((*PANORAMA, "regions=[{prompt: make it night}]"), "regions[0] must be a prompt with"),
        ((*PANORAMA, "regions=[make it night]"), "regions[0] must be a prompt with"),
        ((*PANORAMA, "regions=[{prompt: change the sky, strip: [0,1]}]"), "must be one of"),
        ((*PANORAMA, "regions=[{prompt: make it night, strip: [2,2]}]"), "regions[0].strip: index"),
        ((*PANORAMA, "regions=[{prompt: make it night, box: [0,1]}]"), "a box is [top, left"),
        ((*PANORAMA, "regions=[{prompt: make it night, box: [0,0,2,1]}]"), "from 0 to 1"),
        (
            (*PANORAMA, "regions=[{prompt: make it night, box: [0,0,a,1]}]"),
            "regions[0].box: a box is",
        ),
        (
            (*PANORAMA, "regions=[{prompt: make it night, strip: 3}]"),
            "regions[0].strip: a strip is",
        ),
        ((*PANORAMA, "regions=[{prompt: make it night, mask: no.png}]"), "does not exist"),
        ((*PANORAMA, "regions=[{prompt: make it night, mask: text.mp4}]"), "not media"),
        (("prompt=paint the moon",), "must be one of the world's"),
        (("trainer.max_steps=-1",), "trainer.max_steps must be"),
        (("trainer.max_steps=0",), "trainer.max_steps must be"),
        (("seed=-3",), "seed must be"),
        (("distance=lpips",), "distance must be None with kernel_space='noisy'"),
        (("method.distiller.kernel_space=perceptual",), "such as with distance=lpips"),
        (("distance=lpips", "distance.backbone=foo"), "must be one of ['tiny'"),
        (("kernel=foo",), "no kernel=foo; choose from identity, imq, mean, rbf"),
        (("kernel=null",), "kernel must be one of identity, imq, mean, rbf"),
        (("~kernel",), "kernel must be one of identity, imq, mean, rbf"),
        (("logger=null",), "logger must be one of csv, wandb"),
        (("kernel.bandwidth.rule=wide",), "official"),
        (("method=foo",), "csd_edit"),
        (("method.timesteps.low=990",), "low < high"),
        (("method.noise=some",), "independent"),
        (("guidance.text=nan",), "finite"),
        (("guidance.text=high",), "guidance.text must be a finite number"),
        (("guidance=classifier_free", "guidance.scale=[1,2]"), "guidance.scale must be a finite"),
        (("kernel.bandwidth.scale=wide",), "kernel.bandwidth.scale must be a finite number above"),
        (("optimizer.optimizer.lr=abc",), "settings that SGD takes, got lr='abc'"),
        (("kernle=rbf",), "did you mean 'kernel'"),
        (("guidance.txt=3",), "did you mean 'guidance.text'"),
        (("optimizer.lr=3",), "did you mean 'optimizer.optimizer.lr'"),
        (("max_steps=3",), "did you mean 'trainer.max_steps'"),
        (("kernel_space=perceptual",), "did you mean 'method.distiller.kernel_space'"),
        (("prior.pth=x",), "did you mean 'prior.path'"),
        (("data=image", "data.pth=x"), "did you mean 'data.path'"),
        (("data.frames=0",), "frames"),
        (("prior.max_batch=0",), "max_batch"),
        (("prior=instruct_pix2pix", "prior.path=none"), "none"),
        (("prior=instruct_pix2pix",), "prior.path must be given"),
        (("experiment=paper_text_to_3d",), "prior.path must be given"),
        (("trainer.devices=[0]", "trainer=cpu"), "trainer.devices must be how many processes"),
        (("trainer.devices=0", "trainer=cpu"), "trainer.devices must be how many processes"),
        (("trainer.accelerator=foo",), "trainer.accelerator must be one of auto, cpu"),
        (("hydra.run.dir=text.mp4/run",), "text.mp4"),
        (("resume=none",), "must be the folder of a run"),
        (("experiment=foo",), "no experiment=foo; choose from colours"),
        (("hydra/launcher=slurm",), "no hydra/launcher=slurm; choose from"),
        (("method=fatezero", *PANORAMA), "method must not be FateZero for windows"),
        (("method=pix2video", "data.path=whole.png", "prompt=x", "data=file"), "data.source_capt"),
        (("method=prompt_to_prompt", "prompt=['make it night','make it warm']"), "2 in turn"),
        (("method=prompt_to_prompt", "method.distiller.edit.threshold=2"), "must be a share"),
        (("optimizer.optimizer.lr=-1",), "learning rate"),
        (("method=ip2p", "optimizer=adam"), "optimizer must be unit for a method that samples"),
        (("method=ip2p", "data.batch_size=2"), "data.batch_size must be null for a method that"),
        (("method=multidiffusion",), "method must not be MultiDiffusion for a clip"),
        (("method=ip2p", "sampler.name=DDIM"), "name must be one of DDIMScheduler"),
        (("sampler=foo",), "no sampler=foo; choose from ddim, ddpm"),
        (
            ("prompt=make", "it", "night"),
            "'it' is no key=value; did you mean prompt=\"make it night\"",
        ),
        (("prompt=[make", "it", "night]"), 'did you mean prompt="[make it night]"'),
        (("data.path", "whole.png"), 'did you mean data.path="whole.png"'),
        (("edit", "whole.png"), "did you mean data.path=whole.png"),
        (("make", "it", "night"), 'did you mean prompt="make it night"'),
        (("seed=1,2",), "several values, which need -m: csd-lab -m seed=1,2"),
        (("seed=range(3)",), "several values, which need -m: csd-lab -m 'seed=range(3)'"),
        (("callbacks.media.alone_up_to=foo",), "alone_up_to must be a whole number of pixels"),
        (("-m", "hydra.launcher.devices=0"), "devices must be auto, null or a list"),
        (("guidance.text=[1",), "a bracket is not closed"),
        (("experiment=panorama", "data.path=whole.png", "prompt=x"), "data.width is no setting of"),
        (("+trainer.foo=1",), "trainer.foo is no setting of Trainer"),
        (("-m", "sweep.name=a,b"), "sweep.name must be one for all jobs"),
        (("-m", "sweep=seeds,baselines"), "sweep must be one for all jobs"),
        (("sweep=seeds",), "sweep belongs to a sweep, which needs -m"),
        (("sweep.name=night",), "sweep.name belongs to a sweep, which needs -m"),
        (("hparams_search=optuna",), "hparams_search belongs to a sweep, which needs -m"),
        (("--data.path=whole.png",), "leave out the --: data.path="),
        (("--seed", "3"), "leave out the --: seed="),
        (("--versoin",), "did you mean --version?"),
        (("method=in2n",), "method must not be InstructNerf2Nerf but for a scene"),
        (("modality=scene",), "modality must be video for a clip"),
        ((*SCENE, "modality=video"), "modality must be scene or reconstruction for a capture"),
        ((*SCENE, "data.count=1"), "count must be a whole number of at least 2"),
        ((*SCENE, "data.views=99"), "at most the scene's 48 views"),
        ((*SCENE, "prompt=[make it night,make it warm]"), "prompt must be text"),
        ((*SCENE, "modality.updates.times=0"), "modality.updates.times must be a whole number"),
        ((*SCENE, "modality.updates.times=-1"), "modality.updates.times must be a whole number"),
        (
            (*SCENE, "modality.updates.fit=-1"),
            "modality.updates.fit must be a whole number of at least 0, got -1",
        ),
        ((*SCENE, "data.views=0"), "data.views must be a whole number of at least 1"),
        ((*SCENE, "data.views=all"), "data.views must be a whole number of at least 1"),
        ((*SCENE, "method=multidiffusion"), "MultiDiffusion for a scene: it averages windows that"),
        ((*SCENE, HALF), "regions must be null but for one image"),
        ((HALF,), "regions must be null but for one image"),
        ((*PANORAMA, "modality.shift=maybe"), "modality.shift must be true or false"),
        ((*PANORAMA, "modality.keep=maybe"), "modality.keep must be true or false"),
        (("prior.compile=maybe",), "compile must be true or false"),
        (("prior.channels_last=maybe",), "channels_last must be true or false"),
        (("prior.local_files_only=maybe",), "local_files_only must be true or false"),
        ((*SCENE, "modality.route=elsewhere"), "route must be images or renderer"),
        ((*SCENE, "method=ip2p", "modality.route=renderer"), "route must be images for Instruct"),
        ((*SCENE, "method=dds", "+modality.scene_optimizer.foo=1"), "foo is no setting of Adam"),
        ((*TEXT, "method=pds"), "method.weight must have no settings beside its _target_"),
        ((*SCENE, "modality.recipe.reconstruction=none"), "must be the folder of a run of exper"),
        ((*SCENE, "field.resolution=1"), "resolution must be a whole number of at least 2, got 1"),
        ((*SCENE, "field=gsplat"), "needs a CUDA device, and there is none"),
        ((*SCENE, "method=fatezero"), "method must not be FateZero for windows or views"),
        (("data.path=single", "prompt=x"), "must have at least 2 views"),
        (("data.path=nan", "prompt=x"), "must be 4 x 4 finite"),
        (("data.path=fisheye", "prompt=x"), "a camera of the model 'OPENCV_FISHEYE'"),
        (("data.path=lost", "prompt=x"), "names images that are missing: 1 of 2"),
        (("data.path=sizes", "prompt=x"), "must have the size of the other views"),
        (("data=text",), "prompt must be one text"),
        ((*TEXT, "prompt=['a ball','a box']"), "prompt must be one text"),
        ((*TEXT, "prior=embedded"), "prior must read captions to make a scene"),
        ((*TEXT, "method=csd_edit"), "method must distil without a source"),
        ((*TEXT, "method=ip2p"), "method must distil without a source"),
        ((*TEXT, "data.views.elevation=[20,10]"), "elevation must be two numbers"),
        ((*TEXT, "data.views.count=0"), "count must be"),
        ((*TEXT, "modality.growth.sides=[1]"), "sides must be 2 shares"),
        (("trainer.precision=bf16-true",), "trainer.precision must be one of 32-true"),
        ((*SCENE, "trainer.precision=64"), "trainer.precision must be one of 32-true"),
        (("+trainer.accumulate_grad_batches=2",), "trainer.accumulate_grad_batches must be 1"),
        (("method=ip2p", "+trainer.gradient_clip_val=1"), "trainer.gradient_clip_val must be null"),
        (
            (*TEXT, "modality.regularisers.sparsity.weight=-1"),
            "weight must be a finite number of at least 0",
        ),
        ((*TEXT, "modality.regularisers.foo.weight=1"), "modality.regularisers.foo"),
        ((*TEXT, "+modality.regularisers.foo=1"), "regularisers.foo must be a regulariser"),
        (("modality=text_to_3d",), "modality must be video for a clip"),
        ((*TEXT, "modality=video"), "modality must be text_to_3d for a text alone"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_one_line_and_a_non_zero_exit(csd_lab, media, arguments, told):
    outcome = csd_lab(*arguments)
    assert outcome.code == 2
    lines = outcome.err.strip().splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("csd-lab: ")
    assert told in lines[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(csd_lab):
    assert "take trainer=cpu" in csd_lab("trainer=gpu").err


def test_refused_input_leaves_no_folder(csd_lab, tmp_path):
    assert csd_lab("guidance.text=nan", "hydra.run.dir=outputs/run").code == 2
    assert not (tmp_path / "outputs" / "run").exists()


def test_refused_input_leaves_what_others_put_there(csd_lab, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    assert csd_lab("guidance.text=nan", "hydra.run.dir=run").code == 2
    assert (tmp_path / "run" / "notes.txt").is_file()


def test_a_run_without_a_checkpoint_is_not_to_be_gone_on_with(csd_lab):
    outcome = csd_lab(*LIGHT, "logger=wandb", "logger.wandb.mode=online", "+logger.wandb.wrong=1")
    assert outcome.code == 1
    assert "Go on with" not in outcome.out


def test_a_kernel_that_a_method_has_not_is_told(csd_lab):
    outcome = csd_lab(*LIGHT, "method=sds", "kernel=imq")
    assert outcome.code == 0
    assert "kernel changes nothing: method=sds has no kernel" in outcome.err


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("method=dds", "distance=lpips"), "distance changes nothing: method=dds has no distance"),
        (("field.resolution=8",), "field.resolution changes nothing: modality=video has no field"),
        (("kernel.bandwidth.scale=3", "method=csd"), ""),
        (
            ("optimizer=adam", "method.lr=1"),
            "method.lr changes nothing: optimizer=adam has its own",
        ),
        (("method.lr=1",), ""),
        (("guidance.text=3", "sampler=ddim"), "sampler changes nothing: method=csd_edit_best has"),
        (("data=world_scene", "experiment=reconstruct", "method=dds"), "method changes nothing"),
        (("data=world_scene", "method=dds", "modality.updates.fit=3"), "modality.updates.fit ch"),
        (("data=world_scene", "field.resolution=8", "method=in2n", "modality.updates.fit=3"), ""),
    ],
)
def test_settings_that_nothing_of_a_run_refers_to_are_told(overrides, told):
    config = composed(*overrides)
    assert unused(config, overrides).startswith(told)
    assert bool(unused(config, overrides)) is bool(told)


def test_a_setting_that_an_own_part_does_not_list_is_told(csd_lab, tmp_path):
    (tmp_path / "configs" / "kernel").mkdir(parents=True)
    own = tmp_path / "configs" / "kernel" / "own.yaml"
    own.write_text(
        "_target_: csd_lab.distill.RBF\nbandwidth: {_target_: csd_lab.distill.Bandwidth}\n"
    )
    outcome = csd_lab(*LIGHT, "method=csd", "kernel=own", "kernel.bandwidth.scale=4")
    assert outcome.code == 2
    assert "no setting 'kernel.bandwidth.scale' in the kernel that was chosen" in outcome.err


def test_a_fault_of_a_new_part_is_no_wrong_input_and_its_log_is_kept(csd_lab, tmp_path):
    (tmp_path / "faulty.py").write_text("def kernel(**_):\n    return {}['lost']\n")
    (tmp_path / "configs" / "kernel").mkdir(parents=True)
    (tmp_path / "configs" / "kernel" / "faulty.yaml").write_text("_target_: faulty.kernel\n")
    outcome = csd_lab(*LIGHT, "method=csd", "kernel=faulty", "hydra.run.dir=run")
    assert outcome.code == 1
    assert re.search(r"failed: KeyError: 'lost' \(details: .*run\.log\)$", outcome.err.strip())
    assert "in kernel" in (tmp_path / "run" / "run.log").read_text()
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


def test_a_learning_rate_that_the_optimizer_does_not_take_is_told(csd_lab):
    outcome = csd_lab(*LIGHT, "optimizer=adam", "method.lr=0.01")
    assert outcome.code == 0
    assert "method.lr changes nothing: optimizer=adam has its own" in outcome.err


def test_timesteps_outside_the_schedule(csd_lab):
    outcome = csd_lab(*LIGHT, "method.timesteps.high=1001")
    assert outcome.code == 2
    assert "1000" in outcome.err


def test_nan_in_the_gradient_stops_at_the_last_good_state(csd_lab, tmp_path):
    outcome = csd_lab(
        *LIGHT, "trainer.max_steps=40", "optimizer.optimizer.lr=1e38", "hydra.run.dir=run"
    )
    assert outcome.code == 1
    assert "is not finite for particle" in outcome.err
    assert "csd-lab resume=" in (tmp_path / "run" / "report.html").read_text()
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    assert "failed" in (tmp_path / "run" / "report.html").read_text()


def test_files_of_the_user_are_not_replaced(csd_lab, tmp_path):
    (tmp_path / "plots").mkdir()
    for name in ("edited.mp4", "plots/mine.png"):
        (tmp_path / name).write_text("precious")
    outcome = csd_lab(*LIGHT, "hydra.run.dir=.")
    assert outcome.code == 2
    assert "hydra.run.dir must not hold 'edited.mp4'" in outcome.err
    assert (tmp_path / "edited.mp4").read_text() == "precious"
    (tmp_path / "edited.mp4").unlink()
    assert "must not hold 'mine.png'" in csd_lab(*LIGHT, "hydra.run.dir=.").err
    (tmp_path / "plots" / "mine.png").unlink()
    (tmp_path / "config.yaml").write_text("my: own")
    assert "must not hold 'config.yaml'" in csd_lab(*LIGHT, "hydra.run.dir=.").err
    assert (tmp_path / "config.yaml").read_text() == "my: own"


def test_a_refused_setting_leaves_the_finished_run_finished(csd_lab, tmp_path):
    assert csd_lab(*LIGHT, "hydra.run.dir=run").code == 0
    before = (tmp_path / "run" / "status.json").read_text()
    assert csd_lab(*LIGHT, "hydra.run.dir=run", "kernel.bandwidth.scale=-1").code == 2
    assert (tmp_path / "run" / "status.json").read_text() == before


def test_what_a_run_would_replace_is_no_source_of_it_in_a_folder_either(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.previews.mkdir(parents=True)
    folder.config.write_text("_target_: csd_lab.data.FileClip")
    frame = folder.previews / "step_000020.png"
    frame.write_text("precious")
    folder.check_free(str(tmp_path), str(tmp_path / "other.mp4"), None)
    for sources in (str(frame), str(folder.previews), [str(tmp_path), str(folder.previews)]):
        with pytest.raises(ValueError, match="must not hold 'step_000020"):
            folder.check_free(sources)


def test_the_result_of_a_run_is_no_source_of_it(csd_lab, tmp_path):
    assert csd_lab(*LIGHT, "hydra.run.dir=run").code == 0
    before = (tmp_path / "run" / "edited.mp4").read_bytes()
    outcome = csd_lab("data.path=run/edited.mp4", "prompt=make it red", "hydra.run.dir=run")
    assert outcome.code == 2
    assert "choose another folder" in outcome.err
    assert (tmp_path / "run" / "edited.mp4").read_bytes() == before


def test_a_path_may_begin_at_home(csd_lab, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert csd_lab(*LIGHT, "hydra.run.dir=~/run").code == 0
    assert (tmp_path / "home" / "run" / "report.html").is_file()
    assert csd_lab("resume=~/run").code == 0


def test_a_run_that_its_trainer_ends_says_so(csd_lab, tmp_path):
    outcome = csd_lab(*LIGHT, "trainer.max_steps=9000", "+trainer.max_time=00:00:00:02")
    assert outcome.code == 0
    assert "of 9000." in outcome.out
    (page,) = tmp_path.rglob("report.html")
    assert "after 9000 steps" not in page.read_text()


def test_an_experiment_that_changes_nothing_is_refused(csd_lab, tmp_path):
    (tmp_path / "configs" / "experiment").mkdir(parents=True)
    (tmp_path / "configs" / "experiment" / "mine.yaml").write_text("seed: 3\n")
    outcome = csd_lab("experiment=mine")
    assert outcome.code == 2
    assert "must be a file that begins with '# @package _global_'" in outcome.err


def test_an_unreadable_config_is_one_line(csd_lab, tmp_path):
    (tmp_path / "configs" / "kernel").mkdir(parents=True)
    (tmp_path / "configs" / "kernel" / "mine.yaml").write_text("a: [unclosed\n")
    outcome = csd_lab("kernel=mine")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1


def test_an_own_config_with_a_name_of_the_package_is_told(csd_lab, tmp_path):
    (tmp_path / "configs" / "kernel").mkdir(parents=True)
    (tmp_path / "configs" / "kernel" / "rbf.yaml").write_text("_target_: csd_lab.distill.IMQ\n")
    outcome = csd_lab(*LIGHT)
    assert outcome.code == 0
    assert "kernel/rbf.yaml in ./configs: not used" in outcome.err
