"""The notebooks are pages, which run when they are read: ``notebooks/`` ─► ``docs/notebooks/``.

Sphinx reads no files outside its folder. So copies are made before it looks for pages; git ignores
them. A notebook whose packages, named in its metadata, are not installed becomes a page without
outputs that says so.

Invariant: a copy is written only where it changes, so that a notebook that did not change does not
run again.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_markdown_cell
from sphinx.application import Sphinx

NOT_RUN = """
:::{{note}}
No outputs: what this notebook needs was not installed where the page was made ({missing}).
:::
"""


def page(source: Path) -> str:
    """Return what is read instead of a notebook."""
    notebook = nbformat.read(source, as_version=4)
    missing = [name for name in notebook.metadata.get("needs", []) if find_spec(name) is None]
    if missing:
        notebook.metadata["mystnb"] = {"execution_mode": "off"}
        note = NOT_RUN.format(missing=", ".join(missing))
        notebook.cells.insert(1, new_markdown_cell(note, id="not-run"))
    return nbformat.writes(notebook)


def copy(app: Sphinx) -> None:
    """Bring the copies up to date."""
    source, copies = Path(app.srcdir).parent / "notebooks", Path(app.srcdir) / "notebooks"
    pages = {path.name: page(path) for path in source.glob("*.ipynb")}
    copies.mkdir(exist_ok=True)
    for path in copies.glob("*.ipynb"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = copies / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Copy when the builder is there, before pages are looked for."""
    app.connect("builder-inited", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
