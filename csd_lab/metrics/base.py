"""What all metrics share: what they need of an artefact, per-frame values, how those are pooled.

A metric is a pure function of tensors (beside it in its file) and a thin
:class:`torchmetrics.Metric` around it. ``per_frame(artefact)`` gives the values that statistics
want, ``value(artefact)`` the number of one artefact (local to the process), and ``update`` with
``compute`` the mean over many artefacts and over all processes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from csd_lab.notes import MetricNote
from csd_lab.types import Artefact, EditTask, Flow, Windows

RANGE_TOLERANCE = 1e-3
"""How far outside [0, 1] a frame may be (resampling overshoots); far less than a level of 255."""

PIXELS_AT_ONCE = 2**22
"""What a network takes at once at most, if it is more than one image: 16 of 512 x 512."""


class Need(NamedTuple):
    """Something that an artefact, or its task, must have for a metric to be defined.

    Attributes:
        text: completes "needs ...".
        met: whether an artefact has it; looks at shapes and never at pixels.
    """

    text: str
    met: Callable[[Artefact], bool]


def of_task(text: str, met: Callable[[EditTask], bool]) -> Need:
    """A need that the task alone decides about."""
    return Need(text, lambda artefact: met(artefact.task))


def _answers(task: EditTask) -> int:
    return 0 if task.targets is None else task.targets.shape[0]


ONE_IMAGE = of_task(
    "the windows of one large image",
    lambda task: task.windows is not None and task.source.shape[0] == 1,
)
TWO_FRAMES = of_task("at least two frames", lambda task: task.source.shape[0] >= 2)
ONE_ANSWER = of_task("exactly one known right answer", lambda task: _answers(task) == 1)
ANY_ANSWER = of_task("a known right answer", lambda task: _answers(task) >= 1)
SEVERAL_ANSWERS = of_task("several known right answers", lambda task: _answers(task) >= 2)
SOURCE_CAPTION = of_task("a caption of the source", lambda task: bool(task.source_caption))
TARGET_CAPTION = of_task(
    "a caption of the target",
    lambda task: bool(task.target_caption) or (_answers(task) >= 2 and bool(task.target_captions)),
)
FLOW = Need("the flow between neighbouring views", lambda artefact: artefact.flow is not None)


def minimum_size(pixels: int) -> Need:
    """Frames of at least ``pixels`` x ``pixels``, below which a window or a stage is empty."""
    return of_task(
        f"frames of at least {pixels} x {pixels} pixels",
        lambda task: min(task.source.shape[-2:]) >= pixels,
    )


def every_frame(values: Tensor) -> Tensor:
    """Pools over frames: a clip of 24 frames counts three times one of 8. (V,) -> (V,)."""
    return values


def clip_mean(values: Tensor) -> Tensor:
    """Pools over clips: the mean of each's defined values counts once. (V,) -> (1,)."""
    return values.nanmean(0, keepdim=True)


def clip_std(values: Tensor) -> Tensor:
    """The population standard deviation within a clip; clips count equally. (V,) -> (1,)."""
    return values.std(0, correction=0, keepdim=True)


def clip_rms(values: Tensor) -> Tensor:
    """The root mean square of a clip's defined values; clips count equally. (V,) -> (1,)."""
    return values.square().nanmean(0, keepdim=True).sqrt()


def check_frames(name: str, frames: Tensor) -> None:
    """Refuses what is not a batch of frames in [0, 1].

    Args:
        name: what to call the tensor in the message.
        frames: (..., 3, H, W).

    Raises:
        ValueError: wrong axes, integers, values that are not finite or outside [0, 1].
    """
    if frames.ndim < 4 or frames.shape[-3] != 3 or frames.numel() == 0:
        raise ValueError(f"{name} must be (..., 3, H, W) and not empty, got {tuple(frames.shape)}")
    if not frames.is_floating_point():
        raise ValueError(
            f"{name} must be floating point in [0, 1], got {frames.dtype}: divide by 255"
        )
    low, high = frames.aminmax()
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        raise ValueError(f"{name} must be finite, got NaN or infinity: the edit has diverged")
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise ValueError(
            f"{name} must lie in [0, 1], got [{float(low):.3g}, {float(high):.3g}]: clamp"
        )


