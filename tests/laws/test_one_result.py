"""P1: the bits of a result do not depend on chunks, scheduler, workers, threads or luck.

::

    places   synchronous │ 1, 2, 4 threads │ 1, 2, 3 worker processes of 1, 2, 4 threads
      ×
    runs     Taxi-v4 │ FrozenLake8x8 │ a compiled model of 102,400 states        all equal to the
             and on the gather path: FrozenLake8x8 │ a compiled model            NumPy reference
             and with sparse tables, by states or in blocks: both
      ×
    grids    auto │ whole │ along states │ actions │ both │ uneven │ many chunks
             sparse: auto │ 1 │ 3 │ 13 chunks

The slow suite tries all of them, but for most grids of the gather path in clusters; the fast one a
sample in which each value of each factor occurs. Other rules are tried on the same runs, at two
places and on two grids: what they share with Q-learning is tried there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle, product

import pytest
from cases import (
    ALL_RUNS,
    GRIDS,
    PLACES,
    RULES,
    RUNS,
    SHARES,
    SPARSE,
    Place,
    bits,
    dask_at,
    reference_bits,
)


def fast_sample() -> set[tuple[Place, str, str]]:
    """Every run at every place of this process, and each in a cluster of some size."""
    draw = random.Random(0)
    runs = [name for name in ALL_RUNS if name not in RULES]
    pairs = [pair for pair in product(PLACES, runs) if not pair[0].workers]
    for workers, name in zip(cycle((1, 2, 3)), runs, strict=False):
        pairs.append((draw.choice([p for p in PLACES if p.workers == workers]), name))
    grids = {False: draw.sample(list(GRIDS), len(GRIDS)), True: list(SHARES)}
    left = {sparse: cycle(names) for sparse, names in grids.items()}
    return {(*pair, next(left[pair[1] in SPARSE])) for pair in pairs}


def tried(place: Place, name: str, grid: str) -> bool:
    """Whether to try a case: in clusters, rounds of one step are mostly tasks, and take long."""
    return name in RUNS or not place.workers or grid in ("both", "three")


def of_rules() -> Iterator[tuple[Place, str, str]]:
    """Every rule on every run it is tried on: on threads, and in a cluster that has to send."""
    for name in RULES:
        grids = [*RULES[name].grids]
        yield THREADS, name, grids[min(4, len(grids) - 1)]
        yield WORKERS, name, grids[min(2, len(grids) - 1)]


THREADS, WORKERS = PLACES[2], PLACES[5]
QUICK = {
    (THREADS, name)
    for name in ("taxi, double_q", "sparse torus, double_q", "asking lake, expected_sarsa")
}
SAMPLE = fast_sample()
EVERYTHING = [
    case
    for case in product(PLACES, [name for name in ALL_RUNS if name not in RULES], GRIDS | SHARES)
    if case in SAMPLE or (case[2] in ALL_RUNS[case[1]].grids and tried(*case))
]
CASES = [
    pytest.param(
        *case,
        id="-".join(map(str, case)),
        marks=[
            *([pytest.mark.cluster] if case[0].workers else []),
            *([] if case in SAMPLE or case[:2] in QUICK else [pytest.mark.slow]),
        ],
    )
    for case in sorted([*EVERYTHING, *of_rules()], key=lambda case: PLACES.index(case[0]))
]


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[None]:
    """Dask, at a place that successive cases share."""
    with dask_at(request.param):
        yield


@pytest.mark.parametrize(("place", "name", "grid"), CASES, indirect=["place"])
@pytest.mark.usefixtures("place")
def test_one_result(name: str, grid: str) -> None:
    run = ALL_RUNS[name]
    assert bits(run.learner(chunks=run.chunks(grid)).learn(run.timesteps)) == reference_bits(name)


def test_the_sample_leaves_nothing_out() -> None:
    places, names, grids = (set(values) for values in zip(*SAMPLE, strict=True))
    assert names == set(ALL_RUNS) - set(RULES)
    assert grids == set(GRIDS) | set(SHARES)
    assert {place.workers for place in places} == {0, 1, 2, 3}
    assert {place.threads for place in places} == {1, 2, 4}
