"""Large images through an autoencoder: tiles that share statistics, against one piece."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn.functional import interpolate

from csd_lab.canvas import Tiling
from csd_lab.priors.instruct_pix2pix import InstructPix2Pix
from csd_lab.priors.shared_statistics import SharedStatistics, code_in_tiles

ROUNDING = {"rtol": 1e-4, "atol": 1e-4}


def picture(height: int, width: int) -> Tensor:
    """A bright smooth half and a dark rough half, in [0, 1]: their statistics differ."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 4, 2 + width // 40, generator=generator)
    smooth = interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    rough = torch.rand(1, 3, height // 2, width // 2, generator=generator)
    rough = interpolate(rough, (height, width))
    right = (torch.arange(width) >= width // 2).float()
    return (1 - right) * (0.7 + 0.3 * smooth) + right * (0.4 * smooth + 0.3 * rough)


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    """A random local autoencoder, f = 2: its cells depend on 12 latents around them at most."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKL(
            block_out_channels=(4, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            norm_num_groups=2,
            mid_block_add_attention=False,
        )
    return vae.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def tiny(tiny_ip2p_folder: Path) -> InstructPix2Pix:
    """Tiny networks with random weights and an attention, f = 2."""
    return InstructPix2Pix(tiny_ip2p_folder, dtype="float32", device="cpu", tile=128)


@pytest.fixture(scope="module")
def embedded() -> dict[int, InstructPix2Pix]:
    """The embedded prior, f = 4, by the side of its tiles."""
    return {
        tile: InstructPix2Pix(dtype="float32", device="cpu", tile=tile) for tile in (432, 512, 2048)
    }


def decode_with(vae: AutoencoderKL):
    return lambda x: vae.decode(x).sample


def test_pooled_over_a_whole_image_is_plain_group_normalisation(vae) -> None:
    x = torch.randn(1, 4, 20, 30)
    with SharedStatistics(vae.decoder).pooled(torch.ones(1, 20, 30)):
        pooled = vae.decode(x).sample
    torch.testing.assert_close(pooled, vae.decode(x).sample, **ROUNDING)


def test_with_the_statistics_of_the_whole_tiles_equal_one_piece(vae) -> None:
    """To rounding, and at the cuts as elsewhere; with statistics of their own they do not."""
    x = torch.cat([torch.randn(1, 4, 50, 90), 3 + 0.2 * torch.randn(1, 4, 50, 80)], dim=3)
    whole = vae.decode(x).sample
    tiling = Tiling(50, 170, 64)
    assert len(tiling) > 2
    own = tiling.apply(decode_with(vae), x, 3, 2)
    statistics = SharedStatistics(vae.decoder)
    with statistics.pooled(torch.ones(1, 50, 170)):
        vae.decode(x)
    with statistics.fixed():
        shared = tiling.apply(decode_with(vae), x, 3, 2)
    torch.testing.assert_close(shared, whole, **ROUNDING)
    assert (own - whole).abs().max() > 100 * (shared - whole).abs().max()


def test_groups_of_patches_are_averaged(vae) -> None:
    """Two batches give the mean of their moments, weighted by their samples."""
    layer = nn.GroupNorm(2, 4)
    a, b = torch.randn(2, 4, 6, 6) + 1, 3 * torch.randn(1, 4, 6, 6)
    statistics = SharedStatistics(layer)
    for batch in (a, b):
        inner = torch.zeros(len(batch), 6, 6)
        inner[:, 1:-1, 2:-2] = 1
        with statistics.pooled(inner):
            layer(batch)
    x = torch.randn(1, 4, 5, 5)
    with statistics.fixed():
        found = layer(x)
    parts = torch.cat([a, b])[:, :, 1:-1, 2:-2].unflatten(1, (2, 2)).double()
    mean = parts.mean((0, 2, 3, 4)).repeat_interleave(2)[:, None, None]
    square = parts.square().mean((0, 2, 3, 4)).repeat_interleave(2)[:, None, None]
    expected = (x - mean) / (square - mean**2 + layer.eps).sqrt()
    torch.testing.assert_close(found.double(), expected, **ROUNDING)


def test_a_network_is_as_before_afterwards_also_after_a_failure(vae) -> None:
    x = torch.randn(1, 4, 8, 8)
    before = vae.decode(x).sample
    statistics = SharedStatistics(vae.decoder)
    with pytest.raises(RuntimeError), statistics.pooled(torch.ones(1, 8, 8)):
        vae.decode(torch.randn(1, 5, 8, 8))
    with statistics.pooled(torch.ones(1, 8, 8)):
        vae.decode(3 * x)
    assert torch.equal(vae.decode(x).sample, before)
    assert all("forward" not in vars(module) for module in vae.modules())


@pytest.mark.parametrize("shift", [1, 37, 100])
def test_a_ring_in_one_tile_turns_with_its_latents(vae, shift) -> None:
    """Nothing tells the join from other places."""
    x = torch.randn(1, 4, 24, 120)
    tiling = Tiling(24, 120, 64, wrap=True)
    assert len(tiling) == 1
    straight = code_in_tiles(vae.decoder, decode_with(vae), x, tiling, 3, 2)
    turned = code_in_tiles(vae.decoder, decode_with(vae), x.roll(shift, 3), tiling, 3, 2)
    torch.testing.assert_close(turned, straight.roll(2 * shift, 3), **ROUNDING)


def test_tiles_of_the_embedded_prior_are_near_one_piece_and_show_no_cuts(embedded) -> None:
    image = picture(416, 1024)
    whole, tiled, tiling = embedded[2048], embedded[512], Tiling(104, 256, 128)
    latents = whole.encode(image)
    assert (tiled.encode(image) - latents).abs().max() < 0.02 * latents.std()
    expected = whole.decode(latents)
    errors = (tiled.decode(latents) - expected).abs()
    assert errors.max() < 1 / 255
    own = tiling.apply(whole._decode, latents, 3, 4)
    assert (own - expected).abs().max() > 20 * errors.max()
    near = torch.zeros(1024, dtype=torch.bool)
    for column in tiling.columns[1:]:
        near[4 * column.first - 16 : 4 * column.first + 16] = True
    assert near.any()
    assert errors[..., near].max() < 1.5 * errors[..., ~near].max()


def test_the_side_of_the_tiles_hardly_matters(embedded) -> None:
    image = picture(384, 800)
    latents = embedded[512].encode(image)
    assert (latents - embedded[432].encode(image)).abs().max() < 0.02 * latents.std()
    decoded = [embedded[tile].decode(latents) for tile in (432, 512)]
    assert (decoded[0] - decoded[1]).abs().max() < 1 / 255


def test_a_ring_of_the_embedded_prior_has_no_seam_at_its_join(embedded) -> None:
    """The step over the join is that of the same place in the middle; without wrap it is not."""
    prior = embedded[512]
    image = picture(64, 512)  # smooth and rough meet at the join, and in the middle
    latents = prior.encode(image, wrap=True)
    turned = prior.encode(image.roll(256, 3), wrap=True)
    torch.testing.assert_close(turned.roll(-64, 3), latents, rtol=0, atol=1e-3)
    decoded = prior.decode(latents, wrap=True)
    middle = prior.decode(latents.roll(64, 3), wrap=True).roll(-256, 3)
    torch.testing.assert_close(decoded, middle, rtol=0, atol=1e-3)
    assert decoded.shape == image.shape
    open_ended = prior.decode(latents)
    assert (open_ended - middle)[..., :8].abs().max() > 0.02


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("size", [(132, 260), (64, 400), (300, 70)])
def test_sizes_are_exact_and_a_repetition_is_equal(tiny, size, wrap) -> None:
    image = picture(*size)
    latents = tiny.encode(image, wrap=wrap)
    assert latents.shape == (1, 4, size[0] // 2, size[1] // 2)
    decoded = tiny.decode(latents, wrap=wrap)
    assert decoded.shape == image.shape
    assert 0 <= decoded.min() <= decoded.max() <= 1
    assert torch.equal(tiny.encode(image, wrap=wrap), latents)
    assert torch.equal(tiny.decode(latents, wrap=wrap), decoded)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [False, True])
def test_each_image_of_a_batch_is_coded_by_itself(tiny, wrap) -> None:
    images = torch.cat([picture(130, 200), 1 - picture(130, 200)])
    latents = tiny.encode(images, wrap=wrap)
    alone = [tiny.encode(image, wrap=wrap) for image in images.split(1)]
    assert torch.equal(latents, torch.cat(alone))
    decoded = [tiny.decode(latent, wrap=wrap) for latent in latents.split(1)]
    assert torch.equal(tiny.decode(latents, wrap=wrap), torch.cat(decoded))


@pytest.mark.slow
def test_samples_of_the_posterior_have_its_mean_and_deviation(tiny) -> None:
    image, noise = picture(130, 200), torch.randn(1, 4, 65, 100)
    mean = tiny.encode(image)
    torch.testing.assert_close(tiny.encode(image, torch.zeros_like(noise)), mean)
    up, down = (tiny.encode(image, sign * noise) - mean for sign in (1, -1))
    torch.testing.assert_close(up, -down, **ROUNDING)
    assert up.abs().min() > 0


@pytest.mark.parametrize("wrap", [False, True])
def test_encoding_in_tiles_is_differentiable(tiny, wrap) -> None:
    image = picture(130, 200).requires_grad_()
    tiny.encode(image, wrap=wrap).square().sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert (image.grad.abs().sum(1) > 0).float().mean() > 0.99
    assert not tiny.condition(image, wrap=wrap).requires_grad


@pytest.mark.parametrize("wrap", [False, True])
def test_decoding_in_tiles_is_differentiable(tiny, wrap) -> None:
    latents = torch.randn(1, 4, 65, 100, generator=torch.Generator().manual_seed(0))
    latents.requires_grad_()
    tiny.decode(latents, wrap).square().sum().backward()
    assert latents.grad is not None
    assert latents.grad.isfinite().all()
    assert (latents.grad.abs().sum(1) > 0).float().mean() > 0.99


def test_a_tile_must_hold_more_than_its_overlaps(tiny_ip2p_folder) -> None:
    with pytest.raises(ValueError, match=r"tile must be at least 128 pixels .*, got 127"):
        InstructPix2Pix(tiny_ip2p_folder, device="cpu", tile=127)
