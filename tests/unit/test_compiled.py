"""Machine code on disk is never stale, never believed when damaged, and never somebody else's."""

from __future__ import annotations

import os
import pkgutil
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from numba.core.dispatcher import Dispatcher

import dqlearn
from dqlearn import envs
from dqlearn.envs.faces.gym_view import view_kernels
from dqlearn.envs.problems.torus import torus
from dqlearn.jit import fingerprint
from dqlearn.jit.code_folder import _chosen, code_folder, own_folder
from dqlearn.jit.fingerprint import source_stamp

# What is stamped

TEMPLATE, TORUS = "kernels/templates/rollout_template", "envs/problems/torus"


def kernels(*modules: ModuleType) -> Iterator[Dispatcher]:
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, Dispatcher) and value.__module__ == module.__name__:
                yield value


def test_every_kernel_of_dqlearn_has_a_stamp() -> None:
    """One without would be compiled anew in each process, in silence."""
    names = [module.name for module in pkgutil.walk_packages(dqlearn.__path__, "dqlearn.")]
    public = [
        import_module(name) for name in names if "_template" not in name and "__main__" not in name
    ]
    families = [getattr(envs, name) for name in envs.__all__ if hasattr(getattr(envs, name), "of")]
    models = [family.make() for family in families if family is not envs.Family] + [torus(4)]
    special = [made for model in models for made in (model.kernels, view_kernels(model))]
    found = list(kernels(*public, *special))
    assert len(models) == 7
    assert len(found) > 140
    assert [kernel for kernel in found if source_stamp(kernel.py_func) is None] == []


def test_each_source_in_the_closure_is_part_of_the_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source is named by what compiled code reaches, through overloads and inlining too."""
    model = torus(4)
    reached = {
        "walk_and_route": {
            *(TEMPLATE, TORUS, "random"),
            *("kernels/members", "kernels/route", "kernels/ties"),
        },
        "play": {
            *(TEMPLATE, TORUS, "random"),
            *("kernels/choose", "kernels/hashing", "kernels/summary", "kernels/ties"),
        },
        "tabulate": {"kernels/templates/view_template", TEMPLATE, TORUS},
    }
    own = Path(dqlearn.__path__[0])
    read = fingerprint._text
    for name, expected in reached.items():
        kernel = getattr(view_kernels(model) if name == "tabulate" else model.kernels, name)
        before = source_stamp(kernel.py_func)
        changed = set()
        for source in own.rglob("*.py"):
            with monkeypatch.context() as patch:
                patch.setattr(
                    fingerprint,
                    "_text",
                    lambda file, source=source: read(file) + b"#" * (Path(file) == source),
                )
                if source_stamp(kernel.py_func) != before:
                    changed.add(str(source.relative_to(own).with_suffix("")))
        assert changed == expected, name


# Processes that come after each other

KERNEL = """
import numpy as np
from dqlearn.kernels.hashing import find_chunks
from dqlearn.table.hash_grid import HashGrid

print(*HashGrid.of(1000, 2, 10, 4).find_rows(np.arange(0, 32, 4)))
print(sum(find_chunks.stats.cache_hits.values()), sum(find_chunks.stats.cache_misses.values()))
"""

MODEL = """
import numpy as np
import dqlearn

def initial(key, params):
    return 0

def transition(state, action, key, params):
    return 0, float(action), True

