"""Measures the embedded prior on unseen scenes and prints a table with the bars beside.

python scripts/evaluate_prior.py --frames <folder of pictures> --json prior.json
"""

import argparse
import json
from pathlib import Path

import torch
from prior_training.evaluation import Evaluation, Row, Sampling, read_frames
from rich.console import Console
from rich.table import Table

import csd_lab

COLUMNS = {
    "source": "source dB",
    "psnr": "PSNR dB",
    "gain": "gain dB",
    "nearer": "nearer",
    "right": "right",
    "commonest": "commonest",
    "caption": "caption found",
}
SMALLER_IS_BETTER = ("commonest",)
PARTS = ("autoencoder", "one_to_one", "one_to_many", "text_to_image")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shipped = Path(csd_lab.__file__).parent / "assets"
    parser.add_argument("--assets", type=Path, default=shipped, help="folder of the networks")
    parser.add_argument("--count", type=int, default=32, help="samples a family")
    parser.add_argument("--steps", type=int, default=20, help="DDIM steps")
    parser.add_argument("--text", type=float, default=3.0, help="text guidance of edits")
    parser.add_argument("--image", type=float, default=1.5, help="image guidance of edits")
    parser.add_argument("--prompt", type=float, default=5.0, help="guidance of text-to-image")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--frames", type=Path, help="folder of real pictures, for the looks")
    parser.add_argument("--frames-size", type=int, default=64, help="side of the real pictures")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def show(rows: list[Row], console: Console) -> None:
    """Print the rows: each figure with its bar, green where it is reached."""
    table = Table(title="The embedded prior on unseen scenes (bars in brackets)")
    table.add_column("")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row.name, *(_cell(row, key) for key in COLUMNS))
    console.print(table)


def _cell(row: Row, key: str) -> str:
    if key not in row.values:
        return ""
    value = row.values[key]
    share = key in ("nearer", "right", "commonest", "caption") or row.name == "text to image"
    text = f"{value:.0%}" if share else f"{value:.1f}"
    if key not in row.bars:
        return text
    bar = row.bars[key]
    reached = value <= bar if key in SMALLER_IS_BETTER else value >= bar
    shown = f"{bar:.0%}" if share else f"{bar:.0f}"
    return f"[{'green' if reached else 'red'}]{text}[/] ({shown})"


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments()
    sampling = Sampling(
        arguments.steps, arguments.text, arguments.image, arguments.prompt, seed=arguments.seed
    )
    evaluation = Evaluation(arguments.assets, sampling, arguments.count, arguments.device)
    rows = [row for part in arguments.parts for row in getattr(evaluation, part)()]
    if arguments.frames is not None:
        frames = read_frames(arguments.frames, arguments.frames_size, arguments.count)
        rows += evaluation.looks(frames)
    show(rows, Console())
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([row._asdict() for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
