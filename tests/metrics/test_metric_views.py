"""Metrics of consistency between views against their formulas written out in numpy."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from metric_cases import frames, one_answer, wavy_flow

from csd_lab.metrics import (
    ClipFeatureDistance,
    DirConsEdit,
    DirConsFrame,
    OpenClip,
    WarpedLpips,
    WarpedRmse,
    WarpedVisible,
)
from csd_lab.metrics.clip import edit_direction_consistency, frame_direction_consistency
from csd_lab.metrics.warped import warped, warped_rmse
from csd_lab.types import Artefact, EditTask, Flow


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def read(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """An image, (3, H, W), between its pixels, whose middles lie at half numbers; (3,)."""
    _, height, width = image.shape
    column = min(max((x + 1) / 2 * width - 0.5, 0), width - 1)
    row = min(max((y + 1) / 2 * height - 0.5, 0), height - 1)
    left, top = int(column), int(row)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    across, down = column - left, row - top
    above = (1 - across) * image[:, top, left] + across * image[:, top, right]
    below = (1 - across) * image[:, bottom, left] + across * image[:, bottom, right]
    return (1 - down) * above + down * below


def written_out(views: np.ndarray, grid: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Every view after the first with its visible pixels read in the one before, pixel by pixel."""
    filled = views[1:].copy()
    for f, row, column in zip(*np.nonzero(visible), strict=True):
        filled[f, :, row, column] = read(views[f], *grid[f, row, column])
    return filled


def shifted(count: int, columns: int, size: int = 32) -> tuple[torch.Tensor, Flow]:
    """Views over a wide picture, each some columns farther to the right, and their flow."""
    wide = torch.nn.functional.interpolate(frames(1, 5, 16), (size, size + columns * count))
    views = torch.cat([wide[..., columns * f :][..., :size] for f in range(count)])
    middles = (2 * torch.arange(size) + 1) / size - 1
    place = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), dim=-1)
    grid = (place + torch.tensor([2 * columns / size, 0])).expand(count - 1, -1, -1, -1)
    return views, Flow(grid, grid[..., 0] < 1)


def test_direction_consistencies_are_their_formulas(encoder: OpenClip) -> None:
    artefact = one_answer(count=5)
    e, o = (encoder.images(x).double().numpy() for x in (artefact.edited, artefact.task.source))
    expected = {
        DirConsFrame: [cosine(o[i + 1] - o[i], e[i + 1] - e[i]) for i in range(4)],
        DirConsEdit: [cosine(e[i] - o[i], e[i + 1] - o[i + 1]) for i in range(4)],
    }
    for metric_class, values in expected.items():
        metric = metric_class(encoder)
        assert metric.name == f"{metric_class.basename}_local_random_rn"
        np.testing.assert_allclose(metric.per_frame(artefact).numpy(), values, atol=2e-4)
        assert float(metric.value(artefact)) == pytest.approx(np.mean(values), abs=2e-4)


def test_what_never_changes_has_no_direction_and_is_left_out(encoder: OpenClip) -> None:
    artefact = one_answer()
    still = artefact.edited.clone()
    still[2] = still[1]
    values = DirConsFrame(encoder).per_frame(artefact._replace(edited=still))
    assert values.isnan().tolist() == [False, True, False]
    value = DirConsFrame(encoder).value(artefact._replace(edited=still))
    torch.testing.assert_close(value, values[[0, 2]].mean())

    partly = artefact.edited.clone()
    partly[0] = artefact.task.source[0]
    values = DirConsEdit(encoder).per_frame(artefact._replace(edited=partly))
    assert values.isnan().tolist() == [True, False, False]

    unedited = artefact._replace(edited=artefact.task.source.clone())
    assert float(DirConsFrame(encoder).value(unedited)) == pytest.approx(1, abs=1e-5)
    metric = DirConsEdit(encoder)
    metric.update(unedited)
    assert metric.compute().isnan()
    assert int(metric.undefined) == 1
    metric.update(artefact)  # a clip where nothing is defined does not spoil the mean of others
    torch.testing.assert_close(metric.compute(), metric.value(artefact))


def test_the_two_direction_consistencies_see_different_faults() -> None:
    """An edit that moves all views alike is consistent; one to and fro is so in neither sense."""
    source = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    change = torch.randn(16, generator=torch.Generator().manual_seed(1))
    ones = torch.ones(5)
    same = source + 0.1 * change
    torch.testing.assert_close(frame_direction_consistency(same, source), ones)
    torch.testing.assert_close(edit_direction_consistency(same, source), ones)
    signs = torch.tensor([1.0, -1] * 3)[:, None]
    fro = source + 100 * signs * change
    torch.testing.assert_close(edit_direction_consistency(fro, source), -ones)
    assert frame_direction_consistency(fro, source).abs().max() < 0.9
    away = source + 100 * torch.arange(1, 7)[:, None] * change
    torch.testing.assert_close(edit_direction_consistency(away, source), ones)
    assert frame_direction_consistency(away, source).abs().max() < 0.9


