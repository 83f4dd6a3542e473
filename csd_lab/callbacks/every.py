"""Whose turn it is: what callbacks do each so many steps."""

from csd_lab.checks import is_whole


def check_every(every: int | None) -> None:
    """Raises ValueError unless ``every`` is a whole number of at least 1, or None for never."""
    if every is not None and not is_whole(every):
        raise ValueError(f"every must be at least 1 step, or null for never, got {every!r}.")


def is_turn(step: int, every: int | None) -> bool:
    """Whether a step is one of each ``every``; never for None."""
    return every is not None and step % every == 0
