"""What is compared: clips, panoramas, prompts in regions, and the parts of CSD-Edit."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from csd_lab import world
from csd_lab.canvas import region_masks
from csd_lab.data import EditData, WorldClip, WorldPanorama, read_regions
from csd_lab.metrics.fidelity import frame_psnr
from csd_lab.types import Artefact, Windows

from .bench import AUTOENCODED, UNCHANGED, Bench
from .cells import Cell, Edit
from .reconstructions import reconstructed

Overrides = Mapping[str, tuple[str, ...]]
"""Config overrides by the name that a method has in tables."""

Labelled = Mapping[str, tuple[str, tuple[str, ...]]]
"""The same, each with what readers are told it is."""


def overrides_of(labelled: Labelled) -> Overrides:
    """Config overrides by name."""
    return {name: overrides for name, (_, overrides) in labelled.items()}


def labels_of(labelled: Labelled) -> dict[str, str]:
    """What readers are told, by name."""
    return {name: label for name, (label, _) in labelled.items()}


METHODS: Overrides = {
    "csd_edit_best": (),
    "identity": ("kernel=identity",),
    "ip2p": ("method=ip2p",),
    "ip2p_shared": ("method=ip2p", "method.noise=shared"),
}

SIGMA_SQUARED = (
    "method.weight._target_=csd_lab.distill.SigmaSquared",
    "optimizer.optimizer.lr=2.0",
)
"""The paper's weight, with the largest learning rate with which no step goes too far."""

TWICE = (*SIGMA_SQUARED, "trainer.max_steps=60")
"""The same, for which twice the steps are better."""

LOOKS_INSIDE = ("prior.compile=false", "guidance.text=2.0")
"""Of methods that change attention, which a compiled network does not show; with their best scale
of text guidance (scripts/tune_methods.py), as that of others where it is not 3."""

REFERENCE_ROWS: Labelled = {
    UNCHANGED: ("the source, unchanged", ()),
    AUTOENCODED: ("an exact answer, autoencoded", ()),
}

VIDEO_METHODS: Labelled = {
    "csd_edit_best": ("CSD-Edit", METHODS["csd_edit_best"]),
    "sigma_squared_60": ("CSD-Edit, twice the steps, with the paper's weight", TWICE),
    "csd_edit": ("CSD-Edit, official timesteps, weight, bandwidth", ("method=csd_edit",)),
    "identity": ("CSD-Edit without a kernel", METHODS["identity"]),
    "sds": ("SDS, the paper's weight", ("method=sds", *TWICE)),
    "pds": ("PDS", ("method=pds", "guidance.text=5.0")),
    "vsd": ("VSD", ("method=vsd",)),
    "ip2p": ("Instruct-Pix2Pix", METHODS["ip2p"]),
    "ip2p_shared": ("Instruct-Pix2Pix, one noise", METHODS["ip2p_shared"]),
    "prompt_to_prompt": ("Prompt-to-Prompt", (*LOOKS_INSIDE, "method=prompt_to_prompt")),
    "fatezero": ("FateZero", (*LOOKS_INSIDE, "method=fatezero")),
    "pix2video": ("Pix2Video, without depth", (*LOOKS_INSIDE, "method=pix2video")),
}

MORE_VIDEO_METHODS: Labelled = {
    "ip2p_shared_50": (
        "Instruct-Pix2Pix, one noise, 50 steps",
        (*METHODS["ip2p_shared"], "trainer.max_steps=50"),
    ),
    **REFERENCE_ROWS,
}
"""With as many network samples as CSD-Edit, and with none."""

PANORAMA_METHODS: Labelled = {
    "csd_edit_best": ("CSD-Edit", METHODS["csd_edit_best"]),
    "ip2p": ("Instruct-Pix2Pix", METHODS["ip2p"]),
    "multidiffusion": ("MultiDiffusion", ("method=multidiffusion",)),
    "synctweedies": ("SyncTweedies", ("method=synctweedies",)),
}