model = dqlearn.TabularEnv(1, 8, initial, transition)
state, returns, lengths = np.zeros(1, np.int64), np.zeros(1), np.zeros(1, np.int64)
episodes = state, np.ones(1, np.bool_), returns, lengths
play = model.kernels.play
play(np.zeros(1, np.uint64), 10, model.limits, (), np.array([1]), state, episodes)
print(int(returns[0]))
print(sum(play.stats.cache_hits.values()), sum(play.stats.cache_misses.values()))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, to be changed."""
    shutil.copytree(
        dqlearn.__path__[0], tmp_path / "site/dqlearn", ignore=shutil.ignore_patterns("*.nb[ci]")
    )
    return tmp_path / "site"


@pytest.fixture
def sealed(package: Path) -> Path:
    """The copy, when nothing can be written beside its sources."""
    for folder in [path for path in package.rglob("*") if (path / "__init__.py").exists()]:
        shutil.rmtree(folder / "__pycache__", ignore_errors=True)
        (folder / "__pycache__").write_text("in the place of a folder")
    return package


def run(
    package: Path, cache: Path | None, program: str = KERNEL, **environment: str
) -> tuple[list[int], list[int], str]:
    """What a program prints, hits and misses, and what it warns of, in a process of its own."""
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    kept |= {"PYTHONPATH": str(package), "DQLEARN_CACHE_DIR": str(cache or "")} | environment
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=package,  # which is where Python looks first
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values, counts = ([int(word) for word in line.split()] for line in done.stdout.splitlines())
    return values, counts, done.stderr


def edit(file: Path, old: str, new: str) -> None:
    """Change one source, and no other."""
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 10**10))  # so that Python sees it


@pytest.mark.parametrize(
    ("program", "kernel", "file", "old", "new"),
    [
        (
            MODEL,
            "rollout_template.play",
            "kernels/choose.py",
            "greedy, state: np.int64(greedy[state])",
            "greedy, state: np.int64(greedy[0] + 2)",
        ),
        pytest.param(
            *(KERNEL, "hashing.find_chunks"),
            *("random.py", "0x94D049BB133111EB", "0x94D049BB133111ED"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["specialised", "the package's own"],
)
def test_a_changed_callee_in_another_file(
    program: str, kernel: str, file: str, old: str, new: str, package: Path, tmp_path: Path
) -> None:
    """It is compiled anew, under another name; what was compiled before stays."""
    cache = tmp_path / "cache"
    before, counts, _ = run(package, cache, program)
    assert counts == [0, 1]
    assert run(package, cache, program) == (before, [1, 0], "")
    edit(package / "dqlearn" / file, old, new)
    after, counts, _ = run(package, cache, program)
    assert counts == [0, 1]
    assert after != before
    assert len(list(cache.rglob(f"{kernel}-*.nbi"))) == 2
    edit(package / "dqlearn" / file, new, old)
    assert run(package, cache, program) == (before, [1, 0], "")


@pytest.mark.slow
@pytest.mark.parametrize("left", [0.0, 0.5])
def test_damaged_files_are_written_again(left: float, package: Path, tmp_path: Path) -> None:
    """Emptied ones, as after a crash, and truncated ones."""
    cache = tmp_path / "cache"
    values, _, _ = run(package, cache)
    sizes = {file: file.stat().st_size for file in cache.rglob("*.nb[ci]")}
    for kind in (".nbi", ".nbc"):
        for file in (file for file in sizes if file.suffix == kind):
            os.truncate(file, int(left * sizes[file]))
        assert run(package, cache) == (values, [0, 1], "")
        assert {file: file.stat().st_size for file in sizes} == sizes
    assert run(package, cache) == (values, [1, 0], "")


CLOSURES = """
import os
import numpy as np
from dqlearn.algorithms import Q_LEARNING, Extent
from dqlearn.kernels.ties import ties

def made(k):
    row = np.arange(k + 1, dtype=np.float32)[None]
    return int(Q_LEARNING.find(row, Extent(8, ties(0)))[0][0][0])

print(*(made(int(k)) for k in os.environ["ORDER"].split()))
print()
"""

FACTORY = """
import os
import numpy as np
import dqlearn

def made(k):
    def initial(key, params):
        return 0

    def transition(state, action, key, params):
        s = state
        for i in range(7):
            s = (s * 31 + action * (i + 1) + k) % 1009
            if s % 5 == 2:
                s += 3
            elif s % 7 == 3:
                s -= 2
        return s, float(k), True

    learner = dqlearn.QLearner(dqlearn.TabularEnv(1012, 4, initial, transition), learning_rate=1.0)
    return int(learner.learn(1).table.q.compute().max())

print(*(made(int(k)) for k in os.environ["ORDER"].split()))
print()
"""


@pytest.mark.parametrize(
    "program",
    # Four processes compile all kernels of a model each.
    [
        pytest.param(CLOSURES, id="kernels"),
        pytest.param(FACTORY, id="models", marks=pytest.mark.slow),
    ],
)
def test_closures_of_one_name_that_several_processes_compiled(program: str, tmp_path: Path) -> None:
    """A process that loads what three others have compiled of one factory has all three."""
    package = Path(dqlearn.__path__[0]).parent
    for k in (1, 2, 3):
        assert run(package, tmp_path, program, ORDER=str(k))[0] == [k]
    for order in ([1, 2, 3], [3, 2, 1]):
        found, _, _ = run(package, tmp_path, program, ORDER=" ".join(map(str, order)))
        assert found == order


OTHERS = """
from numba import guvectorize

