"""Facts about randomness: a function of (seed, step, particle), in two streams."""

import pytest
import torch

from csd_lab.distill import (
    UniformTimesteps,
    particle_noise,
    places_generator,
    timestep_generator,
)

SHAPE = (4, 8, 8)


def test_noise_depends_on_the_particle_and_not_on_its_place() -> None:
    noise = particle_noise(3, 7, torch.tensor([5, 0, 9]), SHAPE)
    assert noise.shape == (3, *SHAPE)
    for row, particle in zip(noise, [5, 0, 9], strict=True):
        assert torch.equal(particle_noise(3, 7, torch.tensor([particle]), SHAPE)[0], row)


def test_noise_depends_on_seed_step_and_particle() -> None:
    draws = [
        particle_noise(seed, step, torch.tensor([particle]), SHAPE)
        for seed in (0, 1)
        for step in (0, 1)
        for particle in (0, 1, 2**40)
    ]
    for i, one in enumerate(draws):
        assert not any(torch.equal(one, other) for other in draws[:i])


def test_noise_does_not_depend_on_what_was_drawn_before() -> None:
    first = particle_noise(0, 4, torch.arange(3), SHAPE)
    torch.randn(100)
    timestep_generator(0, 4).integers(10, size=100)
    assert torch.equal(particle_noise(0, 4, torch.arange(3), SHAPE), first)


def test_shared_noise_is_that_of_particle_0() -> None:
    noise = particle_noise(0, 4, torch.tensor([2, 7]), SHAPE, mode="shared")
    expected = particle_noise(0, 4, torch.tensor([0]), SHAPE)
    assert torch.equal(noise, expected.expand(2, *SHAPE))


def test_variants_that_use_noise_differently_see_the_same_timestep() -> None:
    sampler = UniformTimesteps(0, 1000)
    before = sampler(0, 4)
    particle_noise(0, 4, torch.arange(3), SHAPE, mode="shared")
    assert sampler(0, 4) == before


def test_places_of_windows_are_a_stream_of_their_own() -> None:
    draws = [
        tuple(make(seed, step).integers(10**6, size=3))
        for make in (places_generator, timestep_generator)
        for seed, step in ((0, 0), (0, 1), (1, 0))
    ]
    assert len(set(draws)) == len(draws)


def test_noise_is_standard_normal_and_independent_between_particles() -> None:
    noise = particle_noise(0, 0, torch.arange(200), (500,))
    count = noise.numel()
    assert noise.mean().abs() < 4 / count**0.5
    assert (noise.var() - 1).abs() < 4 * (2 / count) ** 0.5
    correlation = torch.corrcoef(noise)[~torch.eye(200, dtype=torch.bool)]
    assert correlation.std() == pytest.approx(500**-0.5, rel=0.02)


def test_the_stream_stays_as_it_is() -> None:
    """A resumed run needs the same noise from another version of this package."""
    noise = particle_noise(1, 2, torch.tensor([3]), (3,))
    assert noise[0].tolist() == pytest.approx([-0.0368658, 0.0562774, -1.6555700], abs=1e-6)
    assert timestep_generator(1, 2).integers(1000) == 326
    assert places_generator(1, 2).integers(-4, 4, size=4).tolist() == [3, 0, 0, 3]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_values_do_not_depend_on_the_dtype(dtype) -> None:
    noise = particle_noise(0, 4, torch.arange(3), SHAPE)
    assert torch.equal(particle_noise(0, 4, torch.arange(3), SHAPE, dtype=dtype), noise.to(dtype))


def test_no_particles_is_no_noise() -> None:
    assert particle_noise(0, 0, torch.tensor([], dtype=torch.int64), SHAPE).shape == (0, *SHAPE)


def test_arguments_are_checked() -> None:
    ids = torch.arange(2)
    with pytest.raises(ValueError, match="noise must be one of independent, shared, got 'same'"):
        particle_noise(0, 0, ids, SHAPE, mode="same")
    with pytest.raises(ValueError, match="seed and step must be integers >= 0, got seed=-1"):
        particle_noise(-1, 0, ids, SHAPE)
    with pytest.raises(ValueError, match="step=-1"):
        timestep_generator(0, -1)
    with pytest.raises(ValueError, match=r"ids must be integers >= 0, got \[-1, 0\]"):
        particle_noise(0, 0, ids - 1, SHAPE)
