"""What the page on the architecture says of files and names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import dqlearn

ROOT = Path(dqlearn.__path__[0])
PAGE = (ROOT.parent / "docs/explanation/architecture.md").read_text()
FILE = r"`((?:\w+/)*\w+\.py)`"
FILES = sorted({*re.findall(FILE, PAGE)})
NAMED = sorted({*re.findall(rf"`([\w.]+)`\s+\({FILE}\)|`([\w.]+)`\s+(?:in|of)\s+{FILE}", PAGE)})
PAIRS = [(a or c, b or d) for a, b, c, d in NAMED]


def names_in(file: str) -> set[str]:
    """Functions, classes and constants of a module, methods as ``Class.method``."""
    found = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (it for it in node.body if isinstance(it, ast.FunctionDef))
            found |= {f"{node.name}.{method.name}" for method in methods}
    return found


@pytest.mark.parametrize("file", FILES)
def test_files_are_there(file: str) -> None:
    assert (ROOT / file).exists() or (ROOT.parent / file).exists()


@pytest.mark.parametrize(("name", "file"), PAIRS)
def test_names_are_where_the_page_says(name: str, file: str) -> None:
    assert name in names_in(file)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("find_targets", "kernels/route.py"),  # where is the target computed?
        ("route_tile", "kernels/route.py"),  # where does a transition find its chunk?
        ("Recovery", "training/recovery.py"),  # what does a worker's death do?
    ],
)
def test_the_page_answers_what_a_newcomer_asks(name: str, file: str) -> None:
    assert (name, file) in PAIRS
