"""FateZero: attention of the inversion, kept in memory or in files, and the middle frame's keys."""

import pytest
import torch
from inverted import (
    DDIM,
    SOURCE,
    TARGET,
    check_resumed_run,
    coded,
    edit,
    embedded,
    images,
    psnr,
    tiny,
    world_clip,
)

from csd_lab.baselines import AttentionEdit, FateZero, PromptToPrompt
from csd_lab.baselines.attention import attentions
from csd_lab.baselines.inversion import invert
from csd_lab.distill import ClassifierFree, Particles
from csd_lab.types import Conditioning

PLAIN = AttentionEdit(cross_replace=0, self_replace=0, blend_words=[])
ALL = AttentionEdit(cross_replace=1, self_replace=1, blend_words=[])
STYLE = AttentionEdit(self_replace=0.8)


def make(how=STYLE, scale=3.0, steps=5, **options) -> FateZero:
    return FateZero(ClassifierFree(scale), DDIM, steps, how, **options)


@pytest.mark.parametrize("how", [PLAIN, ALL, STYLE], ids=["none", "all", "style"])
def test_the_source_s_caption_gives_back_the_source_without_guidance(how):
    task, caption = world_clip(), world_clip().source_caption
    source = coded(embedded(), task.source)
    plain = edit(make(how, 1.0, 20), embedded(), task.source, caption, caption)
    assert psnr(plain, source) > 31
    guided = edit(make(how, 5.0, 20), embedded(), task.source, caption, caption)
    assert psnr(guided, source) < psnr(plain, source) - 3


def test_attention_of_the_inversion_keeps_more_of_the_source_under_guidance():
    task, caption = world_clip(), world_clip().source_caption
    source = coded(embedded(), task.source)
    kept, free = (
        psnr(edit(make(how, 5.0, 20), embedded(), task.source, caption, caption), source)
        for how in (ALL, PLAIN)
    )
    assert kept > free + 2


