"""The notebook runs from top to bottom, and shows what it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from tests.server_process import INLINE, serve

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "examples" / "tour.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The cells of the notebook after it has run in a kernel of its own, against a real server."""
    folder = tmp_path_factory.mktemp("notebook") / "udfs"
    shutil.copytree(ROOT / "udfs", folder, ignore=shutil.ignore_patterns("__pycache__"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    with serve(folder, *INLINE) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVER", server.url)
        # Nobody's own settings of IPython.
        patch.setenv("IPYTHONDIR", str(folder.parent / "ipython"))
        kernel = NotebookClient(notebook, timeout=50, iopub_timeout=40, kernel_name="python3")
        kernel.execute(cwd=folder.parent)
    cells: list[dict[str, Any]] = notebook.cells
    return cells


def shown(cells: list[dict[str, Any]], code: str, kind: str = "text/html") -> str:
    """What the cell that contains `code` shows as `kind`, or prints."""
    (cell,) = [cell for cell in cells if cell["cell_type"] == "code" and code in cell["source"]]
    parts = [
        output["text"] if output["output_type"] == "stream" else output["data"].get(kind, "")
        for output in cell["outputs"]
    ]
    return "\n".join(parts)


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert [
        cell["outputs"] for cell in cells if cell["cell_type"] == "code" and cell["outputs"]
    ] == []


def test_it_shows_what_there_is_to_call(executed: list[dict[str, Any]]) -> None:
    assert "delays(month: int | None = None" in shown(executed, "os.environ")
    assert "12; all if empty." in shown(executed, 'client.udfs()["delays"]')


def test_it_shows_a_table_with_types(executed: list[dict[str, Any]]) -> None:
    page = shown(executed, "client.run(")
    assert "<small>int64</small>" in page
    assert "33 rows, 7 columns; the first shown" in page


def test_it_maps_with_a_progress_bar(executed: list[dict[str, Any]]) -> None:
    page = shown(executed, "year.df()")
    assert "12/12" in page
    assert "399 rows" in page


def test_it_lists_what_failed_and_keeps_the_rest(executed: list[dict[str, Any]]) -> None:
    assert "5 of 5 inputs done, 2 failed" in shown(executed, "bands.wait()")
    listed = shown(executed, "bands.errors", "text/plain")
    assert "(3,\n  {'min_elevation': 2000},\n  webfoot.errors.InvalidParameters(" in listed
    page = shown(executed, "bands.sql")
    assert "PartialResultsWarning: 2 of 5 inputs failed" in page
    assert "3 rows, 3 columns" in page


def test_it_makes_a_job_and_takes_it_up_again(executed: list[dict[str, Any]]) -> None:
    assert "<code>taxi_cells</code>" in shown(executed, "client.submit(")
    assert "rows" in shown(executed, "client.job(job.id)")


def test_it_reads_the_catalog_in_duckdb(executed: list[dict[str, Any]]) -> None:
    assert "dep_delay_min" in shown(executed, "client.attach(con)")
