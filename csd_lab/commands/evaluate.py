"""`csd-lab-evaluate`: all metrics on any two clips, folders or images, whoever made them.

Exit codes: 0 measured, 2 wrong input.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from csd_lab.commands.arguments import Parser, exit_code
from csd_lab.notes import MetricNote

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from csd_lab.metrics import MetricSuite
    from csd_lab.types import EditTask

OVERRIDE = re.compile(r"(\+\+?|~)?metrics([.@/][^=]*)?(=.*)?", re.DOTALL)
"""An override of the metrics' settings; another argument that looks so is typed as ./metrics..."""

HELP = """\
Measure edited clips against their source with the metrics of csd-lab.

A clip is a video (mp4, mov, webm, mkv, avi), an animation (gif), a folder of images in natural
order, or one image. It makes no difference which program made it.

  csd-lab-evaluate --source clip.mp4 --edited night.mp4
  csd-lab-evaluate --source clip.mp4 --edited ours.mp4 theirs.mp4 \\
      --source-caption "a street by day" --target-caption "a street at night"
  csd-lab-evaluate --source frames/ --edited edited/ --target exact/ --json figures.json

What a metric needs decides whether it is measured: captions for CLIP directions (captions, never
the instruction), exactly edited clips for PSNR and SSIM, two frames for consistency. The others
are named with what they lack.
"""

EPILOG = """\
Settings of the metrics are overridden as in csd-lab, and a metric's name tells its network:

  metrics.clip.model=ViT-L-14 metrics.clip.pretrained=openai    clip_direction_l14, ...
  metrics.perceptual.backbone=alex                              lpips_consecutive_alex, ...
  metrics.clip.device=cuda metrics.perceptual.device=cuda       on a GPU
  ~metrics.plain.saturation                                     without that one

Several clips after --target are several right answers to one instruction: each edited clip is then
measured against the one that it gave. Exit codes: 0 measured, 2 wrong input.
"""


class Result(NamedTuple):
    """The figures of all edited clips.

    Attributes:
        metrics: by edited clip, then by metric; NaN where undefined.
        notes: by metric, what a reader must know of it.
        skipped: by metric, what it lacks.
    """

    metrics: dict[str, dict[str, float]]
    notes: dict[str, MetricNote]
    skipped: dict[str, str]


def main() -> None:
    """Run the command line in ``sys.argv`` and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Measure what the arguments name, print a table, and return the exit code."""
    overrides = [argument for argument in arguments if OVERRIDE.fullmatch(argument)]
    options = parser().parse_args([a for a in arguments if a not in overrides])

    def measure() -> None:
        task = read_task(options)
        edited = {str(path): read_like(path, task.source, options) for path in options.edited}
        result = evaluate(task, edited, metric_suite(options.metrics, overrides))
        try:
            if options.json is not None:
                write_json(options.json, str(options.source), result)
        finally:
            show(result)

    return exit_code("csd-lab-evaluate", measure)


