"""Compares video edits on held-out clips of the world, paired, with 95 % intervals.

    python scripts/compare_video.py                  # all cells that are not in the file yet
    python scripts/compare_video.py --scenes 4 --seeds 1 --methods csd_edit_best identity
    python scripts/compare_video.py --first 10 --scenes 10 --file half.jsonl   # a share of the work
    python scripts/compare_video.py --table-only

Methods, all with the same guidance and metrics:

    csd_edit_best  CSD-Edit as configured by default
    identity       the same distillation with the identity kernel, at the same step size
    ip2p           Instruct-Pix2Pix sampling of every frame, independent noise
    ip2p_shared    the same with one noise for all frames

Every finished cell (method, clip, instruction, seed) is a line of a file, so that the script can be
stopped at any time and goes on where it was; files of several shares can be joined. Defaults were
chosen on other clips than the table shows: those from --first 1000 on.
"""

from comparison.command import arguments, compare
from comparison.subjects import METHODS, clips


def main() -> None:
    parser = arguments(__doc__, "outputs/compare_video.jsonl", seeds=2, one=4, many=3)
    parser.add_argument("--frames", type=int, default=8)
    options = parser.parse_args()
    compare(clips(options.frames, METHODS), options)


if __name__ == "__main__":
    main()
