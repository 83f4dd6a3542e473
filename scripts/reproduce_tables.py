"""Makes docs/results.md: how methods compare on the procedural world, with 95 % intervals.

    python scripts/reproduce_tables.py                    # do what is missing, then write it all
    python scripts/reproduce_tables.py --only video --seeds 1
    python scripts/reproduce_tables.py --only video --methods sds ip2p     # some of the cells
    python scripts/reproduce_tables.py --only video --first 10 --file half.jsonl   # a share
    python scripts/reproduce_tables.py --table-only       # from the cells that there are

Every finished edit is a line of docs/results/<table>.jsonl, with a hash of its settings: after a
change of these it is done again. The script can be stopped at any time, and goes on where it was,
and files of several shares can be joined. The tables are made of the cells that are there, of
methods with enough scenes for an interval and of seeds that all of these have, and say of how many
edits they are.
"""

import argparse
from pathlib import Path

from comparison import tuning
from comparison.bench import REFERENCES, be_quiet
from comparison.cells import Plan
from comparison.command import KEEP, check_methods, do_missing
from comparison.pictures import draw
from comparison.published import Column, Published, present, section
from comparison.subjects import (
    ABLATIONS,
    CAPTIONS,
    MORE_PANORAMA_METHODS,
    MORE_VIDEO_METHODS,
    PANORAMA_METHODS,
    SCENE_METHODS,
    TEXT_METHODS,
    VIDEO_METHODS,
    clips,
    labels_of,
    overrides_of,
    texts,
)
from comparison.subjects import panoramas as wide
from comparison.subjects import scenes as around
from comparison.tables import rows_of

DOCS = Path(__file__).parent.parent / "docs"
IMAGE_GUIDANCE = (1.0, 1.4, 1.8, 2.2)
TOLD = 1.4
"""At which image guidance methods are compared in words: the one next to the default."""

DIRECTION = Column("clip_direction_tiny", "CLIP direction")
SAMPLES = Column("samples", "network samples")
FIDELITY = Column("psnr_target", "PSNR to the answer, dB")
ANSWER = Column("psnr_answer", "PSNR to the chosen answer, dB")
SPREAD = Column("error_spread", "error spread")
AGREEMENT = Column("agreement", "agreement of frames", (0.0, 1.0))
"""On one of many right answers."""


def video() -> Published:
    """Methods on clips."""
    methods = {**VIDEO_METHODS, **MORE_VIDEO_METHODS}
    consistency = (
        Column("clip_consecutive_tiny", "CLIP consecutive"),
        Column("lpips_consecutive_tiny", "LPIPS consecutive"),
        SPREAD,
    )
    return Published(
        "video",
        "Videos",
        "Clips of 8 frames of 64 x 64 pixels, up to four instructions with one right answer and up "
        "to three with many for each. `method=dds` is CSD-Edit with the identity kernel. Prompt-to-"
        "Prompt, FateZero and Pix2Video read captions on the text-to-image prior, and hardly edit "
        "here: clips that stay as they are agree, too, so look at fidelity first (with less of the "
        "source's attention they edit more, and come out farther from the answer). Each method has "
        "the best of four scales of text guidance, [tried on three other clips]"
        "(#how-methods-were-tuned); those of CSD-Edit and Instruct-Pix2Pix had been chosen in "
        "earlier, larger searches, and came out within 0.2 dB of the best. VSD trains a network on "
        "the way, for which these steps are few.",
        clips(8, overrides_of(methods)),
        labels_of(methods),
        one=(FIDELITY, DIRECTION, *consistency, SAMPLES),
        many=(AGREEMENT, ANSWER, DIRECTION, *consistency),
        edits=(4, 3),
        curve=(AGREEMENT, ANSWER),
    )


