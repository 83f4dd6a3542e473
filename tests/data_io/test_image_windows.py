"""Where windows and regions of an image of any size lie on it: never beyond it."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from csd_lab.canvas import WindowGrid
from csd_lab.data import CanvasData, Fit
from csd_lab.metrics.windows import crop_size, crops
from csd_lab.types import EditTask

SIZES = st.tuples(st.integers(1, 60), st.integers(1, 200))


class Blank(CanvasData):
    """A black image."""

    def __init__(self, size: tuple[int, int], wrap: bool) -> None:
        super().__init__(wrap=wrap)
        self.size = size

    def read(self) -> EditTask:
        return EditTask(torch.zeros(1, 3, *self.size), "x")


@given(SIZES, st.sampled_from([8, 16, 64]), st.integers(1, 12), st.booleans())
@example((49, 49), 16, 6, True)  # from 24.5 to 73.5 pixels: rounded to even, 50 pixels
@settings(max_examples=100, deadline=None)
def test_no_window_is_larger_than_the_image(
    size: tuple[int, int], multiple: int, window: int, wrap: bool
) -> None:
    data = Blank(size, wrap)
    data.fit_to(multiple)
    height, width = (side // 8 for side in data.frames.shape[2:])
    grid = WindowGrid(height, width, (window, window), (-(-window // 2),) * 2, wrap)
    data.lay_windows(grid, 8)
    assert data.windows is not None
    top, left, bottom, right = data.windows.boxes.unbind(1)
    assert (bottom - top).max() <= size[0]
    assert (right - left).max() <= size[1]
    assert crops(data.task.source, crop_size(data.windows)).shape[-3] >= 1


@given(SIZES, st.sampled_from([8, 64]), st.sampled_from([None, 40]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_visible_share_is_what_the_extension_leaves(
    size: tuple[int, int], multiple: int, resolution: int | None, wrap: bool
) -> None:
    fit = Fit(size, multiple, resolution, wrap=wrap)
    seen = [share * side for share, side in zip(fit.visible, fit.fitted, strict=True)]
    assert seen == pytest.approx([n * by for n, by in zip(size, fit.scale, strict=True)])
    if resolution is not None:
        assert fit.visible == (1, 1)
    elif wrap:
        assert (seen[0], fit.visible[1]) == (pytest.approx(size[0]), 1)
    else:
        assert seen == pytest.approx(size)
