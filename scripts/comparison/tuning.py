"""How the methods of docs/results.md were tuned: all with the same budget, four scales of the text.

Each scale is tried on three clips that no table shows, on one instruction with one right answer and
one with many for each. The best has the highest mean of both kinds' PSNR. Methods that take their
source's attention are also tried with half of it and with none.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from csd_lab import compose

from .cells import Plan
from .subjects import VIDEO_METHODS, Overrides, Subject, clips
from .tables import Rows, mean, rows_of

SCALES = (2.0, 3.0, 5.0, 7.5)
FIRST, SCENES = 1000, 3
"""Numbers of the clips; those of tables begin at 0."""
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


def tuned(methods: Iterable[str] = tuple(VIDEO_METHODS)) -> Overrides:
    """What is tried of these methods, by its name, at each scale."""
    return {
        f"{method} {setting}".strip(): (*VIDEO_METHODS[method][1], *overrides)
        for method in methods
        for setting, overrides in SETTINGS[method].items()
    }


def variants_of(name: str) -> dict[str, float]:
    """The names of what is tried at each scale, with that scale."""
    return {f"{name} {scale:g}": scale for scale in SCALES}


def subject_of(tried: Overrides) -> Subject:
    """Clips, and each of these at each scale."""
    variants = {
        variant: (*overrides, f"guidance.text={scale}")
        for name, overrides in tried.items()
        for variant, scale in variants_of(name).items()
    }
    return clips(8, variants)


def plan_of(subject: Subject) -> Plan:
    """The cells of the search."""
    return Plan(FIRST, SCENES, 1, list(subject.methods), subject.edits_of, 1, 1)


def quality(rows: Rows, name: str) -> list[float]:
    """The quality of what was tried at each scale, in dB; NaN where there are no cells."""
    return [
        sum(mean(rows, variant, metric).mean for metric in QUALITY) / len(QUALITY)
        for variant in variants_of(name)
    ]


def section(path: Path) -> str:
    """The search in Markdown: the best scale in bold, that of the tables in brackets.

    Args:
        path: of the file with its cells; what lacks some has no row.
    """
    tried = tuned()
    plan = plan_of(subject_of(tried))
    rows = rows_of(path, plan)
    wanted = Counter(cell.method for cell, _ in plan.cells())
    there = Counter(row["method"] for row in rows)
    whole = [n for n in tried if all(there[v] == wanted[v] for v in variants_of(n))]
    lines = [
        "## How methods were tuned",
        "",
        f"The mean of PSNR to the one answer and to the chosen one of many, in dB, on {SCENES} "
        "clips that no table shows, at four scales of the text guidance, s_T "
        "(`python scripts/tune_methods.py`). The best is bold; that of the tables is in brackets.",
        "",
        f"| method | {' | '.join(f's_T = {scale:g}' for scale in SCALES)} |",
        f"| --- |{' --- |' * len(SCALES)}",
    ]
    for name in whole:
        overrides = tried[name]
        used = None if overrides[-2:] in SHARES.values() else compose(*overrides).guidance.text
        found = quality(rows, name)
        cells = []
        for scale, figure in zip(SCALES, found, strict=True):
            text = f"**{figure:.1f}**" if figure == max(found) else f"{figure:.1f}"
            cells.append(f"({text})" if scale == used else text)
        lines.append(f"| {label(name)} | {' | '.join(cells)} |")
    if missing := [label(name) for name in tried if name not in whole]:
        lines += ["", f"Not all cells are kept of: {'; '.join(missing)}."]
    return "\n".join(lines)


def label(name: str) -> str:
    """What readers are told that was tried."""
    method, _, setting = name.partition(" ")
    told = VIDEO_METHODS[method][0]
    return f"{told}, {setting}" if setting else told
