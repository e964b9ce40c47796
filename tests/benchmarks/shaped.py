"""Worker processes in network namespaces of their own, on a network of a chosen delay and rate.

::

    namespace 1: worker ── tun ──┐                          ┌── tun ── scheduler, client
    namespace 2: worker ── tun ──┤  relay: each packet      │          (here)
    ...                          │  waits for its links,    │
    namespace n: worker ── tun ──┴─ then for the delay ─────┘

Everybody has a link of that rate in each direction, and the delay lies between any two. Linux only,
as root. A process relays the packets, because kernels without `netem` can shape a rate and no
delay; it takes a part of the machine itself.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import click
import dask
from distributed import Client, LocalCluster

NAME = "dqlearn-{}"  # of a namespace
ADDRESS = "10.77.0.{}"  # of its end; 1 is this one
LARGEST = 65_000  # bytes of a packet
OPEN_TUN, TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
PATIENCE = 60.0  # seconds for workers to come


@dataclass(frozen=True)
class Network:
    """What lies between any two.

    Attributes
    ----------
    delay : float
        Seconds, one way.
    rate : float
        Bytes a second, of each one's link, each way.
    """

    delay: float
    rate: float


class Relay:
    """Moves packets between interfaces.

    Parameters
    ----------
    files : mapping
        Interfaces by the last number of their address.
    network : Network
        What it imitates.
    """

    def __init__(self, files: Mapping[int, int], network: Network) -> None:
        self._files, self._network = files, network
        self._number = {file: n for n, file in files.items()}
        self._sent, self._received = dict.fromkeys(files, 0.0), dict.fromkeys(files, 0.0)
        self._waiting: dict[int, deque[tuple[float, bytes]]] = {n: deque() for n in files}

    def run(self) -> None:
        """Relay until the process is ended."""
        while True:
            self.turn()

    def turn(self) -> None:
        """Wait until a packet comes or is due, take it or deliver it."""
        for file in select.select(list(self._number), [], [], self._pause())[0]:
            self._take(self._number[file], os.read(file, LARGEST + 100))
        self._deliver()

    def _take(self, source: int, packet: bytes) -> None:
        """Note when a packet is due; only IPv4 between known addresses is relayed."""
        if packet[0] >> 4 != 4 or (to := packet[19]) not in self._files:
            return
        took = len(packet) / self._network.rate
        sent = max(time.monotonic(), self._sent[source]) + took
        received = max(sent, self._received[to] + took)
        self._sent[source], self._received[to] = sent, received
        self._waiting[to].append((received + self._network.delay, packet))

    def _deliver(self) -> None:
        now = time.monotonic()
        for to, queue in self._waiting.items():
            while queue and queue[0][0] <= now:
                os.write(self._files[to], queue.popleft()[1])

    def _pause(self) -> float | None:
        """Return seconds until the next packet is due."""
        due = [queue[0][0] for queue in self._waiting.values() if queue]
        return max(0.0, min(due) - time.monotonic()) if due else None


def relay(n: int, network: Network, ready: Any) -> None:
    """Make the interfaces of `n` workers and of this side, then relay."""
    files = {}
    for k in range(1, n + 2):
        files[k] = os.open("/dev/net/tun", os.O_RDWR)
        request = struct.pack("16sH", NAME.format(k).encode(), TUN_WITHOUT_HEADER)
        fcntl.ioctl(files[k], OPEN_TUN, request)
    ready.set()
    Relay(files, network).run()


def ip(*arguments: str) -> None:
    """Call ``ip``."""
    subprocess.run(["ip", *arguments], check=True)


def attach(k: int) -> None:
    """Give interface k its address, in a namespace of its own unless it is this side's."""
    name, inside = NAME.format(k), ()
    if k > 1:
        ip("link", "set", name, "netns", name)
        inside = ("-n", name)
        ip(*inside, "link", "set", "lo", "up")
    ip(*inside, "addr", "add", ADDRESS.format(k) + "/24", "dev", name)
    ip(*inside, "link", "set", name, "mtu", str(LARGEST), "up")


@contextmanager
def relayed(n: int, network: Network) -> Iterator[None]:
    """Set up the namespaces of `n` workers, and what lies between them."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise click.UsageError("network namespaces need Linux, and to be root: leave --shaped out")
    processes = multiprocessing.get_context("spawn")
    ready = processes.Event()
    process = processes.Process(target=relay, args=(n, network, ready), daemon=True)
    with ExitStack() as stack:
        for k in range(2, n + 2):
            ip("netns", "add", NAME.format(k))
            stack.callback(ip, "netns", "delete", NAME.format(k))
        process.start()
        stack.callback(process.join)
        stack.callback(process.terminate)
        if not ready.wait(PATIENCE):
            raise click.ClickException("/dev/net/tun cannot be opened: leave --shaped out")
        for k in range(1, n + 2):
            attach(k)
        yield


def worker(k: int, scheduler: str) -> subprocess.Popen[bytes]:
    """Start a worker process in namespace k."""
    options = ["--host", ADDRESS.format(k), "--nthreads", "1", "--no-dashboard"]
    program = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, *options]
    return subprocess.Popen(
        ["ip", "netns", "exec", NAME.format(k), *program], stderr=subprocess.DEVNULL
    )


@contextmanager
def shaped_cluster(n: int, network: Network) -> Iterator[dict[str, Any]]:
    """Start workers of one thread on such a network."""
    with (
        dask.config.set({"dqlearn.fuse": False}),
        relayed(n, network),
        LocalCluster(n_workers=0, host=ADDRESS.format(1), dashboard_address=None) as local,
        Client(local, set_as_default=False) as client,
    ):
        started = [worker(k, local.scheduler_address) for k in range(2, n + 2)]
        try:
            client.wait_for_workers(n, timeout=PATIENCE)
            yield {"scheduler": client}
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait()
