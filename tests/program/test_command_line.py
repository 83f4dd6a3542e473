"""What a user types reaches the config as it was typed, and mistakes are told in one line."""

from importlib.metadata import version
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from csd_lab.composition import config_folder
from csd_lab.messages import one_line
from csd_lab.sweep import SweepFolder
from csd_lab.typed import hydra_string, prepare

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=200)

LIGHT = (
    "hydra/launcher=basic",
    "prior=colours",
    "prior.size=16",
    "method=csd",
    "guidance=classifier_free",
    "metrics=pixels",
    "trainer.max_steps=1",
    "callbacks.preview=null",
)


@given(TEXT)
@pytest.mark.filterwarnings("ignore")
def test_quoted_text_comes_back_as_it_was(text):
    override = OverridesParser.create().parse_override("prompt=" + hydra_string(text))
    config = OmegaConf.create({"prompt": None})
    OmegaConf.update(config, "prompt", override.value())
    assert OmegaConf.to_container(config, resolve=True)["prompt"] == text


def test_a_path_of_data_implies_reading_a_file():
    assert prepare(["data.path=a clip, (1).mp4"]) == ["data=file", "data.path='a clip, (1).mp4'"]
    assert prepare(["data=file", "data.path=x"]) == ["data=file", "data.path='x'"]
    assert prepare(["-m", "data.path=a.png,b.jpg"])[1] == "data=image"
    assert prepare(["-m", "data.path=a.mp4,b.mp4"])[1] == "data=file"
    with pytest.raises(ValueError, match="media of one kind in a sweep, got file and image"):
        prepare(["-m", "data.path=a.mp4,b.jpg"])
    assert prepare(["data.path=a.JPG"]) == ["data=image", "data.path='a.JPG'"]
    assert prepare(["data.path='a b.tif'"]) == ["data=image", "data.path='a b.tif'"]


@pytest.mark.parametrize("argument", ["prompt='a b'", 'prompt="a"', "prompt=[a,b]", "prompt=null"])
def test_values_that_are_written_for_hydra_stay(argument):
    assert prepare([argument]) == [argument]


def test_multirun_keeps_sweeps():
    assert prepare(["-m", "prompt=a,b"]) == ["-m", "prompt=a,b"]


def test_options_come_first_and_overrides_in_one_block():
    assert prepare(["data.path=a.png", "-m", "seed=1,2"]) == [
        "-m",
        "data=image",
        "data.path='a.png'",
        "seed=1,2",
    ]
    assert prepare(["seed=1", "--cfg", "job", "prompt=x"]) == [
        "--cfg",
        "job",
        "seed=1",
        "prompt='x'",
    ]
    assert prepare(["--info", "seed=1"]) == ["--info=all", "seed=1"]


def test_a_comma_of_a_prompt_in_a_sweep_is_told_of(capsys):
    prepare(["-m", "prompt=make it dark, moody"])
    told = capsys.readouterr().err
    assert "2 jobs" in told
    assert told.rstrip().endswith("""prompt="'make it dark, moody'\"""")
    for meant in ("prompt='dark, moody'", "prompt=dark,moody", "prompt=[a, b]", "seed=1, 2"):
        prepare(["-m", meant])
    prepare(["prompt=make it dark, moody"])
    assert not capsys.readouterr().err


def test_a_sweep_over_an_image_of_one_s_own(csd_lab, tmp_path):
    Image.effect_noise((16, 16), 80).convert("RGB").save(tmp_path / "a photo.png")
    outcome = csd_lab("-m", "data.path=a photo.png", "prompt=x", "seed=1,2", "sweep.name=s", *LIGHT)
    assert outcome.code == 0, outcome.err
    assert len(list(SweepFolder(tmp_path / "outputs" / "sweeps" / "s").jobs())) == 2


def test_settings_are_shown_where_there_are_own_configs(csd_lab, tmp_path):
    (tmp_path / "configs").mkdir()
    outcome = csd_lab("seed=7", "--cfg", "job", "kernel=imq", "--resolve")
    assert outcome.code == 0, outcome.err
    assert "seed: 7" in outcome.out


def test_a_sweep_s_settings_are_shown_without_it(csd_lab):
    assert csd_lab("--cfg", "job", "sweep=seeds").code == 0


def test_version(csd_lab):
    assert csd_lab("--version").out == f"csd-lab {version('csd-lab')}\n"


def test_own_configs_are_found(tmp_path, monkeypatch):
    (tmp_path / "configs" / "experiment").mkdir(parents=True)
    (tmp_path / "configs" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nseed: 77\n"
    )
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("run", overrides=[*prepare([]), "experiment=mine"])
    assert config.seed == 77


def test_the_checkpoint_of_a_run_stands_for_the_run(tmp_path):
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.touch()
    (tmp_path / "config.yaml").touch()
    assert f"hydra.run.dir='{tmp_path}'" in prepare([f"resume={checkpoint}"])


def test_resume_wants_a_run_folder(tmp_path):
    with pytest.raises(ValueError, match="must be the folder of a run"):
        prepare([f"resume={tmp_path}"])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("kernel=foo", "identity, imq, mean, rbf"),
        ("kernle=rbf", "did you mean 'kernel';"),
        ("guidance.text=(", "put a value with special characters in quotes"),
    ],
)
def test_mistakes_are_told_in_one_line(override, told):
    with (
        initialize_config_dir(str(config_folder()), version_base="1.3"),
        pytest.raises(HydraException) as caught,
    ):
        compose("run", overrides=[override])
    line = one_line(caught.value)
    assert told in line
    assert "\n" not in line


def test_config_folder_is_the_checkout_s():
    assert (config_folder() / "run.yaml").is_file()
    assert config_folder() == Path(__file__).resolve().parents[2] / "configs"
