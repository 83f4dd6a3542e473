"""What a reader must know of a metric. Imports nothing of the package."""

from typing import NamedTuple


class MetricNote(NamedTuple):
    """What a reader must know of a metric.

    Attributes:
        meaning: one line.
        higher_is_better: None where neither direction is better.
        unit: of the value.
    """

    meaning: str = ""
    higher_is_better: bool | None = None
    unit: str = ""

    @property
    def arrow(self) -> str:
        """The direction that is better, as an arrow; "" where neither is."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def better(self) -> str:
        """The same as a word: higher, lower, or ""."""
        return {True: "higher", False: "lower", None: ""}[self.higher_is_better]
