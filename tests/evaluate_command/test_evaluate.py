"""`csd-lab-evaluate`: the figures of a run from its files alone, and one line for what is wrong."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from torch.nn.functional import interpolate

from csd_lab import cli, world
from csd_lab.commands import evaluate
from csd_lab.data import WorldClip, write_image, write_video
from csd_lab.notes import MetricNote
from csd_lab.run_folder import RunFolder
from csd_lab.types import Artefact, EditTask

CAPTIONS = ("--source-caption", "a blue box", "--target-caption", "a red box")


def write_folder(folder, frames):
    """Frames as PNG files: what is read back is what was rounded to 8 bits."""
    for number, frame in enumerate(frames):
        write_image(folder / f"{number}.png", frame)


def rounded(frames):
    return (frames * 255).round() / 255


@pytest.fixture(scope="module")
def task():
    """A clip with one right answer, in 8 bits."""
    made = world.edit_task(10**9 + 7, "make it night", frames=4)
    return made._replace(
        source=rounded(made.source),
        targets=rounded(made.targets),
        source_caption=CAPTIONS[1],
        target_caption=CAPTIONS[3],
        target_captions=(CAPTIONS[3],),
    )


@pytest.fixture(scope="module")
def edited(task):
    """Somebody's edit: the right answer with smooth errors, in 8 bits."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(4, 3, 8, 8, generator=generator)
    return rounded((task.targets[0] + 0.1 * interpolate(coarse, (64, 64))).clamp(0, 1))


@pytest.fixture(scope="module")
def clips(task, edited, tmp_path_factory):
    """A folder of clips as folders and videos."""
    place = tmp_path_factory.mktemp("clips")
    for name, frames in {"source": task.source, "target": task.targets[0], "ours": edited}.items():
        write_folder(place / name, frames)
        write_video(place / f"{name}.mp4", frames, 8.0)
    write_video(place / "short.mp4", edited[:2], 8.0)
    write_video(place / "large.mp4", interpolate(edited, (96, 128)), 8.0)
    write_image(place / "one.png", edited[0])
    (place / "empty.mp4").touch()
    return place


@pytest.fixture
def run(clips, monkeypatch, capsys):
    """Calls the command where the clips are: exit code, output, errors."""
    monkeypatch.chdir(clips)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments):
        GlobalHydra.instance().clear()
        try:
            code = evaluate.run(arguments)
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def expected(task, edited):
    """What a run's own evaluation makes of the same frames."""
    GlobalHydra.instance().clear()
    return evaluate.metric_suite("default", []).evaluate(Artefact(edited, task))


def figures(path):
    return [entry["metrics"] for entry in json.loads(path.read_text())["edited"]]


def test_frames_give_the_figures_of_a_run_exactly(run, expected, tmp_path):
    arguments = ("--source", "source", "--edited", "ours", "--target", "target", *CAPTIONS)
    code, out, err = run(*arguments, "--json", str(tmp_path / "out.json"))
    assert code == 0, err
    (values,) = figures(tmp_path / "out.json")
    assert values == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert "clip_direction_tiny" in values
    for name, value in values.items():
        line = next(line for line in out.splitlines() if name in line)
        assert f"{value:.4g}" in line


def test_videos_give_them_within_the_codecs_error(run, expected, tmp_path):
    arguments = ("--source", "source.mp4", "--edited", "ours.mp4", "--target", "target.mp4")
    code, _, err = run(*arguments, "--metrics", "pixels", "--json", str(tmp_path / "out.json"))
    assert code == 0, err
    (values,) = figures(tmp_path / "out.json")
    assert values["psnr_target"] == pytest.approx(expected["psnr_target"], abs=1.0)
    assert values["ssim_target"] == pytest.approx(expected["ssim_target"], abs=0.05)
    assert values["saturation"] == pytest.approx(expected["saturation"], abs=0.03)


