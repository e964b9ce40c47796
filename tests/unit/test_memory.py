"""Memory that is used again: the pool's, and that of malloc in worker processes."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster

from dqlearn import QLearner
from dqlearn.kernels.buffers import _Pool, copy, empty

LARGE = 100 * 2**20

KEPT = f"""
import os
import numpy, psutil
from dqlearn.kernels.buffers import keep_freed_pages

def resident_after_a_large_block():
    block = numpy.ones({LARGE}, numpy.uint8)
    del block
    return psutil.Process().memory_info().rss

before = resident_after_a_large_block()
assert keep_freed_pages()
print(resident_after_a_large_block() - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")


def test_buffers_are_used_again() -> None:
    first = empty(10**6, np.float64)
    address = first.ctypes.data
    view = first[10:20]
    del first
    assert empty(10**6, np.float64).ctypes.data != address  # the view still needs it
    del view
    gc.collect()
    assert address in {empty(10**6, np.float64).ctypes.data for _ in range(2)}


def test_what_nobody_wants_again_is_freed() -> None:
    pool = _Pool(spare=1_000, seconds=0.05)
    table, *rounds = (pool.take(size) for size in (5_000, *[900] * 12))
    pool.give(table)
    assert pool.idle == 5_000
    pool.give(rounds.pop())
    assert pool.idle == 5_900
    time.sleep(0.06)
    pool.give(rounds.pop())
    assert pool.idle == 900
    for _ in range(9):
        pool.give(pool.take(900))
    assert pool.idle == 900


def test_a_copy_is_one() -> None:
    array = np.arange(10**5)
    other = copy(array)
    other[0] = -1
    assert array[0] == 0
    assert np.array_equal(array[1:], other[1:])


@glibc
def test_freed_pages_are_kept() -> None:
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 0.9 * LARGE


def resident_after_a_large_block() -> int:
    before = psutil.Process().memory_info().rss
    block = np.ones(LARGE, np.uint8)
    del block
    return int(psutil.Process().memory_info().rss - before)


@glibc
@pytest.mark.cluster
def test_workers_keep_freed_pages() -> None:
    """Those that were there, and those that join."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        assert max(client.run(resident_after_a_large_block).values()) < 0.1 * LARGE
        QLearner("FrozenLake-v1").learn(1)
        cluster.scale(2)
        client.wait_for_workers(2)
        assert min(client.run(resident_after_a_large_block).values()) > 0.9 * LARGE
