"""Pix2Video: features of the first and the former frame, and the pull to the former."""

import pytest
import torch
from inverted import DDIM, check_resumed_run, coded, edit, embedded, images, psnr, tiny, world_clip

from csd_lab.baselines import AttentionEdit, Pix2Video, PromptToPrompt
from csd_lab.distill import ClassifierFree, Residual

PLAIN = AttentionEdit(cross_replace=0, self_replace=0, blend_words=[])


def make(scale=3.0, steps=5, **options) -> Pix2Video:
    return Pix2Video(ClassifierFree(scale), DDIM, steps, **options)


def test_equal_frames_get_equal_edits(tiny_sd_folder):
    frames = images(1).expand(4, -1, -1, -1)
    edited = edit(make(), tiny(tiny_sd_folder), frames)
    torch.testing.assert_close(edited, edited[:1].expand_as(edited), rtol=0, atol=1e-3)


def test_one_frame_is_sampled_as_by_prompt_to_prompt_without_attention(tiny_sd_folder):
    prior, frames = tiny(tiny_sd_folder), images(1)
    sampler = PromptToPrompt(ClassifierFree(3.0), DDIM, 5, PLAIN)
    torch.testing.assert_close(
        edit(make(), prior, frames), edit(sampler, prior, frames), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("pull", [0.0, 0.1])
def test_a_frame_depends_on_the_first_and_the_former_and_on_no_later_one(tiny_sd_folder, pull):
    """On those before the former only through it, which a single step does not reach."""
    prior, frames = tiny(tiny_sd_folder), images(5)
    edited = edit(make(steps=1, pull=pull), prior, frames)
    for changed in range(5):
        others = frames.clone()
        others[changed] = images(1, seed=9)[0]
        again = edit(make(steps=1, pull=pull), prior, others)
        moved = (again - edited).flatten(1).abs().amax(dim=1) > 1e-4
        reached = [changed in (0, f - 1, f) for f in range(5)]
        assert moved.tolist()[: changed + 2] == reached[: changed + 2]
        assert not any(moved.tolist()[:changed])


def test_frames_one_after_the_other_are_frames_together(tiny_sd_folder):
    """A chunk of two rows is one frame with both branches: the loop of the paper."""
    frames = images(5)
    together = edit(make(), tiny(tiny_sd_folder), frames)
    one_by_one = edit(make(), tiny(tiny_sd_folder, 2), frames)
    torch.testing.assert_close(one_by_one, together, rtol=0, atol=1e-3)


def test_the_pull_is_the_gradient_of_the_paper_s_mean_square(tiny_sd_folder):
    """100 times the mean over 4 x 64 x 64 numbers, in the first 26 of 50 steps."""
    prior = tiny(tiny_sd_folder)
    noise, x_t, clean = torch.randn(3, 2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    leaf = clean.clone().requires_grad_()
    (100 * (leaf[1] - clean[0]).square().mean()).backward()
    results = {}
    for pull in (0.0, 0.0122):
        sampler = make(steps=50, pull=pull)
        sampler.bind(prior)
        for taken in (25, 26):
            sampler.taken = taken
            outcome = sampler.combine(
                Residual(noise, x_t, clean), prior.schedule, sampler.timestep(taken)
            )
            results[pull, taken] = x_t - outcome.gradient
    pulled = results[0.0, 25] - results[0.0122, 25]
    torch.testing.assert_close(pulled, leaf.grad, rtol=1e-2, atol=1e-6)
    assert torch.equal(results[0.0, 26], results[0.0122, 26])


def test_a_pull_brings_frames_nearer_to_each_other():
    task = world_clip()
    far, near = (
        edit(make(steps=10, pull=p), embedded(), task.source, task.target_caption, "a red ball")
        for p in (0.0, 0.3)
    )

    def spread(clip):
        return float(clip.diff(dim=0).square().mean())

    assert spread(near) < spread(far)


def test_the_source_s_caption_gives_back_the_first_frame_without_guidance():
    """The others attend elsewhere than in inversion, and come less near."""
    task, caption = world_clip(), world_clip().source_caption
    source = coded(embedded(), task.source)
    result = edit(make(1.0, 20), embedded(), task.source, caption, caption)
    assert psnr(result[:1], source[:1]) > 33
    assert psnr(result, source) > 22


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(tiny_sd_folder, tmp_path, stop):
    check_resumed_run(make, tiny(tiny_sd_folder), images(), 5, stop, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"pull": float("nan")}, "pull must be a finite"), ({"pull_until": 2}, "pull_until must be")],
)
def test_impossible_pulls_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
