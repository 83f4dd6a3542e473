"""Scenes of Gaussians: how gsplat is asked, without it; what it answers needs a CUDA device."""

import pytest
import torch
from shapes import orbit
from splatting import splat

from csd_lab import world
from csd_lab.data.world_capture import scene_edit
from csd_lab.fields import (
    Bounds,
    Cameras,
    GaussianScene,
    PixelLoss,
    PosedViews,
    SceneFitter,
    bounds_of,
    gaussian_scene,
)

UP = torch.tensor([0.0, 1.0, 0.0])
INSTRUCTION = "make it night"
BOUNDS = Bounds(torch.tensor([0.5, 0.2, -1.0]), 4.0)


def points(*, means, colors, opacities, viewmats, Ks, width, height, **options):
    """Draws the middles of Gaussians as single pixels, in gsplat's conventions for cameras."""
    del options
    shape = (len(viewmats), height, width)
    colour, alpha = torch.zeros(*shape, 4), torch.zeros(*shape, 1)
    for view, (pose, lens) in enumerate(zip(viewmats, Ks, strict=True)):
        local = means @ pose[:3, :3].T + pose[:3, 3]
        seen = local @ lens.T
        place = (seen[:, :2] / seen[:, 2:]).detach()
        for index in (-local[:, 2]).argsort().tolist():  # the nearest last
            column, row = place[index].long().tolist()
            if local[index, 2] > 0 and 0 <= row < height and 0 <= column < width:
                value = torch.cat([colors[index], local[index, 2:]])
                colour[view, row, column] = torch.cat([value[:3] * opacities[index], value[3:]])
                alpha[view, row, column] = opacities[index]
    return colour, alpha, {}


def scene(count=40):
    return GaussianScene(BOUNDS, count, 4, 0, points)


def cameras():
    poses = orbit(BOUNDS.centre, BOUNDS.radius, 0.4, 5, UP)
    return Cameras(poses, torch.tensor([20.0, 22.0]), 16, 20, torch.tensor([9.0, 8.5]))


def test_gaussians_lie_where_cameras_see_them():
    """Pixel and distance of each, by this package's own cameras."""
    own, seen_by = scene(), cameras()
    places = own.means.detach() * own.unit
    for index in range(5):
        view = own.view(seen_by, index)
        expected, _ = seen_by.project(places, index)
        columns, rows = view.opacity.shape[1], view.opacity.shape[0]
        found = 0
        for (column, row), place in zip(expected.tolist(), places, strict=True):
            distance = (place - seen_by.poses[index, :, 3]).norm()
            inside = 0 <= row < rows and 0 <= column < columns
            if inside and view.opacity[int(row), int(column)] > 0:
                seen = view.depth[int(row), int(column)]
                found += abs(seen - distance) < 0.05 * distance
        assert found >= 5
        assert view.colour.shape == (3, 16, 20)


def test_nothing_is_seen_as_far_as_rays_go():
    own = scene(1)
    view = own.view(cameras(), 0)
    assert (view.depth[view.opacity == 0] == own.far).all()


def test_lenses_that_distort_are_refused():
    pinholes = cameras()
    bent = Cameras(pinholes.poses, pinholes.focal, 16, 20, distortion=torch.tensor([-0.1, 0, 0, 0]))
    with pytest.raises(ValueError, match="cameras must not distort with field=gsplat"):
        scene().view(bent, 0)


def test_what_is_behind_shows_where_nothing_is():
    own = scene(1)
    with torch.no_grad():
        own.panorama.pixels.fill_(3.0)
    view = own.view(cameras(), 0)
    torch.testing.assert_close(
        view.colour[:, view.opacity == 0].mean(), torch.tensor(3.0).sigmoid()
    )


def test_a_step_draws_from_one_view_and_reaches_all_parameters_that_are_seen():
    own, seen_by = scene(), cameras()
    asked = []

    def watched(**options):
        asked.append(len(options["viewmats"]))
        return points(**options)

    own.rasterise = watched
    views = PosedViews(torch.rand(5, 3, 16, 20), seen_by)
    loss, _ = PixelLoss(rays=64)(own, views, 0)
    loss.backward()
    assert asked == [1]
    assert own.colours.grad.abs().sum() > 0
    assert own.panorama.pixels.grad.abs().sum() > 0


def test_gaussians_learn_a_scene_at_the_learning_rate_of_grids():
    edit = scene_edit(world.HELD_OUT_SEED + 5, INSTRUCTION, views=12, held_out=3, size=24)
    images, held_out = torch.stack(edit.capture.images), edit.capture.held_out
    seen_by = edit.capture.cameras.select((~held_out).nonzero()[:, 0])
    own = GaussianScene(bounds_of(seen_by), 400, 8, 0, splat)
    fitter = SceneFitter(own, PixelLoss(rays=576), learning_rate=0.1)
    fitter.fit(PosedViews(images[~held_out], seen_by), 150, final_rate=0.1)
    seen = own.views(edit.capture.cameras.select(held_out.nonzero()[:, 0]))
    mean = images[~held_out].mean(dim=(0, 2, 3))[:, None, None]
    error, spread = ((images[held_out] - each).square().mean() for each in (seen, mean))
    assert error < 0.3 * spread


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_one_line_says_so():
    with pytest.raises(ValueError, match="needs a CUDA device, and there is none; take field=grid"):
        gaussian_scene(BOUNDS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="gsplat needs a CUDA device")
def test_gsplat_renders_what_it_is_asked():
    pytest.importorskip("gsplat")
    own = gaussian_scene(BOUNDS, count=500).cuda()
    found = own.view(cameras(), 0)
    own.rasterise = splat
    expected = own.view(cameras(), 0)
    torch.testing.assert_close(found.colour, expected.colour, rtol=0, atol=0.02)
    torch.testing.assert_close(found.opacity, expected.opacity, rtol=0, atol=0.02)
    opaque = expected.opacity > 0.3
    assert opaque.sum() > 20
    torch.testing.assert_close(found.depth[opaque], expected.depth[opaque], rtol=0.02, atol=0)
