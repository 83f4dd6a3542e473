r"""Seams: steps in the edit that stand where windows end, and nowhere else.

With d = edited - source (a seam of the source is none of the edit's), and a reach of b pixels, the
step across the line between columns x - 1 and x is

.. math::
    g(x) = \mathrm{mean}_{y, c} \Big| \frac1b \sum_{i=0}^{b-1} d_{c,y,x+i}
        - \frac1b \sum_{i=1}^{b} d_{c,y,x-i} \Big|

(b = 1 is the gradient; more sees a seam that a decoder has blurred). Borders are the lines at which
a window begins or ends, except the image's own edge; of a ring also the join, x = 0, where columns
are counted round. Inside are the lines at least b from every border. The seam error along one axis
is the mean of g over borders minus the mean of g over lines inside; that of an image is the mean of
both axes, weighted with their numbers of borders.
"""

from typing import final

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from csd_lab.metrics.base import ONE_IMAGE, ArtefactMetric, windows_of
from csd_lab.types import Artefact, Windows

REACH = 4
"""Pixels that are compared on either side of a line."""


def steps(change: Tensor, reach: int = REACH, wrap: bool = False) -> Tensor:
    """The step g(x) across each line between two columns.

    Args:
        change: d, (C, H, W).
        reach: b.
        wrap: whether columns are counted round.

    Returns:
        (W,); NaN for lines closer than b to an edge.
    """
    width = change.shape[-1]
    if not wrap and width < 2 * reach:
        return change.new_full((width,), torch.nan)
    around = pad(change, (reach, reach), mode="circular") if wrap else change
    means = avg_pool2d(around, (1, reach), stride=1)
    known = (means[..., reach:] - means[..., :-reach]).abs().mean((0, 1))
    return known[:width] if wrap else pad(known, (reach, reach - 1), value=torch.nan)


def borders(windows: Windows, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The lines at which windows begin or end, (L,) rows and (L',) columns, in ascending order.

    Args:
        windows: of an image.
        size: its height and width.
    """
    rows, columns = windows.boxes[:, 0::2].unique(), windows.boxes[:, 1::2].unique()
    if windows.wrap:
        columns = torch.cat([columns % size[1], columns.new_zeros(1)]).unique()
    else:
        columns = columns[(columns > 0) & (columns < size[1])]
    return rows[(rows > 0) & (rows < size[0])], columns


def excess(values: Tensor, lines: Tensor, reach: int = REACH, wrap: bool = False) -> Tensor:
    """How much larger the steps are at borders than inside.

    Args:
        values: g, (W,), NaN where undefined.
        lines: borders, (L,).
        reach: b.
        wrap: whether lines are counted round.

    Returns:
        (), NaN if there is no border, or none inside.
    """
    places = torch.arange(len(values), device=values.device)
    apart = (places[:, None] - lines.to(values.device)).abs()
    if wrap:
        apart = torch.minimum(apart, len(values) - apart)
    nearest = apart.amin(1) if len(lines) else torch.full_like(places, reach)
    return values[nearest == 0].nanmean() - values[nearest >= reach].nanmean()


def seam_error(change: Tensor, windows: Windows, reach: int = REACH) -> Tensor:
    """The seam error of an edit.

    Args:
        change: edited - source, (C, H, W).
        windows: in which it was edited.
        reach: b.

    Returns:
        (), about 0 where there is no seam; NaN if no axis has borders with lines inside.
    """
    rows, columns = borders(windows, (change.shape[-2], change.shape[-1]))
    of_columns = excess(steps(change, reach, windows.wrap), columns, reach, windows.wrap)
    of_rows = excess(steps(change.transpose(-2, -1), reach), rows, reach)
    values = torch.stack([of_rows, of_columns])
    weights = values.new_tensor([len(rows), len(columns)]) * ~values.isnan()
    return (values.nan_to_num() * weights).sum() / weights.sum()


@final
class SeamError(ArtefactMetric):
    """Mean step of edited - source across window borders minus that across other lines.

    0 where nothing was edited, where the edit is smooth, and where it varies alike everywhere;
    offsets between windows that lie side by side show in full. By chance it is a little above or
    below 0. Steps are between the means of 4 pixels on either side: :mod:`csd_lab.metrics.seams`.
    """

    basename = "seam_error"
    needs = (ONE_IMAGE,)
    unit = "of [0, 1]"
    higher_is_better = False
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0

    def _per_frame(self, artefact: Artefact) -> Tensor:
        change = artefact.edited[0] - artefact.task.source[0]
        return seam_error(change, windows_of(artefact.task))[None]
