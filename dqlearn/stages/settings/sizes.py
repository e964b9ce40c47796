r"""The size of a round where nobody says it: small enough to learn from values that are not stale.

.. math:: n \approx 8 \sqrt{\text{pairs}}

A round's transitions all learn from the values that the round began with, so small rounds need
fewer transitions to the same error; fused rounds cost little besides their transitions. Where
rounds cannot be fused, or the table is too large to be copied, a round costs milliseconds, and has
many transitions.

======================  ==============================================  =================
rounds                  environments                                    steps
======================  ==============================================  =================
fused                   a quarter of the power of two next to n         4
fused, environments     as many as there are                            up to 64
gather                  65,536                                          1
others, large tables    4,096                                           up to 1,024
Python, one shard       the power of two next to sqrt(pairs), 16 .. 64  1
Python, others          64                                              up to 64
======================  ==============================================  =================

Steps of Python environments take so long that a round after each costs little, where it is fused.

Invariant: the size depends on the table and on what is said of a run, never on where it is made;
that of Python environments depends on `shards`, by default the number of processes.
"""

from __future__ import annotations

import math

__all__ = ["LARGE_PAIRS", "round_size"]

_PYTHON = 64, 64
_GATHER_ENVS = 65_536
_LARGE = 4096, 1024
LARGE_PAIRS = 2**25
"""Number of pairs beyond which rounds are spread over a cluster."""

_PYTHON_FUSED = 16, 64
_STEPS, _STEPS_AT_MOST = 4, 64
_LEAST, _ENVS_AT_LEAST = 256, 64


def round_size(
    n_pairs: int,
    num_envs: int | None,
    steps: int | None,
    *,
    compiled: bool,
    gather: bool,
    fusible: bool,
    shards: int = 1,
) -> tuple[int, int]:
    """Return the number of environments and of their steps in a round.

    Parameters
    ----------
    n_pairs : int
        Number of values of the table.
    num_envs, steps : int, optional
        The numbers that were said.
    compiled, gather, fusible : bool
        Whether the environment is a compiled model; whether there is one step in a round, on the
        gather path; whether rounds can be fused.
    shards : int
        Number of tasks that the environments are divided over.

    Returns
    -------
    (int, int)

    Examples
    --------
    >>> round_size(2**22, None, None, compiled=True, gather=False, fusible=True)
    (4096, 4)
    >>> round_size(3_000, 16, None, compiled=True, gather=False, fusible=True)
    (16, 32)
    >>> round_size(3_000, None, None, compiled=False, gather=False, fusible=True)
    (64, 1)
    """
    if gather:
        return num_envs or (_GATHER_ENVS if compiled else _PYTHON[0]), steps or 1
    if compiled and fusible and n_pairs <= LARGE_PAIRS:
        return _small(n_pairs, num_envs, steps)
    if fusible and shards == 1 and not compiled and n_pairs <= LARGE_PAIRS:
        least, most = _PYTHON_FUSED
        wanted = 1 << round(math.log2(n_pairs) / 2)
        return num_envs or min(max(wanted, least), most), steps or 1
    envs, most = _LARGE if compiled else _PYTHON
    envs = num_envs or envs
    return envs, steps or min(max(1, math.ceil(n_pairs / envs)), most)


def _small(n_pairs: int, num_envs: int | None, steps: int | None) -> tuple[int, int]:
    """Return the size of a fused round, of about 8 sqrt(pairs) transitions."""
    wanted = max(_LEAST, 1 << round(math.log2(8 * math.sqrt(n_pairs))))
    if num_envs is None:
        num_envs = max(_ENVS_AT_LEAST, wanted // (steps or _STEPS))
    return num_envs, steps or min(max(1, wanted // num_envs), _STEPS_AT_MOST)
