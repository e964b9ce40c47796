"""Laws of the index (bijection, batch == scalar, spec), tables worked by hand, and refusals."""

from __future__ import annotations

import json
import math
import pickle
import re
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from gymnasium.wrappers import DiscretizeObservation
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dqlearn.errors import ConfigurationError, SpaceError
from dqlearn.spaces import Bins, Factor, SpaceIndex

LARGEST = 2**62
CARTPOLE = Bins([[-0.8, 0.8], [-0.5, 0.5], [-0.1, -0.02, 0.0, 0.02, 0.1], [-0.87, 0.87]])


# --- any space: a pair (space, bins) whose bins all hold an element of the space ---------------

any_shape = hnp.array_shapes(min_dims=0, max_dims=2, max_side=2)
some_axes = hnp.array_shapes(min_dims=1, max_dims=2, max_side=2)


@st.composite
def discretes(draw: st.DrawFn) -> tuple[Any, Any]:
    dtype = draw(st.sampled_from(["int64", "int32", "int8", "uint8", "uint64"]))
    start = draw(st.integers(0 if dtype.startswith("u") else -20, 20))
    return spaces.Discrete(draw(st.integers(1, 9)), start=start, dtype=dtype), None


@st.composite
def multi_discretes(draw: st.DrawFn) -> tuple[Any, Any]:
    shape = draw(some_axes)
    nvec = draw(hnp.arrays(np.int64, shape, elements=st.integers(1, 4)))
    start = draw(hnp.arrays(np.int64, shape, elements=st.integers(-20, 20)))
    dtype = draw(st.sampled_from([np.int64, np.int8]))
    return spaces.MultiDiscrete(nvec, dtype=dtype, start=start), None


@st.composite
def boxes(draw: st.DrawFn) -> tuple[Any, Any]:
    """Bounds and edges are whole numbers, so that bins of integers are not empty either."""
    dtype = np.dtype(draw(st.sampled_from(["float64", "float32", "float16", "int64", "uint8"])))
    shape = draw(any_shape)
    low = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 20))).astype(dtype)
    high = low + draw(hnp.arrays(np.int64, shape, elements=st.integers(1, 20))).astype(dtype)
    edges = [
        sorted(draw(st.sets(st.integers(int(a) + 1, int(b)), max_size=3)))
        for a, b in zip(low.ravel(), high.ravel(), strict=True)
    ]
    if dtype.kind == "f" and draw(st.booleans()):
        low, high = np.full_like(low, -np.inf), np.full_like(high, np.inf)
    elif dtype.kind == "f" and draw(st.booleans()):
        return spaces.Box(low, high, dtype=dtype), draw(st.integers(1, 3))
    return spaces.Box(low, high, dtype=dtype), Bins(edges)


