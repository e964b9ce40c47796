"""Shared by all tests: reproducible Hypothesis runs, plots without a screen, one small cluster.

Worker processes are forked from a server that has imported dqlearn: the import takes most of the
time of a small test on a cluster. Those of scripts that tests start are spawned, as users' are.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import dask
import pytest
from distributed import Client, LocalCluster
from distributed.utils import get_mp_context
from hypothesis import settings

os.environ["MPLBACKEND"] = "agg"

dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
# A LocalCluster gives a worker up that is dead 15 s after one of its deaths, be it by another: on
# a busy machine its successor is only being started by then.
dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
get_mp_context().set_forkserver_preload(["distributed", "dqlearn", "dqlearn.engine.cluster"])

# A background job of a shell ignores Ctrl-C, and so would all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The first example of a test may compile kernels, so there is no deadline.
settings.register_profile("dqlearn", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("dqlearn")


@pytest.fixture(scope="session")
def local_cluster() -> Iterator[LocalCluster]:
    """Two worker processes of one thread. A test that kills workers starts a cluster of its own."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture
def single_rounds() -> Iterator[None]:
    """Make each round in tasks of its own, wherever it is made."""
    with dask.config.set({"dqlearn.fuse": False}):
        yield


@pytest.fixture
def client(local_cluster: LocalCluster) -> Iterator[Client]:
    """A client that is Dask's default scheduler for the length of one test.

    Runs are spread over its workers, also those that one of them would hold.
    """
    with dask.config.set({"dqlearn.fuse": False}), Client(local_cluster) as client:
        yield client
