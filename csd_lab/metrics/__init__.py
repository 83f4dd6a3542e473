"""Metrics of edits: torchmetrics classes around pure functions, and the networks that they use."""

from csd_lab.metrics.answers import Agreement
from csd_lab.metrics.base import ArtefactMetric
from csd_lab.metrics.clip import (
    ClipAllPairs,
    ClipConsecutive,
    ClipDirection,
    ClipImage,
    ClipText,
    DirConsEdit,
    DirConsFrame,
)
from csd_lab.metrics.colour import Saturation, SaturationAnswer
from csd_lab.metrics.encoders import ClipEncoder, OpenClip
from csd_lab.metrics.fidelity import (
    ColourSpread,
    ErrorSpread,
    PsnrAnswer,
    PsnrTarget,
    SsimTarget,
)
from csd_lab.metrics.perceptual import (
    ClipFeatureDistance,
    Lpips,
    LpipsConsecutive,
    LpipsSource,
    PerceptualDistance,
    perceptual_distance,
)
from csd_lab.metrics.seams import SeamError
from csd_lab.metrics.suite import MetricSuite
from csd_lab.metrics.warped import WarpedLpips, WarpedRmse, WarpedVisible
from csd_lab.metrics.windows import IntraLpips, OverWindows, over_windows

__all__ = [
    "Agreement",
    "ArtefactMetric",
    "ClipAllPairs",
    "ClipConsecutive",
    "ClipDirection",
    "ClipEncoder",
    "ClipFeatureDistance",
    "ClipImage",
    "ClipText",
    "ColourSpread",
    "DirConsEdit",
    "DirConsFrame",
    "ErrorSpread",
    "IntraLpips",
    "Lpips",
    "LpipsConsecutive",
    "LpipsSource",
    "MetricSuite",
    "OpenClip",
    "OverWindows",
    "PerceptualDistance",
    "PsnrAnswer",
    "PsnrTarget",
    "Saturation",
    "SaturationAnswer",
    "SeamError",
    "SsimTarget",
    "WarpedLpips",
    "WarpedRmse",
    "WarpedVisible",
    "over_windows",
    "perceptual_distance",
]