def tuples_of(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(parts, min_size=1, max_size=3).map(
        lambda pairs: (spaces.Tuple([s for s, _ in pairs]), [b for _, b in pairs])
    )


def dicts_of(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from("dcba"), parts, min_size=1, max_size=3).map(
        lambda pairs: (
            spaces.Dict({k: s for k, (s, _) in pairs.items()}),
            {k: b for k, (_, b) in pairs.items() if b is not None},
        )
    )


multi_binaries = some_axes.map(lambda shape: (spaces.MultiBinary(shape), None))
exact = discretes() | multi_discretes() | multi_binaries
exact_spaces = st.recursive(exact, lambda p: tuples_of(p) | dicts_of(p), max_leaves=4)
any_spaces = st.recursive(exact | boxes(), lambda p: tuples_of(p) | dicts_of(p), max_leaves=4)


def same(a: Any, b: Any) -> bool:
    return bool(data_equivalence(a, b, exact=True))


# --- laws --------------------------------------------------------------------------------------


@given(any_spaces, st.data())
def test_index_to_element_to_index(pair, data):
    index = SpaceIndex.from_space(*pair)
    chosen = data.draw(st.lists(st.integers(0, index.n - 1), min_size=1, max_size=8))
    batch = index.decode(chosen)
    assert batch_space(pair[0], len(chosen)).contains(batch)
    encoded = index.encode(batch)
    assert encoded.dtype == np.int64
    assert encoded.tolist() == chosen
    for i in chosen:
        assert pair[0].contains(index.decode_one(i))
        assert index.encode_one(index.decode_one(i)) == i


@given(exact_spaces, st.integers(0, 99))
def test_element_to_index_to_element(pair, seed):
    index, batched = SpaceIndex.from_space(*pair), batch_space(pair[0], 5)
    batched.seed(seed)
    batch = batched.sample()
    assert same(index.decode(index.encode(batch)), batch)
    for element in iterate(batched, batch):
        assert same(index.decode_one(index.encode_one(element)), element)


@given(any_spaces, st.integers(0, 99))
def test_a_batch_is_its_elements_one_by_one(pair, seed):
    index, batched = SpaceIndex.from_space(*pair), batch_space(pair[0], 4)
    batched.seed(seed)
    batch = batched.sample()
    encoded = index.encode(batch).tolist()
    assert all(0 <= i < index.n for i in encoded)
    assert [index.encode_one(element) for element in iterate(batched, batch)] == encoded
    for i, element in enumerate(iterate(batched, batch)):
        assert same(index.pick(batch, i), element)
        assert index._root.quick(element) in (encoded[i], -1)
    elements = [index.decode_one(i) for i in encoded]
    stacked = concatenate(pair[0], elements, create_empty_array(pair[0], 4))
    assert same(index.decode(encoded), stacked)


def leaves(element: Any) -> list[int]:
    if isinstance(element, dict | tuple):
        parts = element.values() if isinstance(element, dict) else element
        return [leaf for part in parts for leaf in leaves(part)]
    return np.ravel(element).tolist()


@given(exact_spaces, st.data())
def test_factors_are_the_digits_of_the_index(pair, data):
    index = SpaceIndex.from_space(*pair)
    sizes = [factor.size for factor in index.factors]
    assert len({factor.name for factor in index.factors}) == len(sizes)
    assert math.prod(sizes) == index.n
    i = data.draw(st.integers(0, index.n - 1))
    labels = [factor.labels or range(factor.size) for factor in index.factors]
    values = [label[d] for label, d in zip(labels, np.unravel_index(i, sizes), strict=True)]
    assert leaves(index.decode_one(i)) == values


@given(any_spaces, st.data())
def test_spec_rebuilds_the_index_from_json(pair, data):
    index = SpaceIndex.from_space(*pair, name="s")
    text = json.dumps(index.spec(), allow_nan=False)
    again = SpaceIndex.from_spec(json.loads(text))
    chosen = data.draw(st.lists(st.integers(0, index.n - 1), min_size=1, max_size=4))
    assert again.spec() == index.spec()
    assert again.factors == index.factors
    assert same(again.decode(chosen), index.decode(chosen))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(LARGEST),
        spaces.Discrete(LARGEST, start=-(2**63)),
        spaces.Discrete(LARGEST, start=2**62),  # its last element is int64's
        spaces.Discrete(LARGEST, dtype="uint64"),
        spaces.MultiDiscrete([2] * 62),
        spaces.MultiDiscrete([2**31, 2**31], start=[-(2**62), 2**62]),
        spaces.MultiDiscrete([3**20, 3**19]),
        spaces.MultiBinary(62),
        spaces.MultiBinary((31, 2)),
        spaces.Tuple([spaces.Discrete(7, start=-3)] * 22),
        spaces.Dict(a=spaces.Discrete(2**40), b=spaces.MultiBinary((2, 11))),
    ],
    ids=repr,
)
def test_exact_up_to_the_largest_index(space):
    index = SpaceIndex.from_space(space)
    rng = np.random.default_rng(0)
    chosen = [0, 1, index.n // 2, index.n - 2, index.n - 1, *rng.integers(index.n, size=50)]
    assert index.encode(index.decode(chosen)).tolist() == chosen
    assert space.contains(index.decode_one(index.n - 1))


def test_an_index_survives_the_way_to_a_worker():
    index = SpaceIndex.from_space(spaces.Dict(a=spaces.Discrete(3), b=spaces.Box(0, 1)), {"b": 2})
    assert pickle.loads(pickle.dumps(index)).spec() == index.spec()


def test_encode_never_shares_memory_with_the_batch():
    batch = np.arange(4)
    assert not np.shares_memory(SpaceIndex.from_space(spaces.Discrete(4)).encode(batch), batch)


def test_an_empty_batch_has_no_indices():
    space = spaces.Tuple([spaces.Discrete(3), spaces.MultiBinary(2), spaces.Box(0, 1)])
    index = SpaceIndex.from_space(space, (None, None, 2))
    assert index.encode(index.decode(np.empty(0, dtype=int))).tolist() == []


# --- tables worked by hand ---------------------------------------------------------------------


def test_discrete_starts_at_its_start():
    index = SpaceIndex.from_space(spaces.Discrete(3, start=-1), name="action")
    assert index.encode(np.array([-1, 0, 1])).tolist() == [0, 1, 2]
    assert index.factors == (Factor("action", 3, range(-1, 2)),)
    assert isinstance(index.decode_one(2), np.int64)


def test_the_first_dimension_is_the_most_significant():
    index = SpaceIndex.from_space(spaces.MultiDiscrete([[2, 3], [5, 7]], start=[[0, 0], [4, 0]]))
    # ((1 * 3 + 2) * 5 + 3) * 7 + 6 = 202
    assert index.encode(np.array([[[1, 2], [7, 6]]])).tolist() == [202]
    assert index.factors == (
        Factor("observation_0_0", 2),
        Factor("observation_0_1", 3),
        Factor("observation_1_0", 5, range(4, 9)),
        Factor("observation_1_1", 7),
    )


def test_multi_binary_is_a_binary_number():
    index = SpaceIndex.from_space(spaces.MultiBinary(4))
    assert index.encode_one(np.array([1, 0, 1, 1], dtype=np.int8)) == 0b1011
    assert index.decode_one(0b1011).dtype == np.int8


def test_nested_spaces_are_digits_in_the_order_of_their_members():
    space = spaces.Dict(
        {
            "x": spaces.Tuple([spaces.Discrete(4), spaces.MultiDiscrete([2, 3])]),
            "arm": spaces.Discrete(5, start=1),
        }
    )
    index = SpaceIndex.from_space(space)
    # Gymnasium sorts a mapping's keys: arm first. ((3 * 4 + 1) * 2 + 1) * 3 + 2 = 83
    assert index.encode_one({"x": (1, [1, 2]), "arm": 4}) == 83
    assert [(f.name, f.size) for f in index.factors] == [
        ("arm", 5),
        ("x_0", 4),
        ("x_1_0", 2),
        ("x_1_1", 3),
    ]


def test_the_order_of_an_unsorted_dict_survives_the_spec():
    members = {"b": spaces.Discrete(2), "a": spaces.Discrete(3)}
    index = SpaceIndex.from_space(spaces.Dict(members, sort_keys=False))
    again = SpaceIndex.from_spec(index.spec())
    assert [f.name for f in again.factors] == ["b", "a"]
    assert again.encode_one({"a": 2, "b": 1}) == index.encode_one({"a": 2, "b": 1}) == 5


def test_factor_names_that_meet_are_told_apart():
    space = spaces.Dict(a=spaces.MultiDiscrete([2, 2]), a_0=spaces.Discrete(3))
    names = [factor.name for factor in SpaceIndex.from_space(space).factors]
    assert names == ["a_0", "a_1", "a_0_"]


@pytest.mark.parametrize(
    ("value", "index"),
    [(-np.inf, 0), (-9, 0), (-1.0001, 0), (-1, 1), (0, 1), (1.9999, 1), (2, 2), (np.inf, 2)],
)
def test_bins_are_half_open_and_the_outer_ones_take_the_rest(value, index):
    box = spaces.Box(-np.inf, np.inf, (1,), dtype=np.float64)
    assert SpaceIndex.from_space(box, Bins([[-1, 2]])).encode([[value]]).tolist() == [index]


@pytest.mark.parametrize(
    ("low", "high", "edges", "labels"),
    [
        (-1, 1, [-0.5, 0, 0.5], (-0.75, -0.25, 0.25, 0.75)),  # uniform over the bounds
        (-9, 9, [-0.5, 0, 0.5], (-0.75, -0.25, 0.25, 0.75)),  # outer bins as wide as the next
        (-np.inf, np.inf, [0, 1, 4], (-0.5, 0.5, 2.5, 5.5)),
        (-0.5, 5, [0, 1, 4], (-0.25, 0.5, 2.5, 4.5)),  # or less, where the box ends
        (-3, 5, [1], (-1, 3)),  # a lone edge: to the bounds
        (-np.inf, np.inf, [1], (0.5, 1.5)),  # or one unit
        (-4, 8, [], (2,)),
        (-np.inf, np.inf, [], (0,)),
        (-1, 1, [-5, 0, 5], (-1, -0.5, 0.5, 1)),  # bins outside the box: its nearest element
    ],
)
def test_labels_are_the_middles_of_the_bins(low, high, edges, labels):
    index = SpaceIndex.from_space(spaces.Box(low, high, (1,)), Bins([edges]))
    assert index.factors == (Factor("observation_0", len(labels), labels),)
    assert index.decode(range(index.n)).ravel().tolist() == list(labels)
    assert index.decode([0]).dtype == np.float32


def test_representatives_stay_in_their_bin_when_the_dtype_is_coarse():
    pixels = SpaceIndex.from_space(spaces.Box(0, 255, (1,), np.uint8), 256)
    assert pixels.decode(range(256)).ravel().tolist() == list(range(256))
    narrow = Bins([np.float32(0.1).astype(float) + np.array([0, 1e-9, 1e-8])])
    index = SpaceIndex.from_space(spaces.Box(0, 1, (1,)), narrow)  # bins 1 and 3 hold float32s
    assert index.encode(index.decode([0, 1, 3])).tolist() == [0, 1, 3]


def test_representatives_stay_in_a_box_that_float64_cannot_bound():
    box = spaces.Box(0, 2**53 + 3, (1,), np.int64)
    assert SpaceIndex.from_space(box, Bins([[2**53 + 4]])).decode([1]).tolist() == [[2**53 + 3]]


def test_elements_without_axes_are_arrays_all_the_same():
    space = spaces.MultiDiscrete(np.array(3))
    assert space.contains(SpaceIndex.from_space(space).decode_one(2))


def test_bins_by_count():
    box = spaces.Box(np.array([0, -1]), np.array([4, 1]), dtype=np.float64)
    edges = SpaceIndex.from_space(box, (4, 2)).spec()["space"]["edges"]
    assert edges == [[1, 2, 3], [0]]
    assert SpaceIndex.from_space(box, 2).spec()["space"]["edges"] == [[2], [0]]
    half = spaces.Box(np.array([0, 0]), np.array([4, np.inf]), dtype=np.float64)
    assert SpaceIndex.from_space(half, (4, 1)).n == 4  # one bin ignores a dimension without end


def test_one_array_of_edges_serves_every_dimension():
    box = spaces.Box(-1, 1, (2, 2))
    assert SpaceIndex.from_space(box, Bins.uniform(-1, 1, 3)).n == 3**4
    assert Bins.uniform(0, [2, 4], 2) == Bins([[1], [2]])


# --- real environments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "bins", "n"),
    [
        ("FrozenLake-v1", None, 16),
        ("Taxi-v4", None, 500),
        ("Blackjack-v1", None, 32 * 11 * 2),
        ("CartPole-v1", CARTPOLE, 3 * 3 * 6 * 3),
    ],
)
def test_environments_as_they_are_vectorised(env_id, bins, n):
    envs = gymnasium.make_vec(env_id, num_envs=3, vectorization_mode="sync")
    observations = SpaceIndex.from_space(envs.single_observation_space, bins)
    actions = SpaceIndex.from_space(envs.single_action_space, name="action")
    batch, _ = envs.reset(seed=0)
    for step in range(20):
        encoded = observations.encode(batch)
        one_by_one = iterate(envs.observation_space, batch)
        assert encoded.shape == (3,)
        assert encoded.tolist() == [observations.encode_one(element) for element in one_by_one]
        batch, *_ = envs.step(actions.decode((np.arange(3) + step) % actions.n))
    envs.close()
    assert observations.n == n


