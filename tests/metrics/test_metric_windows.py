"""One large image: seams in closed form, crops against numpy, metrics of clips on its windows."""

import json
import math
from datetime import timedelta
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_cases import many_answers, one_answer
from torch import Tensor

from csd_lab import world
from csd_lab.canvas import WindowGrid
from csd_lab.metrics import (
    Agreement,
    ArtefactMetric,
    ClipDirection,
    ClipFeatureDistance,
    ClipImage,
    ClipText,
    ColourSpread,
    ErrorSpread,
    IntraLpips,
    LpipsSource,
    MetricSuite,
    OpenClip,
    OverWindows,
    PsnrTarget,
    SeamError,
    over_windows,
)
from csd_lab.metrics.seams import borders, seam_error, steps
from csd_lab.metrics.windows import as_clip, crop_size, crops
from csd_lab.types import Artefact, EditTask, Windows

SIDE = 32


def windows(height: int, width: int, stride: int = SIDE, wrap: bool = False) -> Windows:
    """Windows of 32 x 32 pixels."""
    grid = WindowGrid(height, width, (SIDE, SIDE), (stride, stride), wrap)
    return Windows(torch.cat([grid.origins, grid.origins + SIDE], dim=1), wrap)


def image(height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth random image, (1, 3, H, W), in [0, 1]."""
    coarse = torch.rand(1, 3, 3, 5, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").clamp(0, 1)


def large(clip: Artefact, stride: int = SIDE) -> Artefact:
    """The frames of a clip side by side as one image, whose windows they are."""

    def joined(images: Tensor) -> Tensor:
        return torch.cat(images.unbind(-4), dim=-1).unsqueeze(-4)

    source = joined(clip.task.source)
    targets = None if clip.task.targets is None else joined(clip.task.targets)
    places = windows(source.shape[-2], source.shape[-1], stride)
    task = clip.task._replace(source=source, targets=targets, windows=places)
    return Artefact(joined(clip.edited), task)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_crops_lie_side_by_side_from_the_top_left(h: int, w: int, down: int, across: int) -> None:
    picture = torch.rand(2, 3, h, w)
    found = crops(picture, (down, across))
    expected = [
        picture[..., top : top + down, left : left + across]
        for top in range(0, h - down + 1, down)
        for left in range(0, w - across + 1, across)
    ]
    assert found.shape == (2, 3, len(expected), down, across)
    for k, crop in enumerate(expected):
        assert torch.equal(found[:, :, k], crop)


def test_a_clip_laid_out_as_one_image_is_measured_as_the_clip(encoder: OpenClip) -> None:
    """The windows of the image are the frames of the clip, so all its metrics must agree."""
    distance = ClipFeatureDistance(encoder)
    for clip in (one_answer(3), many_answers(4)):
        for metric in (
            ErrorSpread(), ColourSpread(), Agreement(), ClipDirection(encoder),
            LpipsSource(distance), PsnrTarget(),
        ):  # fmt: skip
            over = OverWindows(metric)
            assert over.name == f"window_{metric.name}"
            assert (over.unit, over.higher_is_better) == (metric.unit, metric.higher_is_better)
            assert over.plot_lower_bound == metric.plot_lower_bound
            assert over.applies_to(large(clip)) == metric.applies_to(clip)
            if metric.applies_to(clip):
                for stride in (SIDE, 8):
                    values = over.per_frame(large(clip, stride))
                    torch.testing.assert_close(values, metric.per_frame(clip))
                    assert float(over.value(large(clip))) == pytest.approx(
                        float(metric.value(clip)), abs=1e-5
                    )


def test_windows_are_encoded_once_for_all_metrics(encoder: OpenClip) -> None:
    kinds = (ClipText, ClipImage, ClipDirection)
    over = {f"window_{kind.basename}": partial(over_windows, metric=kind) for kind in kinds}
    suite = MetricSuite(clip=encoder, clip_metrics=over)
    artefact, encoded = large(one_answer(5)), list[int]()
    expected = {name: float(metric.value(artefact)) for name, metric in suite.metrics.items()}
    hook = encoder.model.visual.register_forward_hook(lambda *io: encoded.append(len(io[2])))
    assert suite.evaluate(artefact) == expected
    hook.remove()
    assert encoded == [4, 4]  # of the edited image and of the source


def test_rows_of_windows_and_what_remains_at_the_edge() -> None:
    task = EditTask(image(75, 110), "x", windows=windows(75, 110, 16))
    assert crop_size(windows(75, 110, 16)) == (32, 32)
    edited, clip, _ = as_clip(Artefact(1 - task.source, task))
    assert clip.source.shape == (6, 3, 32, 32)
    assert torch.equal(clip.source[4], task.source[0, :, 32:64, 32:64])
    assert torch.equal(edited, 1 - clip.source)
    assert clip.windows is None
    with pytest.raises(ValueError, match="windows of task 'clip' must be known, got None"):
        as_clip(Artefact(task.source, task._replace(windows=None)))


def test_the_metrics_say_what_they_lack(encoder: OpenClip) -> None:
    clip, distance = one_answer(), ClipFeatureDistance(encoder)
    for metric in (SeamError(), IntraLpips(distance), OverWindows(ErrorSpread())):
        assert "needs the windows of one large image" in metric.missing(clip)
    single = large(one_answer(count=1))
    assert "two windows side by side" in IntraLpips(distance).missing(single)
    assert "at least two frames (here windows side by side)" in OverWindows(ErrorSpread()).missing(
        single
    )
    unknown = clip.task._replace(targets=None)
    assert "right answer" in OverWindows(ErrorSpread()).missing(
        large(Artefact(clip.edited, unknown))
    )
    moving = single.task.windows._replace(moving=True)
    moved = single._replace(task=single.task._replace(windows=moving))
    assert "needs windows that lie where they are in every step" in SeamError().missing(moved)
    small = large(one_answer(size=16))
    small = small._replace(task=small.task._replace(windows=Windows(small.task.windows.boxes // 2)))
    assert "windows of at least 32 x 32 pixels" in IntraLpips(distance).missing(small)


def test_intra_lpips_is_the_mean_over_all_pairs_of_crops(encoder: OpenClip) -> None:
    distance = ClipFeatureDistance(encoder)
    metric = IntraLpips(distance)
    artefact = large(one_answer(0, count=5))
    parts = artefact.edited[0].split(SIDE, dim=-1)
    pairs = [float(distance(a[None], b[None])) for a, b in combinations(parts, 2)]
    assert len(pairs) == 10
    assert float(metric.value(artefact)) == pytest.approx(np.mean(pairs), rel=1e-5)
    same = artefact._replace(edited=parts[0].repeat(1, 1, 5)[None])
    assert float(metric.value(same)) == pytest.approx(0, abs=1e-6)


def test_intra_lpips_of_many_crops_takes_16_spread_over_them(encoder: OpenClip) -> None:
    distance = ClipFeatureDistance(encoder)
    artefact = large(one_answer(0, count=31))
    clip = torch.cat(artefact.edited[0].split(SIDE, dim=-1)).unflatten(0, (31, 3))[::2]
    first, second = zip(*combinations(range(16), 2), strict=True)
    expected = distance(clip[list(first)], clip[list(second)]).mean()
    torch.testing.assert_close(IntraLpips(distance).value(artefact), expected)


def test_intra_lpips_copies_a_few_pairs_at_a_time(
    encoder: OpenClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    distance, artefact = ClipFeatureDistance(encoder), large(one_answer(0, count=5))
    expected = IntraLpips(distance).value(artefact)
    taken: list[int] = []
    distance.register_forward_pre_hook(lambda _, pair: taken.append(len(pair[0])))
    monkeypatch.setattr("csd_lab.metrics.base.PIXELS_AT_ONCE", 3 * SIDE * SIDE)
    torch.testing.assert_close(IntraLpips(distance).value(artefact), expected, rtol=1e-5, atol=1e-6)
    assert taken == [3, 3, 3, 1]


def written_out(
    change: np.ndarray, source: np.ndarray, columns: set[int], reach: int, wrap: bool
) -> float:
    """The definition for one axis, place by place."""
    height, width = change.shape[-2:]
    at_borders, inside = [], []

    def step(image: np.ndarray, x: int) -> np.ndarray:
        right = np.mean([image[..., (x + i) % width] for i in range(reach)], axis=0)
        left = np.mean([image[..., (x - i - 1) % width] for i in range(reach)], axis=0)
        return np.abs((right - left).mean(-1))

    for stretch in np.array_split(np.arange(height), max(1, height // (2 * reach))):
        for x in range(width):
            if not wrap and not reach <= x <= width - reach:
                continue
            if step(source[:, stretch], x).max() >= 0.04:
                continue
            apart = [abs(x - c) for c in columns]
            nearest = min([min(a, width - a) if wrap else a for a in apart], default=reach)
            if nearest == 0:
                at_borders.append(step(change[:, stretch], x).mean())
            elif nearest >= reach:
                inside.append(step(change[:, stretch], x).mean())
    return float(np.mean(at_borders) - np.mean(inside)) if at_borders and inside else math.nan


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("size", [(32, 128), (70, 100), (96, 96)])
def test_the_seam_error_is_its_definition(size: tuple[int, int], wrap: bool) -> None:
    change = (image(*size) + 0.1 * torch.rand(1, 3, *size))[0].double()
    source = (image(*size, seed=1) + 0.1 * torch.rand(1, 3, *size))[0].double()
    places = windows(*size, 24, wrap)
    rows = {int(edge) for box in places.boxes.tolist() for edge in box[0::2]} - {0, size[0]}
    columns = {int(edge) % size[1] for box in places.boxes.tolist() for edge in box[1::2]}
    columns = columns | {0} if wrap else columns - {0}
    found_rows, found_columns = borders(places, size)
    assert (set(found_rows.tolist()), set(found_columns.tolist())) == (rows, columns)
    parts = [
        (written_out(change.mT.numpy(), source.mT.numpy(), rows, 4, False), len(rows)),
        (written_out(change.numpy(), source.numpy(), columns, 4, wrap), len(columns)),
    ]
    known = [(value, weight) for value, weight in parts if not math.isnan(value)]
    expected = np.average([v for v, _ in known], weights=[w for _, w in known])
    assert float(seam_error(change, source, places)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("wrap", [False, True])
def test_offsets_between_windows_show_in_full(wrap: bool) -> None:
    source = image(64, 128) * 0.03
    offsets = torch.tensor([[0.0, 0.3, 0.1, 0.4], [0.2, 0.2, 0.0, 0.1]])
    edited = source + offsets.repeat_interleave(32, 0).repeat_interleave(32, 1)
    columns = list((offsets.roll(1, 1) - offsets).abs().mean(0))[0 if wrap else 1 :]
    row = (offsets[1] - offsets[0]).abs().mean()
    expected = torch.stack([*columns, row]).mean()
    task = EditTask(source, "x", windows=windows(64, 128, 32, wrap))
    torch.testing.assert_close(SeamError().value(Artefact(edited, task)), expected)


@pytest.mark.parametrize("wrap", [False, True])
def test_no_seam_gives_0(wrap: bool) -> None:
    source = 0.3 + 0.4 * torch.rand(1, 3, 64, 256)
    task = EditTask(source, "x", windows=windows(64, 256, 16, wrap))
    metric = SeamError()
    assert float(metric.value(Artefact(source, task))) == 0
    assert float(metric.value(Artefact(source + 0.2, task))) == pytest.approx(0, abs=1e-7)
    wave = 0.1 * torch.sin(torch.arange(256) / 256 * 4 * math.pi)
    assert float(metric.value(Artefact(source + wave, task))) == pytest.approx(0, abs=2e-3)
    ramp = 0.1 * torch.arange(64).div(64)[:, None].expand(64, 256)
    assert float(metric.value(Artefact(source + ramp, task))) == pytest.approx(0, abs=1e-6)


def test_noise_has_no_seam_on_average() -> None:
    values = []
    for seed in range(20):
        change = torch.rand(3, 64, 512, generator=torch.Generator().manual_seed(seed)) - 0.5
        values.append(float(seam_error(change, torch.zeros(3, 64, 512), windows(64, 512, 16))))
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(20)
    assert np.std(values) < 2e-3


def test_the_join_of_a_ring_counts() -> None:
    """A ramp around the ring, smooth but for the join: a seam there, and none to open eyes."""
    source = torch.full((1, 3, 32, 256), 0.2)
    edited = source + 0.5 * torch.arange(256) / 256
    closed, opened = (windows(32, 256, 16, wrap) for wrap in (True, False))
    task = EditTask(source, "x")
    ring = SeamError().value(Artefact(edited, task._replace(windows=closed)))
    flat = SeamError().value(Artefact(edited, task._replace(windows=opened)))
    step = 0.5 * 4 / 256
    assert float(flat) == pytest.approx(0, abs=1e-6)
    assert float(ring) == pytest.approx((0.5 - 2 * step) / 16, rel=1e-3)


def test_a_blurred_seam_is_still_seen() -> None:
    """A decoder spreads a step over a few pixels; most of it is left."""
    source = torch.full((1, 3, 64, 256), 0.3)
    hard = torch.where(torch.arange(256) // 32 % 2 == 0, 0.0, 0.2).expand(1, 3, 64, 256)
    soft = torch.nn.functional.avg_pool2d(hard, (1, 5), 1, (0, 2), count_include_pad=False)
    task = EditTask(source, "x", windows=windows(64, 256))
    errors = [float(SeamError().value(Artefact(source + edit, task))) for edit in (hard, soft)]
    assert errors[0] == pytest.approx(0.2 * 7 / 8, abs=1e-6)  # one border in eight is a row's
    assert 0.65 * errors[0] < errors[1] < errors[0]


def test_a_faint_line_is_seen_beside_texture() -> None:
    """A line of 4 pixels and 1 % at every border of an edit whose texture is 30 times as strong."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.zeros(1, 1, 256, 256)
    rough[..., 128:, :] = torch.rand(128, 256, generator=generator) - 0.5
    source = (0.4 + 0.6 * rough).expand(1, 3, -1, -1)
    line = 0.01 * (torch.arange(256) % 32 < 4)
    task = EditTask(source, "x", windows=windows(256, 256))
    plain, lined = (
        float(SeamError().value(Artefact(source - 0.3 * rough + extra, task)))
        for extra in (torch.zeros(256), line)
    )
    assert abs(plain) < 5e-4
    assert 0.01 / 4 * 0.95 < lined - plain < 0.01 / 2  # half the borders are columns, half smooth


def test_only_places_count_where_the_source_is_smooth() -> None:
    source = torch.full((1, 3, 64, 256), 0.3)
    change = torch.where(torch.arange(256) // 32 % 2 == 0, 0.0, 0.2).repeat(64, 1)
    stepped = source + torch.where(torch.arange(256) // 32 % 2 == 0, 0.0, 0.05)
    places = windows(64, 256)
    seen = seam_error(change.expand(3, -1, -1), source[0], places)
    hidden = seam_error(change.expand(3, -1, -1), stepped[0], places)
    assert float(seen) == pytest.approx(0.2 * 7 / 8, abs=1e-6)
    assert float(hidden) == pytest.approx(0, abs=1e-6)  # rows alone have places that count


def test_seams_are_undefined_where_there_is_nothing_to_compare() -> None:
    source = image(32, 40)
    for places in (windows(32, 40), Windows(torch.tensor([[0, 0, 32, 40]]))):
        value = SeamError().value(Artefact(source, EditTask(source, "x", windows=places)))
        assert value.isnan() or float(value) == 0
    assert steps(torch.rand(3, 4, 7), 4).isnan().all()
    dense = Windows(torch.tensor([[0, x, 32, x + 8] for x in range(0, 33, 4)]))
    assert SeamError().value(Artefact(source, EditTask(source, "x", windows=dense))).isnan()


def metrics(folder: Path) -> dict[str, ArtefactMetric]:
    encoder = OpenClip(f"local-dir:{folder}")
    distance = ClipFeatureDistance(encoder)
    found = [
        SeamError(),
        IntraLpips(distance),
        OverWindows(ErrorSpread()),
        over_windows(encoder, ClipDirection),
    ]
    return {metric.name: metric for metric in found}


def dataset() -> list[Artefact]:
    """Of sources so faint that all their places count for seams."""
    made = [large(one_answer(seed, count)) for seed, count in ((0, 4), (1, 3), (2, 2), (3, 5))]
    return [a._replace(task=a.task._replace(source=0.03 * a.task.source)) for a in made]


def accumulated(folder: Path, artefacts: list[Artefact]) -> dict[str, float]:
    found = metrics(folder)
    for metric in found.values():
        for artefact in artefacts:
            metric.update(artefact)
    return {name: float(metric.compute()) for name, metric in found.items()}


def joint_result(rank: int, folder: Path, scratch: Path) -> dict[str, float]:
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{scratch}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=5),
    )
    result = accumulated(folder, dataset()[rank::2])
    if rank == 0:
        (scratch / "result.json").write_text(json.dumps(result))
    torch.distributed.destroy_process_group()
    return result


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_two_processes_give_the_result_of_one(clip_folder: Path, tmp_path: Path) -> None:
    other = torch.multiprocessing.spawn(joint_result, (clip_folder, tmp_path), nprocs=1, join=False)
    here = joint_result(1, clip_folder, tmp_path)
    while not other.join():
        pass
    there = json.loads((tmp_path / "result.json").read_text())
    expected = accumulated(clip_folder, dataset())
    assert here == pytest.approx(expected, abs=1e-5)
    assert there == pytest.approx(expected, abs=1e-5)
    assert all(math.isfinite(value) for value in expected.values())


def test_one_frame_is_enough_for_the_metrics_of_a_target() -> None:
    artefact = large(one_answer())
    error = float((artefact.edited - artefact.task.targets[0]).square().mean())
    assert float(PsnrTarget().value(artefact)) == pytest.approx(-10 * math.log10(error), abs=1e-4)


@pytest.mark.parametrize("scene", [1000001011, 1000001012, 1000001016])
def test_each_exact_answer_agrees_with_itself_where_windows_do_not_tell_answers_apart(
    scene: int,
) -> None:
    for edit in world.edits_for(world.sample_panorama(scene, 4.0), plural=True):
        if not edit.many:
            continue
        task = world.panorama_task(scene, edit.instruction, width=256)
        task = task._replace(windows=windows(64, 256))
        assert task.targets is not None
        for answer in task.targets:
            assert float(OverWindows(Agreement()).value(Artefact(answer, task))) == 1.0
