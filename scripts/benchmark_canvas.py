"""What coding large images costs, and how near tiles come to one piece, as printed tables.

    python scripts/benchmark_canvas.py                     # both tables, some minutes
    python scripts/benchmark_canvas.py --sizes 2048x512    # other sizes
    python scripts/benchmark_canvas.py --image photo.jpg   # differences on a photograph too

Each row of the first table is the embedded prior's encoding and decoding in a process of its own,
so that its peak memory is its own: of the whole process, with the source and the result in memory.
The second table compares three ways to code in tiles with coding in one piece: around the cuts
between tiles, and elsewhere.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from comparison.apart import apart, peak_megabytes, say
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import interpolate

from csd_lab.canvas import Tiling
from csd_lab.data import read_media
from csd_lab.priors.instruct_pix2pix import InstructPix2Pix

SIZES = ("2048x1024", "4096x1024", "8192x1024", "8192x2048")
WHOLE = 2**14
"""A tile of this side, in pixels, holds any image here."""
TILE = 512
"""Side of the tiles in the second table, in pixels."""
NEAR = 16
"""Pixels to each side of a cut that count as around it."""


def prior(tile: int) -> InstructPix2Pix:
    """The embedded prior with tiles of this side, in pixels."""
    return InstructPix2Pix(dtype="float32", device="cpu", tile=tile)


def picture(height: int, width: int) -> Tensor:
    """Smooth and bright to the left, rough and dark to the right, (1, 3, H, W), in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 2 + height // 100, 2 + width // 100, generator=generator)
    image = interpolate(coarse, (height, width), mode="bilinear").mul_(0.5)
    half = width // 2
    image[..., :half] += 0.5
    image[..., half:] += 0.3 * torch.rand(1, 1, height, width - half, generator=generator)
    return image


@torch.no_grad()
def measure(width: int, height: int, tile: int) -> dict[str, float]:
    """Seconds of encoding and decoding, and peak memory in MB, at the start and in the end."""
    model, image = prior(tile), picture(height, width)
    start = peak_megabytes()
    began = time.perf_counter()
    latents = model.encode(image)
    encoded = time.perf_counter()
    result = model.decode(latents)
    decoded = time.perf_counter()
    if result.shape != image.shape:
        raise RuntimeError(f"the result is {tuple(result.shape)}, the image {tuple(image.shape)}")
    return {
        "tiles": len(Tiling(height // 4, width // 4, model.tile)),
        "encode": encoded - began,
        "decode": decoded - encoded,
        "start": start,
        "peak": peak_megabytes(),
    }


def table_of_sizes(sizes: list[tuple[int, int]], tile: int) -> Table:
    """Time and memory by size."""
    table = Table(
        "pixels",
        "megapixels",
        "tiles",
        "encode s",
        "decode s",
        "s/megapixel",
        "start MB",
        "peak MB",
        title=f"Encoding and decoding, tiles of {tile} pixels, {torch.get_num_threads()} threads",
    )
    for width, height in sizes:
        row = apart(__file__, width, height, tile)
        area = width * height / 1e6
        table.add_row(
            f"{width} x {height}",
            f"{area:.1f}",
            f"{row['tiles']:.0f}",
            f"{row['encode']:.0f}",
            f"{row['decode']:.0f}",
            f"{(row['encode'] + row['decode']) / area:.1f}",
            f"{row['start']:.0f}",
            f"{row['peak']:.0f}",
        )
    return table


def around_cuts(tiling: Tiling, scale: int) -> Tensor:
    """Which elements of a coded image lie around a cut, (H, W), bool."""
    reach = max(1, NEAR * scale // 4)
    near = torch.zeros(scale * tiling.height, scale * tiling.width, dtype=torch.bool)
    for row in tiling.rows[1:]:
        near[max(0, scale * row.first - reach) : scale * row.first + reach] = True
    for column in tiling.columns[1:]:
        near[:, max(0, scale * column.first - reach) : scale * column.first + reach] = True
    return near


def ways(half: str, model: InstructPix2Pix, tiling: Tiling) -> dict[str, Callable[..., Tensor]]:
    """Ways to encode, or to decode, in tiles, with a prior that has none."""

    def own(x: Tensor) -> Tensor:
        if half == "decode":
            return tiling.apply(model._decode, x, 3, 4)
        return tiling.apply(model._encode, x, 8, 1)[:, :4]

    def diffusers(x: Tensor) -> Tensor:
        model.vae.enable_tiling()
        model.vae.tile_sample_min_size, model.vae.tile_latent_min_size = TILE, TILE // 4
        try:
            return getattr(model, half)(x)
        finally:
            model.vae.disable_tiling()

    return {
        "shared statistics (ours)": getattr(prior(TILE), half),
        "statistics of each tile": own,
        "diffusers' enable_tiling": diffusers,
    }


@torch.no_grad()
def table_of_differences(name: str, image: Tensor) -> Table:
    """Differences to coding in one piece, by way."""
    table = Table(
        "way",
        *(f"{half}, {place}" for half in ("encode", "decode") for place in ("cuts", "elsewhere")),
        title=f"Largest (mean) difference to one piece, tiles of {TILE} pixels: {name}, "
        f"{image.shape[3]} x {image.shape[2]}; latents in their deviation, pixels in 1/255",
    )
    model = prior(WHOLE)
    tiling = Tiling(image.shape[2] // 4, image.shape[3] // 4, TILE // 4)
    latents = model.encode(image)
    wholes = {"encode": (image, latents, 1, latents.std()), "decode": (latents, None, 4, 1 / 255)}
    cells: dict[str, list[str]] = {}
    for half, (x, expected, scale, unit) in wholes.items():
        whole = model.decode(x) if expected is None else expected
        near = around_cuts(tiling, scale)
        for way, code in ways(half, model, tiling).items():
            error = (code(x) - whole).abs() / unit
            for part in (error[..., near], error[..., ~near]):
                cells.setdefault(way, []).append(f"{part.max():.3f} ({part.mean():.4f})")
    for way, row in cells.items():
        table.add_row(way, *row)
    return table


def photograph(path: Path) -> Tensor:
    """The image of a file, cut to a size that the prior takes."""
    image = read_media(path).frames[:1]
    return image[..., : image.shape[2] // 8 * 8, : image.shape[3] // 8 * 8].contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), metavar="WIDTHxHEIGHT")
    parser.add_argument("--tile", type=int, default=1024, help="side of the tiles, in pixels")
    parser.add_argument("--image", type=Path, nargs="*", default=[], help="photographs")
    parser.add_argument("--only", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        say(measure(*options.only))
        return
    console = Console()
    if options.sizes:
        sizes = [(int(w), int(h)) for w, h in (size.split("x") for size in options.sizes)]
        console.print(table_of_sizes(sizes, options.tile))
    console.print(table_of_differences("two halves", picture(512, 1600)))
    for path in options.image:
        console.print(table_of_differences(path.name, photograph(path)))


if __name__ == "__main__":
    main()