def panoramas() -> Published:
    """Methods on panoramas, over image guidance."""
    methods, labels, points = {}, {}, {}
    for name, (label, overrides) in PANORAMA_METHODS.items():
        points[label] = {str(scale): f"{name}@{scale}" for scale in IMAGE_GUIDANCE}
        for each, scale in zip(points[label].values(), IMAGE_GUIDANCE, strict=True):
            methods[each] = (*overrides, f"guidance.image={scale}")
            labels[each] = f"{label}, s_I = {scale}"
    told = [f"{name}@{TOLD}" for name in PANORAMA_METHODS]
    for name, (label, overrides) in MORE_PANORAMA_METHODS.items():
        methods[name] = (*overrides, f"guidance.image={TOLD}")
        labels[name] = label if name in REFERENCES else f"{label}, s_I = {TOLD}"
        told.append(name)
    image = Column("clip_image_tiny", "CLIP image")
    shown = (
        DIRECTION,
        image,
        Column("intra_lpips_tiny", "intra-LPIPS"),
        Column("seam_error", "seam error"),
    )
    return Published(
        "panorama",
        "Panoramas",
        "Panoramas of 256 x 64 pixels, an instruction with one right answer and one with many for "
        "each, over the guidance by the image, s_I; words compare methods at s_I = 1.4, next to "
        "the default. Mind the axes of the picture: its left part spans less than one interval. "
        "Seams are measured at every quarter of a window, whatever windows a method has.",
        wide(256, False, methods),
        labels,
        one=(FIDELITY, *shown, SAMPLES),
        many=(Column("window_agreement", "agreement of windows"), ANSWER, *shown),
        edits=(1, 1),
        curve=(image, DIRECTION),
        points=points,
        legend=f"over $s_I$ = {', '.join(map(str, IMAGE_GUIDANCE))}",
        told=told,
        spare=True,
    )


def ablations() -> Published:
    """CSD-Edit with one part of it another."""
    return Published(
        "ablations",
        "What the parts of CSD-Edit do",
        "The same clips, one instruction of each kind; each row changes one part of the default. "
        "With many right answers it matters that scores are shared, that the kernel is wide (with "
        "the paper's bandwidth frames agree less; twice and four times as much and an inverse "
        "multiquadric are alike), that it compares noisy latents, and that large timesteps are "
        "used; where there is one right answer, also that they come first. Repulsion hardly "
        "matters. The added noise in place of the source's estimate (CSD) takes fewer samples, and "
        "is behind with one right answer alone. Dividing by N makes steps shorter, here too short. "
        "With twice the samples the paper's weight is ahead in fidelity; at as many samples or "
        "fewer nothing is, though with many right answers the paper's weight, t of low discrepancy "
        "and CSD have higher means, within the intervals.",
        clips(8, overrides_of(ABLATIONS)),
        labels_of(ABLATIONS),
        one=(FIDELITY, DIRECTION, SPREAD, SAMPLES),
        many=(AGREEMENT, ANSWER, DIRECTION, SPREAD),
        edits=(1, 1),
        curve=None,
        against=(FIDELITY, AGREEMENT, ANSWER),
    )


def scenes() -> Published:
    """Methods on scenes in three dimensions."""
    shown = (
        SPREAD,
        DIRECTION,
        Column("lpips_consecutive_tiny", "LPIPS consecutive"),
    )
    agreement = AGREEMENT._replace(label="agreement of views")
    methods = overrides_of(SCENE_METHODS)
    return Published(
        "scenes",
        "Scenes",
        "Scenes of 48 views of 64 x 64 pixels, two instructions with one right answer and one with "
        "many for each. All is measured on 24 other views, a path around the scene. All methods "
        "begin with the same reconstruction. None was tuned on scenes, but CSD-Edit with another "
        "weight had failed on looks of these; its default was then chosen on other clips. "
        "Instruct-NeRF2NeRF has a short schedule: 144 edits, three of each view, and the loss of "
        "this package's scenes, squared errors of pixels, in the place of L1 and LPIPS of patches.",
        around(methods, DOCS.parent / "outputs" / "reconstructions"),
        labels_of(SCENE_METHODS),
        one=(FIDELITY, *shown, SAMPLES),
        many=(agreement, ANSWER, *shown),
        edits=(2, 1),
        curve=(agreement, ANSWER),
        scenes=8,
        seeds=2,
        least=4,
    )


def scenes_from_texts() -> Published:
    """Methods that make a scene from a caption."""
    shown = (
        Column("clip_text_tiny", "CLIP similarity to the caption"),
        Column("clip_consecutive_tiny", "CLIP consecutive"),
        Column("lpips_consecutive_tiny", "LPIPS consecutive"),
    )
    return Published(
        "text_to_3d",
        "Scenes from texts",
        "Twelve views around each scene. The caption of a single object is not all that CLIP sees: "
        "look at [their pictures](scenes.md#a-scene-from-a-text), too.",
        texts(overrides_of(TEXT_METHODS)),
        labels_of(TEXT_METHODS),
        one=(*shown, SAMPLES),
        many=(),
        edits=(1, 0),
        curve=None,
        heads=("Four captions", ""),
        scenes=len(CAPTIONS),
        seeds=2,
    )


