"""Hooks on a unet's attention: what they see, what they change, and that they leave no trace."""

from itertools import pairwise

import pytest
import torch
from diffusers import UNet2DConditionModel
from inverted import tiny
from torch import nn

from csd_lab.baselines.attention import (
    KeyHook,
    MapHook,
    Place,
    SharedKeys,
    attentions,
    coarse_limit,
    fine_limit,
    hooked,
)
from csd_lab.baselines.masks import mask_places
from csd_lab.distill import Query
from csd_lab.priors.stable_diffusion import StableDiffusion


class Look(MapHook):
    """Keeps copies of all maps, and gives what a function makes of them."""

    def __init__(self, change=lambda maps: maps) -> None:
        self.change = change
        self.seen: dict = {}
        self.rows: list[range] = []

    def wants(self, place) -> bool:
        return True

    def edit(self, place, rows, maps):
        self.rows.append(rows)
        for row, one in zip(rows, maps, strict=True):
            self.seen[place, row] = one.clone()
        return self.change(maps)


class Nothing(MapHook):
    def wants(self, place) -> bool:
        return False

    def edit(self, place, rows, maps):
        raise AssertionError


@pytest.fixture(scope="module")
def prior(tiny_sd_folder) -> StableDiffusion:
    return tiny(tiny_sd_folder)


