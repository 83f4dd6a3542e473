"""What is compared: clips, panoramas, and the parts of CSD-Edit."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from csd_lab import world
from csd_lab.data import EditData, WorldClip, WorldPanorama

from .cells import Cell

Overrides = Mapping[str, tuple[str, ...]]
"""Config overrides by the name that a method has in tables."""

METHODS: Overrides = {
    "csd_edit": (),
    "identity": ("kernel=identity", "method.distiller.normalize=row"),
    "ip2p": ("method=ip2p",),
    "ip2p_shared": ("method=ip2p", "method.noise=shared"),
}


class Subject(NamedTuple):
    """A comparison.

    Attributes:
        edits_of: the edits that the scene of a seed allows.
        data_of: the task of a cell.
        metrics: to show, each with whether higher is better.
        methods: by name, the one to compare with first.
        overrides: of the config, for all methods.
    """

    edits_of: Callable[[int], Sequence[world.Edit]]
    data_of: Callable[[Cell], EditData]
    metrics: Mapping[str, bool]
    methods: Overrides
    overrides: tuple[str, ...] = ()


def clips(frames: int, methods: Overrides) -> Subject:
    """Clips of this many frames."""
    return Subject(
        edits_of=lambda seed: world.edits_for(world.sample_scene(seed)),
        data_of=lambda cell: WorldClip(cell.scene, cell.instruction, frames=frames),
        metrics={
            "clip_direction_tiny": True,
            "psnr_target": True,
            "error_spread": False,
            "clip_consecutive_tiny": True,
            "lpips_consecutive_tiny": False,
            "agreement": True,
            "psnr_answer": True,
            "colour_spread": False,
            "saturation": True,
            "seconds": False,
            "samples": False,
        },
        methods=methods,
    )


def panoramas(width: int, ring: bool, methods: Overrides) -> Subject:
    """Panoramas of this width, 64 pixels high."""

    def edits_of(seed: int) -> tuple[world.Edit, ...]:
        return world.edits_for(world.sample_panorama(seed, width / 64, ring), plural=True)

    return Subject(
        edits_of=edits_of,
        data_of=lambda cell: WorldPanorama(cell.scene, cell.instruction, width=width, wrap=ring),
        metrics={
            "clip_direction_tiny": True,
            "clip_image_tiny": True,
            "psnr_target": True,
            "psnr_answer": True,
            "window_agreement": True,
            "window_error_spread": False,
            "window_colour_spread": False,
            "seam_error": False,
            "intra_lpips_tiny": False,
            "saturation": True,
            "seconds": False,
            "samples": False,
        },
        methods=methods,
        overrides=("data=world_panorama",),
    )
