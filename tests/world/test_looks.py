import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from csd_lab import world


@pytest.mark.parametrize("look", world.LOOKS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_look_acts_on_each_pixel_alone(look, seed):
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 4, 3, 8, 9, generator=rng)
    order = torch.randperm(72, generator=rng)
    shuffled = images.flatten(-2)[..., order].reshape_as(images)
    expected = world.apply_look(look, images).flatten(-2)[..., order].reshape_as(images)
    result = world.apply_look(look, shuffled)
    assert torch.equal(result, expected)
    assert result.shape == images.shape
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize("look", world.LOOKS)
def test_a_look_leaves_its_input_alone_and_shows_on_natural_pictures(look):
    images = world.textures(range(8), 32)
    before = images.clone()
    result = world.apply_look(look, images)
    assert torch.equal(images, before)
    assert (result - images).square().mean().sqrt() > 0.03


def test_looks_differ_from_each_other():
    images = world.textures(range(8), 32)
    results = [world.apply_look(look, images) for look in world.LOOKS]
    for i, one in enumerate(results):
        for two in results[:i]:
            assert (one - two).square().mean().sqrt() > 0.05


def test_looks_have_the_values_worked_out_by_hand():
    pixel = torch.tensor([0.2, 0.4, 0.6]).reshape(3, 1, 1)
    luma = 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6
    expected = {
        "grey": [luma] * 3,
        "sepia": [1.08 * luma + 0.04, 0.84 * luma + 0.02, 0.56 * luma],
        "warm": [0.236, 0.368, 0.348],
        "cold": [0.116, 0.352, 0.732],
        "dark": [0.48 * c**1.35 for c in (0.2, 0.4, 0.6)],
        "bright": [1 - (1 - c) ** 2.2 for c in (0.2, 0.4, 0.6)],
        "faded": [0.42 + 0.46 * (0.55 * c + 0.45 * luma) for c in (0.2, 0.4, 0.6)],
        "negative": [0.8, 0.6, 0.4],
    }
    assert set(expected) == set(world.LOOKS)
    for look, value in expected.items():
        result = world.apply_look(look, pixel).flatten()
        assert torch.allclose(result, torch.tensor(value), atol=1e-6), look


def test_unknown_looks_and_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"sepia.*'blurred'"):
        world.apply_look("blurred", torch.rand(3, 4, 4))
    with pytest.raises(ValueError, match=r"\(\.\.\., 3, H, W\).*\(4, 4, 3\)"):
        world.apply_look("sepia", torch.rand(4, 4, 3))
