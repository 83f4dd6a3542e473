"""Facts about guidance: its branches, and that none is evaluated in vain."""

import pytest
import torch

from csd_lab.distill import Branch, ClassifierFree, DualGuidance, Request, guided_noise
from csd_lab.types import Blend

from .helpers import ClosedForm, randn

T = torch.tensor(300)
PROMPT, NULL, NULL_IMAGE = Branch("A", True), Branch("", True), Branch("", False)


def test_classifier_free_convention() -> None:
    """uncond + s (cond - uncond): 0 is unconditional, 1 conditional."""
    assert ClassifierFree(0.0).coefficients("A") == {NULL: 1}
    assert ClassifierFree(1.0).coefficients("A") == {PROMPT: 1}
    assert ClassifierFree(7.5).coefficients("A") == {PROMPT: 7.5, NULL: -6.5}


def test_dual_guidance_branches() -> None:
    coefficients = DualGuidance(7.5, 1.5).coefficients("A")
    assert coefficients == {PROMPT: 7.5, NULL: -6, NULL_IMAGE: -0.5}


def test_branches_of_equal_conditions_are_one() -> None:
    """The source's empty text: text and image, and image only, are the same evaluation."""
    assert DualGuidance(7.5, 1.5).coefficients("") == {NULL: 1.5, NULL_IMAGE: -0.5}
    assert ClassifierFree(7.5).coefficients("") == {NULL: 1}
    assert ClassifierFree(7.5).coefficients(("", "")) == {NULL: 1}


def test_branches_with_coefficient_0_are_left_out() -> None:
    assert DualGuidance(7.5, 1.0).coefficients("A") == {PROMPT: 7.5, NULL: -6.5}
    assert DualGuidance(3.0, 3.0).coefficients("A") == {PROMPT: 3, NULL_IMAGE: -2}
    assert DualGuidance(0.0, 0.0).coefficients("A") == {NULL_IMAGE: 1}


def test_a_negative_prompt_takes_the_place_of_the_null_text() -> None:
    coefficients = DualGuidance(7.5, 1.5).coefficients("A", "B")
    assert coefficients == {PROMPT: 7.5, Branch("B", True): -6, Branch("B", False): -0.5}
    assert ClassifierFree(2.0).coefficients("A", "A") == {PROMPT: 1}


@pytest.mark.parametrize("guidance", [ClassifierFree(7.3), DualGuidance(7.5, 1.2)])
@pytest.mark.parametrize("prompt", ["A", "", ("A", "B")])
def test_coefficients_add_up_to_one(guidance, prompt) -> None:
    assert sum(guidance.coefficients(prompt).values()) == pytest.approx(1)


def test_dual_guidance_equals_its_formula() -> None:
    prior, x_t, image = ClosedForm(), randn(2, 4, 6, 6), randn(2, 4, 6, 6, seed=1)
    (noise,) = guided_noise(
        prior, T, [Request(x_t, DualGuidance(7.5, 1.5).coefficients("A"), image)]
    )
    text, null, nothing = (
        guided_noise(prior, T, [Request(x_t, {branch: 1.0}, image)])[0]
        for branch in (PROMPT, NULL, NULL_IMAGE)
    )
    torch.testing.assert_close(noise, nothing + 1.5 * (null - nothing) + 7.5 * (text - null))


def test_dual_guidance_of_image_weight_1_is_classifier_free() -> None:
    prior, x_t, image = ClosedForm(), randn(2, 4, 6, 6), randn(2, 4, 6, 6, seed=1)
    dual, free = guided_noise(
        prior,
        T,
        [
            Request(x_t, guidance.coefficients("A"), image)
            for guidance in (DualGuidance(4.0, 1.0), ClassifierFree(4.0))
        ],
    )
    assert torch.equal(dual, free)


def test_without_an_image_dual_guidance_is_classifier_free() -> None:
    prior, x_t = ClosedForm(), randn(2, 4, 6, 6)
    (dual,) = guided_noise(prior, T, [Request(x_t, DualGuidance(4.0, 1.5).coefficients("A"))])
    assert prior.samples == 2 * 2
    (free,) = guided_noise(prior, T, [Request(x_t, ClassifierFree(4.0).coefficients("A"))])
    torch.testing.assert_close(dual, free)


