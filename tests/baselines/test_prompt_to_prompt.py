"""Prompt-to-Prompt: alignment by hand, masks, and edits against diffusers' pipeline."""

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from inverted import (
    DDIM,
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

from csd_lab.baselines import AttentionEdit, PromptToPrompt
from csd_lab.baselines.alignment import CrossEdit, changed_tokens, common, read_caption
from csd_lab.baselines.attention import Place
from csd_lab.baselines.inversion import invert
from csd_lab.baselines.masks import attended, mask_of
from csd_lab.baselines.prompt_to_prompt import EDIT, SOURCE, SourceAttention
from csd_lab.distill import ClassifierFree
from csd_lab.types import Conditioning

PLAIN = AttentionEdit(cross_replace=0, self_replace=0, blend_words=[])
ALL = AttentionEdit(cross_replace=1, self_replace=1, blend_words=[])


def make(how=PLAIN, scale=3.0, steps=5, **options) -> PromptToPrompt:
    return PromptToPrompt(ClassifierFree(scale), DDIM, steps, how, **options)


def read(text):
    return read_caption(embedded().tokenizer, text, 32)


def cross(source, target, kind="auto", **options):
    return CrossEdit(read(source), read(target), 32, kind, **options)


@pytest.fixture(scope="module")
def maps():
    """Cross attention of source and edit, (2, heads, Q, L)."""
    scores = torch.randn(2, 3, 5, 32, generator=torch.Generator().manual_seed(0))
    return (3 * scores).softmax(dim=3)


@pytest.mark.parametrize(
    ("a", "b", "pairs"),
    [
        ("abcd", "abcd", [(0, 0), (1, 1), (2, 2), (3, 3)]),
        ("abcd", "axcd", [(0, 0), (2, 2), (3, 3)]),
        ("bd", "abcd", [(0, 1), (1, 3)]),
        ("abc", "xyz", []),
        ("", "a", []),
    ],
)
def test_common_subsequences(a, b, pairs):
    assert common(a, b) == pairs


def test_words_know_the_places_of_their_tokens():
    caption = read("A red ball, at night")
    assert caption.words == ("a", "red", "ball", ",", "at", "night")
    assert caption.places == ((1,), (2,), (3,), (4,), (5,), (6,))
    assert len(caption.ids) == 8


def test_a_word_of_several_tokens_has_several_places(tiny_sd_folder):
    caption = read_caption(tiny(tiny_sd_folder).tokenizer, "a cat sits on it", 12)
    assert caption.places[:3] == ((1,), (2, 3, 4), (5, 6, 7, 8))
    assert caption.places[3:] == ((9, 10), ())  # what does not fit is not read


def test_words_that_changed_are_found_where_they_stand():
    source, target = read("a red ball and a tree"), read("an orange ball and a tree")
    assert changed_tokens(source, target) == ((1, 2), (1, 2))
    assert changed_tokens(source, read("a red ball and a tree, at night")) == ((), (7, 8, 9))


@pytest.mark.parametrize("kind", ["auto", "replace", "refine"])
def test_the_same_caption_has_the_source_s_attention_bit_for_bit(maps, kind):
    source, target = maps
    text = "a red ball on grass"
    assert torch.equal(cross(text, text, kind)(source, target), source)


@pytest.mark.parametrize(
    ("old", "new"), [("a red ball on grass", "a blue box on sand"), ("a red ball", "a blue box")]
)
def test_replacing_passes_attention_to_the_word_in_its_place(maps, old, new):
    source, target = maps
    assert torch.equal(cross(old, new)(source, target), source)


def test_replaced_words_of_several_tokens_share_attention_evenly(tiny_sd_folder):
    """Between captions of single letters, of which "cat" has three and "duck" four."""
    tokenizer = tiny(tiny_sd_folder).tokenizer
    a, b = (read_caption(tokenizer, text, 16) for text in ("a cat", "a duck"))
    mapping = CrossEdit(a, b, 16, "replace").mapping
    torch.testing.assert_close(mapping[2:5, 2:6], torch.full((3, 4), 0.25))
    torch.testing.assert_close(mapping[:15].sum(dim=1), torch.ones(15))  # one of padding is lost
    assert mapping[5, 6] == 1  # the end of the text
    assert mapping[6, 7] == 1


def test_refining_leaves_new_words_their_own_attention(maps):
    source, target = maps
    refined = cross("a ball on grass", "a red ball on grass, at night")(source, target)
    own, known = [2, 6, 7, 8], {0: 0, 1: 1, 3: 2, 4: 3, 5: 4, 9: 5, 10: 6, 31: 27}
    assert torch.equal(refined[..., own], target[..., own])
    for j, i in known.items():
        assert torch.equal(refined[..., j], source[..., i])


def test_an_equaliser_scales_a_word(maps):
    source, target = maps
    text = "a red ball on grass"
    scaled = cross(text, text, equaliser={"Red": 3.0})(source, target)
    assert torch.equal(scaled[..., 2], 3 * source[..., 2])
    assert torch.equal(scaled[..., 3:], source[..., 3:])


def test_masks_by_hand():
    """One place attends; its 3 x 3 neighbours are of the mask, twice as large in latents."""
    maps = torch.zeros(1, 2, 25, 4)
    maps[0, 0, 12, 1] = 0.4
    maps[0, 1, 12, 2] = 0.2
    maps[0, :, 0, 1] = 0.05
    found = attended({Place("down", 0, True, 2): maps}, [1, 2], (10, 10))
    assert found.shape == (1, 1, 5, 5)
    assert float(found[0, 0, 2, 2]) == pytest.approx(0.3)  # summed over words, averaged over heads
    mask = mask_of(found, 0.3, (10, 10))[0, 0]
    assert mask[2:8, 2:8].min() == 1
    assert mask.sum() == 36
    lower = mask_of(found, 0.1, (10, 10))[0, 0]
    assert lower[:4, :4].min() == 1
    assert mask_of(torch.zeros(1, 1, 5, 5), 0.3, (5, 5)).sum() == 0


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_without_attention_it_is_diffusers_pipeline_from_the_inverted_noise(tiny_sd_folder, scale):
    prior, frames = tiny(tiny_sd_folder), images()
    sampler = make(scale=scale, steps=10)
    edited = edit(sampler, prior, frames)
    scheduler = DDIM(prior.scheduler_config)
    scheduler.set_timesteps(10)
    noise = invert(prior, scheduler, prior.encode(frames), "a red cat")[-1]
    pipeline = StableDiffusionPipeline(
        prior.vae,
        prior.text_encoder,
        prior.tokenizer,
        prior.unet,
        DDIMScheduler.from_config(prior.scheduler_config),
        None,
        None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        [TARGET] * 3,
        height=16,
        width=16,
        num_inference_steps=10,
        guidance_scale=scale,
        latents=noise,
        output_type="pt",
    ).images
    torch.testing.assert_close(edited, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("how", [ALL, AttentionEdit()], ids=["all", "default"])
def test_the_source_s_caption_gives_back_the_source_without_guidance(how):
    """Within inversion's error: 35 dB to the source; guidance of 5 leaves 23 at most."""
    task, caption = world_clip(), world_clip().source_caption
    source = coded(embedded(), task.source)
    plain = edit(make(how, 1.0, 20), embedded(), task.source, caption, caption)
    assert psnr(plain, source) > 33
    guided = edit(make(how, 5.0, 20), embedded(), task.source, caption, caption)
    assert psnr(guided, source) < psnr(plain, source) - 5


def test_attention_of_the_source_keeps_more_of_it_under_guidance():
    task, caption = world_clip(), world_clip().source_caption
    source = coded(embedded(), task.source)
    kept, free = (
        psnr(edit(make(how, 5.0, 20), embedded(), task.source, caption, caption), source)
        for how in (ALL, PLAIN)
    )
    assert kept > free + 2


def test_where_nothing_may_change_the_source_stays_exactly(tiny_sd_folder):
    """No place attends more than the most."""
    prior, frames = tiny(tiny_sd_folder), images()
    how = AttentionEdit(blend_words=["red"], threshold=1.0)
    torch.testing.assert_close(
        edit(make(how, 7.5), prior, frames), coded(prior, frames), rtol=0, atol=1e-5
    )
    sampler = make(AttentionEdit(blend_words=["red"], threshold=0.99), 7.5)
    assert (edit(sampler, prior, frames) - coded(prior, frames)).abs().max() > 1e-2


def test_words_that_differ_are_blended_by_default(tiny_sd_folder):
    prior, frames = tiny(tiny_sd_folder), images()
    default, named, none = (
        edit(make(AttentionEdit(blend_words=words, threshold=0.9)), prior, frames)
        for words in (None, ("red", "blue"), ())
    )
    assert torch.equal(default, named)
    assert not torch.equal(default, none)
    longer = [
        edit(make(AttentionEdit(blend_words=words, threshold=0.9)), prior, frames, "a red cat sat")
        for words in (None, ())
    ]
    assert torch.equal(*longer)  # the source has no word of its own: everything may change


def test_masks_are_of_the_attention_of_all_steps_so_far(tiny_sd_folder):
    sampler, size = make(AttentionEdit(blend_words=["red", "blue"])), (8, 8)
    edit(sampler, tiny(tiny_sd_folder), images())
    place, sampler._attention, expected = sampler._looked_at[0], None, torch.zeros(())
    words = sampler._plan.source_words, sampler._plan.target_words
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        maps = torch.rand(2, 3, 2, place.queries(size), 16, generator=generator)
        hook = SourceAttention(3, None, 0, size, [place])
        hook.seen = {(place, branch): dict(enumerate(maps[branch])) for branch in (SOURCE, EDIT)}
        sampler._attend(hook, size)
        both = [attended({place: maps[i]}, words[i], size) for i in (SOURCE, EDIT)]
        expected = expected + torch.stack(both)
    torch.testing.assert_close(sampler._attention, expected)


def test_a_negative_prompt_takes_the_place_of_the_null_text():
    sampler = make(scale=3.0)
    assert sampler.branches(Conditioning("b", "a")) == {"b": 3.0, "": -2.0}
    assert sampler.branches(Conditioning("b", "a", "n")) == {"b": 3.0, "n": -2.0}


def test_every_share_matters(tiny_sd_folder):
    prior, frames = tiny(tiny_sd_folder), images()
    results = [
        edit(make(AttentionEdit(cross_replace=c, self_replace=s, blend_words=[])), prior, frames)
        for c, s in ((0, 0), (0.4, 0), (1, 0), (0, 0.4), (0, 1), (1, 1))
    ]
    for i, one in enumerate(results):
        for other in results[:i]:
            assert (one - other).abs().max() > 1e-4


def test_each_frame_is_edited_by_itself(tiny_sd_folder):
    prior, frames = tiny(tiny_sd_folder), images()
    together = edit(make(AttentionEdit()), prior, frames)
    alone = edit(make(AttentionEdit()), prior, frames[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-3)


@pytest.mark.parametrize("max_batch", [1, 2, 4])
def test_chunks_do_not_change_an_edit(tiny_sd_folder, max_batch):
    frames = images()
    whole = edit(make(AttentionEdit(threshold=0.5)), tiny(tiny_sd_folder), frames)
    chunked = edit(make(AttentionEdit(threshold=0.5)), tiny(tiny_sd_folder, max_batch), frames)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-3)


def test_network_samples_of_inversion_and_three_branches(tiny_sd_folder):
    prior = tiny(tiny_sd_folder)
    for scale, branches in ((3.0, 3), (1.0, 2)):
        before = prior.samples_evaluated
        edit(make(scale=scale, steps=5), prior, images())
        assert prior.samples_evaluated - before == 3 * 5 * (1 + branches)


@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(tiny_sd_folder, tmp_path, stop):
    how = AttentionEdit(threshold=0.9)
    prior = tiny(tiny_sd_folder)
    check_resumed_run(lambda: make(how), prior, images(), 5, stop, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cross": "mix"}, "cross must be one of auto, replace, refine, got 'mix'"),
        ({"cross_replace": 1.5}, "cross_replace must be a share, in .0, 1., got 1.5"),
        ({"self_replace": -0.1}, "self_replace must be a share"),
        ({"threshold": 2}, "threshold must be a share"),
    ],
)
def test_impossible_edits_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AttentionEdit(**options)


@pytest.mark.parametrize(
    ("options", "target", "message"),
    [
        ({"cross": "replace"}, "a cat", "cross must be refine or auto .* 3 and 2 words"),
        ({"equaliser": {"dog": 2}}, TARGET, "equaliser must name words .*'a blue cat', got 'dog'"),
        ({"blend_words": ["dog"]}, TARGET, "blend_words must name words of 'a red cat' or .*dog"),
    ],
)
def test_edits_that_do_not_fit_the_captions_are_refused(tiny_sd_folder, options, target, message):
    with pytest.raises(ValueError, match=message):
        edit(make(AttentionEdit(**options)), tiny(tiny_sd_folder), images(), target)


def test_an_impossible_begin_of_the_blend_is_refused():
    with pytest.raises(ValueError, match="blend_from must be a share"):
        make(blend_from=2)
