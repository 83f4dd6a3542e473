"""The encoder that ships: loaded by default, and able to tell right edits from wrong ones."""

from pathlib import Path

import hydra
import pytest
import torch
from hydra import compose, initialize_config_dir

from csd_lab.data.world_capture import scene_edit
from csd_lab.fields import flow
from csd_lab.metrics import MetricSuite
from csd_lab.types import Artefact, EditTask
from csd_lab.world.tasks import edit_task

CONFIGS = Path(__file__).parents[2] / "configs"
HELD_OUT = 1_000_003


def shipped(name: str) -> MetricSuite:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.utils.instantiate(compose(f"metrics/{name}").metrics)


@pytest.fixture(scope="module")
def suite() -> MetricSuite:
    return shipped("default")


def test_the_default_suite_is_named_after_the_tiny_network(suite: MetricSuite) -> None:
    tagged = {name for name, metric in suite.metrics.items() if name != metric.basename}
    assert len(tagged) == 7
    assert all(name.endswith("_tiny") for name in tagged)


def test_the_exact_edit_scores_better_than_no_edit_and_a_wrong_one(suite: MetricSuite) -> None:
    task = edit_task(HELD_OUT, "make it night", frames=3)
    other = edit_task(HELD_OUT, "change the sky", frames=3)
    right = suite.evaluate(Artefact(task.targets[0], task))
    wrong = suite.evaluate(Artefact(other.targets[0], task))
    unedited = suite.evaluate(Artefact(task.source, task))
    assert right["clip_direction_tiny"] > max(0.3, wrong["clip_direction_tiny"])
    assert right["clip_text_tiny"] > max(wrong["clip_text_tiny"], unedited["clip_text_tiny"])
    assert right["psnr_target"] == 100 > wrong["psnr_target"]
    assert unedited["lpips_source_tiny"] == pytest.approx(0, abs=1e-5)
    assert right["lpips_source_tiny"] > 0.1


def test_frames_that_give_different_answers_are_seen_as_inconsistent(suite: MetricSuite) -> None:
    task = edit_task(HELD_OUT, "change the sky", frames=4)
    mixed = torch.stack([task.targets[f % len(task.targets)][f] for f in range(4)])
    one, many = (suite.evaluate(Artefact(x, task)) for x in (task.targets[0], mixed))
    assert one["agreement"] == 1 > many["agreement"]
    assert one["psnr_answer"] > many["psnr_answer"]
    for name in ("colour_spread", "lpips_consecutive_tiny"):
        assert one[name] < many[name]
    for name in ("clip_consecutive_tiny", "clip_allpairs_tiny"):
        assert one[name] > many[name]


def test_views_that_give_different_answers_are_seen_as_inconsistent() -> None:
    scene = scene_edit(10**9 + 7, "change the sky", views=12, held_out=0)
    task = EditTask(torch.stack(scene.capture.images), scene.instruction, scene.source_caption)
    between = flow(scene.capture.cameras, scene.depth)
    mixed = torch.stack([scene.targets[v % len(scene.targets)][v] for v in range(12)])
    suite = shipped("scene")
    one, many = (suite.evaluate(Artefact(x, task, between)) for x in (scene.targets[0], mixed))
    for name in ("dircons_frame_tiny", "dircons_edit_tiny"):
        assert one[name] > many[name] + 0.3
    for name in ("warped_rmse", "warped_lpips_tiny"):
        assert one[name] < 0.5 * many[name]
