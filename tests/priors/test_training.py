"""The training script's parts: facts about its data, its networks, and a whole tiny run."""

import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline

from csd_lab.world import HELD_OUT_SEED, caption, edit_for, instructions, sample_scene, vocabulary

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from prior_training import networks
from prior_training.batches import (
    FAMILY_WEIGHTS,
    Dropout,
    EditBatches,
    PictureBatches,
    TwinBatches,
    cumulative_weights,
    draw_answers,
    draw_pairs,
)
from prior_training.cache import MOST_ANSWERS, Recipe, build_cache, load_cache
from prior_training.evaluation import nearest_answers, psnr
from prior_training.fit import FitOptions, average
from prior_training.run import Plan, Run, encode_texts
from prior_training.stages import Budget
from prior_training.tokenizer import build_tokenizer

RECIPE = Recipe(scenes=6, edits=6, answers=3, textures=4, looks=4, size=64)
TEXT_LENGTH = 32


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    build_cache(folder, shards=2, recipe=RECIPE, workers=1)
    return folder


@pytest.fixture(scope="module")
def cache(shards):
    return load_cache(shards)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(vocabulary(), TEXT_LENGTH)


def test_every_word_is_one_token(tokenizer):
    assert all(len(tokenizer.tokenize(word)) == 1 for word in vocabulary())


def test_no_text_of_the_world_is_cut_off(tokenizer):
    texts = [*instructions(), *(caption(sample_scene(seed)) for seed in range(50))]
    lengths = [len(ids) for ids in tokenizer(texts, truncation=False).input_ids]
    assert max(lengths) + 4 <= TEXT_LENGTH  # a look adds up to four tokens


def test_unknown_text_is_spelt_and_comes_back(tokenizer):
    ids = tokenizer("zürich 42 zebra").input_ids
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "zürich 4 2 zebra"


def test_pairs_say_what_the_world_says(cache):
    """Every one-to-one scene pair names two captions that the instruction connects."""
    texts = cache.texts[cache.caption]
    recolours = np.flatnonzero(cache.family == "recolour")
    assert len(recolours)
    for pair in recolours:
        _, _, thing, colour = cache.texts[cache.instruction[pair]].split()
        before, after = texts[cache.source[pair]], texts[cache.answers[pair, 0]]
        assert f"{colour} {thing}" in after
        assert f"{colour} {thing}" not in before


def test_answers_stay_within_the_scene_and_exclude_the_source(cache):
    present = cache.answers >= 0
    source = np.broadcast_to(cache.source[:, None], cache.answers.shape)
    assert (cache.group[cache.answers[present]] == cache.group[source[present]]).all()
    assert (cache.answers != source)[present].all()
    many = cache.family == "many"
    assert (present[many].sum(axis=1) >= 2).all()
    assert (present.sum(axis=1) <= MOST_ANSWERS).all()


def test_held_out_shard_shares_no_picture(shards, cache):
    held_out = {image.tobytes() for image in load_cache(shards, held_out=True).images}
    assert held_out.isdisjoint({image.tobytes() for image in cache.images})


def test_rendering_again_changes_nothing(shards, cache, tmp_path):
    build_cache(tmp_path, shards=1, recipe=RECIPE, workers=1)
    again = load_cache(tmp_path)
    np.testing.assert_array_equal(again.images, cache.images[: len(again.images)])


def test_families_are_drawn_by_weight(cache):
    pairs = draw_pairs(cumulative_weights(cache, FAMILY_WEIGHTS), 4000, np.random.default_rng(0))
    present = [family for family in FAMILY_WEIGHTS if (cache.family == family).any()]
    total = sum(FAMILY_WEIGHTS[family] for family in present)
    for family in present:
        share = (cache.family[pairs] == family).mean()
        assert share == pytest.approx(FAMILY_WEIGHTS[family] / total, abs=0.04)


def test_answers_are_drawn_evenly():
    answers = np.array([[4, 5, 6, -1, -1]] * 3000)
    drawn = draw_answers(answers, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(drawn)[4:], 1000, atol=120)


