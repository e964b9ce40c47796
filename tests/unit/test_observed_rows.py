"""Rows that are observed: how they are laid out, which are new, and which are bad."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

import dqlearn
from dqlearn import QLearner
from dqlearn.errors import BadRowError, ConfigurationError, IncompatibleTableError
from dqlearn.stages.observed.sources import Sources

PARTS = spaces.Dict(arm=spaces.MultiDiscrete([3, 2]), lamp=spaces.Discrete(4, start=1))
PAIR = spaces.Tuple((spaces.Discrete(3), spaces.Discrete(2)))
BOX = spaces.Box(-1.0, 1.0, (2,))


class Live(gymnasium.Env[Any, Any]):
    """The spaces of a system that somebody else steps."""

    action_space = spaces.Discrete(3)

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space = space

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(0)
        return self.observation_space.sample(), {}


def learner_of(space: spaces.Space[Any] | None = None, **settings: Any) -> QLearner:
    made = partial(Live, spaces.Discrete(10) if space is None else space)
    return QLearner(made, **{"num_envs": 1, "shards": 1, "dtype": "float32", **settings})


def rows(n: int = 4, **others: Any) -> dict[str, Any]:
    """Rows that are good."""
    plain = {
        "obs": np.arange(n),
        "action": np.arange(n) % 3,
        "reward": np.ones(n),
        "next_obs": np.arange(n) + 1,
        "terminated": np.zeros(n, np.bool_),
    }
    return {**plain, **others}


def q_of(learner: QLearner) -> Any:
    return learner.table.q.compute()


def same(*learners: QLearner) -> None:
    first, *others = map(q_of, learners)
    assert first.any()
    for other in others:
        np.testing.assert_array_equal(other, first)


# layouts


def test_one_transition_is_a_batch_of_one() -> None:
    one, batch, lists = learner_of(), learner_of(), learner_of()
    one.observe(3, 1, 2.0, 4, False, False)
    batch.observe(*map(np.array, ([3], [1], [2.0], [4], [False], [True])))
    lists.observe([3], [1], [2], [4], [0])
    same(one, batch, lists)


def test_frames_have_columns() -> None:
    plain, dataset, frame, mapping = (learner_of() for _ in range(4))
    whole = rows(truncated=np.zeros(4, np.bool_), source=np.array(["a", "b"] * 2), seq=np.arange(4))
    told = [
        plain.observe(**whole),
        dataset.observe(xr.Dataset({name: ("row", column) for name, column in whole.items()})),
        frame.observe(pd.DataFrame(whole)),
        mapping.observe(whole),
    ]
    assert told[1:] == told[:-1]
    same(plain, dataset, frame, mapping)
    assert dataset.sources == frame.sources == {"a": 2, "b": 3}


def test_arguments_take_the_place_of_columns() -> None:
    learner = learner_of()
    learner.observe(pd.DataFrame(rows()), source="here", seq=range(4))
    assert learner.sources == {"here": 3}


def test_parts_of_observations_have_columns() -> None:
    arm, lamp = np.array([[0, 1], [2, 0]]), np.array([1, 4])
    plain, frame = learner_of(PARTS), learner_of(PARTS)
    others = {name: rows(2)[name] for name in ("action", "reward", "terminated")}
    plain.observe(obs={"arm": arm, "lamp": lamp}, next_obs={"arm": arm, "lamp": lamp}, **others)
    parts = {"arm_0": arm[:, 0], "arm_1": arm[:, 1], "lamp": lamp}
    columns = {f"{kind}_{name}": it for kind in ("obs", "next_obs") for name, it in parts.items()}
    frame.observe(pd.DataFrame({**columns, **others}))
    same(plain, frame)


@pytest.mark.parametrize(
    ("space", "one", "batch"),
    [
        (PAIR, (2, 1), (np.array([2]), np.array([1]))),
        (
            PARTS,
            {"arm": np.array([2, 1]), "lamp": 3},
            {"arm": np.array([[2, 1]]), "lamp": np.array([3])},
        ),
        (spaces.MultiDiscrete([3, 2]), (2, 1), [[2, 1]]),
    ],
    ids=["tuple", "dict", "multi-discrete"],
)
def test_spaces_of_parts(space: Any, one: Any, batch: Any) -> None:
    single, many = learner_of(space), learner_of(space)
    single.observe(one, 1, 1.0, one, False)
    many.observe(batch, [1], [1.0], batch, [False])
    same(single, many)


def test_boxes_are_cut_into_bins() -> None:
    learner = QLearner(partial(Live, BOX), bins=2, num_envs=1, shards=1)
    learner.observe(np.array([[0.5, -3.0]]), [0], [1.0], np.array([[0.0, 0.1]]), [True])
    assert q_of(learner)[2, 0] > 0  # the outer bin of what lies outside
    with pytest.raises(BadRowError, match=r"row 0: obs .* got array\(\[nan"):
        learner.observe(np.array([[np.nan, 0]]), [0], [1.0], np.array([[0.0, 0.1]]), [True])


def test_real_numbers_are_those_that_an_environment_returns() -> None:
    """Gymnasium casts what an environment returns to the space's dtype, here float32: below 0.7."""
    space = spaces.Box(0.0, 1.0, (1,))
    learner = QLearner(
        partial(Live, space), bins=dqlearn.spaces.Bins([[0.7]]), num_envs=1, shards=1
    )
    learner.observe([[0.7]], [0], [1.0], [[0.7]], [True])
    assert q_of(learner)[:, 0].tolist() == pytest.approx([0.1, 0.0])


