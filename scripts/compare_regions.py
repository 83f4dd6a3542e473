"""Compares ways to follow a prompt in each region of a panorama, paired, with 95 % intervals.

    python scripts/compare_regions.py                   # all cells that are not in the file yet
    python scripts/compare_regions.py --scenes 6 --one 1 prior.compile=true
    python scripts/compare_regions.py --table-only

Even scenes have two prompts, odd ones three, side by side; the strips between them are to stay as
they are, and psnr_between says how near they come. Ways, all of CSD-Edit:

    shared       windows share scores by the paper's kernel
    alone        each window follows its own
    shared_soft  as shared, with a passage of 4 latents between regions
    alone_soft   as alone, with that passage
    moving       as shared, but what is to be kept follows the empty prompt, as in the paper

The exact answer has sharp borders in all of them. Every finished cell is a line of a file, as in
compare_panorama.py.
"""

from comparison.command import arguments, compare
from comparison.subjects import panorama_regions

SHARED, ALONE, SOFT = "kernel=rbf_paper", "kernel=identity", "modality.transition=4"

WAYS = {
    "shared": (SHARED,),
    "alone": (ALONE,),
    "shared_soft": (SHARED, SOFT),
    "alone_soft": (ALONE, SOFT),
    "moving": (SHARED, "modality.keep=false"),
}


def main() -> None:
    parser = arguments(__doc__, "outputs/compare_regions.jsonl", seeds=1, one=2, many=0)
    parser.add_argument("--width", type=int, default=256, help="in pixels; the height is 64")
    options = parser.parse_args()
    compare(panorama_regions(options.width, WAYS), options)


if __name__ == "__main__":
    main()
