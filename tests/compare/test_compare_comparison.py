"""Groups, and what is said of them, against an independent computation with pandas."""

import itertools
import json
import math
import re

import pandas as pd
import pytest
from compare_runs import make_sweep
from scipy import stats

from csd_lab.compare import Comparison, load_runs, records_table
from csd_lab.compare.tables import rules


@pytest.fixture(scope="module")
def runs(sweep):
    return load_runs(sweep)


def group(comparison, label):
    return next(g for g in comparison.groups if g.label == label)


def test_the_default_is_by_the_parts_that_differ(runs):
    comparison = Comparison(runs)
    assert comparison.by == ("method", "kernel")
    assert comparison.unit == ("data.clip_seed",)
    assert comparison.matched == ("prompt", "seed")
    assert comparison.reference.label == "csd_edit · rbf"
    assert [g.label for g in comparison.groups][:2] == ["csd · imq", "csd · rbf"]


def test_panoramas_are_told_apart_by_their_scene(maker, tmp_path):
    for method in ("csd_edit", "dds"):
        for clip in (1, 2):
            root = maker.make(tmp_path / f"{method}-{clip}", method=method, clip=clip)
            config = root / "config.yaml"
            config.write_text(config.read_text().replace("clip_seed", "scene_seed"))
    comparison = Comparison(load_runs(tmp_path))
    assert comparison.unit == ("data.scene_seed",)
    assert [comparison.scenes(g) for g in comparison.groups] == [2, 2]


@pytest.mark.parametrize("metric", ["psnr_answer", "agreement", "lpips_consecutive_tiny"])
@pytest.mark.parametrize("by", [["method"], ["kernel"], ["seed"], ["method", "kernel"]])
def test_means_are_those_of_pandas(runs, by, metric):
    comparison = Comparison(runs, by=by)
    frame = pd.DataFrame(records_table(runs))
    frame = frame[frame.state == "done"]
    scenes = frame.groupby([*by, "data.clip_seed"])[metric].mean()
    expected = scenes.groupby(by).agg(["mean", "sem", "count"]).reset_index()
    rows = {tuple(str(row[key]) for key in by): row for row in expected.to_dict("records")}
    assert len(rows) == len(comparison.groups)
    for g in comparison.groups:
        row = rows[comparison.values(g)]
        estimate = comparison.estimate(g, metric)
        assert estimate.mean == pytest.approx(row["mean"])
        assert estimate.scenes == row["count"]
        student = stats.t.ppf(0.975, row["count"] - 1)
        assert estimate.half == pytest.approx(student * row["sem"])


def test_differences_are_paired_by_scene_prompt_and_seed(runs):
    comparison = Comparison(runs, by=["method"])
    assert comparison.reference.label == "csd_edit"
    difference = comparison.difference(group(comparison, "dds"), "psnr_answer")
    assert difference[:3] == pytest.approx((-1.0, -1.0, -1.0))
    assert difference[3:] == (4, 16)  # of the same kernel
    assert comparison.better(group(comparison, "dds"), "psnr_answer") == (0, 4)
    assert comparison.difference(group(comparison, "csd"), "psnr_answer").scenes == 3
    assert comparison.better(group(comparison, "csd"), "saturation") == (0, 0)


def grid(maker, folder, left_out=()):
    """Runs whose metric is the square of one of two settings, over two clips."""
    for text, image, clip in itertools.product((3, 5), (1, 2), (1, 2)):
        if (text, image) not in left_out:
            root = maker.make(folder / f"{text}-{image}-{clip}", clip=clip)
            config = root / "config.yaml"
            guidance = f"\nguidance:\n  text: {text}\n  image: {image}\n"
            config.write_text(config.read_text() + guidance)
            results = json.loads((root / "metrics.json").read_text())
            results["metrics"]["psnr_answer"] = image**2
            (root / "metrics.json").write_text(json.dumps(results))
    return load_runs(folder)


def test_all_that_was_varied_is_grouped_by(maker, tmp_path):
    comparison = Comparison(grid(maker, tmp_path))
    assert comparison.by == ("guidance.text", "guidance.image")
    assert comparison.pooled == ()
    assert {g.label: comparison.estimate(g, "psnr_answer").mean for g in comparison.groups} == {
        "3 · 1": 1.0, "3 · 2": 4.0, "5 · 1": 1.0, "5 · 2": 4.0,
    }  # fmt: skip


def test_what_was_varied_is_matched_where_groups_share_a_value(maker, tmp_path):
    """A group that lacks some runs is neither better nor worse for it."""
    comparison = Comparison(grid(maker, tmp_path, {(5, 2)}), by=["guidance.text"])
    assert comparison.matched == ("prompt", "seed", "guidance.image")
    other = next(g for g in comparison.groups if g is not comparison.reference)
    assert comparison.difference(other, "psnr_answer")[:3] == (0.0, 0.0, 0.0)
    assert comparison.pooled == ()