def parser() -> Parser:
    """The options."""
    parser = Parser(
        "csd-lab-evaluate",
        "csd-lab-evaluate --source CLIP --edited CLIP [CLIP ...] [options] [metrics.KEY=...]",
        HELP,
        EPILOG,
    )
    clip: dict[str, Any] = {"type": Path, "metavar": "CLIP"}
    parser.add_argument("--source", required=True, **clip, help="the clip before the edit")
    parser.add_argument(
        "--edited", required=True, nargs="+", **clip, help="edited clips: one column each"
    )
    parser.add_argument(
        "--target", nargs="+", default=[], **clip, help="exactly edited clips, where known"
    )
    text: dict[str, Any] = {"default": "", "metavar": "TEXT"}
    parser.add_argument("--source-caption", **text, help="what the source shows")
    parser.add_argument("--target-caption", **text, help="what the edited clip should show")
    parser.add_argument("--instruction", **text, help="what was asked for; kept in the JSON file")
    parser.add_argument(
        "--metrics", default="default", metavar="NAME", help="default, pixels or a file of your own"
    )
    parser.add_argument(
        "--resize", action="store_true", help="bring other sizes to the source's (bicubic)"
    )
    parser.add_argument(
        "--max-frames", type=int, metavar="N", help="look at the first N frames of each clip"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the values there, too")
    return parser


def read_task(options: argparse.Namespace) -> "EditTask":
    """The source and all that is known of it.

    Raises:
        ValueError: if a clip cannot be read, or is of another size or length than the source.
    """
    import torch

    from csd_lab.data import read_media
    from csd_lab.types import EditTask

    media = read_media(options.source, options.max_frames)
    targets = [read_like(path, media.frames, options) for path in options.target]
    captions = [options.target_caption] if options.target_caption and len(targets) == 1 else []
    return EditTask(
        source=media.frames,
        instruction=options.instruction,
        source_caption=options.source_caption,
        target_caption=options.target_caption,
        targets=torch.stack(targets) if targets else None,
        target_captions=tuple(captions),
        fps=media.fps,
        name=media.name,
    )


def read_like(path: Path, source: "Tensor", options: argparse.Namespace) -> "Tensor":
    """Frames of a clip that goes with a source, of the source's size.

    Args:
        path: of the clip.
        source: (F, 3, H, W), in [0, 1].
        options: whether to resize, how many frames to read.

    Returns:
        (F, 3, H, W), in [0, 1].

    Raises:
        ValueError: if it cannot be read, has another length, or another size and is not resized.
    """
    from csd_lab.data import read_media

    frames = read_media(path, options.max_frames).frames
    if len(frames) != len(source):
        raise ValueError(
            f"{path} has {len(frames)} frames, the source {len(source)}; metrics compare frame by "
            f"frame: cut one, or look at the first ones with --max-frames "
            f"{min(len(frames), len(source))}."
        )
    size, wanted = frames.shape[-2:], source.shape[-2:]
    if size == wanted:
        return frames
    if size == tuple(side + side % 2 for side in wanted):  # videos have even sides: one was added
        return frames[..., : wanted[0], : wanted[1]]
    if not options.resize:
        raise ValueError(
            f"{path} is {size[1]}x{size[0]} pixels, the source {wanted[1]}x{wanted[0]}; "
            "give clips of one size, or --resize."
        )
    return resized(frames, (wanted[0], wanted[1]))


def resized(frames: "Tensor", size: tuple[int, int]) -> "Tensor":
    """Frames (F, 3, h, w) in [0, 1] at another size (H, W): bicubic, antialiased, clamped."""
    from torch.nn.functional import interpolate

    return interpolate(frames, size, mode="bicubic", antialias=True).clamp(0, 1)


def metric_suite(choice: str, overrides: Sequence[str]) -> "MetricSuite":
    """The metrics of a config, with networks.

    Args:
        choice: a file of configs/metrics, here or in the user's own ./configs.
        overrides: of its settings.

    Raises:
        ValueError: if a setting is wrong, or a network cannot be loaded.
    """
    import os

    from hydra.utils import instantiate

    from csd_lab.composition import composed
    from csd_lab.typed import find_own_parts, prepare

    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    chosen = [] if any(o.startswith("metrics=") for o in overrides) else [f"metrics={choice}"]
    find_own_parts()
    config = composed(*prepare([*chosen, *overrides]))
    suite: MetricSuite = instantiate(config.metrics)
    return suite


def evaluate(task: "EditTask", edited: "Mapping[str, Tensor]", suite: "MetricSuite") -> Result:
    """Measure edited clips.

    Args:
        task: source, captions and right answers.
        edited: frames by clip, (F, 3, H, W) each, in [0, 1].
        suite: the metrics.
    """
    from csd_lab.types import Artefact

    artefacts = {name: Artefact(frames, task) for name, frames in edited.items()}
    metrics = {name: suite.evaluate(artefact) for name, artefact in artefacts.items()}
    measured = next(iter(metrics.values()))
    notes = {name: suite.metrics[name].note for name in measured}
    return Result(metrics, notes, suite.skipped(next(iter(artefacts.values()))))


def write_json(path: Path, source: str, result: Result) -> None:
    """Write the figures, null where undefined; the file appears whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    from csd_lab.files import atomic_path

    edited = [
        {"path": clip, "metrics": {k: v if math.isfinite(v) else None for k, v in values.items()}}
        for clip, values in result.metrics.items()
    ]
    content = {
        "source": source,
        "edited": edited,
        "notes": {name: note._asdict() for name, note in result.notes.items()},
        "skipped": result.skipped,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def show(result: Result) -> None:
    """Print the figures, the best of several in bold, what they mean, and what was left out."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    if result.notes:
        console.print(figures_table(result), meanings_table(result))
        console.print(" \N{UPWARDS ARROW} higher is better, \N{DOWNWARDS ARROW} lower is better\n")
    for reason, names in grouped(result.skipped).items():
        console.print(Text(f"left out, {reason}: {', '.join(names)}"))


def figures_table(result: Result) -> "Table":
    """A row a metric with an arrow to the better, a column a clip."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD)
    table.add_column("metric", no_wrap=True)
    for name in headings(list(result.metrics)):
        table.add_column(Text(name, overflow="fold"), justify="right", min_width=9)
    table.add_column("unit", no_wrap=True)
    for name, note in result.notes.items():
        values = [figures[name] for figures in result.metrics.values()]
        texts = [Text("undefined" if math.isnan(v) else f"{v:.4g}") for v in values]
        for text, value in zip(texts, values, strict=True):
            if is_best(value, values, note.higher_is_better):
                text.stylize("bold")
        table.add_row(Text(f"{name} {note.arrow}".strip()), *texts, Text(note.unit))
    return table


def meanings_table(result: Result) -> "Table":
    """What the metrics mean."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, note in result.notes.items():
        table.add_row(Text(name), Text(note.meaning))
    return table


def is_best(value: float, values: Sequence[float], higher: bool | None) -> bool:
    """Whether a figure is the best of several; none is where better has no direction."""
    defined = [v for v in values if not math.isnan(v)]
    if higher is None or len(values) < 2 or math.isnan(value):
        return False
    return value == (max(defined) if higher else min(defined))


def grouped(skipped: Mapping[str, str]) -> dict[str, list[str]]:
    """The metrics by what they lack, with the option that gives it."""
    options = {
        "a caption of the source": "--source-caption",
        "a caption of the target": "--target-caption",
        "right answer": "--target",
    }
    groups: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        remedies = [option for words, option in options.items() if words in reason]
        text = f"{reason} ({', '.join(remedies)})" if remedies else reason
        groups.setdefault(text, []).append(name)
    return groups


def headings(paths: Sequence[str]) -> list[str]:
    """A short name for each path: the end of it that no other path shares."""
    if len(paths) == 1:
        return [Path(paths[0]).name or paths[0]]
    parts = [Path(path).parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(part[-depth:]) for part in parts]
        if len(set(ends)) == len(ends):
            return ends
    return list(paths)


if __name__ == "__main__":
    main()