MORE_PANORAMA_METHODS: Labelled = {
    "identity": ("CSD-Edit without a kernel", METHODS["identity"]),
    "ip2p_shared": ("Instruct-Pix2Pix, one noise", METHODS["ip2p_shared"]),
    "multidiffusion_50": (
        "MultiDiffusion, 50 steps",
        ("method=multidiffusion", "trainer.max_steps=50"),
    ),
    **REFERENCE_ROWS,
}
"""At one image guidance alone."""

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
    "kernel_perceptual": (
        "kernel of decoded frames, by LPIPS",
        ("method.distiller.kernel_space=perceptual", "distance=lpips"),
    ),
    "repulsion_0": ("no repulsion", ("method.distiller.repulsion=0.0",)),
    "repulsion_sigma": ("repulsion times b_t", ("method.distiller.repulsion_scale=sigma",)),
    "normalize_n": ("divided by N", ("method.distiller.normalize=n",)),
    "shared_noise": ("one noise for all", ("method.noise=shared",)),
    "against_noise": ("the added noise for the estimate of the source (CSD)", ("method=csd",)),
    "uniform_t": ("t uniform to 980", ("method.timesteps.final=981",)),
    "uniform_t_to_500": (
        "t uniform to 500",
        ("method.timesteps.high=501", "method.timesteps.final=501"),
    ),
    "low_discrepancy": ("t of low discrepancy", ("method.timesteps.draws=low_discrepancy",)),
    "adam": ("Adam", ("optimizer=adam",)),
    "momentum": (
        "momentum 0.8",
        ("optimizer.optimizer.lr=0.14", "+optimizer.optimizer.momentum=0.8"),
    ),
    "sigma_squared": ("the paper's weight", SIGMA_SQUARED),
    "sigma_squared_60": ("the paper's weight, twice the steps", TWICE),
    "all_the_way": ("steps all the way", ("optimizer.optimizer.lr=1.0",)),
    "steps_20": ("two thirds of the steps", ("trainer.max_steps=20",)),
    "steps_60": ("twice the steps", ("trainer.max_steps=60",)),
}


SCENE_METHODS: Labelled = {
    "csd_edit_best": ("CSD-Edit", METHODS["csd_edit_best"]),
    "identity": ("CSD-Edit without a kernel", METHODS["identity"]),
    "in2n": ("Instruct-NeRF2NeRF", ("method=in2n",)),
    "ip2p": ("Instruct-Pix2Pix, each view", METHODS["ip2p"]),
    "ip2p_shared": ("Instruct-Pix2Pix, one noise", METHODS["ip2p_shared"]),
}


CAPTIONS = (
    "a red ball on grass under a blue sky",
    "a blue box on snow under an orange sky",
    "a green cone on sand under a purple sky",
    "a yellow house on grass at night",
)
"""What scenes are made from, in turn."""

TEXT_METHODS: Labelled = {
    "csd": ("CSD", ()),
    "sds": ("SDS", ("method=sds",)),
}


class Asked(NamedTuple):
    """What is asked for of a scene: with an instruction, or with a caption."""

    instruction: str
    many: bool


class Subject(NamedTuple):
    """A comparison.

    Attributes:
        edits_of: what can be asked for of the scene of a seed.
        do: a cell, by what has loaded the networks: its metrics.
        metrics: to show, each with whether higher is better.
        methods: by name, the one to compare with first.
        overrides: of the config, for all methods.
    """

    edits_of: Callable[[int], Sequence[Edit]]
    do: Callable[[Bench, Cell], dict[str, float]]
    metrics: Mapping[str, bool]
    methods: Overrides
    overrides: tuple[str, ...] = ()


def on(data_of: Callable[[Cell], EditData]) -> Callable[[Bench, Cell], dict[str, float]]:
    """What does a cell on a task."""
    return lambda bench, cell: bench.run(cell.method, cell.seed, data_of(cell))


def clips(frames: int, methods: Overrides) -> Subject:
    """Clips of this many frames."""
    return Subject(
        edits_of=lambda seed: world.edits_for(world.sample_scene(seed)),
        do=on(lambda cell: WorldClip(cell.scene, cell.instruction, frames=frames)),
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
        overrides=(f"data.frames={frames}",),
    )


def panoramas(width: int, ring: bool, methods: Overrides) -> Subject:
    """Panoramas of this width, 64 pixels high; of all methods, seams are looked for at one grid."""
    lefts = torch.arange(0, width if ring else width - 63, 16)
    top, down = torch.zeros_like(lefts), torch.full_like(lefts, 64)
    windows = Windows(torch.stack([top, lefts, down, lefts + 64], dim=1), ring)

    def edits_of(seed: int) -> tuple[world.Edit, ...]:
        return world.edits_for(world.sample_panorama(seed, width / 64, ring), plural=True)

    def do(bench: Bench, cell: Cell) -> dict[str, float]:
        data = WorldPanorama(cell.scene, cell.instruction, width=width, wrap=ring)
        return bench.run(cell.method, cell.seed, data, windows=windows)

    return Subject(
        edits_of=edits_of,
        do=do,
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
        overrides=("data=world_panorama", f"data.width={width}", f"data.wrap={ring}"),
    )


