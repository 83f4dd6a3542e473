"""The notebooks run from beginning to end, and are stored as readers should find them."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LIMIT = 1024 * 1024
MACHINE = re.compile(
    r"(?<![\w.])(/(home|root|Users|tmp|work|mnt|opt|usr|var)/|[A-Z]:\\\\|0x[0-9a-f]{6})"
)
"""Absolute paths, and addresses of objects."""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def words(notebook):
    """All of a notebook but its pictures, whose base64 can spell anything."""
    bare = nbformat.from_dict(json.loads(json.dumps(notebook)))
    for cell in code_cells(bare):
        for output in cell.outputs:
            output.get("data", {}).pop("image/png", None)
    return json.dumps(bare, ensure_ascii=False)


def test_all_are_there():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03"]


@pytest.mark.slow
@each_notebook
def test_it_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=where).execute()
    assert [cell.execution_count for cell in code_cells(notebook)] == list(
        range(1, len(code_cells(notebook)) + 1)
    )


@each_notebook
def test_it_is_stored_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < LIMIT
    assert not MACHINE.search(words(notebook))
    assert notebook.metadata.language_info == {"name": "python"}
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@each_notebook
def test_it_is_stored_as_it_ran(path):
    cells = code_cells(nbformat.read(path, as_version=4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"display_data", "execute_result", "stream"}
    assert all(out.get("name") != "stderr" for cell in cells for out in cell.outputs)


@each_notebook
def test_it_shows_pictures_and_checks_what_it_says(path):
    cells = code_cells(nbformat.read(path, as_version=4))
    shown = [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(shown) >= 4
    assert sum(cell.source.count("assert ") for cell in cells) >= 10