def test_a_runs_own_clip_gives_its_metrics_json(run, tmp_path, monkeypatch):
    size = ("data.size=32", "data.frames=3", "trainer.max_steps=2", "optimizer.optimizer.lr=0.01")
    command = ["csd-lab", "experiment=colours", "metrics=pixels", *size]
    monkeypatch.setattr(sys, "argv", [*command, f"hydra.run.dir={tmp_path / 'run'}"])
    GlobalHydra.instance().clear()
    cli.main()
    folder = RunFolder(tmp_path / "run")
    of_run = json.loads(folder.results.read_text())["metrics"]
    data = yaml.safe_load(folder.config.read_text())["data"]
    task = WorldClip(data["clip_seed"], frames=3, size=32).task
    for number, answer in enumerate(task.targets):
        write_folder(tmp_path / f"answer{number}", answer)
    write_folder(tmp_path / "source", task.source)
    answers = [str(tmp_path / f"answer{number}") for number in range(len(task.targets))]
    arguments = ("--source", str(tmp_path / "source"), "--edited", str(folder.edited))
    code, _, err = run(
        *arguments, "--target", *answers, "metrics=pixels", "--json", str(tmp_path / "out.json")
    )
    assert code == 0, err
    (values,) = figures(tmp_path / "out.json")
    assert set(values) == set(of_run)
    for name, tolerance in {"psnr_answer": 0.5, "agreement": 0.0, "saturation": 0.03}.items():
        assert values[name] == pytest.approx(of_run[name], abs=tolerance)
    for name in ("colour_spread", "error_spread", "saturation_answer"):
        assert values[name] == pytest.approx(of_run[name], abs=0.01)


def test_several_clips_are_columns_with_the_best_in_bold(run, tmp_path):
    arguments = ("--source", "source", "--edited", "ours", "source", "--target", "target")
    code, out, err = run(*arguments, "metrics=pixels", "--json", str(tmp_path / "out.json"))
    assert code == 0, err
    ours, none = figures(tmp_path / "out.json")
    assert ours["psnr_target"] > none["psnr_target"] + 5
    heading = next(line for line in out.splitlines() if "metric" in line)
    assert heading.index("ours") < heading.index("source")
    assert evaluate.is_best(2.0, [1.0, 2.0], True)
    assert evaluate.is_best(1.0, [1.0, 2.0, math.nan], False)
    assert not evaluate.is_best(1.0, [1.0], True)
    assert not evaluate.is_best(1.0, [1.0, 2.0], None)


def test_what_is_left_out_is_told_with_the_option_that_helps(run, tmp_path):
    code, out, _ = run(
        "--source", "source", "--edited", "ours", "--json", str(tmp_path / "out.json")
    )
    assert code == 0
    text = " ".join(out.split())
    assert (
        "left out, needs exactly one known right answer (--target): psnr_target, ssim_target"
        in text
    )
    assert "(--source-caption, --target-caption): clip_direction_tiny" in text
    skipped = json.loads((tmp_path / "out.json").read_text())["skipped"]
    assert skipped["clip_text_tiny"] == "needs a caption of the target"


def test_several_targets_are_several_right_answers(run, tmp_path):
    arguments = ("--source", "source", "--edited", "ours", "--target", "source", "target")
    code, _, err = run(*arguments, "--metrics", "pixels", "--json", str(tmp_path / "out.json"))
    assert code == 0, err
    (values,) = figures(tmp_path / "out.json")
    assert values["agreement"] == 1.0
    assert values["psnr_answer"] > 15
    assert "psnr_target" not in values


def test_other_networks_are_overrides_of_the_config(run):
    code, out, err = run("--source", "one.png", "--edited", "one.png",
                         "~metrics.plain.saturation", "~metrics.clip_metrics.clip_image",
                         "metrics.perceptual.backbone=nope")  # fmt: skip
    assert code == 2
    assert "nope" in err
    code, out, err = run("--source", "one.png", "--edited", "one.png", "~metrics.plain.saturation",
                         "--metrics", "pixels")  # fmt: skip
    assert code == 0, err
    assert "saturation " not in out


def test_sizes_are_made_equal_if_asked(run):
    code, out, err = run(
        "--source", "source", "--edited", "large.mp4", "--metrics", "pixels", "--resize"
    )
    assert code == 0, err
    assert "large.mp4" in out