def test_whole_numbers_may_be_floats_where_a_column_has_holes() -> None:
    holes, plain = learner_of(), learner_of()
    frame = pd.DataFrame(rows(terminated=np.array([False, True, False, True])))
    plain.observe(frame)
    frame["next_obs"] = frame["next_obs"].where(~frame["terminated"])  # NaN: there is none
    assert frame["next_obs"].dtype == float
    holes.observe(frame)
    same(holes, plain)


def test_an_end_has_no_next_state_and_a_cut_has() -> None:
    ended, cut = learner_of(initial_value=1.0), learner_of(initial_value=1.0)
    ended.observe(3, 1, 0.0, 999, True, False)
    cut.observe(3, 1, 0.0, 4, False, True)
    alpha, gamma = 0.1, cut._plan.gamma
    assert q_of(ended)[3, 1] == np.float32(1.0) + np.float32(alpha) * np.float32(-1.0)
    assert q_of(cut)[3, 1] == pytest.approx(1.0 + alpha * (gamma - 1.0), rel=1e-6)


def test_a_call_is_a_round_of_q_learning() -> None:
    """Against the equations: targets of the values before the call, updates in the rows' order."""
    draw, gamma, alpha = np.random.default_rng(3), 0.9, 0.25
    learner = learner_of(gamma=gamma, learning_rate=alpha, dtype="float64")
    q, visits = np.zeros((10, 3)), np.zeros((10, 3), np.uint32)
    for n in (1, 7, 200):
        s, after = draw.integers(10, size=(2, n))
        a, r, over = draw.integers(3, size=n), draw.normal(size=n), draw.random(n) < 0.2
        value = q.max(axis=1)
        for t in range(n):
            y = r[t] if over[t] else r[t] + gamma * value[after[t]]
            q[s[t], a[t]] += alpha * (y - q[s[t], a[t]])
            visits[s[t], a[t]] += 1
        learner.observe(s, a, r, after, over)
        np.testing.assert_array_equal(q_of(learner), q)
        np.testing.assert_array_equal(learner.table.visits.compute(), visits)


def test_no_rows_make_no_round() -> None:
    learner = learner_of()
    assert learner.observe(**rows(0)).learned == 0
    assert len(learner.history["round"]) == 0


# bad rows

