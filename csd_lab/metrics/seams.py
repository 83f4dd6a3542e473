r"""Seams: steps in the edit that stand where windows end, and nowhere else.

With d = edited - source (a seam of the source is none of the edit's), a reach of b pixels, and
lines cut into stretches k of about 2 b pixels, the step across the line between columns x - 1 and
x is

.. math::
    g_d(x, k) = \mathrm{mean}_{c} \Big| \mathrm{mean}_{y \in k} \Big(
        \frac1b \sum_{i=0}^{b-1} d_{c,y,x+i} - \frac1b \sum_{i=1}^{b} d_{c,y,x-i} \Big) \Big|

(b = 1 is the gradient; more sees a seam that a decoder has blurred, or that is itself a narrow
line). An eye sees a seam where the source is smooth, while the change of a textured place is as
rough as its texture: means over stretches leave what keeps its sign along a line, and places count
where the step of the source is below 0.04 in every channel, and no others.

Borders are the lines at which a window begins or ends, except the image's own edge; of a ring also
the join, x = 0, where columns are counted round. Inside are the lines at least b from every border.
The seam error along one axis is the mean of g over places of borders minus the mean of g over those
of lines inside; that of an image is the mean of both axes, weighted with their numbers of borders.
"""

from typing import final

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from csd_lab.metrics.base import ONE_IMAGE, ArtefactMetric, of_task, windows_of
from csd_lab.types import Artefact, Windows

REACH = 4
"""Pixels that are compared on either side of a line."""

FIXED = of_task(
    "windows that lie where they are in every step (modality.shift=false)",
    lambda task: task.windows is None or not task.windows.moving,
)
"""Windows that move have no borders to look at, and leave steps everywhere or nowhere."""

SMOOTH = 0.04
"""Steps of the source below this, in [0, 1], do not hide one of the edit."""


def steps(image: Tensor, reach: int = REACH, wrap: bool = False) -> Tensor:
    """The steps across each line between two columns, stretch by stretch, with their signs.

    Args:
        image: (C, H, W).
        reach: b.
        wrap: whether columns are counted round.

    Returns:
        (C, K, W), with K = max(1, floor(H / 2 b)) stretches; NaN for lines closer than b to an
        edge.
    """
    height, width = image.shape[-2:]
    parts = image.tensor_split(max(1, height // (2 * reach)), dim=-2)
    along = torch.stack([part.mean(-2) for part in parts], dim=-2)
    if not wrap and width < 2 * reach:
        return torch.full_like(along, torch.nan)
    around = pad(along, (reach, reach), mode="circular") if wrap else along
    means = avg_pool2d(around, (1, reach), stride=1)
    known = means[..., reach:] - means[..., :-reach]
    return known[..., :width] if wrap else pad(known, (reach, reach - 1), value=torch.nan)


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


def excess(
    values: Tensor, counted: Tensor, lines: Tensor, reach: int = REACH, wrap: bool = False
) -> Tensor:
    """How much larger the steps are at borders than inside.

    Args:
        values: g, (K, W).
        counted: the places that count, (K, W), bool.
        lines: borders, (L,).
        reach: b.
        wrap: whether lines are counted round.

    Returns:
        (), NaN if no place counts at a border, or none inside.
    """
    places = torch.arange(values.shape[-1], device=values.device)
    apart = (places[:, None] - lines.to(values.device)).abs()
    if wrap:
        apart = torch.minimum(apart, len(places) - apart)
    nearest = apart.amin(1) if len(lines) else torch.full_like(places, reach)
    at_border, inside = counted & (nearest == 0), counted & (nearest >= reach)
    return values[at_border].mean() - values[inside].mean()


def seam_error(change: Tensor, source: Tensor, windows: Windows, reach: int = REACH) -> Tensor:
    """The seam error of an edit.

    Args:
        change: edited - source, (C, H, W).
        source: (C, H, W), in [0, 1].
        windows: in which it was edited.
        reach: b.

    Returns:
        (), about 0 where there is no seam; NaN if no axis has places of borders and of lines
        inside.
    """

    def along_columns(change: Tensor, source: Tensor, lines: Tensor, wrap: bool) -> Tensor:
        values = steps(change, reach, wrap).abs().mean(0)
        counted = steps(source, reach, wrap).abs().amax(0) < SMOOTH  # never where undefined
        return excess(values, counted, lines, reach, wrap)

    rows, columns = borders(windows, (change.shape[-2], change.shape[-1]))
    of_columns = along_columns(change, source, columns, windows.wrap)
    of_rows = along_columns(change.transpose(-2, -1), source.transpose(-2, -1), rows, False)
    values = torch.stack([of_rows, of_columns])
    weights = values.new_tensor([len(rows), len(columns)]) * ~values.isnan()
    return (values.nan_to_num() * weights).sum() / weights.sum()


@final
class SeamError(ArtefactMetric):
    """Mean step of edited - source across window borders minus that across other lines.

    Of what keeps its sign along a line, where the source is smooth. 0 where nothing was edited,
    where the edit is smooth, and where it varies alike everywhere; offsets between windows that lie
    side by side show in full. By chance it is a little above or below 0. Steps are between the
    means of 4 pixels on either side: :mod:`csd_lab.metrics.seams`.
    """

    basename = "seam_error"
    needs = (ONE_IMAGE, FIXED)
    unit = "of [0, 1]"
    higher_is_better = False
    plot_lower_bound = -1.0
    plot_upper_bound = 1.0

    def _per_frame(self, artefact: Artefact) -> Tensor:
        change = artefact.edited[0] - artefact.task.source[0]
        return seam_error(change, artefact.task.source[0], windows_of(artefact.task))[None]
