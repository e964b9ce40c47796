"""Every Python block of the README and the docs runs, file by file, in a directory of its own.

A block that needs what no test has, such as SLURM, is a `{code-block} python` whose caption tells
the reader why it does not run; it is compiled.
"""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=fence)[ ]*$", re.M | re.S)


class Block(NamedTuple):
    info: str
    code: str
    lineno: int  # of the line before the code's first, counted from 1


def blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return [
        Block(m["info"].strip(), m["code"], 1 + text.count("\n", 0, m.start()))
        for m in FENCE.finditer(text)
    ]


def markdown_files() -> list[Path]:
    docs = (p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)
    return [ROOT / "README.md", *sorted(docs)]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def execute(block: Block, filename: str, namespace: dict[str, object]) -> None:
    """Run a block; blank lines in front make tracebacks show the lines of the file."""
    exec(compile("\n" * block.lineno + block.code, filename, "exec"), namespace)


def check_session(block: Block, filename: str, namespace: dict[str, object]) -> None:
    """Run a console session and compare what it prints."""
    session = doctest.DocTestParser().get_doctest(
        block.code, namespace, filename, filename, block.lineno
    )
    session.globs = namespace  # get_doctest copies: keep one namespace for the whole file
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=flags)
    results = runner.run(session, out=report.append, clear_globs=False)
    assert results.attempted > 0, f"{filename}:{block.lineno}: a pycon block without a prompt"
    assert results.failed == 0, "".join(report)


def check_syntax(block: Block, filename: str, namespace: dict[str, object]) -> None:
    """Compile a block that cannot run here, below the caption that says why."""
    caption, _, code = block.code.partition("\n\n")
    assert re.fullmatch(r":caption: Not run here: .+", caption), f"{filename}:{block.lineno}"
    compile("\n" * (block.lineno + 2) + code, filename, "exec")


RUN = {"python": execute, "pycon": check_session, "{code-block} python": check_syntax}
SLOW = ("cluster.md", "clusters.md", "network.md", "own-environment.md", "sweeps.md")
WITH_CODE = [p for p in markdown_files() if any(b.info in RUN for b in blocks(p))]


def as_case(path: Path) -> Any:
    """Leave pages that start clusters, or compile environments, to the slow suite."""
    slow = path.name in SLOW or path.parent.name == "environments"
    return pytest.param(path, marks=pytest.mark.slow) if slow else path


@pytest.mark.parametrize("path", [as_case(path) for path in WITH_CODE], ids=relative)
def test_blocks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(path):
        if block.info in RUN:
            RUN[block.info](block, relative(path), namespace)


@pytest.mark.parametrize("path", markdown_files(), ids=relative)
def test_no_python_block_escapes(path: Path) -> None:
    infos = {b.info for b in blocks(path) if re.search(r"\bpy(thon|con)?3?\b", b.info)}
    assert infos <= RUN.keys()


def test_readme_shows_python() -> None:
    assert ROOT / "README.md" in WITH_CODE


def test_quick_start_is_two_commands() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Quick start\n")[1]
    section = section.split("\n## ")[0]
    infos = [m["info"] for m in FENCE.finditer(section)]
    assert [info for info in infos if info != "text"] == ["bash", "bash"]