BAD = {
    "obs outside": {"obs": [0, 1, 10, 3]},
    "obs negative": {"obs": [0, 1, -1, 3]},
    "obs half": {"obs": [0, 1, 2.5, 3]},
    "obs missing": {"obs": [0, 1, None, 3]},
    "obs nan": {"obs": [0, 1, np.nan, 3]},
    "obs text": {"obs": [0, 1, "two", 3]},
    "obs shape": {"obs": [0, 1, [2, 2], 3]},
    "action outside": {"action": [0, 1, 3, 0]},
    "action missing": {"action": [0, 1, None, 0]},
    "reward nan": {"reward": [0, 0, np.nan, 0]},
    "reward infinite": {"reward": [0, 0, np.inf, 0]},
    "reward too large for float32": {"reward": [0, 0, 1e300, 0]},
    "reward missing": {"reward": [0, 0, None, 0]},
    "reward text": {"reward": [0, 0, "1", 0]},
    "next_obs outside": {"next_obs": [1, 2, 10, 4]},
    "next_obs missing": {"next_obs": [1, 2, None, 4]},
    "terminated half": {"terminated": [0, 0, 0.5, 0]},
    "terminated missing": {"terminated": [False, False, None, False]},
    "truncated two": {"truncated": [0, 0, 2, 0]},
    "seq missing": {"seq": [0, 1, None, 3]},
    "seq half": {"seq": [0, 1, 2.5, 3]},
    "seq negative": {"seq": [0, 1, -2, 3]},
    "seq too large": {"seq": [0, 1, 2**62 + 1, 2**62]},
    "source missing": {"source": ["a", "a", None, "a"], "seq": [0, 1, 2, 3]},
    "source float": {"source": ["a", "a", 0.5, "a"], "seq": [0, 1, 2, 3]},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_named_and_nothing_is_learned(name: str) -> None:
    learner = learner_of()
    column = name.split()[0]
    with pytest.raises(
        BadRowError, match=rf"row 2: {column} must be .*, got .*on_bad_row"
    ) as error:
        learner.observe(**rows(**BAD[name]))
    assert error.value.row == 2
    assert (learner.num_timesteps, learner.sources) == (0, {})
    assert not q_of(learner).any()


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_skipped_and_counted(name: str) -> None:
    learner, good = learner_of(), learner_of()
    told = learner.observe(**rows(**BAD[name]), on_bad_row="skip")
    assert (told.learned, told.skipped, told.duplicates) == (3, 1, 0)
    assert told.skipped_rows.tolist() == [2]
    assert told.reasons[0].startswith(f"row 2: {name.split()[0]} must be")
    others = {"obs": [0, 1, 3], "action": [0, 1, 0], "next_obs": [1, 2, 4]}
    reward = np.array(BAD[name].get("reward", [1.0] * 4), dtype=object)[[0, 1, 3]].astype(float)
    good.observe(**others, reward=reward, terminated=[False] * 3)
    same_or_zero = q_of(learner), q_of(good)
    np.testing.assert_array_equal(*same_or_zero)


def test_many_bad_rows_are_all_found() -> None:
    draw, learner = np.random.default_rng(0), learner_of()
    obs = draw.integers(-2, 12, size=1_000)
    bad = np.flatnonzero((obs < 0) | (obs >= 10))
    told = learner.observe(**rows(1_000, obs=obs, next_obs=obs % 10), on_bad_row="skip")
    np.testing.assert_array_equal(told.skipped_rows, bad)


MISLAID: dict[str, tuple[dict[str, Any], str]] = {
    "too few rewards": (
        {"reward": [1.0]},
        "terminated must have one value for each of 1 rows, as reward",
    ),
    "too few actions": ({"action": [1]}, "action must have 4 rows"),
    "too few ends": ({"terminated": [False]}, "terminated must have one value for each of 4 rows"),
    "too few numbers": ({"seq": [1]}, "seq must have one value for each of 4"),
    "another shape": ({"obs": np.zeros((4, 2), int)}, "obs must have 4 rows"),
    "no reward": ({"reward": None}, "'reward' is missing"),
    "no next observation": ({"next_obs": None}, "'next_obs' is missing"),
    "another source": ({"source": 0.5}, "source must be text or an integer"),
    "another choice": ({"on_bad_row": "drop"}, "on_bad_row must be 'raise' or 'skip'"),
    "no store": ({"checkpoint_every": 5}, "without a store="),
}


@pytest.mark.parametrize("name", MISLAID)
def test_what_is_not_laid_out_in_rows_is_refused(name: str) -> None:
    given, message = MISLAID[name]
    with pytest.raises(ConfigurationError, match=message):
        learner_of().observe(**{"on_bad_row": "skip", **rows(), **given})


def test_a_missing_column_is_named() -> None:
    frame = pd.DataFrame(rows()).drop(columns="next_obs")
    with pytest.raises(ConfigurationError, match=r"'next_obs' is missing, got .*'reward'"):
        learner_of().observe(frame)


def test_parts_of_a_dict_that_are_missing_are_named() -> None:
    with pytest.raises(ConfigurationError, match="obs"):
        learner_of(PARTS).observe({"lamp": [1]}, [0], [0.0], {"lamp": [1]}, [False])


# duplicates and gaps


def test_duplicates_are_dropped_and_gaps_are_counted() -> None:
    learner = learner_of()
    learner.observe(**rows(), source="a", seq=[5, 6, 7, 8])
    told = learner.observe(**rows(), source=["a", "b", "a", "a"], seq=[8, 8, 9, 12])
    assert (told.learned, told.duplicates, told.gaps) == (3, 1, 2)
    assert (told.duplicate_rows.tolist(), told.gap_rows.tolist()) == ([0], [3])
    assert learner.sources == {"a": 12, "b": 8}
    late = learner.observe(**rows(1), source="a", seq=11)
    assert (late.learned, late.duplicates) == (0, 1)


def test_duplicates_may_be_bad() -> None:
    learner = learner_of()
    learner.observe(**rows(), source="a", seq=range(4))
    told = learner.observe(**rows(obs=[99, 99, 99, 4], source="a", seq=[1, 2, 3, 4]))
    assert (told.learned, told.duplicates, told.skipped) == (1, 3, 0)


def test_texts_and_integers_are_different_sources() -> None:
    learner = learner_of()
    learner.observe(**rows(2), source=np.array([7, "7"], object), seq=[1, 1])
    assert learner.sources == {7: 1, "7": 1}


def test_sources_without_numbers_drop_nothing() -> None:
    learner = learner_of()
    for _ in range(2):
        assert learner.observe(**rows(), source="a").learned == 4
    assert learner.sources == {"a": None}
    assert learner.observe(**rows(), source="a", seq=range(4)).learned == 4


NUMBERS = st.lists(
    st.lists(st.tuples(st.sampled_from(["a", "b", 1]), st.integers(0, 12)), max_size=12),
    max_size=5,
)


@given(NUMBERS)
def test_numbers_rise_with_what_is_learned(calls: list[list[tuple[str | int, int]]]) -> None:
    sources, highest, first = Sources(), dict[str | int, int](), list[str | int]()
    for call in calls:
        names = np.array([name for name, _ in call], object)
        seq = np.array([number for _, number in call], np.int64)
        told = sources.sift(names, seq, len(call))
        for t, (name, number) in enumerate(call):
            if name not in first:
                first.append(name)
            before = highest.get(name)
            new = before is None or number > before
            assert told.new[t] == new
            assert told.missing[t] == (number - before - 1 if new and before is not None else 0)
            assert told.index[t] == first.index(name)
            highest[name] = number if new else highest[name]
        sources.advance(told.marks)
        assert sources.marks == highest
        assert Sources.from_json(sources.to_json()).marks == highest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"sources": ["a"], "last": []}',
        '{"sources": [1.5], "last": [1]}',
        '{"sources": ["a"], "last": ["b"]}',
        '{"sources": ["a", "a"], "last": [1, 2]}',
    ],
)
def test_edited_numbers_are_refused(text: str, tmp_path: Path) -> None:
    learner = learner_of()
    learner.observe(**rows(), source="a", seq=range(4))
    learner.save(tmp_path / "q.zarr")
    file = tmp_path / "q.zarr" / "zarr.json"
    stored = json.loads(file.read_text())
    stored["attributes"]["observed"] = text
    file.write_text(json.dumps(stored))
    with pytest.raises(IncompatibleTableError):
        dqlearn.load(tmp_path / "q.zarr", env=partial(Live, spaces.Discrete(10))).sources  # noqa: B018


