"""What is compared: clips, panoramas, prompts in regions, and the parts of CSD-Edit."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from csd_lab import world
from csd_lab.canvas import region_masks
from csd_lab.data import EditData, WorldClip, WorldPanorama, read_regions
from csd_lab.metrics.fidelity import frame_psnr
from csd_lab.types import Artefact

from .cells import Cell

Overrides = Mapping[str, tuple[str, ...]]
"""Config overrides by the name that a method has in tables."""

Labelled = Mapping[str, tuple[str, tuple[str, ...]]]
"""The same, each with what readers are told it is."""

METHODS: Overrides = {
    "csd_edit_best": (),
    "identity": ("kernel=identity",),
    "ip2p": ("method=ip2p",),
    "ip2p_shared": ("method=ip2p", "method.noise=shared"),
}

VIDEO_METHODS: Labelled = {
    "csd_edit_best": ("CSD-Edit", METHODS["csd_edit_best"]),
    "csd_edit_short": (
        "CSD-Edit, half the steps, 1.5 x as long",
        ("trainer.max_steps=30", "optimizer.optimizer.lr=3.0"),
    ),
    "csd_edit": ("CSD-Edit, as in the paper", ("method=csd_edit",)),
    "identity": ("CSD-Edit without a kernel", METHODS["identity"]),
    "sds": ("SDS", ("method=sds",)),
    "pds": ("PDS", ("method=pds",)),
    "vsd": ("VSD", ("method=vsd",)),
    "ip2p": ("Instruct-Pix2Pix", METHODS["ip2p"]),
    "ip2p_shared": ("Instruct-Pix2Pix, one noise", METHODS["ip2p_shared"]),
    "prompt_to_prompt": ("Prompt-to-Prompt", ("method=prompt_to_prompt",)),
    "fatezero": ("FateZero", ("method=fatezero",)),
    "pix2video": ("Pix2Video, without depth", ("method=pix2video",)),
}

PANORAMA_METHODS: Labelled = {
    "csd_edit_best": ("CSD-Edit", METHODS["csd_edit_best"]),
    "ip2p": ("Instruct-Pix2Pix", METHODS["ip2p"]),
    "multidiffusion": ("MultiDiffusion", ("method=multidiffusion",)),
    "synctweedies": ("SyncTweedies", ("method=synctweedies",)),
}

ABLATIONS: Labelled = {
    "csd_edit_best": ("CSD-Edit", ()),
    "kernel_identity": ("no kernel", ("kernel=identity",)),
    "kernel_mean": ("kernel of ones", ("kernel=mean",)),
    "kernel_imq": ("inverse multiquadric", ("kernel=imq",)),
    "bandwidth_1": ("bandwidth x 1", ("kernel=rbf_paper",)),
    "bandwidth_4": ("bandwidth x 4", ("kernel.bandwidth.scale=4.0",)),
    "bandwidth_official": (
        "official bandwidth",
        ("kernel.bandwidth.rule=official", "kernel.bandwidth.scale=1.0"),
    ),
    "kernel_clean": ("kernel of clean estimates", ("method.distiller.kernel_space=clean",)),
    "repulsion_0": ("no repulsion", ("method.distiller.repulsion=0.0",)),
    "repulsion_sigma": ("repulsion times b_t", ("method.distiller.repulsion_scale=sigma",)),
    "normalize_n": ("divided by N", ("method.distiller.normalize=n",)),
    "shared_noise": ("one noise for all", ("method.noise=shared",)),
    "against_noise": ("against the noise (CSD)", ("method=csd",)),
    "uniform_t": ("t uniform to 980", ("method.timesteps.final=981",)),
    "uniform_t_to_500": (
        "t uniform to 500",
        ("method.timesteps.high=501", "method.timesteps.final=501"),
    ),
    "adam": ("Adam", ("optimizer=adam",)),
    "momentum": (
        "momentum 0.8",
        ("optimizer.optimizer.lr=0.4", "+optimizer.optimizer.momentum=0.8"),
    ),
    "steps_30": ("half the steps", ("trainer.max_steps=30",)),
    "steps_30_lr_3": (
        "half the steps, 1.5 x as long",
        ("trainer.max_steps=30", "optimizer.optimizer.lr=3.0"),
    ),
}


class Subject(NamedTuple):
    """A comparison.

    Attributes:
        edits_of: the edits that the scene of a seed allows.
        data_of: the task of a cell.
        metrics: to show, each with whether higher is better.
        methods: by name, the one to compare with first.
        overrides: of the config, for all methods.
        settings_of: what of the config a cell sets besides.
        more_metrics: of a cell, given what came out, besides those of the config.
    """

    edits_of: Callable[[int], Sequence[world.Edit]]
    data_of: Callable[[Cell], EditData]
    metrics: Mapping[str, bool]
    methods: Overrides
    overrides: tuple[str, ...] = ()
    settings_of: Callable[[Cell], Mapping[str, Any]] = lambda cell: {}  # noqa: ARG005
    more_metrics: Callable[[Cell, Artefact], dict[str, float]] = lambda cell, artefact: {}  # noqa: ARG005


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


WHOLE = ("sky", "ground", "season", "night", "look")
"""Families of edits that change a panorama from one end to the other."""

TWO_BOXES = ((0.0, 0.4), (0.6, 1.0))
"""From the left to the right, as shares of the width; what lies between follows no prompt."""

THREE_BOXES = ((0.0, 0.3), (0.36, 0.64), (0.7, 1.0))


def panorama_regions(width: int, methods: Overrides) -> Subject:
    """Panoramas of this width, 64 pixels high, with two prompts (even scenes) or three (odd ones).

    The instruction of a cell holds in the left region, and others of the same scene, drawn with it,
    in the others. What no region covers is to stay as it is.
    """

    def edits_of(seed: int) -> list[world.Edit]:
        edits = world.edits_for(world.sample_panorama(seed, width / 64), plural=True)
        return [edit for edit in edits if edit.family in WHOLE and not edit.many]

    def settings_of(cell: Cell) -> dict[str, Any]:
        names = sorted(edit.instruction for edit in edits_of(cell.scene))
        boxes = THREE_BOXES if cell.scene % 2 else TWO_BOXES
        rng = np.random.default_rng([cell.scene, names.index(cell.instruction)])
        names.remove(cell.instruction)
        prompts = [cell.instruction, *map(str, rng.choice(names, len(boxes) - 1, replace=False))]
        return {
            "regions": [
                {"prompt": prompt, "box": [0.0, left, 1.0, right]}
                for prompt, (left, right) in zip(prompts, boxes, strict=True)
            ]
        }

    def data_of(cell: Cell) -> WorldPanorama:
        regions = read_regions(settings_of(cell)["regions"])
        return WorldPanorama(cell.scene, width=width, regions=regions)

    def more_metrics(cell: Cell, artefact: Artefact) -> dict[str, float]:
        assert artefact.task.targets is not None  # the world knows the answer
        areas = [region.area for region in data_of(cell).regions]
        height, wide = artefact.edited.shape[2:]
        between = region_masks(areas, height, wide)[-1, 0] == 1
        inside = region_masks(areas, height, wide)[-1, 0] == 0
        edited, target = artefact.edited, artefact.task.targets[0]
        return {
            "psnr_regions": _psnr(edited, target, inside),
            "psnr_between": _psnr(edited, target, between),
        }

    return Subject(
        edits_of=edits_of,
        data_of=data_of,
        metrics={
            "psnr_target": True,
            "psnr_regions": True,
            "psnr_between": True,
            "ssim_target": True,
            "seam_error": False,
            "saturation": True,
            "seconds": False,
            "samples": False,
        },
        methods=methods,
        overrides=("data=world_panorama",),
        settings_of=settings_of,
        more_metrics=more_metrics,
    )


def _psnr(edited: Tensor, target: Tensor, columns: Tensor) -> float:
    """PSNR of some columns of an image, (1, 3, H, W), dB."""
    return float(frame_psnr(edited[..., columns], target[..., columns]))
