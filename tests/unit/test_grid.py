"""The chunk grid: who owns a pair, and where it stands."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqlearn.errors import GridError
from dqlearn.stages.route import route
from dqlearn.statistics import RoundStats
from dqlearn.table.grid import ChunkGrid, Locator
from dqlearn.table.transitions import Transitions

sizes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
grids = st.builds(ChunkGrid, sizes, sizes)


def cells(grid: ChunkGrid) -> list[tuple[int, int]]:
    """All (chunk, offset)."""
    shapes = [grid.chunk_shape(c) for c in range(grid.n_chunks)]
    return [(c, x) for c, (rows, columns) in enumerate(shapes) for x in range(rows * columns)]


@given(grids)
def test_pairs_and_cells_are_one_to_one(grid: ChunkGrid) -> None:
    n_states, n_actions = grid.shape
    pairs = list(itertools.product(range(n_states), range(n_actions)))
    located = [grid.locate(*pair) for pair in pairs]
    assert sorted(located) == cells(grid)
    assert [grid.pair(*cell) for cell in located] == pairs


@given(grids)
def test_a_chunk_is_a_block_of_the_table(grid: ChunkGrid) -> None:
    """Offsets run through a chunk as through the C-ordered block that it is."""
    table = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    for c in range(grid.n_chunks):
        (s, a), (rows, columns) = grid.origin(c), grid.chunk_shape(c)
        block = table[s : s + rows, a : a + columns].ravel()
        assert [table[grid.pair(c, x)] for x in range(block.size)] == block.tolist()


def test_an_uneven_grid_by_hand() -> None:
    grid = ChunkGrid((4, 1, 2), (3, 1))
    assert grid.shape == (7, 4)
    assert grid.row_edges.tolist() == [0, 4, 5, 7]
    assert grid.column_edges.tolist() == [0, 3, 4]
    assert [grid.position(c) for c in range(6)] == list(itertools.product(range(3), range(2)))
    assert grid.locate(0, 0) == (0, 0)
    assert grid.locate(3, 2) == (0, 11)
    assert grid.locate(3, 3) == (1, 3)
    assert grid.locate(4, 1) == (2, 1)
    assert grid.locate(6, 3) == (5, 1)


@pytest.mark.parametrize("edge", [1, 2, 4095, 4096, 4097, 1_000_003])
@given(data=st.data())
def test_the_locator_searches_as_searchsorted_does(edge: int, data: st.DataObject) -> None:
    """Also where a block of indices that share a guess spans several chunks."""
    inner = data.draw(st.sets(st.integers(1, edge - 1), max_size=9) if edge > 1 else st.just(set()))
    edges = np.array([0, *sorted(inner), edge])
    near = np.unique(np.clip([e + d for e in edges for d in (-1, 0, 1)], 0, edge - 1))
    locator = Locator.of(edges)
    found = locator.guess[near >> locator.shift]
    while (behind := edges[found + 1] <= near).any():
        found = found + behind
    assert found.tolist() == (np.searchsorted(edges, near, side="right") - 1).tolist()


@pytest.mark.parametrize("n_states", [7, 10_000, 1_000_003])
@given(data=st.data())
def test_the_kernel_locates_as_the_grid_does(n_states: int, data: st.DataObject) -> None:
    cuts = data.draw(st.sets(st.integers(1, n_states - 1), max_size=9))
    rows = tuple(np.diff([0, *sorted(cuts), n_states]).tolist())
    grid = ChunkGrid(rows, data.draw(sizes))
    state = np.unique(np.clip([e + d for e in grid.row_edges for d in (-1, 0, 1)], 0, n_states - 1))
    pairs = list(itertools.product(state.tolist(), range(grid.shape[1])))
    states, actions = (np.array(index) for index in zip(*pairs, strict=True))
    batch = Transitions(
        states.astype(np.int32),
        actions.astype(np.uint8),
        np.arange(len(pairs), dtype=np.float32),
        np.full(len(pairs), -1, np.int32),
        RoundStats(0, 0.0),
    )
    routed = route(batch, np.zeros(1, np.float32), 0.0, grid)
    for c in range(grid.n_chunks):
        piece = routed.piece(c)
        for offset, n in zip(piece.columns[0].tolist(), piece.columns[-1].tolist(), strict=True):
            assert grid.locate(*pairs[int(n)]) == (c, offset)


@pytest.mark.parametrize(
    ("chunks", "rows", "columns"),
    [
        (-1, (10,), (6,)),
        (4, (4, 4, 2), (4, 2)),
        ((5, -1), (5, 5), (6,)),
        ((None, 2), (10,), (2, 2, 2)),
        (((1, 9), (5, 1)), (1, 9), (5, 1)),
        ("auto", (10,), (6,)),
        ({0: 7}, (7, 3), (6,)),
    ],
)
def test_chunks_are_what_dask_takes(chunks: Any, rows: Any, columns: Any) -> None:
    assert ChunkGrid.of(10, 6, chunks, 4).chunks == (rows, columns)


@pytest.mark.parametrize("n_states", [1, 1_000, 10**6, 10**8, 10**10])
def test_auto_makes_few_chunks_of_some_mib(n_states: int) -> None:
    grid = ChunkGrid.of(n_states, 4, "auto", 4)
    largest = max(grid.rows) * 16
    assert grid.shape == (n_states, 4)
    assert grid.columns == (4,)
    assert largest <= 128 * 2**20
    assert grid.n_chunks == 1 or largest >= 2**20
    assert grid.n_chunks <= max(8, 2 * n_states * 16 / (128 * 2**20))


@pytest.mark.parametrize(
    "chunks",
    [((5, 6), (6,)), ((-2, 12), (6,)), (0, 6), "some", (3, 3, 3), ((10,), (3, 2)), None, ("a", 1)],
    ids=str,
)
def test_chunks_that_do_not_cover_the_table_are_refused(chunks: Any) -> None:
    with pytest.raises(GridError, match=r"10 states|positive sizes"):
        ChunkGrid.of(10, 6, chunks, 4)


@pytest.mark.parametrize(("rows", "columns"), [((), (1,)), ((1,), ()), ((0, 1), (1,))])
def test_empty_chunks_are_refused(rows: tuple[int, ...], columns: tuple[int, ...]) -> None:
    with pytest.raises(GridError, match="positive sizes"):
        ChunkGrid(rows, columns)


def test_offsets_must_fit_in_32_bits() -> None:
    ChunkGrid((2**29 - 1,), (4,))
    with pytest.raises(GridError, match="2147483648"):
        ChunkGrid((2**29,), (4,))
