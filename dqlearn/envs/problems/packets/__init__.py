"""Routing: packets in a network with queues, and who decides where they go.

::

    dispatch.py                 PacketDispatch   one decision point in front of N queues
    hops.py, hop_kernels.py     PacketRouting    a decision at every router a packet comes to
    graph.py                    links, ports, distances, queues in the long run
    baselines.py                rules to beat, of both
"""

from __future__ import annotations

from dqlearn.envs.problems.packets.dispatch import PacketDispatch
from dqlearn.envs.problems.packets.hops import PacketRouting

__all__ = ["PacketDispatch", "PacketRouting"]
