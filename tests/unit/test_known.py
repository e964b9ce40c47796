"""The index of a sparse chunk against a dictionary, and the grid that shares states out."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqlearn.errors import GridError
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.row_index import Known

STATES = st.integers(0, 2**62 - 1) | st.integers(0, 40)
BATCHES = st.lists(st.lists(STATES, max_size=30), max_size=8)


@given(BATCHES, st.integers(0, 6), st.booleans())
def test_it_knows_what_it_was_told(batches: list[list[int]], bits: int, owned: bool) -> None:
    """Blocks have places in the order of their coming, whatever the batches that they come in."""
    known, places, fresh = Known.nothing(bits), {}, count(1)
    for batch in batches:
        known = known.with_states(np.array(batch, np.int64), owned=owned)
        for state in batch:
            if state >> bits not in places:
                places[state >> bits] = next(fresh)
        asked = [*batch, *(state ^ 1 for state in batch), 5, 2**61 + 1]
        block = 1 << bits
        expected = [places.get(s >> bits, 0) * block + s % block for s in asked]
        assert known.rows(np.array(asked, np.int64)).tolist() == expected
    assert known.n_rows == (len(places) + 1) << bits
    first = [block << bits for block in places]
    assert known.states.tolist() == [s + k for s in first for k in range(1 << bits)]


@given(BATCHES)
def test_what_is_not_owned_is_not_written_to(batches: list[list[int]]) -> None:
    known = Known.nothing(0).with_states(np.arange(100, 120), owned=False)
    before = known.blocks.copy(), known.slots.copy()
    for batch in batches:
        known.with_states(np.array(batch, np.int64), owned=False)
    assert known.n == 21
    np.testing.assert_array_equal(known.blocks, before[0])
    np.testing.assert_array_equal(known.slots, before[1])


def test_many_states_are_found_again() -> None:
    """Ten times as many as there is room for in the beginning, so that all has to grow."""
    states = np.random.default_rng(0).integers(0, 2**62, 50_000)
    known = Known.nothing(0)
    for part in np.split(states, 50):
        known = known.with_states(part, owned=True)
    rows = known.rows(states)
    assert rows.min() >= 1
    np.testing.assert_array_equal(known.states[rows - 1], states)
    assert not known.rows(states ^ 1)[~np.isin(states ^ 1, states)].any()


@given(st.lists(STATES, min_size=1, max_size=60), st.integers(1, 40), st.sampled_from([1, 2, 64]))
def test_every_state_has_one_owner(states: list[int], n_chunks: int, block: int) -> None:
    grid = HashGrid(2**62, 3, n_chunks, block)
    owner = grid.find_rows(np.array(states))
    assert owner.max() < n_chunks
    first = np.array([state - state % block for state in states])
    np.testing.assert_array_equal(owner, grid.find_rows(first))


def test_no_chunk_is_hot() -> None:
    """Neither of successive states, nor of those that are a power of two apart."""
    grid = HashGrid(2**62, 3, 7)
    for step in (1, 2**20, 2**40):
        shares = np.bincount(grid.find_rows(np.arange(70_000) * step), minlength=7)
        assert 9_500 < shares.min() <= shares.max() < 10_500


@pytest.mark.parametrize(
    ("shape", "chunks", "block", "message"),
    [
        ((2**62 + 1, 2), 1, 1, r"1 .. 2\*\*62 states, got 4611686018427387905"),
        ((0, 2), 1, 1, "got 0"),
        ((9, 2), 0, 1, r"1 .. 2\*\*16 chunks, got 0"),
        ((9, 2), 1, 3, "a power of two of at most 65536, got 3"),
        ((9, 2), 1, -4, "a power of two .*got -4"),
        ((9, 2), 1, 2**17, "a power of two .*got 131072"),
        ((9, 2), (3, 2), 1, r"'auto' or how many there are, got chunks=\(3, 2\)"),
        ((9, 2), "all", 1, "'auto' or how many there are, got chunks='all'"),
        ((9, 2), True, 1, "'auto' or how many there are, got chunks=True"),
    ],
)
def test_what_can_never_work(
    shape: tuple[int, int], chunks: object, block: int, message: str
) -> None:
    with pytest.raises(GridError, match=message):
        HashGrid.of(*shape, chunks, block)
