"""Tunes the methods of docs/results.md, all with the same budget: four scales of text guidance.

    python scripts/tune_methods.py                          # all methods on clips
    python scripts/tune_methods.py --methods sds ip2p

scripts/comparison/tuning.py says what is tried. Every finished edit is a line of a file, so that
the script goes on where it was.
"""

from pathlib import Path

from comparison.command import arguments, filled
from comparison.subjects import VIDEO_METHODS
from comparison.tables import Rows, rows_of
from comparison.tuning import FIRST, SCALES, SCENES, quality, subject_of, tuned
from rich.console import Console
from rich.table import Table

CELLS = Path(__file__).parent.parent / "docs" / "results" / "tuning.jsonl"


def main() -> None:
    parser = arguments(__doc__, str(CELLS), seeds=1, one=1, many=1)
    parser.set_defaults(first=FIRST, scenes=SCENES)
    options = parser.parse_args()
    tried = tuned(options.methods or VIDEO_METHODS)
    subject = subject_of(tried)
    options.methods = list(subject.methods)
    options.overrides = ["prior.compile=true", *options.overrides]
    show(list(tried), rows_of(options.file, filled(subject, options)))


def show(tried: list[str], rows: Rows) -> None:
    """Print the quality of what was tried at each scale, the best one marked."""
    out = Table("method", *(f"s_T = {scale:g}" for scale in SCALES), title="mean PSNR, dB")
    for name in tried:
        found = quality(rows, name)
        out.add_row(name, *(f"{q:.2f}{' *' if q == max(found) else ''}" for q in found))
    Console(width=120).print(out)


if __name__ == "__main__":
    main()
