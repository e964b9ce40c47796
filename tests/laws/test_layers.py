"""The walls of the house: imports point down, and each foreign library has its owners.

The names of folders and of modules at the root stand for layers, the lowest first. Two that share a
layer do not know each other. These are laws of the sources, so they are read, not run.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import dqlearn

ROOT = Path(dqlearn.__path__[0])

LAYERS = (
    {"errors", "ids", "packing", "text"},
    {"checks"},
    {"jit"},
    {"random", "statistics"},
    {"kernels", "schedules", "spaces"},
    {"algorithms"},
    {"events"},
    {"envs", "table"},
    {"exact", "stages"},
    {"storage"},
    {"engine", "policy"},
    {"certificates"},
    {"callbacks"},
    {"training"},
    {"learner", "runs"},
    {"testing"},
    {"__init__"},
    {"cli"},
    {"__main__"},
)

OWNERS = {
    "zarr": {"storage.icechunk", "storage.origin", "storage.zarr_table"},
    "icechunk": {"storage.icechunk", "storage.location"},
    "distributed": {"engine", "cli"},
    "dask._task_spec": {"table.keys"},
}

EXTRAS = {"bokeh", "ipywidgets", "matplotlib", "networkx"}
"""What a user need not have: the only imports inside functions."""

LATE = {
    "dqlearn.envs.problems.drawing",  # needs matplotlib
    "dqlearn.policy.opening",  # needs Zarr, which takes as long to import as all that decides
    "dqlearn.policy.compiled",  # needs Numba, for rules of the user's own alone
}
"""What is imported inside functions too, since its import is what one waits for."""

FEW = 13
"""Modules in a folder, its head included."""

FILES = sorted(ROOT.rglob("*.py"))


def name_of(file: Path) -> str:
    """A module's name below the package; a package's head has that of its folder."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {name_of(file): ast.parse(file.read_text()) for file in FILES}


def imported(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the modules that are imported, whole names, also those for type checkers alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                known = whole.removeprefix("dqlearn.") in MODULES
                yield (whole if known else node.module or ""), node


def own(tree: ast.AST) -> set[str]:
    """The modules of dqlearn that are imported, by their names below the package."""
    names = {name for name, _ in imported(tree)}
    return {
        name.removeprefix("dqlearn.") if "." in name else "__init__"
        for name in names
        if name.split(".")[0] == "dqlearn"
    }


def layer(module: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if module.split(".")[0] in names)


def test_every_module_has_a_layer() -> None:
    assert {name.split(".")[0] for name in MODULES} == set().union(*LAYERS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    here = module.split(".")[0]
    others = {name for name in own(MODULES[module]) if name.split(".")[0] != here}
    assert {name for name in others if layer(name) >= layer(module)} == set()


@pytest.mark.parametrize("library", OWNERS)
def test_each_library_has_its_owners(library: str) -> None:
    users = {
        module
        for module, tree in MODULES.items()
        if any(name == library or name.startswith(f"{library}.") for name, _ in imported(tree))
    }
    assert users
    owners = OWNERS[library]
    assert {u for u in users if not any(f"{u}.".startswith(f"{o}.") for o in owners)} == set()


@pytest.mark.parametrize("module", MODULES)
def test_functions_import_optional_extras_only(module: str) -> None:
    functions = [
        node
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    inside = {name for function in functions for name, _ in imported(function)}
    assert {name for name in inside - LATE if name.split(".")[0] not in EXTRAS} == set()


def test_there_is_no_cycle() -> None:
    """Families apart: their baselines and pictures name the family for type checkers."""
    graph = {m: own(tree) - {m} for m, tree in MODULES.items() if "envs.problems." not in m}
    sorter = TopologicalSorter(graph)
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_room_is_crowded() -> None:
    rooms: dict[Path, int] = {}
    for file in FILES:
        rooms[file.parent] = rooms.get(file.parent, 0) + 1
    assert {str(room): n for room, n in rooms.items() if n > FEW} == {}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("dqlearn.envs", ["dask", "distributed", "xarray", "zarr", "icechunk"]),
        ("dqlearn.policy", ["dask", "distributed", "numba", "xarray", "zarr", "icechunk"]),
        ("dqlearn.policy.opening", ["dask", "distributed", "numba", "xarray"]),
        ("dqlearn.engine.cluster", ["icechunk"]),
        ("dqlearn.engine.lifecycle", ["zarr", "icechunk"]),
        ("dqlearn.training.checkpointer", ["zarr", "icechunk"]),
        ("dqlearn.stages.rollout", ["distributed", "zarr", "icechunk"]),
    ],
)
def test_what_an_import_does_not_bring(module: str, absent: list[str]) -> None:
    program = f"import sys, {module}; print([m for m in {absent} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
