"""Checks that the newest run below a folder wrote everything that the README promises."""

import json
import sys
from pathlib import Path

PROMISED = (
    "config.yaml",
    "edited.mp4",
    "side_by_side.mp4",
    "contact_sheet.png",
    "metrics.csv",
    "metrics.json",
    "report.html",
    "run.log",
    "checkpoints/last.ckpt",
    "plots/kernel.png",
)


def main(outputs: Path) -> None:
    """Exit with a message if a promised file is missing or empty, or a metric is not a number."""
    runs = sorted(path.parent for path in outputs.glob("*/*/config.yaml"))
    if not runs:
        sys.exit(f"There is no run below {outputs}.")
    missing = [
        name
        for name in PROMISED
        if not (runs[-1] / name).is_file() or not (runs[-1] / name).stat().st_size
    ]
    if missing:
        sys.exit(f"The run {runs[-1]} lacks {', '.join(missing)}.")
    metrics = json.loads((runs[-1] / "metrics.json").read_text())["metrics"]
    if not metrics or None in metrics.values():
        sys.exit(f"metrics.json holds no numbers: {metrics}.")
    print(f"{runs[-1]} is complete: {len(PROMISED)} files, {len(metrics)} metrics.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