# who may observe


def test_a_learner_that_learns_does_not_observe() -> None:
    learner = QLearner("FrozenLake-v1")

    def tell(event: Any) -> None:
        learner.observe(14, 2, 1.0, 15, True)

    with pytest.raises(ConfigurationError, match="does not learn just now"):
        learner.learn(10, callback=tell)


def test_threads_take_turns() -> None:
    learner, told = learner_of(), list[int]()

    def tell(source: int) -> None:
        for number in range(50):
            told.append(
                learner.observe(**rows(), source=source, seq=4 * number + np.arange(4)).learned
            )

    together: list[Callable[[], None]] = [partial(tell, source) for source in range(4)]
    threads = [threading.Thread(target=each) for each in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(told), learner.num_timesteps) == (800, 800)
    assert learner.table.visits.sum().compute() == 800


def test_tables_are_whole_while_others_observe() -> None:
    """Whoever looks has the table of one round: batches of 40 rows, none of them torn."""
    learner, over, sums = learner_of(), threading.Event(), list[int]()
    learner.observe(**rows())

    def look() -> None:
        while not over.is_set():
            sums.append(int(learner.table.visits.compute().sum()))

    thread = threading.Thread(target=look)
    thread.start()
    draw = np.random.default_rng(0)
    for _ in range(300):
        obs = draw.integers(10, size=40)
        learner.observe(**rows(40, obs=obs, next_obs=obs))
    over.set()
    thread.join()
    assert all((n - 4) % 40 == 0 for n in sums)
    assert len(set(sums)) > 2
