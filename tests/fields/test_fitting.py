"""Where scenes lie, and how they are fitted: facts that do not depend on how well it works."""

import math

import pytest
import torch
from shapes import orbit

from csd_lab.fields import (
    Cameras,
    PixelLoss,
    PosedViews,
    SceneFitter,
    bounds_of,
    grid_scene,
    look_at,
)

UP = torch.tensor([0.0, 1.0, 0.0])
CENTRE = torch.tensor([1.0, 0.5, -2.0])


def around(count=6, elevation=0.3, size=8):
    return Cameras(orbit(CENTRE, 4.0, elevation, count, UP), torch.tensor([10.0, 10.0]), size, size)


def views(seed=0, **options):
    cameras = around(**options)
    generator = torch.Generator().manual_seed(seed)
    shape = (len(cameras), 3, cameras.height, cameras.width)
    return PosedViews(torch.rand(shape, generator=generator), cameras)


def small(cameras):
    return grid_scene(bounds_of(cameras), 8, 4, 6, 6)


def fitter(seed=0, **options):
    loss = PixelLoss(rays=50, seed=seed)
    return SceneFitter(small(around(**options)), loss, 0.1)


def parameters(scene):
    return torch.cat([p.detach().flatten() for p in scene.parameters()])


def test_cameras_around_a_point_find_it():
    found = bounds_of(around())
    torch.testing.assert_close(found.centre, CENTRE, atol=1e-2, rtol=0)
    assert found.radius == pytest.approx(4.0, abs=1e-2)
    assert 0 < found.near < found.scale < found.radius < found.linear < found.far


def test_cameras_side_by_side_find_a_place_before_them():
    """Their lines of sight never meet: somewhere in front, not behind, and finite."""
    places = torch.tensor([[x, 0.0, 0.0] for x in (-1.0, 0.0, 1.0)])
    poses = look_at(places, places + torch.tensor([0.0, 0.0, -1.0]), UP)
    found = bounds_of(Cameras(poses, torch.tensor([10.0, 10.0]), 8, 8))
    assert found.centre[2] < 0
    assert found.centre[:2].abs().max() < 1e-4
    assert math.isfinite(found.radius)


def test_the_loss_of_a_step_knows_no_history():
    scene, seen = small(around()), views()
    loss = PixelLoss(rays=50, seed=3)
    first = loss(scene, seen, 5)[0]
    loss(scene, seen, 6)
    assert torch.equal(loss(scene, seen, 5)[0], first)
    assert not torch.equal(loss(scene, seen, 6)[0], first)


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_the_mean_loss_of_ranks_is_that_of_one(ranks):
    scene, seen = small(around()), views()
    loss = PixelLoss(rays=50, smoothness=0.1)
    whole = loss(scene, seen, 4)
    parts = [loss(scene, seen, 4, rank, ranks) for rank in range(ranks)]
    for of_all, of_each in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.stack(of_each).mean(), of_all)


def test_a_fit_that_goes_on_is_one_that_was_never_stopped():
    seen = views()
    whole, first, second = fitter(), fitter(), fitter()
    whole.fit(seen, 6)
    first.fit(seen, 4)
    second.load_state_dict(first.state_dict())
    second.fit(seen, 2)
    assert torch.equal(parameters(second.scene), parameters(whole.scene))
    assert int(second.taken) == 6


def test_a_fitted_scene_asks_for_no_gradient_in_between():
    own = fitter()
    assert not any(p.requires_grad for p in own.parameters())
    own.fit(views(), 2)
    assert not any(p.requires_grad for p in own.parameters())
    assert all(p.grad is None for p in own.parameters())


def test_a_fit_takes_the_error_down_and_the_learning_rate_along():
    own, seen = fitter(), views(count=2, size=4)
    before = own.loss(own.scene, seen, 0)[1]
    after = own.fit(seen, 150, final_rate=0.1)
    assert after < 0.5 * before
    rate = own.get_extra_state()["param_groups"][0]["lr"]
    assert rate == pytest.approx(0.1 * 0.1 ** (149 / 150))


def test_no_step_has_no_error():
    assert math.isnan(fitter().fit(views(), 0))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rays": 0}, "rays must be a whole number of at least 1"),
        ({"smoothness": -1.0}, "smoothness must be a finite number of at least 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
    ],
)
def test_impossible_losses_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        PixelLoss(**options)


def test_a_learning_rate_must_be_positive():
    with pytest.raises(ValueError, match="learning_rate must be a finite number above 0"):
        SceneFitter(small(around()), PixelLoss(), 0.0)
