"""Compares edits of wide panoramas of the world, paired, with 95 % intervals.

    python scripts/compare_panorama.py                  # all cells that are not in the file yet
    python scripts/compare_panorama.py --scenes 4 --methods csd_edit identity
    python scripts/compare_panorama.py --first 10 --scenes 10 --file half.jsonl   # a share
    python scripts/compare_panorama.py --table-only

Methods, all with the same prior and metrics; distillations with the default guidance, sampling with
the guidance that suits it better (--sampling-guidance):

    csd_edit     CSD-Edit as configured by default, overlapping windows as particles
    wide         the same with twice the bandwidth, as clips have it
    identity     the same windows without a kernel, at the same step size
    ip2p         Instruct-Pix2Pix sampling of windows side by side, independent noise
    ip2p_shared  the same with one noise for all windows

Every finished cell (method, panorama, instruction, seed) is a line of a file, so that the script
can be stopped at any time and goes on where it was; files of several shares can be joined.
"""

import torch
from comparison.command import DISTILLED, Subject, arguments, compare
from torch import Tensor

from csd_lab import world
from csd_lab.baselines.instruct_pix2pix import InstructPix2PixSampler
from csd_lab.canvas import WindowGrid
from csd_lab.data import CanvasData, EditData, WorldPanorama

METRICS = {
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
}
"""Each with whether higher is better."""


def side_by_side(sampler: InstructPix2PixSampler, data: EditData, prompt: str) -> Tensor:
    """Windows of the prior's size, each sampled alone, put back beside each other."""
    assert isinstance(data, CanvasData)
    frames, prior = data.frames, sampler.prior
    assert prior.native_size is not None
    size = (prior.native_size[0], prior.native_size[1])
    factor = prior.latent_scale
    height, width = frames.shape[2] // factor, frames.shape[3] // factor
    grid = WindowGrid(height, width, size, size, data.wrap)
    data.lay_windows(grid, factor)
    ids = torch.arange(len(grid))
    pixels = WindowGrid(
        *frames.shape[2:],
        window=(size[0] * factor, size[1] * factor),
        stride=(size[0] * factor, size[1] * factor),
        wrap=data.wrap,
    )
    edited = sampler(pixels.crop(frames, ids), prompt)
    return pixels.average(pixels.lay(edited, ids), ids)


def main() -> None:
    parser = arguments(__doc__, "outputs/compare_panorama.jsonl", seeds=1, one=2, many=2)
    parser.add_argument("--width", type=int, default=256, help="in pixels; the height is 64")
    parser.add_argument("--ring", action="store_true", help="all the way round")
    options = parser.parse_args()

    def edits_of(seed: int) -> tuple[world.Edit, ...]:
        scene = world.sample_panorama(seed, options.width / 64, options.ring)
        return world.edits_for(scene, plural=True)

    subject = Subject(
        edits_of=edits_of,
        data_of=lambda cell: WorldPanorama(
            cell.scene, cell.instruction, width=options.width, wrap=options.ring
        ),
        sample=side_by_side,
        metrics=METRICS,
        overrides=("data=world_panorama",),
        distilled={**DISTILLED, "wide": ("kernel=rbf",)},
    )
    compare(subject, options)


if __name__ == "__main__":
    main()
