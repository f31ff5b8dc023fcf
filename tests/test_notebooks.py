"""The notebooks as they stand in the repository: without outputs, one idea a cell. `.ci/run` executes them."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_LINES = 20  # of one cell


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    found = nbformat.read(request.param, as_version=4)
    nbformat.validate(found)
    return found


def test_there_are_three_and_the_page_names_them() -> None:
    page = (ROOT / "docs" / "tutorials" / "notebooks.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 3 and all(f"`{path.name}`" in page for path in NOTEBOOKS)


def test_no_outputs_are_kept(notebook: nbformat.NotebookNode) -> None:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and not [cell for cell in cells if cell.outputs or cell.execution_count is not None]


def test_a_sentence_stands_before_every_cell(notebook: nbformat.NotebookNode) -> None:
    for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown" and before.source.rstrip().endswith((".", ":", "?"))
            assert len(cell.source.splitlines()) <= MOST_LINES


def test_colab_can_run_it_from_the_package_alone(notebook: nbformat.NotebookNode) -> None:
    assert "colab.research.google.com" in notebook.cells[1].source
    assert "%pip install" in notebook.cells[2].source and "prompt-inversion" in notebook.cells[2].source
    later = "".join(cell.source for cell in notebook.cells[3:] if cell.cell_type == "code")
    assert "experiments" not in later and "../" not in later  # what a clone alone has