def test_one_frame_without_replacement_is_prompt_to_prompt_without(tiny_sd_folder):
    """The middle frame is itself."""
    prior, frames = tiny(tiny_sd_folder), images(1)
    sampler = PromptToPrompt(ClassifierFree(3.0), DDIM, 5, PLAIN)
    torch.testing.assert_close(
        edit(make(PLAIN), prior, frames), edit(sampler, prior, frames), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("how", [PLAIN, STYLE])
def test_equal_frames_get_equal_edits(tiny_sd_folder, how):
    frames = images(1).expand(3, -1, -1, -1)
    edited = edit(make(how), tiny(tiny_sd_folder), frames)
    torch.testing.assert_close(edited[0], edited[1], rtol=0, atol=1e-3)
    torch.testing.assert_close(edited[2], edited[1], rtol=0, atol=1e-3)


def test_frames_attend_to_the_middle_one_alone(tiny_sd_folder):
    prior, frames = tiny(tiny_sd_folder), images(5)
    edited = edit(make(PLAIN), prior, frames)
    for changed in (0, 2, 4):
        others = frames.clone()
        others[changed] = images(1, seed=9)[0]
        moved = (edit(make(PLAIN), prior, others) - edited).flatten(1).abs().amax(dim=1) > 1e-3
        assert moved.tolist() == [changed in (2, frame) for frame in range(5)]


def test_every_part_matters(tiny_sd_folder):
    prior, frames = tiny(tiny_sd_folder), images()
    ways = [
        make(PLAIN),
        make(AttentionEdit(cross_replace=1, self_replace=0, blend_words=[])),
        make(AttentionEdit(cross_replace=0, self_replace=1, blend_words=[])),
        make(ALL),
        make(AttentionEdit(cross_replace=1, self_replace=1, threshold=0.95)),
        make(AttentionEdit(cross_replace=1, self_replace=1, threshold=0.95), blend_latents=True),
    ]
    results = [edit(way, prior, frames) for way in ways]
    for i, one in enumerate(results):
        for other in results[:i]:
            assert (one - other).abs().max() > 1e-4


def test_latents_are_blended_with_those_of_their_level_and_frame(tiny_sd_folder, monkeypatch):
    """Equal frames are inverted as each by itself; masks come the middle frame first."""
    prior, steps = tiny(tiny_sd_folder), 5
    source = prior.encode(images(1).expand(3, -1, -1, -1)).detach()
    sampler = make(AttentionEdit(threshold=0.9), blend_latents=True, steps=steps)
    sampler.bind(prior)
    texts = Conditioning(TARGET, SOURCE)
    x = sampler.start(source, torch.zeros_like(source), texts)
    levels = invert(prior, sampler.scheduler, source, SOURCE)
    masks = torch.rand(3, 1, *source.shape[2:], generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(sampler, "_changeable", lambda like: masks[[1, 0, 2]])
    for taken in range(steps):
        t = sampler.timestep(taken)
        residual = sampler.evaluate(prior, Particles(x, source, texts, None, t))
        free = sampler.scheduler.step(residual.delta, t, x).prev_sample
        kept = levels[steps - 1 - taken]
        expected = kept + masks * (free - kept) if taken in (1, 2, 3) else free
        x = x - sampler.combine(residual, prior.schedule, t).gradient
        torch.testing.assert_close(x, expected, rtol=0, atol=1e-4)


def test_a_mask_that_holds_nothing_is_no_mask(tiny_sd_folder):
    prior, frames = tiny(tiny_sd_folder), images()
    nothing = AttentionEdit(cross_replace=1, self_replace=1, threshold=1.0)
    assert torch.equal(edit(make(nothing), prior, frames), edit(make(ALL), prior, frames))


@pytest.mark.parametrize("max_batch", [1, 2, 4])
def test_chunks_do_not_change_an_edit(tiny_sd_folder, max_batch):
    how = AttentionEdit(self_replace=0.8, threshold=0.5)
    whole = edit(make(how), tiny(tiny_sd_folder), images())
    chunked = edit(make(how), tiny(tiny_sd_folder, max_batch), images())
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-3)


def test_maps_in_files_give_the_edit_of_maps_in_memory(tiny_sd_folder, tmp_path):
    prior, frames = tiny(tiny_sd_folder), images()
    in_files = make(cache=tmp_path)
    assert torch.equal(edit(in_files, prior, frames), edit(make(), prior, frames))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("how", "cross", "own"),
    [
        (PLAIN, 0, 0),
        (ALL, 5, 5),
        (AttentionEdit(cross_replace=0.4, self_replace=0.8, blend_words=[]), 2, 4),
        (AttentionEdit(cross_replace=0.4, self_replace=0.8), 4, 4),  # masks are made of cross ones
    ],
)
def test_maps_that_sampling_does_not_ask_for_are_not_kept(tiny_sd_folder, how, cross, own):
    prior, sampler = tiny(tiny_sd_folder), make(how)
    edit(sampler, prior, images())
    kept = {True: 0, False: 0}
    for page in sampler.maps.pages:
        for place in page:
            kept[place.cross] += 1
    every = attentions(prior.unet)
    assert kept[True] == cross * sum(place.cross for place in every)
    assert kept[False] == own * sum(not place.cross for place in every)
    assert all(sampler.maps.pages[-1].keys() >= page.keys() for page in sampler.maps.pages)


@pytest.mark.parametrize("stop", [1, 3])
@pytest.mark.parametrize("blend_latents", [False, True])
def test_a_resumed_run_equals_an_uninterrupted_one(tiny_sd_folder, tmp_path, stop, blend_latents):
    check_resumed_run(
        lambda: make(AttentionEdit(threshold=0.9), blend_latents=blend_latents),
        tiny(tiny_sd_folder),
        images(),
        5,
        stop,
        tmp_path,
    )


def test_network_samples_of_inversion_and_two_branches(tiny_sd_folder):
    prior = tiny(tiny_sd_folder)
    before = prior.samples_evaluated
    edit(make(steps=5), prior, images())
    assert prior.samples_evaluated - before == 3 * 5 * (1 + 2)
