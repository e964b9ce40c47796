"""A table's grid on Zarr's: every pair is stored once, in the chunk where readers look for it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from dqlearn.statistics import RoundStats
from dqlearn.storage.icechunk.arrays import ForkWriter
from dqlearn.storage.schema import Layout
from dqlearn.storage.writer import write_chunk
from dqlearn.table.chunk import Chunk
from dqlearn.table.grid import ChunkGrid

sizes = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)
grids = st.builds(ChunkGrid, sizes, sizes)


@st.composite
def regular(draw: st.DrawFn) -> tuple[int, ...]:
    """Sizes that are all alike, but for the last, which may be smaller."""
    size, n = draw(st.integers(1, 6)), draw(st.integers(0, 4))
    return (*[size] * n, draw(st.integers(1, size)))


def block(grid: ChunkGrid, c: int) -> tuple[slice, slice]:
    """Return where chunk c of a grid is in its table."""
    (s, a), (rows, columns) = grid.origin(c), grid.chunk_shape(c)
    return slice(s, s + rows), slice(a, a + columns)


def numbered(grid: ChunkGrid) -> np.ndarray[Any, Any]:
    """Return a table whose values are all different."""
    return np.arange(np.prod(grid.shape), dtype=np.float64).reshape(grid.shape)


def check_put_together(layout: Layout) -> None:
    table = numbered(layout.grid)
    for k in range(layout.n_chunks):
        expected = table[layout.region(k)]
        whole = np.full(expected.shape, np.nan)
        for c, own, there in layout.overlaps(k):
            assert np.isnan(whole[there]).all(), "written twice"
            whole[there] = table[block(layout.grid, c)][own]
        np.testing.assert_array_equal(whole, expected)


@given(grids)
def test_a_stored_chunk_is_put_together_of_those_of_the_grid(grid: ChunkGrid) -> None:
    check_put_together(Layout.of(grid))


@given(regular(), st.data())
def test_a_grid_that_was_cut_anew_goes_on_in_the_same_arrays(
    rows: tuple[int, ...], data: st.DataObject
) -> None:
    n = sum(rows)
    inner = data.draw(st.sets(st.integers(1, n - 1), max_size=6)) if n > 1 else set()
    after = ChunkGrid(tuple(np.diff([0, *sorted(inner), n]).tolist()), (2,))
    layout = Layout.of(after, at_rest=ChunkGrid(rows, (2,)))
    assert (layout.rows, layout.columns) == (rows[0], 2)
    check_put_together(layout)


@given(grids)
def test_every_pair_is_in_one_stored_chunk(grid: ChunkGrid) -> None:
    layout = Layout.of(grid)
    stored = np.zeros(grid.shape, int)
    for k in range(layout.n_chunks):
        stored[layout.region(k)] += 1
    assert (stored == 1).all()


@given(grids)
def test_the_owners_are_the_chunks_that_overlap(grid: ChunkGrid) -> None:
    layout = Layout.of(grid)
    owner = np.empty(grid.shape, int)
    for c in range(grid.n_chunks):
        owner[block(grid, c)] = c
    for k in range(layout.n_chunks):
        assert layout.owners(k) == np.unique(owner[layout.region(k)]).tolist()
        assert [c for c, _, _ in layout.overlaps(k)] == layout.owners(k)


@given(grids)
def test_stored_chunks_are_where_zarr_puts_them(grid: ChunkGrid) -> None:
    """All of one size, but for the last, numbered row by row."""
    layout = Layout.of(grid)
    for k in range(layout.n_chunks):
        i, j = divmod(k, layout.across)
        states, actions = layout.region(k)
        assert (states.start, actions.start) == (i * layout.rows, j * layout.columns)
        assert states.stop == min(states.start + layout.rows, grid.shape[0])
        assert actions.stop == min(actions.start + layout.columns, grid.shape[1])


@given(st.builds(ChunkGrid, regular(), regular()))
def test_an_aligned_grid_is_stored_as_it_is(grid: ChunkGrid) -> None:
    """Each stored chunk is the chunk of the same number, whole: nothing moves between workers."""
    layout = Layout.of(grid)
    assert layout.n_chunks == grid.n_chunks
    for k in range(layout.n_chunks):
        assert layout.owners(k) == [k]
        assert layout.region(k) == block(grid, k)


def test_an_uneven_grid_by_hand() -> None:
    layout = Layout.of(ChunkGrid((4, 1, 5), (2, 2, 1)))
    assert (layout.rows, layout.columns) == (5, 2)
    assert (layout.n_chunks, layout.across) == (6, 3)
    assert layout.region(5) == (slice(5, 10), slice(4, 5))
    assert layout.owners(0) == [0, 3]
    assert layout.owners(5) == [8]
    assert list(layout.overlaps(0)) == [
        (0, (slice(0, 4), slice(0, 2)), (slice(0, 4), slice(0, 2))),
        (3, (slice(0, 1), slice(0, 2)), (slice(4, 5), slice(0, 2))),
    ]


@pytest.mark.parametrize(
    "grid",
    [
        ChunkGrid((7,), (3,)),
        ChunkGrid((3, 3, 1), (2, 1)),
        ChunkGrid((1, 4, 2), (1, 2)),
        ChunkGrid((2, 5), (1, 1, 3)),
    ],
    ids=lambda grid: f"{grid.rows}x{grid.columns}",
)
@pytest.mark.parametrize("n_changed", [0, 1, None])
def test_written_in_chunks_and_read_as_one(
    grid: ChunkGrid, n_changed: int | None, tmp_path: Path
) -> None:
    """What the tasks of a grid write is the table, but for the stored chunks without a change."""
    repo = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))
    layout, table = Layout.of(grid), numbered(grid) + 1
    session = repo.writable_session("main")
    group = zarr.group(session.store)
    for name, dtype in (("q", "float64"), ("visits", "uint32")):
        chunk = (layout.rows, layout.columns)
        group.create_array(name, shape=grid.shape, chunks=chunk, dtype=dtype, fill_value=0)
    session.commit("arrays")
    session = repo.writable_session("main")
    writer = ForkWriter(pickle.dumps(session.fork()))
    chunks = [learned(table[block(grid, c)], changed=c) for c in range(grid.n_chunks)]
    since = -1 if n_changed is None else grid.n_chunks - 1 - n_changed
    written = [
        write_chunk(writer, layout, k, [chunks[c] for c in layout.owners(k)], since)
        for k in range(layout.n_chunks)
    ]
    session.merge(*(pickle.loads(w.changes) for w in written if w.changes))
    found = zarr.open_group(session.store, mode="r")
    expected = np.zeros(grid.shape)
    for k in range(layout.n_chunks):
        if max(layout.owners(k)) > since:
            expected[layout.region(k)] = table[layout.region(k)]
    np.testing.assert_array_equal(found["q"][:], expected)
    np.testing.assert_array_equal(found["visits"][:], expected)
    assert sum(w.nbytes for w in written) == np.count_nonzero(expected) * (8 + 4)


def learned(q: np.ndarray[Any, Any], changed: int) -> Chunk:
    """Return a chunk whose visits are its values."""
    return Chunk(np.ascontiguousarray(q), q.astype(np.uint32), RoundStats(0, 0.0), changed=changed)
