"""Each regulariser against its closed form, and that against autograd."""

import math

import pytest
import torch
from shapes import orbit
from torch import nn

from csd_lab.fields import (
    Cameras,
    FieldScene,
    GridField,
    Look,
    OpacityEntropy,
    Orientation,
    Radiance,
    RadianceField,
    Rays,
    Renderer,
    Rendering,
    Smoothness,
    Sparsity,
    normals,
)
from csd_lab.fields.field import SLABS

RENDERER = Renderer(0.1, 50.0, 6.0, 8, 8)


class Slope(RadianceField):
    """A density that is linear in space: c + g . p."""

    def __init__(self, slope):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))

    def density(self, points):
        return 20 + points @ self.slope

    def forward(self, points):
        return Radiance(self.density(points), torch.zeros_like(points))

    def background(self, directions):
        return torch.zeros_like(directions)

    def smoothness(self, generator=None):
        return self.slope.square().sum()


def rendering(opacity=None, weights=None, places=None):
    count = len(opacity if weights is None else weights)
    zeros = torch.zeros(count, dtype=torch.float64)
    opacity = zeros if opacity is None else opacity
    pieces = zeros[:, None] if weights is None else weights
    colour = zeros[:, None].expand(-1, 3)
    return Rendering(colour, opacity, zeros, pieces, pieces if places is None else places)