def test_what_is_averaged_over_is_named(maker, tmp_path):
    grid(maker, tmp_path)
    for config in tmp_path.glob("5-*/config.yaml"):
        config.write_text(re.sub(r"image: \d", "image: 3", config.read_text()))
    comparison = Comparison(load_runs(tmp_path), by=["guidance.text"])
    assert comparison.matched == ("prompt", "seed")
    assert comparison.pooled == ("guidance.image",)
    assert "averaged first (guidance.image too)" in rules(comparison)[0]


def test_the_reference_differs_by_nothing_from_itself(runs):
    comparison = Comparison(runs, reference="dds, imq")
    assert comparison.reference.label == "dds · imq"
    difference = comparison.difference(comparison.reference, "psnr_answer")
    assert difference[:3] == (0.0, 0.0, 0.0)


def test_what_is_grouped_by_need_not_match(runs):
    parts = ("kernel", "method")
    assert Comparison(runs, by=["seed"]).matched == ("prompt", *parts)
    assert Comparison(runs, by=["data.seed"]).matched == ("prompt", *parts)
    assert Comparison(runs, unit=["seed"]).matched == ("prompt",)


def test_scenes_cannot_be_compared_across_scenes(runs):
    comparison = Comparison(runs, by=["data.clip_seed"])
    other = comparison.groups[-1]
    assert comparison.difference(other, "psnr_answer").scenes == 0
    assert math.isnan(comparison.difference(other, "psnr_answer").mean)


def test_unfinished_runs_count_but_give_no_figures(runs):
    comparison = Comparison(runs, by=["method"])
    dds = group(comparison, "dds")
    assert dds.unfinished == 1
    assert len(dds.runs) == 16


def test_the_best_mean_follows_the_direction(runs):
    comparison = Comparison(runs, by=["method"])
    psnr = [comparison.estimate(g, "psnr_answer").mean for g in comparison.groups]
    jumps = [comparison.estimate(g, "lpips_consecutive_tiny").mean for g in comparison.groups]
    assert comparison.best("psnr_answer") == max(psnr)
    assert comparison.best("lpips_consecutive_tiny") == min(jumps)
    assert comparison.best("saturation") is None


def test_curves_are_means_over_scenes(runs):
    comparison = Comparison(runs, by=["method"])
    dds = group(comparison, "dds")
    curve = comparison.curve(dds, "bandwidth")
    assert [step for step, _ in curve] == list(range(12))
    assert [e.mean for _, e in curve] == [100.0 + step for step in range(12)]
    assert "effective_neighbours" not in comparison.curves.values


def test_long_curves_are_thinned_to_means(maker, tmp_path):
    maker.make(tmp_path / "run", steps=1000)
    comparison = Comparison(load_runs(tmp_path))
    assert comparison.curves.width == 3
    step, estimate = comparison.curve(comparison.groups[0], "bandwidth")[1]
    assert (step, estimate.mean) == (4.0, 104.0)
    last = comparison.curve(comparison.groups[0], "bandwidth")[-1]
    assert last[1].mean == 100 + 999


def test_one_group_of_all(runs):
    comparison = Comparison(runs, by=[])
    assert [g.label for g in comparison.groups] == ["all runs"]
    assert comparison.best("psnr_answer") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": ["methd"]}, "by: no run has a setting 'methd'; did you mean 'method'"),
        ({"unit": ["clip"]}, "unit: no run has a setting 'clip'"),
        ({"metrics": ["psnr"]}, "metrics: no finished run has 'psnr'; did you mean 'psnr_answer'"),
        ({"reference": "sds"}, "reference must be one of the groups .*got 'sds'"),
    ],
)
def test_unknown_names_are_told(runs, arguments, message):
    with pytest.raises(ValueError, match=message):
        Comparison(runs, **arguments)


def test_without_any_config_there_is_nothing_to_compare(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.log").write_text("")
    with pytest.raises(ValueError, match=r"none of the 1 runs has a config\.yaml"):
        Comparison(load_runs(tmp_path))


def test_more_scenes_narrow_the_interval(maker, tmp_path, runs):
    many = Comparison(
        load_runs(make_sweep(maker, tmp_path / "many", clips=16, seeds=1)), ["method"]
    )
    few = Comparison(runs, ["method"])
    halves = [c.estimate(group(c, "csd_edit"), "lpips_consecutive_tiny").half for c in (few, many)]
    assert halves[1] < halves[0]
