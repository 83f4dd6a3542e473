"""Collaborative Score Distillation: many images edited or generated as one.

::

    config = csd_lab.compose("data.path=clip.mp4", "prompt=make it sepia")
    frames = csd_lab.edit(config).result.edited  # (F, 3, H, W), in [0, 1]

These are imported when they are first asked for, since they bring all of the package with them;
its parts can be used without it, such as :mod:`csd_lab.distill` on plain tensors.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csd_lab.editing import Edit, compose, edit

__version__ = "0.1.0"
__all__ = ["Edit", "__version__", "compose", "edit"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from csd_lab import editing

    return getattr(editing, name)
