import pytest
import torch

from csd_lab import world


def test_a_texture_is_a_function_of_its_seed_alone():
    batch = world.textures([5, 6, 7], 32)
    assert torch.equal(batch[1], world.textures([6], 32)[0])
    assert batch.shape == (3, 3, 32, 32)
    assert batch.dtype == torch.float32
    assert world.textures([], 32).shape == (0, 3, 32, 32)


def test_textures_are_in_range_varied_and_not_blank():
    batch = world.textures(range(100), 32)
    assert batch.min() >= 0
    assert batch.max() <= 1
    assert torch.isfinite(batch).all()
    means = batch.mean(dim=(2, 3))
    assert means.std(dim=0).min() > 0.12  # of all brightnesses and colours
    assert batch.std(dim=(2, 3)).mean() > 0.05


def test_power_falls_with_frequency_as_in_photographs():
    grey = world.textures(range(60), 64).mean(dim=1)
    grey = grey - grey.mean(dim=(1, 2), keepdim=True)
    window = torch.hann_window(64)
    power = torch.fft.rfft2(grey * window * window[:, None]).abs().square().mean(dim=0)
    axis = torch.fft.fftfreq(64).abs() * 64
    radius = (axis[:, None] ** 2 + axis[None, :33] ** 2).sqrt()
    low, high = (
        power[(radius > 2) & (radius < 4)].mean(),
        power[(radius > 16) & (radius < 24)].mean(),
    )
    slope = torch.log(high / low) / torch.log(torch.tensor(20 / 3))
    assert -3.5 < slope < -1.0  # photographs: about -2


@pytest.mark.parametrize("size", [1, 5, 200])
def test_any_size_is_legal(size):
    assert world.textures([0, 1, 2, 3], size).shape == (4, 3, size, size)


def test_a_bad_size_is_named():
    with pytest.raises(ValueError, match="size"):
        world.textures([0], 0)
