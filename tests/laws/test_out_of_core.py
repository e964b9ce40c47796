"""Tables larger than the memory there is: the same bits, no crash, and nothing left behind.

Dask's configuration grants the tables less memory than they need; one is larger than the workers'
memory together.
"""

from __future__ import annotations

import random
import resource
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from cases import ALL_RUNS, ASKING, PLACES, RUNS, Place, Run, bits, dask_at, reference_bits
from distributed import Client, LocalCluster
from killing import Once, kill_a_worker, two_workers

import dqlearn
from dqlearn import Every, QLearner
from dqlearn.envs.problems.torus import torus
from dqlearn.errors import TableTooLargeError
from dqlearn.table import paged

IN_MEMORY = Path("/dev/shm")


def granted(run: Run, memories: int = 1) -> dict[str, Any]:
    """Grant a run the maxima of all states, if it has them, and no table."""
    itemsize = np.dtype(run.settings.dtype).itemsize
    maxima = 2 * run.n_states * (itemsize + 1) if run.exchange == "broadcast" else 0
    return {"dqlearn.memory-limit": f"{1 + maxima * memories} B"}


def in_chunks(run: Run) -> QLearner:
    return run.learner(chunks=(-(-run.n_states // 3), 2))


@contextmanager
def no_file_beyond(nbytes: int) -> Iterator[None]:
    """Let no file grow beyond a size, as if the disk were full then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# arrays


def test_paged_arrays_are_arrays(tmp_path: Path) -> None:
    values = np.arange(50_000, dtype=np.float64).reshape(500, 100)
    with dask.config.set({"temporary-directory": tmp_path}):
        made, kept = paged.zeros((500, 100), "float64"), paged.put(values)
        assert not list(tmp_path.iterdir())
    assert made.shape == (500, 100)
    assert not made.any()
    made += values
    other = paged.copy(made)
    other[0, 0] = -1
    np.testing.assert_array_equal(made, kept)
    assert all(map(paged.is_paged, (made, kept, other)))
    assert not paged.is_paged(paged.copy(values))


def test_a_full_disk_is_met_before_anything_is_learned() -> None:
    with no_file_beyond(50_000):
        for make in (lambda: paged.zeros((10_000,), "float64"), lambda: paged.put(np.ones(10_000))):
            with pytest.raises(TableTooLargeError, match=r"80000 bytes.*temporary-directory"):
                make()


@pytest.mark.skipif(not IN_MEMORY.is_dir(), reason="no disk in memory")
def test_a_table_that_fits_nowhere() -> None:
    """A disk in memory is no room, and the maxima of all states have to be in memory."""
    little = {"dqlearn.memory-limit": "1 MiB"}
    with dask.config.set({**little, "temporary-directory": IN_MEMORY}):
        assert paged.disk()[1] == 0
        with pytest.raises(TableTooLargeError, match=r"1.00 MiB of memory and 0 B of disk"):
            QLearner("dqlearn/Torus-v0", exchange="gather")
    with dask.config.set(little), pytest.raises(TableTooLargeError, match=r"exchange='gather'"):
        QLearner("dqlearn/Torus-v0", exchange="broadcast")


# threads


@pytest.mark.parametrize("name", [*RUNS, *ASKING, "short torus, watkins:0.9:16"])
@pytest.mark.parametrize("place", [PLACES[0], PLACES[2]], ids=str)
def test_the_bits_are_the_same(name: str, place: Place, tmp_path: Path) -> None:
    run = ALL_RUNS[name]
    with dask_at(place), dask.config.set({**granted(run), "temporary-directory": tmp_path}):
        here = in_chunks(run)
        assert "out of core" in repr(here)
        assert bits(here.learn(run.timesteps)) == reference_bits(name)
        assert not list(tmp_path.iterdir())
    assert "out of core" not in repr(in_chunks(run))


@pytest.mark.parametrize("name", ["torus", "asking torus"])
def test_who_takes_a_table_keeps_it(name: str, tmp_path: Path) -> None:
    run = ALL_RUNS[name]
    with dask.config.set(granted(run), scheduler="threads"):
        here = in_chunks(run).learn(run.timesteps // 2)
        kept, before = here.table, bits(here)
        here.learn(run.timesteps, store=tmp_path / "run", checkpoint_every=Every(rounds=2))
        here.evaluate(2, seed=1, max_steps=10)
        assert bits(here) == reference_bits(name)
        assert before.q != reference_bits(name).q
        assert all(map(paged.is_paged, (node.value.q for node in kept.nodes)))
        assert bits(here) == bits(dqlearn.resume(tmp_path / "run", env=run.make()))


def test_a_copy_that_finds_the_disk_full() -> None:
    """The round after a table was taken works on copies; the table before it stays."""
    run = ALL_RUNS["asking torus"]
    with dask.config.set(granted(run), scheduler="threads"):
        here = in_chunks(run).learn(run.timesteps // 2)
        kept = here.table
        with no_file_beyond(1_000), pytest.raises(TableTooLargeError, match="larger chunks"):
            here.learn(run.timesteps)
        assert here.table.round == kept.round
        assert bits(here.learn(run.timesteps)) == reference_bits("asking torus")


# clusters


@pytest.mark.cluster
@pytest.mark.parametrize("name", ["lake", "torus", "asking torus"])
def test_the_bits_are_the_same_on_a_cluster(
    name: str, local_cluster: LocalCluster, tmp_path: Path
) -> None:
    """Its table can go on elsewhere from a store, and not by itself."""
    run = ALL_RUNS[name]
    with dask.config.set(granted(run, memories=2)), Client(local_cluster):
        here = in_chunks(run)
        with pytest.warns(UserWarning, match=r"client keeps no copy.*pass store="):
            here.learn(run.timesteps // 2)
        with (
            dask.config.set(scheduler="threads"),
            pytest.raises(TableTooLargeError, match="resume elsewhere"),
        ):
            here.learn(run.timesteps)
        assert bits(here.learn(run.timesteps, store=tmp_path / "run")) == reference_bits(name)
    assert bits(here.learn(run.timesteps)) == reference_bits(name)


def checksums(here: QLearner) -> Any:
    """Return one of each chunk, as the workers find them."""

    def of_chunk(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.array([[zlib.crc32(block)]], np.uint32)

    arrays = (here.table.q, here.table.visits)
    sums = [a.map_blocks(of_chunk, chunks=(1, 1), dtype=np.uint32, meta=a._meta) for a in arrays]
    return [made.tobytes() for made in dask.compute(*sums)]


@pytest.mark.cluster
@pytest.mark.slow
def test_more_than_the_workers_have_together(tmp_path: Path) -> None:
    """Two of them are killed as well."""
    draw, model, rounds = random.Random(0), torus(side=6_700, max_episode_steps=20), 8
    settings = {
        "num_envs": 64,
        "shards": 2,
        "exchange": "gather",
        "chunks": (150_000, -1),
        "seed": 2,
    }
    with dask.config.set(scheduler="threads"):
        expected = checksums(QLearner(model, **settings).learn(rounds * 64))
    with (
        two_workers(memory_limit="640 MiB") as cluster,
        Client(cluster) as client,
    ):
        limits = [w["memory_limit"] for w in client.scheduler_info()["workers"].values()]
        here = QLearner(model, **settings)
        assert sum(limits) < here.table.nbytes
        deaths = [Once(lambda: kill_a_worker(cluster, draw), rounds=n) for n in (3, 6)]
        here.learn(rounds * 64, deaths, store=tmp_path, checkpoint_every=Every(rounds=4))
        assert checksums(here) == expected
