"""Runs the notebooks in an empty folder and stores them with what they show.

    python scripts/run_notebooks.py                                # all of notebooks/
    python scripts/run_notebooks.py notebooks/02_read_a_sweep.ipynb

What is stored is clean: no times of cells, no versions, and plots of few colours, which take a
third of the bytes. Code and texts are left as they are; a notebook that fails is left as it was.
"""

import argparse
import base64
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
COLOURS = 128
MOST_COLOURS_OF_A_PLOT = 10_000
TIMEOUT = 900
"""Seconds that a cell may take."""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of notebooks/")
    chosen = parser.parse_args().notebooks or sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in chosen:
        begun = time.monotonic()
        notebook = nbformat.read(path, as_version=4)
        execute(notebook)
        clean(notebook)
        nbformat.validate(notebook)
        nbformat.write(notebook, path)
        seconds, size = time.monotonic() - begun, path.stat().st_size
        print(f"{path.name}: {seconds:.0f} s, {size / 1024:.0f} KB")


def execute(notebook: NotebookNode) -> None:
    """Run a notebook's cells in a temporary folder; their outputs are written into it.

    Raises:
        CellExecutionError: if a cell fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        where = {"metadata": {"path": folder}}
        NotebookClient(
            notebook, timeout=TIMEOUT, record_timing=False, coalesce_streams=True, resources=where
        ).execute()


def clean(notebook: NotebookNode) -> None:
    """Leave what a reader looks at, and nothing that differs from machine to machine."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data = nbformat.from_dict({"image/png": smaller(output.data)})
                output.metadata = nbformat.from_dict({})


def smaller(data: dict[str, Any]) -> str:
    """A picture in base64: a plot with a palette, a photograph as it is."""
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
    if picture.getcolors(MOST_COLOURS_OF_A_PLOT):
        picture = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode() + "\n"


if __name__ == "__main__":
    main()
