"""Tunes the methods of docs/results.md, all with the same budget: four scales of text guidance.

    python scripts/tune_methods.py                          # all methods on clips
    python scripts/tune_methods.py --methods sds ip2p

Each scale is tried on three clips that no table shows (--first 1000), on one instruction with one
right answer and one with many for each. The best has the highest mean of both kinds' PSNR. Methods
that take their source's attention are also tried with half of it and with none.
Every finished edit is a line of a file, so that the script goes on where it was.
"""

from comparison.command import arguments, filled
from comparison.subjects import VIDEO_METHODS, clips
from comparison.tables import mean, rows_of
from rich.console import Console
from rich.table import Table

SCALES = (2.0, 3.0, 5.0, 7.5)
QUALITY = ("psnr_target", "psnr_answer")


def attention(cross: float, itself: float) -> tuple[str, ...]:
    """Overrides for the shares of the steps in which attention is the source's."""
    edit = "method.distiller.edit"
    return f"{edit}.cross_replace={cross}", f"{edit}.self_replace={itself}"


SHARES = {"half the attention": attention(0.4, 0.2), "no attention": attention(0.0, 0.0)}
SETTINGS = {
    name: {"": (), **(SHARES if name in ("prompt_to_prompt", "fatezero") else {})}
    for name in VIDEO_METHODS
}
"""Overrides that each method is tried with, by what they are."""


def main() -> None:
    parser = arguments(__doc__, "outputs/tune_methods.jsonl", seeds=1, one=1, many=1)
    parser.set_defaults(first=1000, scenes=3)
    options = parser.parse_args()
    tuned = {
        f"{method} {setting}".strip(): (*VIDEO_METHODS[method][1], *overrides)
        for method in options.methods or VIDEO_METHODS
        for setting, overrides in SETTINGS[method].items()
    }
    variants = {
        variant(name, scale): (*overrides, f"guidance.text={scale}")
        for name, overrides in tuned.items()
        for scale in SCALES
    }
    options.methods = list(variants)
    plan = filled(clips(8, variants), options)
    show(list(tuned), rows_of(options.file, plan))


def variant(name: str, scale: float) -> str:
    """The name of a method with a scale."""
    return f"{name} {scale:g}"


def show(methods: list[str], rows: list[dict]) -> None:
    """Print the quality of each method at each scale, the best one marked."""
    out = Table("method", *(f"s_T = {scale:g}" for scale in SCALES), title="mean PSNR, dB")
    for method in methods:
        quality = [
            sum(mean(rows, variant(method, scale), metric).mean for metric in QUALITY) / 2
            for scale in SCALES
        ]
        best = max(quality)
        out.add_row(method, *(f"{q:.2f}{' *' if q == best else ''}" for q in quality))
    Console(width=120).print(out)


if __name__ == "__main__":
    main()
