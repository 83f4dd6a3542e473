"""Pictures of depths: what colours mean."""

import matplotlib
import numpy as np
import pytest
import torch

from csd_lab.report.depth import BACKGROUND, DepthClip, colour_depth, colour_depths, depth_range


def clip(depth, opacity=1.0):
    return DepthClip(depth, torch.full_like(depth, opacity))


def test_a_plane_seen_at_a_slant_has_even_steps_of_colour():
    """1 / depth of a plane is linear over an image, and so is the share of the colour map."""
    inverse = torch.linspace(0.1, 0.5, 9).expand(2, 4, 9)
    seen = colour_depth(clip(1 / inverse), near=2.0, far=10.0)
    expected = matplotlib.colormaps["viridis"](np.linspace(0, 1, 9))[:, :3].T
    np.testing.assert_allclose(seen[1, :, 2].numpy(), expected, atol=0.005)


def test_ends_of_the_range_are_robust_and_of_opaque_pixels_alone():
    depth = torch.full((1, 10, 100), 4.0)
    depth[0, :, 50:] = 2.0
    depth[0, 0, 0], depth[0, 0, 1] = 1e9, 1e-9
    opacity = torch.ones_like(depth)
    depth[0, 5], opacity[0, 5] = 77.0, 0.4
    assert depth_range([DepthClip(depth, opacity)]) == pytest.approx((2.0, 4.0))


def test_one_range_holds_for_all_clips():
    near, far = clip(torch.full((3, 5, 5), 1.0)), clip(torch.full((3, 5, 5), 8.0))
    clips = colour_depths({"source": near, "edited": far})
    assert list(clips) == [
        "source: depth, 1 (yellow) to 8",
        "edited: depth, 1 (yellow) to 8",
    ]
    yellow, violet = (c[0, :, 0, 0].numpy() for c in clips.values())
    np.testing.assert_allclose(yellow, matplotlib.colormaps["viridis"](1.0)[:3], atol=1e-5)
    np.testing.assert_allclose(violet, matplotlib.colormaps["viridis"](0.0)[:3], atol=1e-5)


def test_what_is_not_opaque_is_grey():
    depth = torch.rand(2, 3, 4) + 1
    seen = colour_depths({"x": clip(depth, 0.49)})
    (picture,) = seen.values()
    assert torch.equal(picture, torch.full((2, 3, 3, 4), BACKGROUND))
