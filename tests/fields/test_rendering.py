"""Volume rendering against closed forms, and grids against what they must not change."""

import math

import pytest
import torch
from shapes import orbit

from csd_lab.fields import (
    Cameras,
    FieldScene,
    GridField,
    Rays,
    Renderer,
    composite,
    contract,
    cut,
    resample,
    stretch,
)

WHITE = torch.ones(1, 3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("pieces", [1, 7, 64])
def test_an_even_fog_absorbs_as_it_must(pieces):
    """Whatever the pieces: opacity 1 - exp(-sigma L)."""
    edges = torch.linspace(1, 3, pieces + 1, dtype=torch.float64)[None]
    density = torch.full((1, pieces), 0.7, dtype=torch.float64)
    colour = torch.full((1, pieces, 3), 0.25, dtype=torch.float64)
    seen = composite(density, colour, edges, WHITE.double())
    opacity = 1 - math.exp(-0.7 * 2)
    assert seen.opacity.item() == pytest.approx(opacity)
    expected = torch.full((1, 3), 0.25 * opacity + 1 - opacity, dtype=torch.float64)
    torch.testing.assert_close(seen.colour, expected)
    torch.testing.assert_close(seen.weights.sum(dim=1), seen.opacity)


def test_the_depth_of_a_fog_is_that_of_its_law():
    edges = torch.linspace(0, 5, 4001, dtype=torch.float64)[None]
    seen = composite(
        torch.full((1, 4000), 0.8, dtype=torch.float64),
        torch.zeros(1, 4000, 3, dtype=torch.float64),
        edges,
        WHITE.double(),
    )
    sigma, length = 0.8, 5.0
    rest = math.exp(-sigma * length)
    assert seen.depth.item() == pytest.approx(1 / sigma - length * rest / (1 - rest), rel=1e-4)


def test_a_wall_hides_what_is_behind_it():
    density = torch.tensor([[0.0, 1e6, 1e6]])
    colour = torch.tensor([[[0.9] * 3, [0.2] * 3, [0.6] * 3]])
    seen = composite(density, colour, torch.tensor([[0.0, 1.0, 2.0, 3.0]]), WHITE)
    torch.testing.assert_close(seen.colour, torch.full((1, 3), 0.2))
    assert seen.depth.item() == pytest.approx(1.5)


def test_nothing_shows_the_background():
    background = torch.tensor([[0.1, 0.2, 0.3]])
    seen = composite(torch.zeros(1, 4), torch.rand(1, 4, 3), torch.arange(5.0)[None], background)
    assert torch.equal(seen.colour, background)
    assert seen.opacity.item() == 0


def test_gradients_are_those_of_finite_differences():
    density = torch.rand(2, 5, dtype=torch.float64, generator=seeded(), requires_grad=True)
    colour = torch.rand(2, 5, 3, dtype=torch.float64, generator=seeded(1), requires_grad=True)
    edges = torch.linspace(0, 2, 6, dtype=torch.float64).expand(2, -1)

    def seen(density, colour):
        return composite(density, colour, edges, WHITE.double())[:3]

    assert torch.autograd.gradcheck(seen, (density, colour))


@pytest.mark.parametrize("noise", [False, True])
def test_rays_are_cut_in_order_and_to_their_ends(noise):
    random = torch.rand(50, 17, generator=seeded()) if noise else None
    places = cut(50, 16, random)
    assert places.shape == (50, 17)
    assert (places.diff(dim=1) >= 0).all()
    t = stretch(places, 0.5, 100.0, 4.0)
    assert (t.diff(dim=1) >= 0).all()
    assert t.min() >= 0.5
    assert t.max() <= 100.0


def test_distances_are_even_near_by_and_in_inverse_far_away():
    t = stretch(torch.linspace(0, 1, 9, dtype=torch.float64), 1.0, 100.0, 5.0)
    assert t[:5].tolist() == pytest.approx([1, 2, 3, 4, 5])
    torch.testing.assert_close((1 / t[4:]).diff(), torch.full((4,), -0.0475, dtype=torch.float64))


def test_new_cuts_lie_where_the_weights_are():
    edges = torch.linspace(0, 10, 11)[None]
    weights = torch.zeros(1, 10)
    weights[0, 6] = 1.0
    new = resample(edges, weights, 100)
    assert ((new >= 6) & (new <= 7)).float().mean() > 0.95
    assert new[0, 0].item() == 0
    assert new[0, -1].item() == 10
    assert (new.diff(dim=1) >= 0).all()


def test_even_weights_give_even_cuts():
    edges = torch.linspace(2, 4, 9)[None]
    torch.testing.assert_close(resample(edges, torch.ones(1, 8), 8), edges)


def test_all_of_space_fits_into_the_cube():
    points = torch.randn(1000, 3, generator=seeded()) * 10
    inside = contract(points)
    assert inside.abs().max() < 2
    near = points[points.abs().amax(dim=1) <= 1]
    assert torch.equal(contract(near), near)
    border = torch.tensor([[1.0, 0.2, -0.3]])
    torch.testing.assert_close(contract(border * 1.0001), border, rtol=0, atol=1e-3)
    longer = contract(points * 1.5).abs().amax(dim=1)
    assert (longer >= inside.abs().amax(dim=1)).all()


def blob(resolution: int = 16) -> GridField:
    """A red ball in an empty cube, before a background of two colours."""
    field = GridField(torch.zeros(3), 1.0, resolution)
    axis = torch.linspace(-2, 2, resolution)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    inside = (x**2 + y**2 + z**2).sqrt() < 0.7
    with torch.no_grad():
        field.densities.copy_(torch.where(inside, 3.0, -20.0))
        field.colours[:, 0] = 3.0
        field.colours[:, 1:] = -3.0
        field.panorama.pixels[:, :, :16] = 2.0
        field.panorama.pixels[:, :, 16:] = -2.0
    return field


def around(count: int = 4) -> Cameras:
    poses = orbit(torch.zeros(3), 3.0, 0.2, count, torch.tensor([0.0, 1.0, 0.0]))
    return Cameras(poses, torch.tensor([24.0, 24.0]), 16, 16)


RENDERER = Renderer(0.1, 50.0, 6.0, 64, 64)


def test_a_ball_is_seen_as_it_is():
    colour, depth, opacity = FieldScene(blob(32), RENDERER).view(around(), 0)
    middle = colour[:, 8, 8]
    assert middle[0] > 0.9
    assert middle[1] < 0.1
    assert opacity[8, 8] > 0.99
    assert depth[8, 8].item() == pytest.approx(3 - 0.7, abs=0.15)
    assert opacity[0, 0] < 0.01
    assert colour[0, 0, 0] > 0.8  # the background above
    assert colour[0, -1, 0] < 0.2  # and below


def test_chunks_change_nothing():
    small = Renderer(0.1, 50.0, 6.0, 64, 64, chunk=37)
    whole = FieldScene(blob(), RENDERER).view(around(), 1)
    parts = FieldScene(blob(), small).view(around(), 1)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_the_same_noise_gives_the_same_rays():
    rays = around().image_rays(0)
    noise = torch.rand(len(rays.origins), RENDERER.randomness, generator=seeded(3))
    first, again = (RENDERER(blob(), rays, noise).colour for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, RENDERER(blob(), rays, 1 - noise).colour)


def test_a_finer_grid_holds_the_same():
    field = blob(9)
    points = torch.rand(200, 3, generator=seeded()) * 4 - 2
    before = field(points)
    field.refine(17)
    assert field.resolution == 17
    after = field(points)
    torch.testing.assert_close(before.density, after.density, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(before.colour, after.colour, rtol=0, atol=1e-5)


def test_the_panorama_has_no_seam():
    field = GridField(torch.zeros(3), 1.0, 4)
    with torch.no_grad():
        pixels = field.panorama.pixels
        pixels.copy_(torch.randn(pixels.shape, generator=seeded()))
    angle = torch.tensor([math.pi - 1e-4, -math.pi + 1e-4])
    behind = torch.stack([angle.sin(), torch.zeros(2), -angle.cos()], dim=1)
    left, right = field.background(behind)
    torch.testing.assert_close(left, right, rtol=0, atol=1e-2)


def test_a_field_learns_a_picture_of_it():
    """A few steps on the views of a ball bring an empty field near to them."""
    cameras, torch_rays = around(8), []
    truth = blob()
    for index in range(8):
        torch_rays.append(cameras.image_rays(index))
    rays = Rays(*(torch.cat(parts) for parts in zip(*torch_rays, strict=True)))
    with torch.no_grad():
        target = RENDERER(truth, rays).colour
    field = GridField(torch.zeros(3), 1.0, 16)
    optimizer = torch.optim.Adam(field.parameters(), lr=0.2)
    errors = []
    generator = seeded()
    for _ in range(60):
        chosen = torch.randint(len(target), (512,), generator=generator)
        noise = torch.rand(512, RENDERER.randomness, generator=generator)
        seen = RENDERER(field, Rays(*(part[chosen] for part in rays)), noise)
        loss = (seen.colour - target[chosen]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.05 * errors[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near": 7.0}, "near, linear and far must have"),
        ({"far": 5.0}, "near, linear and far must have"),
        ({"coarse": 1}, "coarse must be at least 2"),
        ({"chunk": 0}, "chunk must be at least 1"),
    ],
)
def test_impossible_renderers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Renderer(**{"near": 0.1, "far": 50.0, "linear": 6.0} | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 1}, "resolution must be a whole number of at least 2"),
        ({"scale": 0.0}, "scale must be a finite number above"),
    ],
)
def test_impossible_grids_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GridField(**{"centre": torch.zeros(3), "scale": 1.0} | options)


@pytest.mark.parametrize("farther", [1.0, 2.0, 5.0])
def test_density_thins_out_as_lengths_shrink(farther):
    field = GridField(torch.zeros(3), 2.0, 4)
    point = torch.tensor([[0.0, 2.0 * farther, 0.0]])
    inside = field.density(torch.zeros(1, 3))
    torch.testing.assert_close(field.density(point), inside / farther**2)


def test_a_new_grid_hides_little():
    """What stands before a background of one colour is seen; fog would have to be learnt away."""
    seen = FieldScene(GridField(torch.zeros(3), 2.0, 8), RENDERER).view(around(), 0)
    assert 0 < seen.opacity.max() < 0.5
