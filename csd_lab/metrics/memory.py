"""What several metrics of one artefact need is computed once."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Result = TypeVar("Result")

_memory: ContextVar[dict[tuple[Any, ...], tuple[Any, Any]] | None] = ContextVar(
    "csd_lab_metrics_memory", default=None
)


@contextmanager
def remembering() -> Iterator[None]:
    """Inside, :func:`once` computes nothing twice; all is forgotten at the end.

    Tensors must not change in place meanwhile.
    """
    before = _memory.set({})
    try:
        yield
    finally:
        _memory.reset(before)


def once(what: Hashable, of: tuple[object, ...], compute: Callable[[], Result]) -> Result:
    """What ``compute`` gives, or gave for the same objects inside :func:`remembering`.

    Args:
        what: is computed.
        of: the objects that it follows from; the same ones, not equal ones.
        compute: does it.
    """
    memory = _memory.get()
    if memory is None:
        return compute()
    key = (what, *map(id, of))
    if key not in memory:
        memory[key] = of, compute()  # the objects are kept, so that no other takes their ids
    result: Result = memory[key][1]
    return result
