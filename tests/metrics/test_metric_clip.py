"""CLIP metrics against their formulas written out in numpy, and their undefined cases."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_cases import many_answers, one_answer

from csd_lab.metrics import (
    ClipAllPairs,
    ClipConsecutive,
    ClipDirection,
    ClipImage,
    ClipText,
    OpenClip,
)
from csd_lab.metrics.clip import allpairs_similarity, consecutive_similarity, directional_similarity
from csd_lab.types import Artefact

dimensions = st.tuples(st.integers(2, 6), st.integers(2, 8), st.integers(0, 2**31))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def features(encoder: OpenClip, artefact: Artefact) -> tuple[np.ndarray, ...]:
    task = artefact.task
    captions = encoder.encode_texts([task.source_caption, task.target_caption]).double().numpy()
    images = (encoder.images(x).double().numpy() for x in (artefact.edited, task.source))
    return (*images, *captions)


def test_text_image_and_direction_are_their_formulas(encoder: OpenClip) -> None:
    artefact = one_answer()
    edited, source, text_0, text_1 = features(encoder, artefact)
    pairs = list(zip(edited, source, strict=True))
    expected = {
        ClipText: [cosine(e, text_1) for e in edited],
        ClipImage: [cosine(e, s) for e, s in pairs],
        ClipDirection: [cosine(e - s, text_1 - text_0) for e, s in pairs],
    }
    for metric_class, values in expected.items():
        metric = metric_class(encoder)
        np.testing.assert_allclose(metric.per_frame(artefact).numpy(), values, atol=2e-4)
        assert float(metric.value(artefact)) == pytest.approx(np.mean(values), abs=2e-4)


def test_consistency_is_over_neighbours_and_over_all_pairs(encoder: OpenClip) -> None:
    artefact = one_answer(count=5)
    edited, *_ = features(encoder, artefact)
    neighbours = [cosine(edited[f], edited[f + 1]) for f in range(4)]
    pairs = [cosine(edited[f], edited[g]) for f in range(5) for g in range(f + 1, 5)]
    assert float(ClipConsecutive(encoder).value(artefact)) == pytest.approx(np.mean(neighbours))
    assert float(ClipAllPairs(encoder).value(artefact)) == pytest.approx(np.mean(pairs))
    assert ClipConsecutive(encoder).per_frame(artefact).shape == (4,)
    assert ClipAllPairs(encoder).per_frame(artefact).shape == (5,)


def test_an_unedited_clip_has_no_direction_and_is_all_its_source(encoder: OpenClip) -> None:
    artefact = one_answer()
    unedited = artefact._replace(edited=artefact.task.source.clone())
    assert float(ClipImage(encoder).value(unedited)) == pytest.approx(1, abs=1e-5)
    direction = ClipDirection(encoder)
    assert direction.value(unedited).isnan()
    direction.update(unedited)
    assert direction.compute().isnan()
    assert int(direction.undefined) == 4


def test_frames_without_direction_are_left_out_not_counted_as_zero(encoder: OpenClip) -> None:
    artefact = one_answer()
    edited = artefact.edited.clone()
    edited[1] = artefact.task.source[1]
    partly = artefact._replace(edited=edited)
    full = ClipDirection(encoder).per_frame(artefact)
    values = ClipDirection(encoder).per_frame(partly)
    assert values.isnan().tolist() == [False, True, False, False]
    expected = full[[0, 2, 3]].mean()
    torch.testing.assert_close(ClipDirection(encoder).value(partly), expected, atol=1e-4, rtol=0)


def test_equal_captions_have_no_direction(encoder: OpenClip) -> None:
    artefact = one_answer()
    task = artefact.task._replace(target_caption=artefact.task.source_caption)
    assert ClipDirection(encoder).per_frame(artefact._replace(task=task)).isnan().all()


def test_of_several_answers_the_caption_of_the_clips_own_is_read(encoder: OpenClip) -> None:
    artefact = many_answers()
    task = artefact.task
    for index, caption in enumerate(task.target_captions):
        answered = Artefact(task.targets[index], task)
        single = Artefact(task.targets[index], task._replace(target_caption=caption, targets=None))
        for metric in (ClipText(encoder), ClipDirection(encoder)):
            torch.testing.assert_close(metric.per_frame(answered), metric.per_frame(single))


@settings(max_examples=25, deadline=None)
@given(dimensions)
def test_similarities_are_cosines_whatever_the_length_of_features(
    case: tuple[int, int, int],
) -> None:
    count, size, seed = case
    x = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    for function in (consecutive_similarity, allpairs_similarity):
        values = function(x)
        assert values.abs().max() <= 1 + 1e-5
        torch.testing.assert_close(values, function(3 * x), atol=1e-5, rtol=0)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        allpairs_similarity(x)[order], allpairs_similarity(x[order]), atol=1e-5, rtol=0
    )
    # Of two frames both are the same number; of equal frames both are 1.
    torch.testing.assert_close(
        allpairs_similarity(x[:2]).mean(), consecutive_similarity(x[:2]).mean()
    )
    torch.testing.assert_close(allpairs_similarity(x[:1].expand(3, -1)), torch.ones(3))


@settings(max_examples=25, deadline=None)
@given(dimensions)
def test_direction_turns_with_the_captions(case: tuple[int, int, int]) -> None:
    count, size, seed = case
    generator = torch.Generator().manual_seed(seed)
    e, s = torch.randn(2, count, size, generator=generator)
    t_1, t_0 = torch.randn(2, 1, size, generator=generator)
    values = directional_similarity(e, s, t_1, t_0)
    assert values.abs().max() <= 1 + 1e-5
    torch.testing.assert_close(directional_similarity(e, s, t_0, t_1), -values)
    torch.testing.assert_close(directional_similarity(s, e, t_0, t_1), values)
    along = directional_similarity(s + 0.3 * (t_1 - t_0), s, t_1, t_0)
    torch.testing.assert_close(along, torch.ones(count), atol=1e-4, rtol=0)
