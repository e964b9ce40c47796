"""Random numbers: the published generator, and what an experimenter may assume of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, pearsonr

from dqlearn import random

GOLDEN = 0x9E3779B97F4A7C15
U64 = st.integers(0, 2**64 - 1)
U = np.uint64

# The first five outputs of the generator's authors' own program, by its seed.
VECTORS = {
    1234567: (
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ),
    0: (
        16294208416658607535,
        7960286522194355700,
        487617019471545679,
        17909611376780542444,
        1961750202426094747,
    ),
}


@pytest.mark.parametrize("seed", VECTORS)
def test_words_are_splitmix64(seed: int) -> None:
    assert tuple(int(random.word(U(seed), i)) for i in range(5)) == VECTORS[seed]


@given(U64, st.sampled_from([1, 2, 3, 4]), U64)
def test_streams_equal_the_reference(seed: int, purpose: int, index: int) -> None:
    assert random.stream(U(seed), U(purpose), U(index)) == reference.stream(seed, purpose, index)


@given(U64, st.integers(0, 2**40))
def test_keys_equal_the_reference(key: int, i: int) -> None:
    assert random.step_key(U(key), U(i)) == reference.step_key(key, i)
    assert random.reset_key(U(key)) == reference.reset_key(key)
    assert random.word(U(key), i) == reference.word(key, i)
    assert random.uniform(U(key), i) == (reference.word(key, i) >> 11) / 2**53
    assert random.integers(U(key), i, 1000) == (reference.word(key, i) >> 32) * 1000 >> 32


@given(U64, st.integers(2**32 + 1, 2**62))
def test_integers_of_more_than_four_bytes(key: int, n: int) -> None:
    assert random.integers(U(key), 3, n) == reference.word(key, 3) * n >> 64


@given(U64, st.floats(0.0, 1.0), st.integers(1, 256))
def test_choices_equal_the_reference(key: int, epsilon: float, n_actions: int) -> None:
    threshold = random.exploration_threshold(epsilon)
    explores = random.explores(U(key), threshold)
    chosen = random.share(random.low_half(U(key)), U(n_actions)) if explores else 77
    assert chosen == reference.choose(key, [77], epsilon, [*range(n_actions)])


def test_a_range_of_streams_is_the_streams_of_a_range() -> None:
    """So an environment draws the same numbers, whichever shard it is in."""
    all_keys = random.streams(U(5), random.STEPS, 0, 100)
    assert random.streams(U(5), random.STEPS, 60, 40).tolist() == all_keys[60:].tolist()
    assert len(set(all_keys.tolist())) == 100


def test_purposes_and_seeds_have_streams_of_their_own() -> None:
    purposes = (random.STEPS, random.TIES, random.SEEDS, random.EVALUATION)
    keys = [k for s in range(9) for p in purposes for k in random.streams(U(s), p, 0, 50).tolist()]
    assert len(set(keys)) == len(keys) == 9 * 4 * 50


def words_of_steps(n_steps: int, i: int) -> np.ndarray:
    """Number i of successive steps of a few environments, on [0, 1)."""
    keys = [
        random.step_key(env, U(t))
        for env in random.streams(U(0), random.STEPS, 0, 5)
        for t in range(n_steps)
    ]
    return np.array([random.uniform(U(key), i) for key in keys])


@pytest.mark.parametrize("i", [0, 1, 15])
def test_numbers_are_uniform(i: int) -> None:
    counts = np.bincount((words_of_steps(4_000, i) * 50).astype(int), minlength=50)
    assert len(counts) == 50
    assert chisquare(counts).pvalue > 1e-3


def test_numbers_of_a_step_are_independent_of_each_other_and_of_the_next_step() -> None:
    columns = [words_of_steps(2_000, i) for i in (0, 1, 2)]
    columns.append(np.roll(columns[0], 1))
    for x, y in combinations(columns, 2):
        cells = (x * 7).astype(int) * 7 + (y * 7).astype(int)
        assert chisquare(np.bincount(cells, minlength=49)).pvalue > 1e-3
        assert pearsonr(x, y).pvalue > 1e-3


def test_the_choice_is_independent_of_the_models_numbers() -> None:
    """It is the key itself, which the words of the key must not give away."""
    keys = random.streams(U(1), random.STEPS, 0, 20_000)
    actions = np.array([random.share(random.low_half(key), U(4)) for key in keys])
    tenth = np.array([int(random.uniform(key, 0) * 10) for key in keys])
    assert chisquare(np.bincount(actions * 10 + tenth, minlength=40)).pvalue > 1e-3


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.5, 1.0])
def test_epsilon_is_the_chance_to_explore(epsilon: float) -> None:
    keys, threshold = (
        random.streams(U(2), random.STEPS, 0, 20_000),
        random.exploration_threshold(epsilon),
    )
    explored = sum(random.explores(key, threshold) for key in keys)
    assert abs(explored - 20_000 * epsilon) <= 4 * np.sqrt(20_000 * epsilon * (1 - epsilon))


def test_draws_are_in_range_at_the_ends() -> None:
    """For the smallest and the largest word that there can be."""
    words = {word: _key_of(word) for word in (0, 2**64 - 1)}
    assert {int(random.word(U(key), 0)) for key in words.values()} == set(words)
    low, high = (U(key) for key in words.values())
    assert (random.uniform(low, 0), random.uniform(high, 0)) == (0.0, 1.0 - 2**-53)
    for n in (1, 3, 2**32):
        assert (random.integers(low, 0, n), random.integers(high, 0, n)) == (0, n - 1)
    assert (random.bernoulli(low, 0, 0.0), random.bernoulli(high, 0, 1.0)) == (False, True)


def _key_of(word: int) -> int:
    """Undo SplitMix64: the key whose first word is given."""

    def unshift(z: int, bits: int) -> int:
        return z ^ z >> bits ^ z >> 2 * bits ^ z >> 3 * bits

    z = unshift(word, 31) * pow(0x94D049BB133111EB, -1, 2**64) % 2**64
    z = unshift(z, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) % 2**64
    return (unshift(z, 30) - GOLDEN) % 2**64