def _edit_batches(cache, shards, tokenizer, dropout):
    held_out = load_cache(shards, held_out=True)
    latents = tuple(torch.randn(len(part.images), 4, 2, 2) for part in (cache, held_out))
    tokens = tuple(encode_texts(tokenizer, part.texts.tolist()) for part in (cache, held_out))
    null = encode_texts(tokenizer, [""])[0]
    return EditBatches(cache, held_out, latents, tokens, null, 64, dropout=dropout), null


def test_null_text_can_mean_no_change(cache, shards, tokenizer):
    batches, null = _edit_batches(cache, shards, tokenizer, Dropout(0, 0, 0, 1))
    batch = batches.train(0)
    torch.testing.assert_close(batch.target, batch.condition)
    assert (batch.tokens == null).all()


def test_dropped_conditions_are_null(cache, shards, tokenizer):
    batches, null = _edit_batches(cache, shards, tokenizer, Dropout(0, 0, 1, 0))
    batch = batches.train(0)
    assert not batch.condition.any()
    assert (batch.tokens == null).all()
    batches, null = _edit_batches(cache, shards, tokenizer, Dropout(0, 0, 0, 0))
    batch = batches.train(0)
    assert batch.condition.any(dim=1).all()
    assert not (batch.tokens == null).all(dim=1).any()


def test_batches_depend_on_their_index_alone(cache, shards):
    held_out = load_cache(shards, held_out=True)
    one, two = (PictureBatches(cache, held_out, 8) for _ in range(2))
    one.train(0)
    torch.testing.assert_close(one.train(3), two.train(3))
    assert not torch.equal(one.train(3), one.train(4))


def test_twins_come_from_one_scene(cache, shards, tokenizer):
    held_out = load_cache(shards, held_out=True)
    tokens = tuple(encode_texts(tokenizer, part.texts.tolist()) for part in (cache, held_out))
    batches = TwinBatches(cache, held_out, tokens, 16)
    images = batches.train(0).images.numpy()
    places = {
        image.tobytes(): group for image, group in zip(cache.images, cache.group, strict=True)
    }
    groups = [places[image.tobytes()] for image in images]
    assert groups[:8] == groups[8:]


def test_folding_normalises_and_changes_no_picture():
    vae = networks.build_autoencoder().eval()
    images = torch.rand(2, 3, 16, 16)
    mean, std = torch.tensor([1.0, -2.0, 0.5, 0.0]), torch.tensor([3.0, 0.4, 1.0, 2.0])
    with torch.no_grad():
        before = vae.encode(images).latent_dist
        picture = vae.decode(before.mode()).sample
        networks.fold_statistics(vae, mean, std)
        after = vae.encode(images).latent_dist
        scale = std[:, None, None]
        torch.testing.assert_close(
            after.mode(), (before.mode() - mean[:, None, None]) / scale, atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(after.std * scale, before.std, atol=1e-5, rtol=1e-4)
        decoded = vae.decode(after.mode()).sample
    torch.testing.assert_close(decoded, picture, atol=1e-4, rtol=1e-4)


def test_a_widened_network_ignores_the_source_at_first():
    narrow = networks.build_unet(edits=False)
    wide = networks.widen_for_edits(narrow)
    x, condition = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16)
    text, t = torch.randn(2, 5, networks.TEXT_WIDTH), torch.tensor([3, 700])
    with torch.no_grad():
        expected = narrow(x, t, text).sample
        given = wide(torch.cat([x, condition], dim=1), t, text).sample
    torch.testing.assert_close(given, expected)


def test_averages_forget_the_start():
    mean, value = [torch.zeros(1)], [torch.ones(1)]
    for count in range(1, 100):
        average(0.999, mean, value, count)
    assert mean[0].item() > 0.99


def test_right_answers_are_told_from_wrong_ones():
    answers = torch.stack([torch.full((3, 2, 2), level) for level in (0.2, 0.5)])
    source = torch.full((3, 2, 2), 0.9)
    samples = torch.stack([torch.full((3, 2, 2), level) for level in (0.25, 0.49, 0.02, 0.88)])
    assert nearest_answers(samples, answers, source) == [0, 1, None, None]
    assert psnr(answers[:1], answers[:1] + 0.1).item() == pytest.approx(20.0, abs=1e-3)


