"""Compares CSD-Edit on clips of the world with what it is when one part of it is another.

    python scripts/compare_ablations.py                        # 20 held-out clips
    python scripts/compare_ablations.py --first 1000 --scenes 3 --one 2 --many 2   # for tuning
    python scripts/compare_ablations.py --methods csd_edit_best repulsion_0 shared_noise

Every finished cell is a line of a file, as in compare_video.py; --help lists the rest. Variants
that are chosen by this must be chosen on other clips than show their gain: from --first 1000 on.
"""

from comparison.command import arguments, compare
from comparison.subjects import ABLATIONS, clips, overrides_of


def main() -> None:
    parser = arguments(__doc__, "outputs/compare_ablations.jsonl", seeds=1, one=1, many=1)
    parser.add_argument("--frames", type=int, default=8)
    options = parser.parse_args()
    variants = overrides_of(ABLATIONS)
    compare(clips(options.frames, variants), options)


if __name__ == "__main__":
    main()
