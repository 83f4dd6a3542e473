"""Compares edits of wide panoramas of the world, paired, with 95 % intervals.

    python scripts/compare_panorama.py                  # all cells that are not in the file yet
    python scripts/compare_panorama.py --scenes 4 --methods csd_edit identity
    python scripts/compare_panorama.py --first 10 --scenes 10 --file half.jsonl   # a share
    python scripts/compare_panorama.py --table-only

Methods, all with the same guidance and metrics:

    csd_edit     CSD-Edit as configured by default, overlapping windows as particles
    wide         the same with twice the bandwidth, as clips have it
    identity     the same windows without a kernel, at the same step size
    ip2p         Instruct-Pix2Pix sampling of windows side by side, independent noise
    ip2p_shared  the same with one noise for all windows
    multidiffusion  the same windows as csd_edit, their sampling steps averaged
    synctweedies    the same, their clean estimates averaged

Every finished cell (method, panorama, instruction, seed) is a line of a file, so that the script
can be stopped at any time and goes on where it was; files of several shares can be joined.
"""

from comparison.command import METHODS, Subject, arguments, compare

from csd_lab import world
from csd_lab.data import WorldPanorama

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
        metrics=METRICS,
        overrides=("data=world_panorama",),
        methods={
            **METHODS,
            "multidiffusion": ("method=multidiffusion",),
            "synctweedies": ("method=synctweedies",),
            "wide": ("kernel=rbf",),
        },
    )
    compare(subject, options)


if __name__ == "__main__":
    main()
