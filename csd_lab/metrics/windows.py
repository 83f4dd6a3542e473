"""One large image, measured window by window: crops beside each other, as if they were frames.

Crops have the size of the run's windows. They lie side by side from the top left corner, without
overlap; what remains at the right and lower edge belongs to none. So they do not depend on how
densely the run's own windows lie, and edits of one image can be compared.
"""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from csd_lab.metrics.base import (
    ONE_IMAGE,
    ArtefactMetric,
    Need,
    images_at_once,
    of_task,
    windows_of,
)
from csd_lab.metrics.memory import once
from csd_lab.metrics.perceptual import SMALLEST, DistanceMetric
from csd_lab.types import Artefact, Windows

MOST_CROPS = 16
"""Crops between which distances are measured at most: 120 pairs."""


def crop_size(windows: Windows) -> tuple[int, int]:
    """Height and width of the largest window, in pixels."""
    top, left, bottom, right = windows.boxes.unbind(1)
    return int((bottom - top).max()), int((right - left).max())


def crops(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Crops side by side, row by row, from the top left corner.

    Args:
        image: (..., H, W).
        size: height h and width w of a crop.

    Returns:
        (..., K, h, w), with K = floor(H / h) floor(W / w).
    """
    (height, width), (rows, columns) = (
        size,
        (image.shape[-2] // size[0], image.shape[-1] // size[1]),
    )
    whole = image[..., : rows * height, : columns * width]
    parts = whole.unflatten(-1, (columns, width)).unflatten(-3, (rows, height)).transpose(-3, -2)
    return parts.flatten(-4, -3)


def as_clip(artefact: Artefact) -> Artefact:
    """An artefact of one large image as one of its crops, which take the place of frames.

    Args:
        artefact: edited and source (1, 3, H, W) and targets (A, 1, 3, H, W), with windows.

    Raises:
        ValueError: if it has no windows.
    """
    task = artefact.task
    size = crop_size(windows_of(task))
    targets = None if task.targets is None else _frames(task.targets, size)
    clip = task._replace(source=_frames(task.source, size), targets=targets, windows=None)
    return Artefact(_frames(artefact.edited, size), clip)


def _frames(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images, (..., 1, 3, H, W), as clips of crops, (..., K, 3, h, w)."""
    return crops(images.squeeze(-4), size).movedim(-3, -4).contiguous()


def _shape_only(artefact: Artefact) -> Artefact:
    """The artefact with images that have a size and no pixels."""
    task = artefact.task
    targets = None if task.targets is None else task.targets.to("meta")
    task = task._replace(source=task.source.to("meta"), targets=targets)
    return Artefact(artefact.edited.to("meta"), task)


def _crop_count(artefact: Artefact) -> int:
    return len(as_clip(_shape_only(artefact)).edited) if artefact.task.windows is not None else 0


TWO_CROPS = Need("room for two windows side by side", lambda artefact: _crop_count(artefact) >= 2)
LARGE_CROPS = of_task(
    f"windows of at least {SMALLEST} x {SMALLEST} pixels",
    lambda task: task.windows is None or min(crop_size(task.windows)) >= SMALLEST,
)


@final
class IntraLpips(DistanceMetric):
    """Mean perceptual distance over all pairs of crops of the edited image.

    As SyncDiffusion (Lee et al. 2023, arXiv 2306.05178) measures the coherence of panoramas: crops
    of the window's size side by side, LPIPS of each pair, the plain mean. Of more than 16 crops,
    16 spread evenly over them are taken. How much the source itself varies is part of it: compare
    only edits of one image, and read it beside a metric of the edit, since plain grey gives 0.
    """

    basename = "intra_lpips"
    needs = (ONE_IMAGE, TWO_CROPS, LARGE_CROPS)

    def _per_frame(self, artefact: Artefact) -> Tensor:
        clip = as_clip(artefact).edited
        if len(clip) > MOST_CROPS:
            clip = clip[torch.linspace(0, len(clip) - 1, MOST_CROPS).round().long()]
        first, second = torch.combinations(torch.arange(len(clip), device=clip.device)).unbind(1)
        size = images_at_once(clip, self.distance.max_batch)  # of pairs, whose crops are copied
        parts = zip(first.split(size), second.split(size), strict=True)
        distances = [self.distance(clip[some], clip[others]) for some, others in parts]
        return torch.cat(distances).mean(0, keepdim=True)


@final
class OverWindows(ArtefactMetric):
    """A metric of clips on one large image, whose crops it takes for the frames.

    ``error_spread`` becomes the spread of the error over windows, ``agreement`` says whether all
    windows gave the same one of several right answers, CLIP sees windows instead of a panorama
    squeezed into its square.

    Args:
        metric: of clips; its name is put behind "window".
    """

    basename = "window"

    def __init__(self, metric: ArtefactMetric) -> None:
        super().__init__()
        self.metric = metric
        self.basename = f"window_{metric.basename}"
        self.name = f"window_{metric.name}"
        self.unit = metric.unit
        self.pool = metric.pool
        self.needs = (ONE_IMAGE, *(_in_crops(need) for need in metric.needs))
        first_line = (metric.__doc__ or "").strip().split("\n")[0]
        self.__doc__ = f"Windows side by side for frames: {first_line}"

    @property
    def higher_is_better(self) -> bool | None:  # type: ignore[override]
        """As of the metric."""
        return self.metric.higher_is_better

    @property
    def plot_lower_bound(self) -> float | None:  # type: ignore[override]
        """As of the metric."""
        return self.metric.plot_lower_bound

    @property
    def plot_upper_bound(self) -> float | None:  # type: ignore[override]
        """As of the metric."""
        return self.metric.plot_upper_bound

    def _per_frame(self, artefact: Artefact) -> Tensor:
        images = artefact.edited, artefact.task.source, artefact.task.targets
        clip = once("windows side by side", images, lambda: as_clip(artefact))
        return self.metric._per_frame(clip)


def over_windows(network: nn.Module, metric: Callable[[Any], ArtefactMetric]) -> OverWindows:
    """:class:`OverWindows` of a metric that needs a network.

    Args:
        network: a CLIP or a perceptual distance.
        metric: makes the metric from it.
    """
    return OverWindows(metric(network))


def _in_crops(need: Need) -> Need:
    """A need of clips, asked of the crops of an image; met if there are none to ask."""
    return Need(
        f"{need.text} (here windows side by side)",
        lambda artefact: artefact.task.windows is None or need.met(as_clip(_shape_only(artefact))),
    )