def noise_of(prior, n=5, keys=None, maps=None, x=None):
    if x is None:
        x = torch.randn(n, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    texts = tuple("abcdefgh"[: len(x)])
    if keys is None and maps is None:
        return prior.predict_noise([Query(x, texts, None)], torch.tensor(300))[0]
    with hooked(prior.unet, keys, maps):
        return prior.predict_noise([Query(x, texts, None)], torch.tensor(300))[0]


def processors(unet) -> list[int]:
    return [id(attention.processor) for attention in attentions(unet).values()]


def stable_diffusion_1() -> UNet2DConditionModel:
    """Stable Diffusion 1's unet, with few channels."""
    cross = ("CrossAttnDownBlock2D",) * 3
    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(4, 4, 4, 4),
        layers_per_block=2,
        down_block_types=(*cross, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        norm_num_groups=2,
        cross_attention_dim=8,
        attention_head_dim=2,
    )


def test_the_places_of_stable_diffusion_are_those_that_the_papers_count():
    """16 of each kind; masks come from the cross attention of 16 x 16, down[2:4] and up[:3]."""
    places = list(attentions(stable_diffusion_1()))
    of = {section: [p for p in places if p.section == section] for section in ("down", "mid", "up")}
    assert [len(of[s]) for s in ("down", "mid", "up")] == [2 * 6, 2 * 1, 2 * 9]
    size = (64, 64)
    limit = coarse_limit(places, size, size)
    assert (limit, fine_limit(size)) == (16**2, 32**2)
    chosen = mask_places(places, size, limit)
    assert {p.queries(size) for p in chosen} == {16**2}
    assert [p.number for p in chosen if p.section == "down"] == [4, 5]
    assert [p.number for p in chosen if p.section == "up"] == [0, 1, 2]
    assert len(chosen) == 5


def test_places_tell_query_tokens_and_the_order_of_evaluation(prior):
    hook = Look()
    noise_of(prior, maps=hook)
    places = list(attentions(prior.unet))
    assert list(dict.fromkeys(place for place, _ in hook.seen)) == places
    for (place, _), maps in hook.seen.items():
        heads = attentions(prior.unet)[place].heads
        keys = 16 if place.cross else place.queries((8, 8))
        assert maps.shape == (heads, place.queries((8, 8)), keys)
        torch.testing.assert_close(maps.sum(dim=2), torch.ones(maps.shape[:2]))


def test_a_unet_without_coarse_attention_has_its_coarsest_as_the_limit(prior):
    assert coarse_limit(attentions(prior.unet), (8, 8), (8, 8)) == 4 * 4


def test_hooks_leave_no_trace(prior):
    before = processors(prior.unet)
    with hooked(prior.unet, maps=Look()):
        assert processors(prior.unet) != before
    assert processors(prior.unet) == before
    assert not prior.unet._forward_pre_hooks
    plain = noise_of(prior)
    with pytest.raises(ZeroDivisionError), hooked(prior.unet, maps=Look(lambda maps: 1 / 0)):
        noise_of(prior)
    assert processors(prior.unet) == before
    assert not prior.unet._forward_pre_hooks
    assert torch.equal(noise_of(prior), plain)


def test_hooks_that_want_nothing_change_nothing_bit_for_bit(prior):
    assert torch.equal(noise_of(prior, maps=Nothing()), noise_of(prior))


def test_the_softmax_in_sight_equals_the_fused_one(prior):
    torch.testing.assert_close(noise_of(prior, maps=Look()), noise_of(prior), rtol=0, atol=1e-5)


def test_maps_replaced_by_themselves_change_nothing_and_others_do(prior):
    seen = noise_of(prior, maps=Look())
    assert torch.equal(noise_of(prior, maps=Look(torch.clone)), seen)
    even = noise_of(prior, maps=Look(lambda maps: torch.full_like(maps, 1 / maps.shape[3])))
    assert (even - seen).abs().max() > 1e-2


@pytest.mark.parametrize("max_batch", [1, 2, 3])
def test_a_call_in_chunks_is_seen_as_one(tiny_sd_folder, prior, max_batch):
    whole, parts = Look(), Look()
    expected = noise_of(prior, maps=whole)
    chunked = tiny(tiny_sd_folder, max_batch)
    torch.testing.assert_close(noise_of(chunked, maps=parts), expected, rtol=0, atol=1e-4)
    assert set(parts.seen) == set(whole.seen)
    for key, maps in whole.seen.items():
        torch.testing.assert_close(parts.seen[key], maps, rtol=0, atol=1e-4)
    rows = list(dict.fromkeys(parts.rows))
    assert rows[0].start == 0
    assert rows[-1].stop == 5
    assert all(a.stop == b.start for a, b in pairwise(rows))


def test_keys_of_a_frame_s_own_change_nothing_bit_for_bit(prior):
    own = SharedKeys(range(5), [(row,) for row in range(5)])
    assert torch.equal(noise_of(prior, keys=own), noise_of(prior))


def test_the_same_tokens_twice_are_the_same_as_once(prior):
    twice = SharedKeys(range(5), [(row, row) for row in range(5)])
    torch.testing.assert_close(noise_of(prior, keys=twice), noise_of(prior), rtol=0, atol=1e-5)


@pytest.mark.parametrize("max_batch", [1, 2, 64])
def test_keys_of_another_row_are_those_that_it_has_itself(tiny_sd_folder, max_batch):
    """So a row that is the same as the first gets the first's estimate, whatever else it is."""
    prior = tiny(tiny_sd_folder, max_batch)
    first = SharedKeys(range(5), [(0,)] * 5)
    shared, plain = noise_of(prior, keys=first), noise_of(prior)
    torch.testing.assert_close(shared[0], plain[0], rtol=0, atol=1e-5)
    assert ((shared - plain)[1:].flatten(1).abs().amax(dim=1) > 1e-3).all()


def test_sections_outside_those_given_attend_to_themselves(prior):
    nowhere = SharedKeys(range(5), [(0,)] * 5, sections=())
    assert torch.equal(noise_of(prior, keys=nowhere), noise_of(prior))
    decoder = noise_of(prior, keys=SharedKeys(range(5), [(0,)] * 5, ("up",)))
    everywhere = noise_of(prior, keys=SharedKeys(range(5), [(0,)] * 5))
    assert (decoder - everywhere).abs().max() > 1e-3


class Heard(KeyHook):
    """Keeps the tokens that it is given, and changes nothing."""

    def __init__(self):
        self.inputs = {}

    def tokens(self, place, rows, inputs):
        self.inputs |= {(place, row): each for row, each in zip(rows, inputs, strict=True)}


def test_tokens_are_the_normalised_inputs_of_the_block(prior):
    seen = {}
    place, attention = next((p, a) for p, a in attentions(prior.unet).items() if not p.cross)
    own = attention.register_forward_pre_hook(lambda module, inputs: seen.update(h=inputs[0]))
    hook = Heard()
    noise_of(prior, keys=hook)
    own.remove()
    for row in range(5):
        assert torch.equal(hook.inputs[place, row], seen["h"][row])


def test_shared_tokens_are_those_of_the_sources_side_by_side():
    place, inputs = Place("up", 0, False, 1), torch.randn(4, 6, 8)
    hook = SharedKeys("abcd", ["aa", "aa", "ab", "ac"])
    found = torch.cat([hook.tokens(place, rows, inputs[rows.start : rows.stop])
                       for rows in (range(2), range(2, 3), range(3, 4))])  # fmt: skip
    a, b, c, _ = inputs
    pairs = (a, a), (a, a), (a, b), (a, c)
    assert torch.equal(found, torch.stack([torch.cat(pair) for pair in pairs]))


def test_tokens_are_kept_until_the_last_row_that_asks_for_them():
    """Each frame looks at the first and the one before: not all frames of a long clip are held."""
    place, frames = Place("up", 0, False, 1), 50
    hook = SharedKeys(range(frames), [(0, max(0, row - 1)) for row in range(frames)])
    for row in range(frames):
        hook.tokens(place, range(row, row + 1), torch.zeros(1, 6, 8))
        assert len(hook._kept) <= 2
    assert not hook._kept


def test_tokens_that_come_later_are_refused(tiny_sd_folder):
    with pytest.raises(ValueError, match=r"no later than the rows.*got 4 first"):
        noise_of(tiny(tiny_sd_folder, 1), keys=SharedKeys(range(5), [(4,)] * 5))


@pytest.mark.parametrize("sources", [[(0,)], [(0,), (0, 1)]])
def test_sources_that_do_not_fit_are_refused(sources):
    with pytest.raises(ValueError, match="sources must name as many tokens"):
        SharedKeys(range(2), sources)


def test_a_compiled_unet_is_refused(tiny_sd_folder):
    prior = StableDiffusion(tiny_sd_folder, dtype="float32", device="cpu", compile=True)
    with (
        pytest.raises(ValueError, match=r"prior\.compile must be false"),
        hooked(prior.unet, maps=Look()),
    ):
        pass


def test_attention_of_another_kind_is_refused():
    unet = stable_diffusion_1()
    next(iter(attentions(unet).values())).group_norm = nn.GroupNorm(2, 4)
    with pytest.raises(ValueError, match=r"attention of Stable Diffusion.*group_norm"):
        attentions(unet)
