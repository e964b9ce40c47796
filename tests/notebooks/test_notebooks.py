"""Every notebook runs from top to bottom in a kernel of its own, and is kept without outputs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

CLAIMS = {
    "sumo_intersection": """
rivals = comparison.drop("learned")
assert (rivals["longer than learned"] > rivals["two standard errors"]).all(), comparison
assert (rivals["from the north"] > comparison.loc["learned", "from the north"]).all(), comparison
"""
}
"""What a notebook's prose says of its results: run after its last cell."""


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def runnable() -> list[object]:
    """Return all notebooks; those whose packages, in their metadata, are missing are skipped."""
    params = []
    for path in NOTEBOOKS:
        missing = [name for name in read(path).metadata.get("needs", []) if find_spec(name) is None]
        reason = f"{path.name} needs {', '.join(missing)}: pip install 'dqlearn[sumo]'"
        skip = pytest.mark.skipif(bool(missing), reason=reason)
        params.append(pytest.param(path, id=path.stem, marks=skip))
    return params


def test_there_are_notebooks() -> None:
    stems = {path.stem for path in NOTEBOOKS}
    assert {"quickstart", *CLAIMS} <= stems


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_has_no_outputs(path: Path) -> None:
    for cell in code_cells(read(path)):
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", runnable())
def test_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPLBACKEND", raising=False)  # plots go into the notebook, as for a user
    notebook = read(path)
    if path.stem in CLAIMS:
        notebook.cells.append(new_code_cell(CLAIMS[path.stem]))
    NotebookClient(
        notebook, timeout=600, startup_timeout=300, resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    drawn = "".join(cell.source for cell in code_cells(notebook)).count("plt.subplots(")
    assert sum("image/png" in output.get("data", {}) for output in outputs) == drawn
