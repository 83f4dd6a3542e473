"""Compares edits of wide panoramas of the world, paired, with 95 % intervals.

    python scripts/compare_panorama.py                  # all cells that are not in the file yet
    python scripts/compare_panorama.py --scenes 4 --methods csd_edit_best identity
    python scripts/compare_panorama.py --first 10 --scenes 10 --file half.jsonl   # a share
    python scripts/compare_panorama.py --table-only

Methods, all with the same guidance and metrics:

    csd_edit_best   CSD-Edit as configured by default, overlapping windows as particles
    wide            the same with twice the bandwidth, as clips have it
    identity        the same windows without a kernel, at the same step size
    ip2p            Instruct-Pix2Pix sampling of windows side by side, independent noise
    ip2p_shared     the same with one noise for all windows
    multidiffusion  the windows of csd_edit_best, their sampling steps averaged
    synctweedies    the same, their clean estimates averaged

Every finished cell (method, panorama, instruction, seed) is a line of a file, so that the script
can be stopped at any time and goes on where it was; files of several shares can be joined.
"""

from comparison.command import arguments, compare
from comparison.subjects import METHODS, PANORAMA_METHODS, overrides_of, panoramas

VARIANTS = {
    **METHODS,
    **overrides_of(PANORAMA_METHODS),
    "wide": ("kernel=rbf",),
}


def main() -> None:
    parser = arguments(__doc__, "outputs/compare_panorama.jsonl", seeds=1, one=2, many=2)
    parser.add_argument("--width", type=int, default=256, help="in pixels; the height is 64")
    parser.add_argument("--ring", action="store_true", help="all the way round")
    options = parser.parse_args()
    compare(panoramas(options.width, options.ring, VARIANTS), options)


if __name__ == "__main__":
    main()
