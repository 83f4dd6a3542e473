"""What every metric keeps to, found from the shipped configuration; and in two processes."""

import json
import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import hydra
import pytest
import torch
from hydra import compose, initialize_config_dir
from metric_cases import many_answers, one_answer
from omegaconf import DictConfig, OmegaConf

from csd_lab.metrics import (
    ArtefactMetric,
    ClipDirection,
    ClipText,
    MetricSuite,
    OpenClip,
    PsnrTarget,
    Saturation,
)
from csd_lab.types import Artefact

CONFIGS = Path(__file__).parents[2] / "configs"


def composed(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(f"metrics/{name}", list(overrides)).metrics


def shipped(folder: Path) -> DictConfig:
    """The configuration of all metrics, with random weights in the place of the embedded ones."""
    config = composed("scene", f"metrics.clip.model=local-dir:{folder}")
    OmegaConf.set_struct(config, False)
    config.perceptual = {
        "_target_": "csd_lab.metrics.ClipFeatureDistance",
        "encoder": {"_target_": "csd_lab.metrics.OpenClip", "model": f"local-dir:{folder}"},
    }
    return config


def build(folder: Path) -> MetricSuite:
    return hydra.utils.instantiate(shipped(folder))


@pytest.fixture(scope="module")
def suite(clip_folder: Path) -> MetricSuite:
    return build(clip_folder)


NAMES = [
    name
    for group in ("plain", "clip_metrics", "perceptual_metrics")
    for name in composed("scene")[group]
]


@pytest.fixture(params=NAMES)
def metric(request: pytest.FixtureRequest, suite: MetricSuite) -> ArtefactMetric:
    found = next(m for m in suite.metrics.values() if m.basename == request.param)
    found.reset()
    return found


def applicable(metric: ArtefactMetric, seed: int = 0, count: int = 4) -> Artefact:
    cases = (one_answer(seed, count), many_answers(seed, count))
    return next(case for case in cases if metric.applies_to(case))


def test_every_metric_is_finite_in_its_range_and_describes_itself(metric: ArtefactMetric) -> None:
    artefact = applicable(metric)
    values = metric.per_frame(artefact)
    assert values.shape in {(4,), (3,)}
    assert values.isfinite().all()
    value = metric.value(artefact)
    assert value.shape == ()
    low, high = metric.plot_lower_bound, metric.plot_upper_bound
    assert low is not None
    assert low <= float(value) <= (math.inf if high is None else high)
    assert metric.higher_is_better in {True, False, None}
    assert metric.unit
    assert type(metric).__doc__


def test_every_metric_is_deterministic_and_leaves_its_input_alone(metric: ArtefactMetric) -> None:
    artefact = applicable(metric)
    tensors = [artefact.edited, artefact.task.source, artefact.task.targets, artefact.flow.grid]
    before = [tensor.clone() for tensor in tensors]
    assert torch.equal(metric.per_frame(artefact), metric.per_frame(artefact))
    assert all(map(torch.equal, before, tensors))


def test_several_artefacts_give_the_mean_over_frames_or_clips(metric: ArtefactMetric) -> None:
    artefacts = [applicable(metric, seed, count) for seed, count in ((0, 3), (1, 5))]
    for artefact in artefacts:
        metric.update(artefact)
    pooled = torch.cat([metric.pool(metric.per_frame(artefact)) for artefact in artefacts])
    assert pooled.numel() in {2, 8}
    torch.testing.assert_close(metric.compute(), pooled.mean())
    assert metric(artefacts[0]) == pytest.approx(float(metric.value(artefacts[0])), abs=1e-6)
    metric.reset()
    assert int(metric.count) == 0


def test_a_single_frame_is_measured_or_declared_not_applicable(metric: ArtefactMetric) -> None:
    for artefact in (one_answer(count=1), many_answers(count=1)):
        if metric.applies_to(artefact):
            assert metric.value(artefact).isfinite()
        else:
            assert metric.missing(artefact).startswith("needs ")
            with pytest.raises(ValueError, match=f"{metric.name} does not apply to 'clip'"):
                metric.update(artefact)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_any_floating_type_is_measured(metric: ArtefactMetric, dtype: torch.dtype) -> None:
    artefact = applicable(metric)
    task = artefact.task._replace(
        source=artefact.task.source.to(dtype), targets=artefact.task.targets.to(dtype)
    )
    other = metric.value(artefact._replace(edited=artefact.edited.to(dtype), task=task))
    torch.testing.assert_close(other, metric.value(artefact), atol=2e-2, rtol=2e-2)


def malformed() -> list[tuple[Callable[[Artefact], Artefact], str]]:
    def task(artefact: Artefact, **changes: object) -> Artefact:
        return artefact._replace(task=artefact.task._replace(**changes))

    def flow(artefact: Artefact, **changes: object) -> Artefact:
        return artefact._replace(flow=artefact.flow._replace(**changes))

    return [
        (lambda a: a._replace(edited=a.edited * torch.nan), "edited must be finite"),
        (lambda a: a._replace(edited=a.edited * 255), r"edited must lie in \[0, 1\]"),
        (lambda a: a._replace(edited=a.edited[:2]), "edited and source must have one shape"),
        (lambda a: task(a, source=(a.task.source * 255).byte()), "divide by 255"),
        (lambda a: task(a, targets=a.task.targets[:, :2]), r"targets must be \(A, F, 3, H, W\)"),
        (lambda a: task(a, target_captions=("one",) * 7), "one for each target, got 7 for"),
        (
            lambda a: flow(a, grid=a.flow.grid[:1]),
            r"grid and visible of flow must be \(F - 1, H, W",
        ),
        (
            lambda a: flow(a, visible=a.flow.visible[:, :9]),
            r"got \(3, 32, 32, 2\) and \(3, 9, 32\)",
        ),
        (lambda a: flow(a, visible=a.flow.visible.float()), "visible of flow must be bool"),
        (lambda a: flow(a, grid=a.flow.grid / 0), "grid finite, got torch.bool and 6144 values"),
    ]


@pytest.mark.parametrize(("spoil", "message"), malformed())
def test_malformed_artefacts_are_refused(
    suite: MetricSuite, spoil: Callable[[Artefact], Artefact], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        suite.evaluate(spoil(one_answer()))


def test_evaluate_gives_what_applies_and_skipped_says_why_not(suite: MetricSuite) -> None:
    for artefact in (one_answer(), many_answers(), one_answer(count=1)):
        values, skipped = suite.evaluate(artefact), suite.skipped(artefact)
        assert sorted([*values, *skipped]) == sorted(suite.metrics)
        for name, value in values.items():
            expected = float(suite.metrics[name].value(artefact))
            assert value == pytest.approx(expected, abs=1e-5)
        assert all(reason.startswith("needs ") for reason in skipped.values())
        assert all(metric.count == 0 for metric in build_fresh_states(suite))
    bare = one_answer().task._replace(source_caption="", target_caption="", targets=None)
    skipped = suite.skipped(Artefact(bare.source, bare))
    assert skipped["clip_direction_local_random_rn"] == (
        "needs a caption of the source and a caption of the target"
    )
    assert skipped["psnr_target"] == "needs exactly one known right answer"
    assert skipped["saturation_answer"] == "needs a known right answer"
    assert skipped["warped_rmse"] == "needs the flow between neighbouring views"
    assert "clip_image_local_random_rn" not in skipped


def build_fresh_states(suite: MetricSuite) -> list[ArtefactMetric]:
    for metric in suite.metrics.values():
        metric.reset()
    return list(suite.metrics.values())


def test_an_undefined_value_is_nan_never_0(suite: MetricSuite) -> None:
    artefact = one_answer()
    values = suite.evaluate(artefact._replace(edited=artefact.task.source))
    assert math.isnan(values["clip_direction_local_random_rn"])
    assert values["lpips_source_local_random_rn"] == pytest.approx(0, abs=1e-6)


def test_the_encoder_is_shared_and_each_frame_encoded_once(suite: MetricSuite) -> None:
    (encoder,) = {m.encoder for m in suite.metrics.values() if hasattr(m, "encoder")}
    assert len([name for name in suite.metrics if name.endswith("_local_random_rn")]) == 10
    seen: list[int] = []
    hook = encoder.model.visual.register_forward_hook(lambda *io: seen.append(io[2].shape[0]))
    suite.evaluate(one_answer())
    hook.remove()
    assert seen == [4, 4]  # the edited frames and the source, in spite of seven metrics


def test_a_suite_without_networks_needs_no_weights() -> None:
    suite = hydra.utils.instantiate(composed("pixels"))
    values = suite.evaluate(one_answer())
    assert set(values) == {
        "psnr_target", "ssim_target", "error_spread", "colour_spread", "saturation",
        "saturation_answer",
    }  # fmt: skip
    assert MetricSuite().evaluate(one_answer()) == {}


def test_every_line_of_the_configuration_is_a_class_under_its_own_name() -> None:
    config = composed("scene")
    for group in ("plain", "clip_metrics", "perceptual_metrics"):
        for name, entry in config[group].items():
            found = hydra.utils.get_class(entry._target_)
            assert issubclass(found, ArtefactMetric)
            assert found.basename == name
            assert getattr(found, "__final__", False)
            assert entry.get("_partial_", False) == (group != "plain")


def test_a_wrong_suite_is_refused(encoder: OpenClip) -> None:
    with pytest.raises(ValueError, match="metric 'psnr' must be called 'psnr_target'"):
        MetricSuite(plain={"psnr": PsnrTarget()})
    with pytest.raises(ValueError, match=r"clip must be given for the metrics \['clip_text'\]"):
        MetricSuite(clip_metrics={"clip_text": ClipText})
    suite = MetricSuite({"saturation": Saturation()}, encoder, {"clip_direction": ClipDirection})
    assert list(suite.metrics) == ["saturation", "clip_direction_local_random_rn"]


def test_a_metric_draws_itself(metric: ArtefactMetric) -> None:
    metric.update(applicable(metric))
    figure, axis = metric.plot()
    assert axis.get_lines()
    figure.clear()


def dataset() -> list[Artefact]:
    """Clips of both kinds and of different lengths, one of them not edited at all."""
    unedited = one_answer(7)._replace(edited=one_answer(7).task.source)
    return [
        one_answer(0), many_answers(1, 3), one_answer(2, 2), many_answers(3, 5), unedited,
    ]  # fmt: skip


def accumulated(suite: MetricSuite, artefacts: list[Artefact]) -> dict[str, list[float]]:
    for artefact in artefacts:
        for metric in suite.metrics.values():
            if metric.applies_to(artefact):
                metric.update(artefact)
    return {name: [float(metric.compute())] for name, metric in suite.metrics.items()}


def joint_result(rank: int, folder: Path, scratch: Path) -> dict[str, list[float]]:
    """What one of two processes computes: it sees every second artefact."""
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{scratch}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=5),
    )
    suite = build(folder)
    result = accumulated(suite, dataset()[rank::2])
    if rank == 0:  # a process may evaluate alone without waiting for the other
        alone = suite.evaluate(one_answer())
        (scratch / "result.json").write_text(json.dumps([result, alone]))
    torch.distributed.destroy_process_group()
    return result


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_two_processes_give_the_result_of_one(clip_folder: Path, tmp_path: Path) -> None:
    other = torch.multiprocessing.spawn(joint_result, (clip_folder, tmp_path), nprocs=1, join=False)
    here = joint_result(1, clip_folder, tmp_path)
    while not other.join():
        pass
    joint, alone = json.loads((tmp_path / "result.json").read_text())
    suite = build(clip_folder)
    expected = accumulated(suite, dataset())
    assert set(joint) == set(here) == set(expected)
    for name, (value,) in expected.items():
        assert math.isfinite(value)
        assert joint[name] == here[name] == [pytest.approx(value, abs=1e-5)], name
    assert alone == pytest.approx(suite.evaluate(one_answer()), abs=1e-5)
