"""All metrics of a run, with the networks that they share."""

from collections.abc import Callable, Mapping
from typing import TypeVar, final

from torch import nn

from csd_lab.metrics.base import ArtefactMetric, prepared
from csd_lab.metrics.encoders import ClipEncoder
from csd_lab.metrics.memory import remembering
from csd_lab.metrics.perceptual import PerceptualDistance
from csd_lab.types import Artefact

Network = TypeVar("Network")


@final
class MetricSuite(nn.Module):
    """Named metrics around one CLIP encoder and one perceptual distance.

    Names in the results carry the backbone (``clip_direction_tiny``, ``lpips_source_alex``), so
    that another network gives another column, never other numbers under the same name.

    Args:
        plain: metrics that need no network, by name.
        clip: the encoder of all CLIP metrics; None if there are none.
        clip_metrics: by name, what makes a metric from the encoder (the class itself, say).
        perceptual: the distance of all perceptual metrics; None if there are none.
        perceptual_metrics: by name, what makes a metric from the distance.

    Attributes:
        metrics: the metrics by their full names, in the order of the arguments.

    Raises:
        ValueError: a name that is not the metric's own, or metrics without their network.
    """

    def __init__(
        self,
        plain: Mapping[str, ArtefactMetric] | None = None,
        clip: ClipEncoder | None = None,
        clip_metrics: Mapping[str, Callable[[ClipEncoder], ArtefactMetric]] | None = None,
        perceptual: PerceptualDistance | None = None,
        perceptual_metrics: Mapping[str, Callable[[PerceptualDistance], ArtefactMetric]]
        | None = None,
    ) -> None:
        super().__init__()
        named = dict(plain or {})
        named |= _built("clip", clip, clip_metrics or {})
        named |= _built("perceptual", perceptual, perceptual_metrics or {})
        for key, metric in named.items():
            if key != metric.basename:
                raise ValueError(f"metric {key!r} must be called {metric.basename!r}, as its class")
        self.metrics: dict[str, ArtefactMetric] = {}
        self.metrics.update((metric.name, metric) for metric in named.values())
        self._modules_of_metrics = nn.ModuleList(self.metrics.values())

    def evaluate(self, artefact: Artefact) -> dict[str, float]:
        """Every metric that applies, of one artefact, by full name.

        Local to the process: nothing is synchronised, no state of a metric changes. A metric that
        applies but is undefined (the direction of an unchanged clip) is NaN.

        Raises:
            ValueError: malformed artefact: shapes, range, values that are not finite.
        """
        with remembering():
            applicable = [m for m in self.metrics.values() if m.applies_to(artefact)]
            if applicable:
                artefact = prepared(artefact, applicable[0].device)
            return {metric.name: float(metric.value(artefact)) for metric in applicable}

    def skipped(self, artefact: Artefact) -> dict[str, str]:
        """The metrics that do not apply to an artefact, by full name, each with the reason."""
        reasons = {name: metric.missing(artefact) for name, metric in self.metrics.items()}
        return {name: reason for name, reason in reasons.items() if reason}


def _built(
    what: str,
    network: Network | None,
    makers: Mapping[str, Callable[[Network], ArtefactMetric]],
) -> dict[str, ArtefactMetric]:
    if network is None and makers:
        raise ValueError(f"{what} must be given for the metrics {list(makers)}, got None")
    return {} if network is None else {key: make(network) for key, make in makers.items()}