TABLES = {
    "video": video,
    "panorama": panoramas,
    "ablations": ablations,
    "scenes": scenes,
    "text_to_3d": scenes_from_texts,
}

HEAD = """# Results

Made by `python scripts/reproduce_tables.py` on the embedded prior and held-out scenes of the
procedural world, whose right answers are known exactly. Means are over scenes, with Student's 95 %
interval; the seeds of an edit are averaged first, then the edits of a scene, since only scenes are
independent. Methods that made the same edits share a table; each table repeats the first method on
its edits. "Wins" and "loses" mean that the 95 % interval of the paired difference excludes 0,
without a correction for multiple comparisons: of true ties about one in twenty is called a win or
a loss. "Neither" means that it does not, which is no proof of equality. Pictures are of the edits
that all methods made. Seconds are in [costs.md](costs.md).

*CSD-Edit* is the default, `method=csd_edit_best`; *CSD-Edit, official ...* is `method=csd_edit`;
*without a kernel* is `method=dds`. CLIP and LPIPS are those of the small networks that come with
the package, trained on the same world, and cannot be compared with published values.
[metrics.md](metrics.md) says what each column is. The *chosen answer* is the right answer that an
edit comes nearest to.

Two rows are no methods: the source left as it is, and an exact answer as the prior's autoencoder
gives it back. No edit can be expected to come nearer than the latter in any column: a clip that is
smoother than it is blurred. A method that is near the former has done little.

What the prior has not learnt, "turn the box into something else", is in no table: whoever leaves
such a picture as it is comes nearest. Defaults were chosen on other scenes; one earlier setting of
CSD-Edit, with steps 1.4 times as long, had been measured on these, though, before its learning rate
was set to the present one.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=TABLES, nargs="+", default=list(TABLES))
    parser.add_argument("--methods", nargs="+", help="do the cells of these alone")
    parser.add_argument("--first", type=int, default=0, help="number of the first scene")
    parser.add_argument("--scenes", type=int, help="how many")
    parser.add_argument("--seeds", type=int, help="of each edit")
    parser.add_argument(
        "--edits", type=int, nargs=2, metavar=("ONE", "MANY"), help="instructions a scene"
    )
    parser.add_argument("--file", type=Path, help="keep cells here, instead of in docs/results")
    parser.add_argument("--table-only", action="store_true", help="do no cells")
    parser.add_argument("--keep", action="store_true", help=KEEP)
    options = parser.parse_args()
    if options.file and len(options.only) > 1:
        parser.error("--file holds the cells of one table: say which, such as --only video")
    be_quiet()
    tables = {name: make() for name, make in TABLES.items()}
    check_methods(options.methods or (), [m for n in options.only for m in tables[n].labels])
    for name in [] if options.table_only else options.only:
        plan = share(tables[name].plan(), options)
        subject = tables[name].subject
        path = options.file or cells_of(name)
        do_missing(path, plan, subject, ["prior.compile=true"], options.keep)
    write(tables)


def share(plan: Plan, options: argparse.Namespace) -> Plan:
    """The part of a plan that is asked for."""
    rest = max(0, plan.scenes - options.first)
    return plan._replace(
        first=options.first,
        scenes=rest if options.scenes is None else min(rest, options.scenes),
        seeds=options.seeds or plan.seeds,
        methods=[name for name in plan.methods if name in (options.methods or plan.methods)],
        first_edits=tuple(options.edits) if options.edits else None,
    )


def cells_of(name: str) -> Path:
    """Where the cells of a table are kept."""
    return DOCS / "results" / f"{name}.jsonl"


def write(tables: dict[str, Published]) -> None:
    """Write the page and its pictures, from all cells that are there."""
    parts = [HEAD.strip()]
    for name, published in tables.items():
        plan = published.plan()
        if not present(published, rows_of(cells_of(name), plan)):
            print(f"{name}: no method has {published.enough} scenes, too few for a table")
            continue
        parts.append(section(published, cells_of(name), plan))
        draw(published, cells_of(name), plan, DOCS / "results" / f"{name}.png")
    parts.append(tuning.section(cells_of("tuning")))
    (DOCS / "results.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
