"""Gives a real clip some looks with `csd-lab`, and measures how near they come to the exact ones.

    python scripts/compare_looks.py clip.mp4
    python scripts/compare_looks.py frames/ data.batch_size=4 --looks sepia warm

A look is a function of one pixel's colour, so that its exact result is known on any picture. Every
look is a run of the program, with the exact clip as `data.target`; overrides beside the clip go to
all runs. The table says, in dB: how near the source is to the exact look, how near the autoencoder
alone could come, and how near the edit came. Runs that are there already are not done again.
"""

import argparse
import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table
from torch import Tensor

from csd_lab import world
from csd_lab.composition import composed
from csd_lab.data import read_media, write_image
from csd_lab.priors import Prior
from csd_lab.run_folder import RunFolder


def psnr(image: Tensor, target: Tensor) -> float:
    """Mean over frames of the PSNR in dB, of clips (F, 3, H, W) in [0, 1]."""
    error = (image - target).square().mean(dim=(1, 2, 3))
    return float((-10 * error.log10()).mean())


def write_target(folder: Path, frames: Tensor) -> None:
    """Write a clip as numbered PNG files."""
    for index, frame in enumerate(frames):
        write_image(folder / f"{index:05d}.png", frame)


@torch.no_grad()
def reconstructed(frames: Tensor) -> Tensor:
    """Frames after the default prior's encoder and decoder; sides cut to what it takes."""
    prior: Prior = instantiate(composed().prior)
    height, width = (side - side % prior.size_multiple for side in frames.shape[-2:])
    parts = [prior.decode(prior.encode(f[None, :, :height, :width])) for f in frames]
    return torch.cat(parts)


def run(look: str, clip: Path, folder: Path, overrides: list[str]) -> None:
    """Edit the clip with the program, unless that was done."""
    if RunFolder(folder).results.is_file():
        return
    command = [
        *(sys.executable, "-m", "csd_lab.cli"),
        f"data.path={clip}",
        f"data.target={folder.parent / 'exact' / look}",
        f"prompt=make it {look}",
        f"hydra.run.dir={folder}",
        *overrides,
    ]
    print(shlex.join(command), file=sys.stderr)
    subprocess.run(command, check=True)


def name_of(clip: Path, overrides: list[str]) -> str:
    """Of the folder for runs of a clip with these overrides, and for no others."""
    told = repr((str(clip.resolve()), overrides))
    return f"{clip.stem}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--looks", nargs="+", default=["sepia", "dark", "negative"])
    parser.add_argument("--folder", type=Path, default=Path("outputs/looks"))
    parser.add_argument("overrides", nargs="*", help="config overrides for all runs")
    options = parser.parse_args()
    frames = read_media(options.clip).frames
    place = options.folder / name_of(options.clip, options.overrides)
    table = Table("look", "source, dB", "autoencoder, dB", "edited, dB")
    for look in options.looks:
        exact = world.apply_look(look, frames)
        write_target(place / "exact" / look, exact)
        folder = RunFolder(place / look)
        run(look, options.clip.resolve(), folder.root.resolve(), options.overrides)
        edited = json.loads(folder.results.read_text(encoding="utf-8"))["metrics"]["psnr_target"]
        rebuilt = reconstructed(exact)
        bound = psnr(rebuilt, exact[..., : rebuilt.shape[-2], : rebuilt.shape[-1]])
        table.add_row(look, *(f"{value:.1f}" for value in (psnr(frames, exact), bound, edited)))
    Console().print(table)


if __name__ == "__main__":
    main()
