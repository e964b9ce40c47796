"""Balance: grids of even loads are of the same table, and even."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqlearn.table.grid import ChunkGrid, block_bits
from dqlearn.table.rebalance import evener, joined, load, visits_of_blocks

sizes = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple)
loads = st.lists(st.integers(0, 50), min_size=8, max_size=60)


def shares(grid: ChunkGrid, work: np.ndarray) -> list[float]:
    """Return the load of each chunk of a table whose blocks are single states."""
    return [work[a:b].sum() for a, b in zip(grid.row_edges, grid.row_edges[1:], strict=False)]


@given(loads, st.integers(2, 8))
def test_chunks_become_even(work: list[int], n: int) -> None:
    """As nearly as single blocks allow; or there was no need."""
    work, begun = np.array(work, float), ChunkGrid.of(len(work), 2, (-(-len(work) // n), -1), 4)
    grid = evener(begun, begun, work, least=1)
    before = max(shares(begun, work))
    if grid is None:
        fair = work.sum() / begun.n_rows
        assert before <= max(1.5 * (fair + work.max()), fair + work.max() + 1)
        return
    assert grid.shape == begun.shape
    after = max(shares(grid, work))
    assert after <= work.sum() / begun.n_rows + work.max()
    assert before > 1.5 * after
    assert before > after + 1
    assert max(grid.rows) <= 2 * max(begun.rows)
    assert grid.n_rows <= 2 * begun.n_rows
    assert evener(grid, begun, work, least=1) is None


def test_what_is_even_stays() -> None:
    grid = ChunkGrid((50, 50), (3,))
    assert evener(grid, grid, np.ones(100), least=0) is None
    assert evener(grid, grid, np.zeros(100), least=0) is None
    skewed = np.where(np.arange(100) < 10, 9.0, 0.1)
    assert evener(grid, grid, skewed, least=60) is None
    assert evener(grid, grid, skewed, least=30) is not None


def test_edges_are_found_without_a_search() -> None:
    """However skewed a large table is: chunks are still whole blocks."""
    begun = ChunkGrid.of(10_000_000, 4, "auto", 4)
    blocks = -(-10_000_000 >> block_bits(10_000_000))
    work = 1e6 / (1 + np.arange(blocks)) ** 2
    grid = evener(begun, begun, work, least=1000)
    assert grid is not None
    assert grid.locators[0].exact
    assert grid.rows[0] == 1 << block_bits(10_000_000)  # more than a share, and one block


@given(sizes, st.data())
def test_parts_cut_a_table_up(rows: tuple[int, ...], data: st.DataObject) -> None:
    n = sum(rows)
    inner = data.draw(st.sets(st.integers(1, n - 1), max_size=6)) if n > 1 else set()
    after = ChunkGrid(tuple(np.diff([0, *sorted(inner), n]).tolist()), (2,))
    before = ChunkGrid(rows, (2,))
    whole = np.arange(n)
    own = np.split(whole, before.row_edges[1:-1])
    for c, expected in enumerate(np.split(whole, after.row_edges[1:-1])):
        found = [own[i][states] for i, (states, _), _ in before.overlaps(after.region(c))]
        assert np.concatenate(found).tolist() == expected.tolist()
        assert all(map(len, found))


@pytest.mark.parametrize("n_states", [5, 4096, 10_001])
def test_visits_are_counted_by_blocks(n_states: int) -> None:
    size = 1 << block_bits(n_states)
    rows = min(3 * size + 1, n_states)
    visits = np.random.default_rng(0).integers(0, 2**32, (rows, 3), np.uint32)
    expected = [visits[i : i + size].sum(dtype=np.int64) for i in range(0, rows, size)]
    assert visits_of_blocks(visits, n_states).tolist() == expected


def test_load_by_hand() -> None:
    """Of 10 visits 8 fell on state 0; a pair that is looked at is 0.2 of an update."""
    grid, visits = ChunkGrid((2, 1), (5,)), np.array([8, 2, 0])
    assert load(visits, grid, 100, maxima=False).tolist() == [80, 20, 0]
    assert load(visits, grid, 100, maxima=True).tolist() == [81, 21, 1]
    assert load(0 * visits, grid, 100, maxima=True).tolist() == [1, 1, 1]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(1, 8), st.data())
def test_arrays_are_joined(sizes: list[int], block: int, data: st.DataObject) -> None:
    """Bit by bit, whatever is zero in them."""
    values = st.sampled_from([0.0, -0.0, 1.5])
    arrays = [
        np.array(data.draw(st.lists(values, min_size=n, max_size=n)), "f4")[:, None] for n in sizes
    ]
    assert joined(arrays, block).tobytes() == b"".join(array.tobytes() for array in arrays)
