"""Draws the pictures of README.md and docs/, of edits as `csd-lab` would make them.

    python scripts/draw_pictures.py                      # all, into docs/: 15 minutes of one core
    python scripts/draw_pictures.py --only scene
    python scripts/draw_pictures.py --folder . trainer.max_steps=10

Settings that stand first are for all edits.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from comparison.bench import Bench, be_quiet
from comparison.reconstructions import reconstructed
from comparison.subjects import CAPTIONS
from torch import Tensor

from csd_lab.callbacks.result import known
from csd_lab.data import write_image
from csd_lab.metrics.answers import answer_frames
from csd_lab.particles import TextTo3D
from csd_lab.report import DepthClip, colour_depths, contact_sheet

Overrides = Sequence[str]


class Comparison(NamedTuple):
    """Methods on one task that has several right answers.

    Attributes:
        task: overrides for all methods.
        methods: overrides of each by what readers are told it is; the last one's answer is shown.
    """

    task: Overrides
    methods: dict[str, Overrides]


SKY = "prompt=change the sky"
SCENE = 1000003489
"""The default one of data=world_scene."""

COMPARISONS = {
    "first_run": Comparison(
        (SKY,), {"each frame by itself": ("method=ip2p",), "all frames together": ()}
    ),
    "panorama": Comparison(
        (SKY, "data=world_panorama", "data.scene_seed=1000000007"),
        {
            "each window by itself (Instruct-Pix2Pix)": ("method=ip2p",),
            "windows averaged at every step (MultiDiffusion)": ("method=multidiffusion",),
            "windows that share their scores (CSD-Edit)": (),
        },
    ),
    "scene": Comparison(
        (SKY, "data=world_scene", f"data.scene_seed={SCENE}"),
        {
            "each view by itself (Instruct-Pix2Pix)": ("method=ip2p",),
            "one view at a time, from its rendering (Instruct-NeRF2NeRF)": ("method=in2n",),
            "all views together (CSD-Edit)": (),
        },
    ),
}


def compared(name: str, overrides: Overrides) -> Tensor:
    """The source, what methods make of it, and the right answer that the last one chose."""
    task, methods = COMPARISONS[name]
    bench = Bench(methods, [*task, *overrides])
    with tempfile.TemporaryDirectory() as folder:
        settings = {}
        if name == "scene":
            made = reconstructed(SCENE, Path(folder))
            settings["modality.recipe.reconstruction"] = str(made)
        results = {label: bench.edit(label, 0, settings=settings).edit.result for label in methods}
    last = list(results.values())[-1]
    edits = {label: result.edited for label, result in results.items()}
    rows = {"source": last.task.source, **edits, "the right answer": answer_frames(last)}
    return contact_sheet(rows, last.task.instruction)


def from_texts(overrides: Overrides) -> Tensor:
    """Scenes made from captions, and their depth."""
    bench = Bench({"csd": ()}, ["experiment=text_to_3d", *overrides])
    rows: dict[str, Tensor] = {}
    for caption in CAPTIONS[:3]:
        module = known(bench.edit("csd", 0, settings={"prompt": caption}).edit.module, TextTo3D)
        views = [module.scene.view(module.shown, index) for index in range(len(module.shown))]
        clip = DepthClip(
            torch.stack([view.depth for view in views]),
            torch.stack([view.opacity for view in views]),
        )
        rows[caption] = torch.stack([view.colour for view in views])
        rows |= colour_depths({caption.split(" on ")[0]: clip})
    return contact_sheet(rows, columns=6)


PICTURES: dict[str, Callable[[Overrides], Tensor]] = {
    **{name: lambda overrides, name=name: compared(name, overrides) for name in COMPARISONS},
    "text_to_3d": from_texts,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="settings, as csd-lab takes them")
    parser.add_argument("--only", choices=PICTURES, nargs="+", default=list(PICTURES))
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent.parent / "docs")
    options = parser.parse_args()
    be_quiet()
    for name in options.only:
        path = options.folder / f"{name}.png"
        write_image(path, PICTURES[name](options.overrides))
        print(path)


if __name__ == "__main__":
    main()