def images_at_once(images: Tensor, most: int) -> int:
    """How many of these images, (B, 3, H, W), or pairs, to take at once: fewer if they are large.

    Args:
        images: of any number.
        most: how many small ones.
    """
    return max(1, min(most, PIXELS_AT_ONCE // (images.shape[-2] * images.shape[-1])))


def prepared(artefact: Artefact, device: torch.device) -> Artefact:
    """The artefact, checked, in float32 on ``device``; its own tensors where nothing changes.

    Raises:
        ValueError: frames out of range, or edited, source, targets and flow whose shapes do not
            go together.
    """
    edited, task, flow = artefact
    check_frames("edited", edited)
    check_frames("source", task.source)
    if edited.shape != task.source.shape:
        shapes = f"{tuple(edited.shape)} and {tuple(task.source.shape)}"
        raise ValueError(f"edited and source must have one shape (F, 3, H, W), got {shapes}")
    targets = task.targets
    if targets is not None:
        check_frames("targets", targets)
        if targets.shape[1:] != task.source.shape:
            shapes = f"{tuple(targets.shape)} for a source of {tuple(task.source.shape)}"
            raise ValueError(f"targets must be (A, F, 3, H, W), got {shapes}")
        if task.target_captions and len(task.target_captions) != targets.shape[0]:
            counts = f"{len(task.target_captions)} for {targets.shape[0]} targets"
            raise ValueError(f"target_captions must be empty or one for each target, got {counts}")
        targets = targets.to(device, torch.float32)
    source = task.source.to(device, torch.float32)
    task = task._replace(source=source, targets=targets)
    flow = None if flow is None else _prepared_flow(flow, source)
    return Artefact(edited.to(device, torch.float32), task, flow)


def _prepared_flow(flow: Flow, source: Tensor) -> Flow:
    """The flow, checked against the source, (F, 3, H, W), on its device; grid in float32."""
    count, _, height, width = source.shape
    places = (count - 1, height, width)
    if flow.grid.shape != (*places, 2) or flow.visible.shape != places:
        shapes = f"{tuple(flow.grid.shape)} and {tuple(flow.visible.shape)}"
        raise ValueError(
            f"grid and visible of flow must be (F - 1, H, W, 2) and (F - 1, H, W) for a source of "
            f"{tuple(source.shape)}, got {shapes}"
        )
    if flow.visible.dtype != torch.bool or not bool(flow.grid.isfinite().all()):
        raise ValueError(
            f"visible of flow must be bool and grid finite, got {flow.visible.dtype} and "
            f"{int((~flow.grid.isfinite()).sum())} values that are not: use 0 where not visible"
        )
    return Flow(flow.grid.to(source), flow.visible.to(source.device))


def windows_of(task: EditTask) -> Windows:
    """The windows of a task on one large image.

    Raises:
        ValueError: it has none.
    """
    if task.windows is None:
        raise ValueError(f"windows of task {task.name!r} must be known, got None")
    return task.windows


class ArtefactMetric(Metric, ABC):
    """A number that says how an artefact did, with its values frame by frame.

    A subclass states ``basename``, ``needs``, ``unit``, ``pool``, ``higher_is_better`` and the plot
    range, and implements ``_per_frame``. Values that are undefined are NaN: they are left out
    of every mean and counted in the state ``undefined``, never taken for 0.

    Over several artefacts: the mean of what ``pool`` makes of each one's per-frame values
    (``every_frame``: mean over all frames; ``clip_*``: mean over clips). NaN if nothing is
    defined. All states are sums, so any number of processes gives the result of one. In a
    ``MetricCollection`` pass ``compute_groups=False``: it takes metrics with equal sums for one.

    Args:
        tag: the backbone's name, which becomes part of the metric's: another backbone is another
            metric. "" for metrics that need no network.

    Attributes:
        name: ``basename`` or ``basename_tag``, such as ``psnr_target`` or ``clip_direction_l14``.
    """

    basename: str
    needs: tuple[Need, ...] = ()
    unit: str = ""
    pool: Callable[[Tensor], Tensor] = staticmethod(every_frame)

    is_differentiable = False
    full_state_update = False

    total: Tensor
    count: Tensor
    undefined: Tensor

    def __init__(self, tag: str = "") -> None:
        super().__init__()
        self.name = f"{self.basename}_{tag}" if tag else self.basename
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("undefined", torch.tensor(0.0), dist_reduce_fx="sum")

    @property
    def note(self) -> MetricNote:
        """What a reader must know of it."""
        meaning = (self.__doc__ or "").strip().split("\n")[0].replace("``", "")
        return MetricNote(meaning, self.higher_is_better, self.unit)

    def missing(self, artefact: Artefact) -> str:
        """Why the metric is not defined for an artefact, as "needs ..."; "" where it is."""
        lacks = [need.text for need in self.needs if not need.met(artefact)]
        return f"needs {' and '.join(lacks)}" if lacks else ""

    def applies_to(self, artefact: Artefact) -> bool:
        """Whether the artefact has all that the metric needs."""
        return not self.missing(artefact)

    @abstractmethod
    def _per_frame(self, artefact: Artefact) -> Tensor:
        """The values of a prepared artefact that the metric applies to: (F,) or (F - 1,)."""

    @torch.no_grad()
    def per_frame(self, artefact: Artefact) -> Tensor:
        """The metric frame by frame, undefined values as NaN.

        Returns:
            (F,), or (F - 1,) for metrics of neighbouring frames; float32 on the metric's device.

        Raises:
            ValueError: the metric does not apply to the artefact, or this is malformed.
        """
        if lacks := self.missing(artefact):
            raise ValueError(f"{self.name} does not apply to {artefact.task.name!r}: it {lacks}")
        return self._per_frame(prepared(artefact, self.device)).to(self.device)

    def value(self, artefact: Artefact) -> Tensor:
        """The metric of one artefact, 0-d, without touching the states or other processes."""
        return self.pool(self.per_frame(artefact)).nanmean()

    def update(self, artefact: Artefact) -> None:
        """Takes one artefact in.

        Raises:
            ValueError: see :meth:`per_frame`.
        """
        values = self.pool(self.per_frame(artefact))
        defined = ~values.isnan()
        self.total += values.nansum()
        self.count += defined.sum()
        self.undefined += (~defined).sum()

    def compute(self) -> Tensor:
        """The mean over all that was taken in, in all processes, 0-d; NaN if nothing is defined."""
        return self.total / self.count

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draws ``val``, or what :meth:`compute` gives, between the plot bounds with matplotlib.

        Returns:
            Figure and axes.
        """
        return self._plot(val, ax)