def test_all_requests_go_to_the_prior_in_one_call() -> None:
    prior, x_t, image = ClosedForm(), randn(3, 4, 6, 6), randn(3, 4, 6, 6, seed=1)
    guidance = DualGuidance(7.5, 1.5)
    requests = [Request(x_t, guidance.coefficients(text), image) for text in ("A", "")]
    together = guided_noise(prior, T, requests)
    assert (prior.calls, prior.samples) == (1, 3 * 5)
    alone = [guided_noise(prior, T, [request])[0] for request in requests]
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


def test_a_text_for_each_particle() -> None:
    prior, x_t = ClosedForm(), randn(2, 4, 6, 6)
    coefficients = ClassifierFree(2.0).coefficients(("A", "B"))
    (noise,) = guided_noise(prior, T, [Request(x_t, coefficients)])
    for i, text in enumerate("AB"):
        one = Request(x_t[i : i + 1], ClassifierFree(2.0).coefficients(text))
        torch.testing.assert_close(noise[i : i + 1], guided_noise(prior, T, [one])[0])


WEIGHTS = torch.tensor([[0.25, 0.75, 0.0], [0.0, 1.0, 0.0], [0.5, 0.25, 0.25]])


@pytest.mark.parametrize("guidance", [ClassifierFree(7.3), DualGuidance(7.5, 1.2)])
def test_a_blend_is_the_weighted_sum_of_its_prompts(guidance) -> None:
    prior, x_t, image = ClosedForm(), randn(3, 4, 6, 6), randn(3, 4, 6, 6, seed=1)
    blend = guidance.coefficients(Blend(("A", "B", "C"), WEIGHTS), "B")
    (noise,) = guided_noise(prior, T, [Request(x_t, blend, image)])
    alone = [
        guided_noise(prior, T, [Request(x_t, guidance.coefficients(text, "B"), image)])[0]
        for text in "ABC"
    ]
    expected = sum(w[:, None, None, None] * e for w, e in zip(WEIGHTS.T, alone, strict=True))
    torch.testing.assert_close(noise, expected, rtol=1e-5, atol=1e-5)


def test_a_prompt_is_evaluated_where_it_has_a_share_only() -> None:
    """Two branches for each particle, and one for each of the six shares that are not 0."""
    prior, x_t, image = ClosedForm(), randn(3, 4, 6, 6), randn(3, 4, 6, 6, seed=1)
    coefficients = DualGuidance(7.5, 1.5).coefficients(Blend(("A", "B", "C"), WEIGHTS))
    guided_noise(prior, T, [Request(x_t, coefficients, image)])
    assert (prior.calls, prior.samples) == (1, 2 * 3 + 6)


def test_a_blend_of_one_prompt_is_that_prompt() -> None:
    prior, x_t, image = ClosedForm(), randn(3, 4, 6, 6), randn(3, 4, 6, 6, seed=1)
    guidance = DualGuidance(7.5, 1.5)
    whole, blended = guided_noise(
        prior,
        T,
        [
            Request(x_t, guidance.coefficients("A"), image),
            Request(x_t, guidance.coefficients(Blend(("A", "A", "A"), WEIGHTS)), image),
        ],
    )
    torch.testing.assert_close(whole, blended, rtol=1e-5, atol=1e-5)


def test_half_precision_is_combined_in_float32() -> None:
    x_t = randn(2, 4, 6, 6).half()
    (noise,) = guided_noise(ClosedForm(), T, [Request(x_t, {PROMPT: 1.0})])
    assert noise.dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClassifierFree(float("nan")), "scale must be a finite number, got nan"),
        (lambda: DualGuidance(float("inf"), 1.0), "text must be a finite number, got inf"),
        (lambda: DualGuidance(1.0, float("inf")), "image must be a finite number, got inf"),
    ],
)
def test_arguments_are_checked(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()