def rays(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return Rays(torch.zeros_like(directions), nn.functional.normalize(directions, dim=1))


def looks_of(opacity):
    return [Look(rays(len(row)), rendering(row)) for row in opacity]


OPACITY = torch.tensor([[0.1, 0.5, 0.97], [0.3, 0.002, 0.8]], dtype=torch.float64)
SCENE = FieldScene(Slope([0.3, 0.5, -0.2]), RENDERER)

CLOSED = {
    "sparsity": (
        Sparsity(2.0),
        lambda o: (o**2 + 0.01).sqrt(),
        lambda o: o / (o**2 + 0.01).sqrt(),
    ),
    "mean opacity": (Sparsity(2.0, epsilon=0.0), lambda o: o, torch.ones_like),
    "entropy": (
        OpacityEntropy(2.0),
        lambda o: -(o * o.log() + (1 - o) * (1 - o).log()),
        lambda o: ((1 - o) / o).log(),
    ),
}


@pytest.mark.parametrize("name", CLOSED)
def test_what_opacities_cost_and_their_gradient(name):
    """Twice the sum over images of the mean over three rays."""
    regulariser, value, slope = CLOSED[name]
    opacity = OPACITY.clone().requires_grad_()
    found = regulariser(SCENE, looks_of(opacity))
    torch.testing.assert_close(found, 2 / 3 * value(OPACITY).sum())
    (gradient,) = torch.autograd.grad(found, opacity)
    torch.testing.assert_close(gradient, 2 / 3 * slope(OPACITY))


@pytest.mark.parametrize("empty", [0.0, 1.0])
def test_opacities_of_0_and_1_are_legal(empty):
    opacity = torch.full((1, 4), empty, dtype=torch.float64, requires_grad=True)
    for regulariser, _, _ in CLOSED.values():
        (gradient,) = torch.autograd.grad(regulariser(SCENE, looks_of(opacity)), opacity)
        assert gradient.isfinite().all()


def test_the_normal_of_a_slope_is_exact():
    slope = torch.tensor([0.3, 0.5, -0.2], dtype=torch.float64)
    found = normals(SCENE.field, rays(7).directions, 0.05)
    torch.testing.assert_close(found, (-slope / slope.norm()).expand(7, 3))


def test_a_ball_looks_outwards():
    field = GridField(torch.zeros(3), 1.0, 33)
    field.fill(lambda points: 5 * (-4 * points.square().sum(dim=1)).exp())
    points = 0.5 * rays(20).directions.float()
    found = normals(field, points, 0.05)
    assert ((found * points).sum(dim=1) / 0.5 > 0.95).all()


def test_what_surfaces_cost_that_turn_away_and_its_gradient():
    """With n = -g/|g|: d(n . d)/dg = -(d - (d . u) u)/|g|, u = g/|g|."""
    weights = torch.rand(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights.requires_grad_()
    lines = rays(9, seed=2)
    look = Look(lines, rendering(weights=weights, places=torch.rand_like(weights)))
    scene = FieldScene(Slope([0.3, 0.5, -0.2]), RENDERER)
    found = Orientation(3.0)(scene, [look, look])
    slope = scene.field.slope.detach()
    u, d = slope / slope.norm(), lines.directions
    away = (-d @ u).clamp(min=0)
    assert 0 < (away > 0).sum() < 9
    torch.testing.assert_close(found, 3 * 2 * (weights.sum(dim=1) * away**2).mean())
    turn = -(d - (d @ u)[:, None] * u) / slope.norm()
    closed = 3 * 2 * (weights.sum(dim=1) * 2 * away)[:, None] * turn
    gradient, of_weights = torch.autograd.grad(
        found, [scene.field.slope, weights], allow_unused=True
    )
    torch.testing.assert_close(gradient, closed.mean(dim=0))
    assert of_weights is None  # what is seen is a constant


def test_what_one_node_that_stands_out_costs_and_its_gradient():
    """Along each of three axes it makes 2 of n^2 (n - 1) differences, each v."""
    field, n, v = GridField(torch.zeros(3), 1.0, 5), 5, 0.7
    with torch.no_grad():
        field.densities.zero_()
        field.densities[0, 0, 2, 2, 2] = v
    looks = looks_of(OPACITY)
    found = Smoothness(0.5)(FieldScene(field, RENDERER), looks)
    share = 3 * 2 / (n**2 * (n - 1))
    assert found.item() == pytest.approx(0.5 * 2 * share * v**2)
    (gradient,) = torch.autograd.grad(found, field.values)
    assert gradient[0, 0, 2, 2, 2].item() == pytest.approx(0.5 * 2 * share * 2 * v)


def test_a_whole_image_is_what_a_look_at_it_shows():
    field = GridField(torch.zeros(3), 1.0, 8)
    field.fill(lambda points: 2 * (-points.square().sum(dim=1)).exp())
    scene = FieldScene(field, RENDERER)
    poses = orbit(torch.zeros(3), 3.0, 0.2, 3, torch.tensor([0.0, 1.0, 0.0]))
    cameras = Cameras(poses, torch.tensor([8.0, 8.0]), 6, 6)
    seen, view = scene.rendering(cameras, 1), scene.view(cameras, 1)
    torch.testing.assert_close(seen.opacity.view(6, 6), view.opacity)
    torch.testing.assert_close(seen.colour.T.view(3, 6, 6), view.colour)
    assert seen.places.shape == seen.weights.shape
    depth = (seen.weights * seen.places).sum(dim=1) / seen.opacity
    torch.testing.assert_close(depth, seen.depth)


def test_a_filled_grid_has_the_density_that_was_asked_for():
    field = GridField(torch.tensor([0.5, 0.0, -1.0]), 2.0, 9)
    field.fill(lambda points: 3 / (1 + points.square().sum(dim=1)))
    nodes = torch.tensor([[0.5, 0.0, -1.0], [1.5, 1.0, -2.0], [0.5, 2.0, -1.0], [4.5, 4.0, 3.0]])
    wanted = 3 / (1 + nodes.square().sum(dim=1))
    torch.testing.assert_close(field.density(nodes), wanted, rtol=1e-3, atol=1e-4)
    assert (field(nodes).colour == 0.5).all()
    field.fill(lambda points: torch.zeros(len(points)), grey=0.2)
    torch.testing.assert_close(field(nodes).colour, torch.full((4, 3), 0.2))
    assert 0 < field.density(nodes).max() < 1e-3 * 25 / 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sparsity(-1.0), "weight must be a finite number of at least 0"),
        (lambda: Smoothness(math.nan), "weight must be a finite number of at least 0"),
        (lambda: Sparsity(1.0, epsilon=-1.0), "epsilon must be a finite number of at least 0"),
        (lambda: Orientation(1.0, step=0.0), "step must be a finite number above 0"),
    ],
)
def test_impossible_regularisers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("resolution", [2, 5, 11, 16])
def test_slabs_of_a_grid_estimate_its_smoothness_without_bias(resolution, monkeypatch):
    field = GridField(torch.zeros(3), 1.0, resolution, background_height=2)
    torch.nn.init.normal_(field.values, generator=torch.Generator().manual_seed(0))
    torch.nn.init.normal_(field.panorama.pixels, generator=torch.Generator().manual_seed(1))
    whole = field.smoothness()
    estimates = []
    for slab in range(SLABS):
        monkeypatch.setattr(torch, "randint", lambda *_, slab=slab, **__: torch.tensor(slab))
        estimates.append(field.smoothness(torch.Generator()))
    torch.testing.assert_close(torch.stack(estimates).mean(), whole)
    gradients = [torch.autograd.grad(each, field.values)[0] for each in (*estimates, whole)]
    torch.testing.assert_close(torch.stack(gradients[:-1]).mean(dim=0), gradients[-1])