def test_the_column_that_a_codec_added_is_taken_away(run, tmp_path, clips):
    frames = torch.rand(2, 3, 15, 17, generator=torch.Generator().manual_seed(0))
    write_folder(tmp_path / "odd", frames)
    write_video(tmp_path / "odd.mp4", frames, 8.0)
    code, _, err = run(
        "--source", str(tmp_path / "odd"), "--edited", str(tmp_path / "odd.mp4"), "metrics=pixels"
    )
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "the following arguments are required: --source, --edited; see"),
        (("--source", "source", "--edited", "short.mp4"),
         "short.mp4 has 2 frames, the source 4; metrics compare frame by frame: "),
        (("--source", "source", "--edited", "large.mp4"),
         "large.mp4 is 128x96 pixels, the source 64x64; give clips of one size, or --resize."),
        (("--source", "source", "--edited", "ours", "--target", "short.mp4"),
         "short.mp4 has 2 frames"),
        (("--source", "nowhere.mp4", "--edited", "ours"), "'nowhere.mp4' does not exist."),
        (("--source", "source", "--edited", "empty.mp4"), "'empty.mp4' is empty (0 bytes)."),
        (("--source", "source", "--edited", "ours", "--metrics", "pixel"),
         "There is no metrics=pixel; choose from "),
        (("--source", "source", "--edited", "ours", "metrics.clip.modell=x"),
         "There is no setting 'metrics.clip.modell'"),
        (("--source", "source", "--edited", "ours", "metrics.clip.model=ViT-L-15"),
         "clip model must be embedded, "),
        (("--source", "source", "--edited", "ours", "--max-frames", "0"),
         "max_frames must be a whole number of at least 1, got 0."),
        (("--source", "one.png", "--edited", "one.png", "--sorce", "x"),
         "unrecognized arguments: --sorce x"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(run, arguments, said):
    code, out, err = run(*arguments)
    assert code == 2
    assert err.startswith(f"csd-lab-evaluate: {said}")
    assert err.count("\n") == 1
    assert out == ""


def test_figures_that_cannot_be_written_are_shown(run):
    pair = ("--source", "one.png", "--edited", "one.png")
    code, out, err = run(*pair, "metrics=pixels", "--json", "/proc/no")
    assert code == 2
    assert err == "csd-lab-evaluate: No such file or directory: /proc/no\n"
    assert "saturation" in out


@pytest.mark.parametrize(
    ("reader", "encoding", "code"), [("true", "utf-8", 1), ("cat", "ascii", 0)]
)
def test_figures_are_kept_whoever_reads_what_is_printed(clips, tmp_path, reader, encoding, code):
    """Also a reader who has had enough, and one who lacks the letters."""
    pair = "--source one.png --edited one.png metrics=pixels"
    command = f"{sys.executable} -m csd_lab.commands.evaluate {pair} --json {tmp_path}/f.json"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | {reader}"],
        cwd=clips,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    assert "saturation" in figures(tmp_path / "f.json")[0]


def test_help_helps(run):
    code, out, _ = run("--help")
    assert code == 0
    for word in ("--source-caption", "metrics.clip.model=ViT-L-14", "--resize", "Exit codes"):
        assert word in out


def test_names_of_columns_are_short_and_different():
    assert evaluate.headings(["/a/run1/edited.mp4", "/a/run2/edited.mp4"]) == [
        "run1/edited.mp4",
        "run2/edited.mp4",
    ]
    assert evaluate.headings(["/a/run1/edited.mp4"]) == ["edited.mp4"]


def test_undefined_figures_are_null(tmp_path):
    result = evaluate.Result({"x": {"m": math.nan}}, {"m": MetricNote()}, {})
    evaluate.write_json(tmp_path / "o.json", "s", result)
    assert json.loads((tmp_path / "o.json").read_text())["edited"][0]["metrics"] == {"m": None}


def test_a_task_without_captions_has_none(clips):
    options = evaluate.parser().parse_args(
        ["--source", str(clips / "source"), "--edited", "x", "--target", str(clips / "target")]
    )
    task = evaluate.read_task(options)
    assert isinstance(task, EditTask)
    assert task.target_captions == ()
    assert task.targets.shape == (1, 4, 3, 64, 64)
