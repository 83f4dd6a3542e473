"""Distances to the exact answers against scikit-image, numpy and hand-made clips."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_cases import frames, many_answers, one_answer
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from csd_lab.metrics import (
    Agreement,
    ColourSpread,
    ErrorSpread,
    PsnrAnswer,
    PsnrTarget,
    Saturation,
    SaturationAnswer,
    SsimTarget,
)
from csd_lab.metrics.answers import (
    agreement,
    answer_errors,
    commonest_answer,
    nearest_answers,
)
from csd_lab.metrics.colour import saturation
from csd_lab.metrics.fidelity import colour_deviation, colour_error, frame_psnr, frame_ssim
from csd_lab.types import Artefact, EditTask


def clip(colours: list[float] | Tensor, size: int = 16) -> Tensor:
    """A clip of flat frames: (F,) greys or (F, 3) colours."""
    values = torch.as_tensor(colours, dtype=torch.float32)
    values = values[:, None].expand(-1, 3) if values.ndim == 1 else values
    return values[:, :, None, None].expand(-1, -1, size, size).clone()


def flat_case(edited: list[float], answers: list[list[float]], source: float = 0.0) -> Artefact:
    task = EditTask(
        source=clip([source] * len(edited)),
        instruction="",
        targets=torch.stack([clip(answer) for answer in answers]),
    )
    return Artefact(clip(edited), task)


def test_psnr_and_ssim_are_those_of_scikit_image() -> None:
    artefact = one_answer(size=40)
    edited, target = (x.numpy() for x in (artefact.edited, artefact.task.targets[0]))
    psnr = [
        peak_signal_noise_ratio(t, e, data_range=1) for e, t in zip(edited, target, strict=True)
    ]
    ssim = [
        structural_similarity(
            t,
            e,
            data_range=1,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for e, t in zip(edited, target, strict=True)
    ]
    np.testing.assert_allclose(PsnrTarget().per_frame(artefact), psnr, rtol=1e-5)
    np.testing.assert_allclose(SsimTarget().per_frame(artefact), ssim, atol=1e-4)
    assert float(PsnrTarget().value(artefact)) == pytest.approx(np.mean(psnr), rel=1e-5)


def test_a_perfect_clip_has_a_finite_psnr() -> None:
    artefact = one_answer()
    perfect = artefact._replace(edited=artefact.task.targets[0].clone())
    assert PsnrTarget().per_frame(perfect).tolist() == [100.0] * 4
    assert float(SsimTarget().value(perfect)) == pytest.approx(1)
    assert float(ErrorSpread().value(perfect)) == 0
    assert float(ColourSpread().value(perfect)) == 0


def test_ssim_takes_frames_as_small_as_its_window_and_no_smaller() -> None:
    smallest = one_answer(size=11)
    assert SsimTarget().applies_to(smallest)
    assert frame_ssim(smallest.edited, smallest.task.targets[0]).isfinite().all()
    assert SsimTarget().missing(one_answer(size=10)) == "needs frames of at least 11 x 11 pixels"


def test_ssim_of_a_clip_is_that_of_frames_taken_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def counted(edited: Tensor, target: Tensor, **options: object) -> object:
        taken.append(len(edited))
        return structural_similarity_index_measure(edited, target, **options)

    monkeypatch.setattr("csd_lab.metrics.fidelity.structural_similarity_index_measure", counted)
    edited, target = frames(5, 0, 40), frames(5, 1, 40)
    found = frame_ssim(edited, target)
    assert taken == [1] * 5
    _, whole = structural_similarity_index_measure(
        edited, target, data_range=1.0, sigma=1.5, reduction="none", return_full_image=True
    )
    assert torch.equal(found, whole[..., 5:-5, 5:-5].mean((1, 2, 3)))


def test_a_known_level_of_error_has_its_psnr() -> None:
    artefact = flat_case([0.5, 0.6], [[0.4, 0.5]])
    assert float(PsnrTarget().value(artefact)) == pytest.approx(20, abs=1e-4)


def test_error_spread_is_the_deviation_of_the_rmse() -> None:
    artefact = flat_case([0.5, 0.3, 0.7], [[0.4, 0.3, 0.4]])  # RMSE .1, 0, .3
    np.testing.assert_allclose(ErrorSpread().per_frame(artefact), [0.1, 0, 0.3], atol=1e-6)
    assert float(ErrorSpread().value(artefact)) == pytest.approx(np.std([0.1, 0, 0.3]), abs=1e-6)


def test_colour_spread_sees_the_flicker_that_error_spread_is_blind_to() -> None:
    artefact = flat_case([0.5, 0.3], [[0.4, 0.4]])  # one too bright, one too dark
    assert float(ErrorSpread().value(artefact)) == pytest.approx(0, abs=1e-6)
    assert float(ColourSpread().value(artefact)) == pytest.approx(0.1, abs=1e-6)


def test_colour_spread_looks_at_the_edited_region_only() -> None:
    artefact = one_answer(count=3)
    source, target = artefact.task.source, artefact.task.source.clone()
    target[:, :, :8] = 1 - target[:, :, :8]  # only the upper rows are to change
    edited = target + torch.randn(3, 1, 1, 1) * 0
    for f, error in enumerate((0.1, 0.2, -0.3)):
        edited[f, 0, :8] += error * 0.1
        edited[f, :, 8:] = frames(1, f)[0, :, 8:]
    edited = edited.clamp(0, 1)
    e, t, s = (x.double().numpy() for x in (edited, target, source))
    errors = []
    for f in range(3):
        inside = np.abs(t[f] - s[f]).max(0) > 0.02
        errors.append([(e[f, c] - t[f, c])[inside].mean() for c in range(3)])
    expected = np.sqrt((np.std(errors, axis=0) ** 2).mean())
    task = artefact.task._replace(targets=target[None])
    assert float(ColourSpread().value(Artefact(edited, task))) == pytest.approx(expected, rel=1e-4)
    moved = edited.clone()
    moved[:, :, 8:] = 1 - moved[:, :, 8:]
    assert float(ColourSpread().value(Artefact(moved, task))) == pytest.approx(expected, rel=1e-4)


def test_frames_without_an_edited_region_are_left_out() -> None:
    source, target = clip([0.2, 0.2, 0.2]), clip([0.6, 0.2, 0.6])
    errors = colour_error(clip([0.7, 0.9, 0.5]), target, source)
    assert errors.isnan().all(1).tolist() == [False, True, False]
    deviation = colour_deviation(errors)
    np.testing.assert_allclose(deviation.numpy(), [0.1, np.nan, 0.1], atol=1e-6)
    artefact = Artefact(clip([0.7, 0.9, 0.5]), EditTask(source, "", targets=target[None]))
    metric = ColourSpread()
    metric.update(artefact)
    assert float(metric.compute()) == pytest.approx(0.1, abs=1e-6)
    alone = Artefact(clip([0.7, 0.9]), EditTask(source[:2], "", targets=target[None, :2]))
    metric.update(alone)
    assert float(metric.compute()) == pytest.approx(0.1, abs=1e-6)
    assert int(metric.undefined) == 1


def test_the_clips_answer_is_the_one_that_most_frames_are_nearest_to() -> None:
    answers = [[0.2] * 4, [0.5] * 4, [0.8] * 4]
    artefact = flat_case([0.52, 0.49, 0.78, 0.45], answers)
    assert Agreement().per_frame(artefact).tolist() == [1, 1, 0, 1]
    assert float(Agreement().value(artefact)) == pytest.approx(0.75)
    errors = np.array([0.02, 0.01, 0.28, 0.05])
    expected = -20 * np.log10(errors)
    np.testing.assert_allclose(PsnrAnswer().per_frame(artefact), expected, rtol=1e-4)
    assert float(ErrorSpread().value(artefact)) == pytest.approx(np.std(errors), abs=1e-6)


def test_equally_common_answers_are_told_apart_by_their_error() -> None:
    answers = [[0.2] * 4, [0.8] * 4]
    near_first = flat_case([0.2, 0.25, 0.65, 0.7], answers)
    near_second = flat_case([0.3, 0.35, 0.75, 0.8], answers)
    for artefact, expected in ((near_first, 0), (near_second, 1)):
        errors = answer_errors(artefact.edited, artefact.task.targets)
        assert commonest_answer(errors) == expected
        assert float(Agreement().value(artefact)) == 0.5


def test_answers_that_hardly_differ_are_told_apart() -> None:
    """By mean squares of 1e-5, a level of 255; what is below 1e-7 looks the same."""
    answers = [[0.5] * 4, [0.5 + 1e-5**0.5] * 4, [0.5 + 1e-8**0.5] * 4]
    artefact = flat_case([0.5] * 4, answers)
    errors = answer_errors(artefact.edited, artefact.task.targets)
    assert nearest_answers(errors).all(1).tolist() == [True, False, True]


def test_averaging_to_grey_agrees_but_shows_in_psnr_and_saturation() -> None:
    red, green = torch.tensor([0.9, 0.1, 0.1]), torch.tensor([0.1, 0.9, 0.1])
    answers = torch.stack([clip(colour.expand(4, 3)) for colour in (red, green)])
    task = EditTask(clip([0.0] * 4), "repaint the ball", targets=answers)
    grey = Artefact(clip(((red + green) / 2 + 0.01 * red).expand(4, 3)), task)
    right = Artefact(answers[0].clone(), task)
    assert float(Agreement().value(grey)) == float(Agreement().value(right)) == 1
    assert float(PsnrAnswer().value(grey)) < 12 < float(PsnrAnswer().value(right))
    assert float(Saturation().value(grey)) < 0.6 * float(SaturationAnswer().value(grey))
    assert float(Saturation().value(right)) == pytest.approx(0.8)
    assert float(SaturationAnswer().value(right)) == pytest.approx(0.8)


def test_one_to_one_and_one_to_many_have_their_own_metrics() -> None:
    one, many = one_answer(), many_answers()
    assert [m().applies_to(one) for m in (PsnrTarget, SsimTarget)] == [True, True]
    assert [m().applies_to(many) for m in (PsnrTarget, SsimTarget)] == [False, False]
    assert [m().applies_to(one) for m in (Agreement, PsnrAnswer)] == [False, False]
    assert [m().applies_to(many) for m in (Agreement, PsnrAnswer)] == [True, True]
    unknown = one._replace(task=one.task._replace(targets=None))
    for metric in (PsnrTarget, Agreement, PsnrAnswer, ErrorSpread, ColourSpread, SaturationAnswer):
        assert "right answer" in metric().missing(unknown)
    assert Saturation().applies_to(unknown)


cases = st.tuples(st.integers(2, 4), st.integers(2, 5), st.integers(0, 10**6))


@settings(max_examples=25, deadline=None)
@given(cases)
def test_order_of_answers_and_frames_does_not_matter(case: tuple[int, int, int]) -> None:
    answers, count, seed = case
    artefact = many_answers(seed, count, 12, answers)
    edited, task, _ = artefact
    generator = torch.Generator().manual_seed(seed)
    a, f = torch.randperm(answers, generator=generator), torch.randperm(count, generator=generator)
    shuffled = task._replace(
        source=task.source[f],
        targets=task.targets[a][:, f],
        target_captions=tuple(task.target_captions[i] for i in a.tolist()) if answers < 4 else (),
    )
    task = task if answers < 4 else task._replace(target_captions=())
    metrics = (Agreement(), PsnrAnswer(), ErrorSpread(), ColourSpread(), SaturationAnswer())
    for metric in metrics:
        value = metric.value(Artefact(edited, task))
        torch.testing.assert_close(
            metric.value(Artefact(edited[f], shuffled)), value, atol=1e-5, rtol=1e-5
        )
    share = float(agreement(answer_errors(edited, task.targets)).mean())
    assert 1 / min(answers, count) - 1e-6 <= share <= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 1))
def test_ranges_and_monotony(seed: int, weight: float) -> None:
    a, b = frames(2, seed, 12), frames(2, seed + 1, 12)
    mixed = a.lerp(b, weight)
    torch.testing.assert_close(frame_psnr(a, b), frame_psnr(b, a))
    assert (frame_psnr(a, mixed) >= frame_psnr(a, b) - 1e-4).all()
    assert (frame_ssim(a, b).abs() <= 1 + 1e-5).all()
    s = saturation(a)
    assert ((s >= 0) & (s <= 1)).all()
    torch.testing.assert_close(saturation(a.flip(1)), s)
    torch.testing.assert_close(saturation(1 - a), s)
    torch.testing.assert_close(
        saturation(a.lerp(a.mean(1, keepdim=True), weight)), (1 - weight) * s
    )