def test_a_small_object_is_judged_by_itself():
    source = torch.full((3, 16, 16), 0.5)
    answers = source.repeat(2, 1, 1, 1)
    answers[0, 0, :2, :2], answers[1, 1, :2, :2] = 1.0, 1.0
    blurred = answers + 0.05  # over the whole picture, more than the answers are apart
    assert nearest_answers(blurred, answers, source) == [0, 1]
    assert nearest_answers(blurred, answers[:1], source) == [0, None]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run of two steps a stage, exported."""
    folder = tmp_path_factory.mktemp("run")
    Run(_plan(folder)).stage("data")
    run = Run(_plan(folder))
    for stage in ("autoencoder", "clip", "text_to_image", "instruct", "export"):
        run.stage(stage)
    return folder


def _plan(folder, steps=2, init="fresh", state="state"):
    stages = ("autoencoder", "clip", "text_to_image", "instruct")
    options = FitOptions(folder / state, accelerator="cpu", precision="32-true")
    return Plan(
        options=options,
        assets=folder / "assets",
        recipe=RECIPE._replace(scenes=3, textures=2),
        shards=1,
        workers=1,
        seed=0,
        text_length=TEXT_LENGTH,
        budgets={stage: Budget(steps=steps, warmup=1) for stage in stages},
        batches=dict.fromkeys(stages, 4),
        init=init,
    )


def test_plain_diffusers_loads_and_runs_the_folders(finished):
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        finished / "assets" / "instruct_pix2pix", use_safetensors=True
    )
    source = torch.rand(1, 3, 64, 64)
    edited = pipeline("make it grey", image=source, num_inference_steps=2, output_type="pt").images
    assert edited.shape == (1, 3, 64, 64)
    prompts = StableDiffusionPipeline.from_pretrained(
        finished / "assets" / "stable_diffusion", use_safetensors=True
    )
    drawn = prompts("a red ball", height=64, width=64, num_inference_steps=2, output_type="pt")
    assert drawn.images.shape == (1, 3, 64, 64)
    assert torch.isfinite(drawn.images).all()


def test_open_clip_loads_the_tiny_clip(finished):
    name = f"local-dir:{finished / 'assets' / 'clip'}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokens = open_clip.get_tokenizer(name)(["a red ball", "make it night"])
    assert tokens.shape == (2, TEXT_LENGTH)
    assert model.encode_text(tokens, normalize=True).shape == (2, 128)
    assert model.encode_image(torch.zeros(1, 3, 64, 64)).shape == (1, 128)
    assert preprocess.transforms[-1].mean == networks.CLIP_MEAN


def test_both_folders_share_autoencoder_and_text_tower(finished):
    for part in ("vae/diffusion_pytorch_model", "text_encoder/model"):
        one, two = (
            (finished / "assets" / name / f"{part}.safetensors").read_bytes()
            for name in ("stable_diffusion", "instruct_pix2pix")
        )
        assert one == two


def test_a_finished_stage_stays_and_a_longer_one_goes_on(finished):
    checkpoint = finished / "state" / "instruct.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 2
    Run(_plan(finished, steps=4)).stage("instruct")
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 4


def test_training_goes_on_from_the_exported_folders(finished):
    run = Run(_plan(finished, steps=1, init="exported", state="more"))
    for stage in ("data", "instruct", "export"):
        run.stage(stage)
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        finished / "assets" / "instruct_pix2pix", use_safetensors=True
    )
    assert pipeline.vae.config.scaling_factor == 1.0


def test_unknown_stage_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"stage: must be one of .* received 'traning'"):
        Run(_plan(tmp_path)).stage("traning")


def test_an_edit_of_a_held_out_scene_is_reproducible():
    scene = sample_scene(HELD_OUT_SEED)
    assert edit_for(scene, "make it night") == edit_for(
        sample_scene(HELD_OUT_SEED), "make it night"
    )