@guvectorize(["(f8[:], f8[:])"], "(n)->(n)", cache=True)
def running(values, sums):
    total = 0.0
    for i in range(values.size):
        total += values[i]
        sums[i] = total
"""

GUFUNC = """
import dqlearn.jit.compiled
import os
import sys
sys.path.append(os.environ["OTHERS"])
import others

print(*(int(total) for total in others.running([0.0, 1.0, 2.0, 3.0])))
print()
"""


def test_kernel_and_wrapper_of_another_package_that_two_processes_compiled(tmp_path: Path) -> None:
    """Numba keeps them in two files: the wrapper of one process finds the kernel of another."""
    (tmp_path / "others.py").write_text(OTHERS)
    package, first, second = Path(dqlearn.__path__[0]).parent, tmp_path / "1", tmp_path / "2"

    def totals(kept: Path) -> list[int]:
        where = {"OTHERS": str(tmp_path), "NUMBA_CACHE_DIR": str(kept)}
        return run(package, None, GUFUNC, **where)[0]

    assert totals(first) == totals(second) == [0, 1, 3, 6]
    wrappers = list(first.rglob("guf-*"))
    assert wrappers
    for wrapper in wrappers:
        shutil.copy(wrapper, second / wrapper.relative_to(first))
    assert totals(second) == [0, 1, 3, 6]


def test_a_read_only_installation_without_a_home(sealed: Path, tmp_path: Path) -> None:
    """Machine code is kept in a folder of the user's own; the one warning says where."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    where = {"HOME": "/proc/nonexistent", "TMPDIR": str(temporary)}
    values, counts, said = run(sealed, None, **where)
    own = temporary / f"dqlearn-{os.getuid()}"
    assert said.count("Warning: ") == 1
    assert f"kept in {own}, as it cannot be in '~/.cache'" in said
    assert "/proc/nonexistent" in said
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert counts == [0, 1]
    assert run(sealed, None, **where)[:2] == (values, [1, 0])


def test_nowhere_to_keep_machine_code(sealed: Path, tmp_path: Path) -> None:
    """All is compiled in each process, which says so once."""
    (tmp_path / f"dqlearn-{os.getuid()}").write_text("in the place of a folder")
    cache = tmp_path / "site/dqlearn/random.py"
    for _ in range(2):
        _, counts, said = run(sealed, cache, TMPDIR=str(tmp_path))
        assert said.count("Warning: ") == 1
        assert "machine code is not kept, and each process compiles it anew" in said
        assert f"'{cache}'" in said
        assert counts == [0, 1]


# The folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for the folder; that for a second choice is beside it."""
    monkeypatch.setenv("DQLEARN_CACHE_DIR", str(tmp_path / "root"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _chosen.cache_clear()
    yield tmp_path / "root"
    _chosen.cache_clear()


def test_the_folder_is_the_users_own(root: Path) -> None:
    assert code_folder() == root / "dqlearn"
    assert stat.S_IMODE((root / "dqlearn").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720, 0o1777], ids=oct)
def test_a_folder_that_others_may_write_to(root: Path, mode: int) -> None:
    (root / "dqlearn").mkdir(parents=True)
    (root / "dqlearn").chmod(mode)
    with pytest.warns(UserWarning, match=rf"others may write to {root}/dqlearn; set DQLEARN_CACHE"):
        assert code_folder() == root.parent / f"dqlearn-{os.getuid()}"
    assert code_folder() == root.parent / f"dqlearn-{os.getuid()}"  # and no second warning


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder another user's")
def test_a_folder_of_another_user(root: Path) -> None:
    """Neither the first choice nor the second, which anybody could have made, is believed."""
    second = root.parent / f"dqlearn-{os.getuid()}"
    for folder in (root / "dqlearn", second):
        folder.mkdir(parents=True, mode=0o755)
        os.chown(folder, 12345, -1)
    with pytest.warns(UserWarning, match=r"not kept.*belongs to another user"):
        assert code_folder() is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a link another user's")
def test_a_link_of_another_user(tmp_path: Path) -> None:
    """It leads to a folder of this user's, but can be turned round."""
    own_folder(tmp_path / "own")
    (tmp_path / "link").symlink_to(tmp_path / "own")
    assert own_folder(tmp_path / "link") == tmp_path / "link"
    os.lchown(tmp_path / "link", 12345, -1)
    with pytest.raises(PermissionError, match="another user"):
        own_folder(tmp_path / "link")