def test_cartpole_by_hand():
    index = SpaceIndex.from_space(gymnasium.make("CartPole-v1").observation_space, CARTPOLE)
    state = np.array([[1.0, 0.0, -0.05, -2.0]], dtype=np.float32)  # digits 2, 1, 1, 0
    assert index.encode(state).tolist() == [((2 * 3 + 1) * 6 + 1) * 3 + 0]


@pytest.mark.parametrize("multidiscrete", [False, True])
def test_gymnasiums_own_discretisation_is_taken_as_it_is(multidiscrete):
    def make() -> gymnasium.Env[Any, Any]:
        return DiscretizeObservation(gymnasium.make("MountainCar-v0"), (10, 7), multidiscrete)

    envs = gymnasium.vector.SyncVectorEnv([make, make])
    index = SpaceIndex.from_space(envs.single_observation_space)
    batch, _ = envs.reset(seed=0)
    assert index.n == 70
    assert same(index.decode(index.encode(batch)), batch)


# --- refusals: each names the sub-space, what was got and what to do ---------------------------

NESTED = spaces.Dict(arm=spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3), spaces.Box(0, 1)]))
ENDLESS = spaces.Box(np.array([0, -np.inf]), np.array([1, np.inf]), dtype=np.float64)


@pytest.mark.parametrize(
    ("space", "bins", "message"),
    [
        (NESTED, None, "observation['arm'][2]: Box(0.0, 1.0, (1,), float32) is continuous: give"),
        (spaces.Text(3), None, "observation: Text(1, 3, charset="),
        (spaces.Tuple([spaces.Text(3)]), None, "has no finite index: expected Discrete"),
        (spaces.Sequence(spaces.Discrete(2)), None, "observation: Sequence(Discrete(2)"),
        (spaces.Tuple([]), None, "observation: Tuple() has no sub-space"),
        (spaces.Dict({1: spaces.Discrete(2)}), None, "strings as keys, got [1]: rename"),
        (spaces.Discrete(LARGEST + 1), None, "observation: Discrete(4611686018427387905) has"),
        (spaces.MultiBinary(63), None, "MultiBinary(63) has about 2**63 elements, more than"),
        (spaces.Tuple([spaces.MultiBinary(32)] * 2), None, "has about 2**64 elements"),
        (spaces.Box(0, 255, (84, 84, 4), np.uint8), 4, "has about 2**56448 elements"),
        (spaces.Discrete(9, start=2**63 - 8), None, "more than int64 holds: lower its start"),
        (spaces.MultiDiscrete([9], start=[2**63], dtype=np.uint64), None, "more than int64"),
        (spaces.Discrete(3), 4, "Discrete(3) takes no bins, only a Box does: leave out bins=4"),
        (NESTED, 4, "mapping with keys of ['arm'], got bins=4"),
        (NESTED, {"leg": 4}, "mapping with keys of ['arm'], got bins={'leg': 4}"),
        (NESTED, {"arm": 4}, "observation['arm']: Tuple("),
        (NESTED, {"arm": (None,) * 4}, "a sequence of at most 3, got bins=(None, None"),
        (NESTED, {"arm": (None, 5)}, "observation['arm'][1]: Discrete(3) takes no bins"),
        (ENDLESS, 4, "flattened dimensions [1] have no finite bounds to divide; give a count"),
        (ENDLESS, (1, 4), "flattened dimensions [1] have no finite bounds"),
        (spaces.Box(0, 1), 0, "needs a whole number of bins >= 1, got np.int64(0)"),
        (spaces.Box(0, 1), 2.5, "needs a whole number of bins >= 1, got np.float64(2.5)"),
        (spaces.Box(0, 1), "many", "cannot be cut into bins='many'"),
        (spaces.Box(0, 1, (3,)), (2, 2), "cannot be cut into bins=(2, 2)"),
        (spaces.Box(1, 1), 2, "need finite low < high, got low=1.0, high=1.0"),
        (spaces.Box(0, 1, (3,)), Bins([[0], [0]]), "has dimensions=3, got edges for 2"),
    ],
)
def test_spaces_and_bins_that_do_not_fit(space, bins, message):
    with pytest.raises(SpaceError, match=re.escape(message)):
        SpaceIndex.from_space(space, bins)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(Bins, [[1, 1]]), "edges of dimension 0 must be a one-dimensional, finite, strict"),
        (partial(Bins, [[], [2, 1]]), "edges of dimension 1"),
        (partial(Bins, [[0, np.inf]]), "got [0, inf]; values beyond the outermost edges need none"),
        (partial(Bins, [0.5]), "got 0.5"),
        (partial(Bins.uniform, 0, np.inf, 2), "need finite low < high, got low=0, high=inf"),
        (partial(Bins.uniform, 1, 0, 2), "need finite low < high"),
        (partial(Bins.uniform, [0, 0], [1, 1, 1], 2), "got shapes (2,), (3,), ()"),
    ],
)
def test_edges_that_make_no_bins(make, message):
    with pytest.raises(SpaceError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("space", "batch", "message"),
    [
        (
            spaces.Discrete(3, start=1),
            np.array([1, 3, 4, 0]),
            "observation: Discrete(3, start=1) got 4 from environment 2 at observation, "
            "outside 1..3: declare a larger space, or correct the environment",
        ),
        (spaces.Discrete(3), np.array([-1]), "got -1 from environment 0"),
        (spaces.Discrete(3), np.array([2**64 - 1], np.uint64), "got 18446744073709551615 from"),
        (spaces.Discrete(5, start=-(2**63)), np.array([2**63 - 1]), "got 9223372036854775807"),
        (spaces.Discrete(3), np.array([1.0]), "expects integers, got array.dtype=float64"),
        (spaces.Discrete(3), np.array([[1]]), "expects a batch of shape (n_envs), got"),
        (
            spaces.MultiDiscrete([[2, 2], [2, 2]]),
            np.array([[[0, 1], [1, 1]], [[0, 0], [2, 0]]]),
            "got 2 from environment 1 at observation[1][0], outside 0..1",
        ),
        (spaces.MultiBinary(2), np.array([[0, -1]], np.int8), "got -1 from environment 0 at obs"),
        (spaces.MultiBinary(2), np.array([0, 1], np.int8), "expects a batch of shape (n_envs, 2)"),
        (spaces.Tuple([spaces.Discrete(2)] * 2), (np.zeros(3, int),), "a part for each of [0, 1]"),
        (spaces.Tuple([spaces.Discrete(2)]), np.zeros((1, 3), int), "a part for each of [0]"),
        (spaces.Dict(a=spaces.Discrete(2)), {"b": np.zeros(3, int)}, "each of ['a'], got {'b'"),
        (
            spaces.Tuple([spaces.Discrete(2)] * 2),
            (np.zeros(3, int), np.zeros(1, int)),
            "expects parts of one length (n_envs), got lengths=[3, 1]",
        ),
        (
            spaces.Dict(d=spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)])),
            {"d": (np.zeros(2, int), np.array([0, 7]))},
            "observation['d'][1]: Discrete(2) got 7 from environment 1",
        ),
    ],
)
def test_batches_that_leave_the_space(space, batch, message):
    with pytest.raises(SpaceError, match=re.escape(message)):
        SpaceIndex.from_space(space).encode(batch)