def scenes(methods: Overrides, reconstructions: Path) -> Subject:
    """Scenes of 48 views, and 24 more that show the result.

    Args:
        methods: by name.
        reconstructions: folder of those that all methods begin with, made where they lack.
    """

    def do(bench: Bench, cell: Cell) -> dict[str, float]:
        settings = {
            "data.scene_seed": cell.scene,
            "data.instruction": cell.instruction,
            "modality.recipe.reconstruction": str(reconstructed(cell.scene, reconstructions)),
        }
        return bench.run(cell.method, cell.seed, settings=settings)

    return Subject(
        edits_of=lambda seed: world.edits_for(world.sample_scene(seed), plural=True),
        do=do,
        metrics={
            "psnr_target": True,
            "psnr_answer": True,
            "agreement": True,
            "error_spread": False,
            "clip_direction_tiny": True,
            "clip_text_tiny": True,
            "dircons_frame_tiny": True,
            "dircons_edit_tiny": True,
            "lpips_consecutive_tiny": False,
            "warped_rmse": False,
            "warped_visible": True,
            "seconds": False,
            "samples": False,
        },
        methods=methods,
        overrides=("data=world_scene",),
    )


def texts(methods: Overrides) -> Subject:
    """Scenes made from captions."""

    def do(bench: Bench, cell: Cell) -> dict[str, float]:
        return bench.run(cell.method, cell.seed, settings={"prompt": cell.instruction})

    return Subject(
        edits_of=lambda seed: [Asked(CAPTIONS[seed % len(CAPTIONS)], many=False)],
        do=do,
        metrics={
            "clip_text_tiny": True,
            "clip_consecutive_tiny": True,
            "lpips_consecutive_tiny": False,
            "seconds": False,
            "samples": False,
        },
        methods=methods,
        overrides=("experiment=text_to_3d",),
    )


WHOLE = ("sky", "ground", "season", "night", "look")
"""Families of edits that change a panorama from one end to the other."""

TWO_BOXES = ((0.0, 0.4), (0.6, 1.0))
"""From the left to the right, as shares of the width; what lies between follows no prompt."""

THREE_BOXES = ((0.0, 0.3), (0.36, 0.64), (0.7, 1.0))


def whole_edits(seed: int, width: int) -> list[world.Edit]:
    """Edits of a panorama that change all of it, each with one right answer."""
    edits = world.edits_for(world.sample_panorama(seed, width / 64), plural=True)
    return [edit for edit in edits if edit.family in WHOLE and not edit.many]


def prompts_in_regions(cell: Cell, width: int) -> list[dict[str, Any]]:
    """Regions of a cell as the config has them.

    Its instruction holds in the left one, and others of the same scene, drawn with it, in the
    others.
    """
    names = sorted(edit.instruction for edit in whole_edits(cell.scene, width))
    boxes = THREE_BOXES if cell.scene % 2 else TWO_BOXES
    rng = np.random.default_rng([cell.scene, names.index(cell.instruction)])
    names.remove(cell.instruction)
    prompts = [cell.instruction, *map(str, rng.choice(names, len(boxes) - 1, replace=False))]
    return [
        {"prompt": prompt, "box": [0.0, left, 1.0, right]}
        for prompt, (left, right) in zip(prompts, boxes, strict=True)
    ]


def panorama_in_regions(cell: Cell, width: int) -> WorldPanorama:
    """The task of a cell."""
    regions = read_regions(prompts_in_regions(cell, width))
    return WorldPanorama(cell.scene, width=width, regions=regions)


def psnr_by_place(data: WorldPanorama, artefact: Artefact) -> dict[str, float]:
    """PSNR in the regions, and between them, where nothing is to change; in dB."""
    assert artefact.task.targets is not None  # the world knows the answer
    areas = [region.area for region in data.regions]
    height, wide = artefact.edited.shape[2:]
    share_of_none = region_masks(areas, height, wide)[-1, 0]
    edited, target = artefact.edited, artefact.task.targets[0]
    return {
        "psnr_regions": _psnr(edited, target, share_of_none == 0),
        "psnr_between": _psnr(edited, target, share_of_none == 1),
    }


def panorama_regions(width: int, methods: Overrides) -> Subject:
    """Panoramas of this width, 64 pixels high, with two prompts (even scenes) or three (odd ones).

    What no region covers is to stay as it is.
    """

    def do(bench: Bench, cell: Cell) -> dict[str, float]:
        data = panorama_in_regions(cell, width)
        settings = {"regions": prompts_in_regions(cell, width)}
        return bench.run(cell.method, cell.seed, data, settings, partial(psnr_by_place, data))

    return Subject(
        edits_of=partial(whole_edits, width=width),
        do=do,
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
        overrides=("data=world_panorama", f"data.width={width}"),
    )


def _psnr(edited: Tensor, target: Tensor, columns: Tensor) -> float:
    """PSNR of some columns of an image, (1, 3, H, W), dB."""
    return float(frame_psnr(edited[..., columns], target[..., columns]))
