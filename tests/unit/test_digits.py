"""States are taken apart and put together again without a bit of difference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqlearn.envs.problems.digits import bases_of, digit, pack, unpack, with_digit
from dqlearn.envs.problems.picture import Link, Node, Picture
from dqlearn.envs.problems.topology import edges_of
from dqlearn.errors import ConfigurationError

sizes = st.lists(st.integers(1, 15), min_size=1, max_size=12)


@given(sizes, st.data())
def test_digits_are_those_of_unravel_index(sizes: list[int], data: st.DataObject) -> None:
    state = data.draw(st.integers(0, int(np.prod(sizes, dtype=object)) - 1))
    bases = bases_of(sizes)
    word = unpack(state, bases)
    assert [digit(word, i) for i in range(len(sizes))] == list(np.unravel_index(state, sizes))
    assert pack(word, bases) == state


@given(st.integers(1, 15), st.sampled_from([-1, 0, 1]), st.integers(1, 2**44))
def test_divisions_are_exact_around_multiples(size: int, off: int, multiple: int) -> None:
    bases = bases_of([15] * 11 + [size])
    state = min(max(multiple % (15**11) * size + off, 0), 15**11 * size - 1)
    word = unpack(state, bases)
    assert digit(word, 11) == state % size
    assert pack(word, bases) == state


@given(st.integers(0, 2**60 - 1), st.integers(0, 14), st.integers(0, 15))
def test_one_digit_changes(word: int, i: int, value: int) -> None:
    changed = with_digit(word, i, value)
    expected = [digit(word, j) if j != i else value for j in range(15)]
    assert [digit(changed, j) for j in range(15)] == expected


@pytest.mark.parametrize("sizes", [(), (16,), (0, 3), (2,) * 17, (15,) * 13])
def test_what_does_not_fit_is_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match="got"):
        bases_of(sizes)


@pytest.mark.parametrize("edges", [5, [(0, 3)], [(1, 1)], [(0, 1), (0, 1)], [(0,)], [("a", 1)]])
def test_edges_that_are_none_are_refused(edges: object) -> None:
    with pytest.raises(ConfigurationError, match="got"):
        edges_of(edges, 3)


def test_pictures_are_lines_and_pixels() -> None:
    nodes = (Node("west", (0, 0), 0.5, "3 waiting"), Node("east", (1, 0), 1.0))
    picture = Picture("slot 1", nodes, (Link(0, 1, 0.3, "2 moving"), Link(1, 0)))
    assert picture.text().splitlines() == [
        "slot 1",
        "west         [#####     ] 3 waiting",
        "east         [##########]",
        "west > east  [###       ] 2 moving",
    ]
    pixels = picture.rgb()
    assert (pixels.dtype, pixels.shape[2]) == (np.uint8, 3)
    assert (pixels != Picture("slot 1", nodes[:1]).rgb()).any()