def test_warped_metrics_are_their_formulas(encoder: OpenClip) -> None:
    artefact, distance = one_answer(), ClipFeatureDistance(encoder)
    views, (grid, visible) = artefact.edited, artefact.flow
    filled = written_out(views.double().numpy(), grid.double().numpy(), visible.numpy())
    assert 0.3 < visible.float().mean() < 0.9
    assert (grid.abs() > 1).any()  # read from the edge where the flow leaves the image
    squares = (filled - views[1:].double().numpy()) ** 2
    rmse = [math.sqrt(squares[f][:, visible[f].numpy()].mean()) for f in range(3)]
    np.testing.assert_allclose(WarpedRmse().per_frame(artefact), rmse, rtol=1e-4)
    assert float(WarpedRmse().value(artefact)) == pytest.approx(np.mean(rmse), rel=1e-4)

    lpips = [
        float(distance(views[f + 1][None], torch.tensor(filled[f][None]).float())) for f in range(3)
    ]
    metric = WarpedLpips(distance)
    assert metric.name == "warped_lpips_local_random_rn"
    np.testing.assert_allclose(metric.per_frame(artefact), lpips, rtol=1e-3, atol=1e-6)
    assert float(metric.value(artefact)) == pytest.approx(np.mean(lpips), rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="two devices are needed")
def test_the_network_may_be_on_another_device_than_the_metric(clip_folder: Path) -> None:
    here, there = (
        WarpedLpips(ClipFeatureDistance(OpenClip(f"local-dir:{clip_folder}", device=device)))
        for device in ("cpu", "cuda")
    )
    artefact = one_answer()
    assert there.device.type == "cpu"
    torch.testing.assert_close(
        there.per_frame(artefact), here.per_frame(artefact), rtol=1e-2, atol=1e-3
    )


def test_views_that_follow_their_flow_are_consistent_and_no_others(encoder: OpenClip) -> None:
    views, flow = shifted(4, 3)
    torch.testing.assert_close(
        torch.where(flow.visible[:, None], warped(views, flow), views[1:]), views[1:]
    )
    task = EditTask(views, "")
    right, wrong = Artefact(views, task, flow), Artefact(views.flip(0), task, flow)
    for metric in (WarpedRmse(), WarpedLpips(ClipFeatureDistance(encoder))):
        assert float(metric.value(right)) == pytest.approx(0, abs=1e-5)
        assert float(metric.value(wrong)) > 1e-3


def test_the_share_of_pixels_that_is_compared() -> None:
    artefact = one_answer()
    shares = [float(pair.sum()) / pair.numel() for pair in artefact.flow.visible]
    np.testing.assert_allclose(WarpedVisible().per_frame(artefact), shares, rtol=1e-6)
    assert float(WarpedVisible().value(artefact)) == pytest.approx(np.mean(shares))


def test_hidden_pixels_do_not_count(encoder: OpenClip) -> None:
    views, flow = shifted(3, 4)
    spoilt = views.clone()
    spoilt[1:, :, :, -4:] = 0.5  # what each view shows first
    artefact = Artefact(spoilt, EditTask(views, ""), flow._replace(visible=flow.visible.clone()))
    artefact.flow.visible[1, :, -8:-4] = False  # where the second view was spoilt
    for metric in (WarpedRmse(), WarpedLpips(ClipFeatureDistance(encoder))):
        assert float(metric.value(artefact)) == pytest.approx(0, abs=1e-5)


def test_a_pair_that_shares_nothing_is_undefined(encoder: OpenClip) -> None:
    artefact = one_answer()
    visible = artefact.flow.visible.clone()
    visible[1] = False
    parted = artefact._replace(flow=artefact.flow._replace(visible=visible))
    for metric in (WarpedRmse(), WarpedLpips(ClipFeatureDistance(encoder))):
        values = metric.per_frame(parted)
        assert values.isnan().tolist() == [False, True, False]
        torch.testing.assert_close(metric.value(parted), values[[0, 2]].mean())


def test_the_error_grows_with_a_flicker() -> None:
    """Views of one grey with a flicker of +-a differ by 2 a, however they are warped."""
    for amplitude in (0.0, 0.1, 0.3):
        signs = torch.tensor([1.0, -1, 1, -1])[:, None, None, None]
        views = (0.5 + amplitude * signs).expand(4, 3, 32, 32)
        values = warped_rmse(views, wavy_flow(4, 0))
        torch.testing.assert_close(values, torch.full((3,), 2 * amplitude))
