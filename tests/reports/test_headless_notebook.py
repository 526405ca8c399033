"""The examples of docs/python.md as cells of a notebook, run by a real kernel without a browser."""

from __future__ import annotations

import doctest
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
BLOCK = "```python"


def read_cells(page: Path) -> list[str]:
    """The code of each block of a page."""
    cells = []
    for part in page.read_text(encoding="utf-8").split(BLOCK)[1:]:
        examples = doctest.DocTestParser().get_examples(part.partition("```")[0])
        cells.append("".join(example.source for example in examples))
    return cells


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    cells = read_cells(ROOT / "docs" / "python.md")
    assert len(cells) == 7
    # What the page prints, a notebook shows as the last line of a cell
    cells[0] = cells[0].replace("print(result)", "result")
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    folder = tmp_path_factory.mktemp("notebook")
    client = NotebookClient(
        page, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})


def test_each_part_of_the_page_fits_a_cell():
    assert max(len(cell.splitlines()) for cell in read_cells(ROOT / "docs" / "python.md")) < 20


def test_every_cell_runs(notebook):
    errors = [
        output
        for cell in notebook.cells
        for output in cell.outputs
        if output.output_type == "error" or output.get("name") == "stderr"
    ]
    assert errors == []


def test_a_result_shows_as_a_card_and_as_text(notebook):
    shown = [out for out in notebook.cells[0].outputs if out.output_type == "execute_result"]
    (card,) = [out.data for out in shown if "memberscope-card" in out.data.get("text/html", "")]
    assert "<script" not in card["text/html"]
    assert len(card["text/plain"].splitlines()) <= 5 and "FAIL" in card["text/plain"]


def test_progress_shows_below_the_cell_and_goes_at_the_end(notebook):
    drawn = [out for out in notebook.cells[0].outputs if out.output_type == "display_data"]
    assert len(drawn) == 1
    # The bars were replaced by what was noted on the way, here nothing
    assert "<progress" not in drawn[0].data["text/html"]


def test_an_attack_that_was_typed_into_a_cell_has_a_digest(notebook):
    assert notebook.cells[4].outputs[-1].data["text/plain"] == "True"