def test_nan_names_environment_and_dimension():
    space = spaces.Dict(pose=spaces.Box(-1, 1, (2, 3)))
    batch = np.zeros((4, 2, 3), dtype=np.float32)
    batch[2, 1, 0] = np.nan
    message = "got NaN from environment 2 at observation['pose'][1][0]: NaN is in no bin"
    with pytest.raises(SpaceError, match=re.escape(message)):
        SpaceIndex.from_space(space, {"pose": 2}).encode({"pose": batch})


@pytest.mark.parametrize("i", [-1, 24, 2**63 - 1])
def test_an_index_out_of_range_is_not_decoded(i):
    index = SpaceIndex.from_space(spaces.MultiDiscrete([4, 6]), name="action")
    message = f"index of action: Discrete(24) got {i} from environment 1"
    with pytest.raises(SpaceError, match=re.escape(message)):
        index.decode([0, i])


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"name": "s", "space": {"kind": "Graph"}},
        {"name": "s", "space": {"kind": "Discrete", "n": 3}},
        {"name": "s", "space": {"kind": "Discrete", "n": "3", "start": 0, "dtype": "int64"}},
        {"name": "s", "space": {"kind": "Discrete", "n": 3, "start": 0, "dtype": "O"}},
        {"name": "s", "space": {"kind": "Dict", "keys": ["a"], "spaces": []}},
        {"name": "s", "space": None},
    ],
)
def test_a_spec_that_describes_no_space(spec):
    with pytest.raises(SpaceError, match="expected "):
        SpaceIndex.from_spec(spec)


def test_space_errors_are_configuration_errors():
    with pytest.raises(ConfigurationError):
        SpaceIndex.from_space(spaces.Box(0, 1))
