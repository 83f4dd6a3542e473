"""Metrics by the names that a search gives them."""

from collections.abc import Mapping, Sequence


def objective_values(
    setting: str, names: Sequence[str], metrics: Mapping[str, float | None]
) -> list[float] | None:
    """The values of objectives among a job's final metrics.

    Args:
        setting: what names them, for the error.
        names: each a metric's name, or that name without its backbone, ``clip_direction`` for
            ``clip_direction_l14``, if this leaves one metric.
        metrics: of the job; None where one is undefined.

    Returns:
        As many as names; None if one is undefined.

    Raises:
        ValueError: if there is no such metric, or several.
    """
    values = []
    for name in names:
        longer = [metric for metric in metrics if metric.startswith(f"{name}_")]
        named = [name] if name in metrics else longer
        if len(named) != 1:
            raise ValueError(
                f"{setting} must name metrics of the jobs, out of "
                f"{', '.join(longer or metrics) or 'none'}, got {name!r}."
            )
        values.append(metrics[named[0]])
    found = [float(value) for value in values if value is not None]
    return found if len(found) == len(names) else None
