r"""Flow: what each line carries for a kilowatt taken at a node (linear power flow).

::

    0 ──► 1 ──► 2      a kilowatt taken at 2 passes both lines
    │           ▲      in a mesh it divides, the less on a way the larger its impedance
    └───────────┘

With the incidence A (line l from node s to node e: A[l, s] = 1, A[l, e] = -1), line impedances z,
b = 1 / z and node voltages v, lines carry f = diag(b) A v, and nodes balance: A^T f is what each
node feeds in. Node 0 is the reference and feeds in what the others take, so that

.. math:: f = H p, \qquad H = -\operatorname{diag}(b) A_0 (A_0^T \operatorname{diag}(b) A_0)^{-1}

for the powers p taken at the other nodes; A_0 is A without node 0. H has the *shift factors*
(power transfer distribution factors): Wood, Wollenberg and Sheble (2013), "Power Generation,
Operation, and Control", 3rd ed., Wiley, who derive them from angles and reactances, as is right for
high voltage.

At low voltage lines are mostly resistive, and active power follows voltages (Engler and Soultanis
2005, "Droop control in LV-grids", Int. Conf. on Future Power Systems). A line that carries active
power f and reactive power q has a drop of about r f + x q, and an angle of about x f - r q. With
loads of unit power factor and one ratio of r to x in all lines, both add to nothing around every
mesh with q = 0 and with f divided by 1 / r, which is then the same as by 1 / z. With other ratios
reactive power circulates, which is left out here; so are losses, of which H knows nothing, and what
changes with voltages that are not the nominal one.

Invariant: in a network without meshes H is 0 or +-1 and does not depend on the impedances.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dqlearn.envs.problems.topology import Edges
from dqlearn.errors import ConfigurationError

__all__ = ["layers", "shift_factors"]


def layers(edges: Edges, n_nodes: int) -> list[list[int]]:
    """Sort the nodes by how many lines away from node 0 they are.

    Parameters
    ----------
    edges : tuple of (int, int)
        The lines.
    n_nodes : int
        How many nodes there are, node 0 included.

    Returns
    -------
    list of list of int
        Node 0, its neighbours, theirs, and so on.

    Raises
    ------
    ConfigurationError
        If there is no way to some node.

    Examples
    --------
    >>> layers(((0, 1), (1, 2), (2, 3), (3, 0)), 4)
    [[0], [1, 3], [2]]
    """
    found, seen = [[0]], {0}
    while found[-1]:
        near = {node for edge in edges if seen & set(edge) for node in edge} - seen
        found.append(sorted(near))
        seen |= near
    if missing := sorted(set(range(n_nodes)) - seen):
        raise ConfigurationError(
            f"lines must lead from node 0, the grid, to every node; none leads to {missing}: "
            f"add lines, got {edges}"
        )
    return found[:-1]


def shift_factors(
    edges: Edges, impedance: Sequence[float], n_nodes: int
) -> npt.NDArray[np.float64]:
    """Return the shift factors of a network.

    Parameters
    ----------
    edges : tuple of (int, int)
        The lines; a flow from the first to the second node counts as positive.
    impedance : sequence of float
        One a line, in any unit.
    n_nodes : int
        How many nodes there are, node 0 included.

    Returns
    -------
    float64 (n_lines, n_nodes - 1)
        Kilowatts on each line for one taken at node 1, node 2, ...

    Raises
    ------
    ConfigurationError
        If there is no way to some node.

    Examples
    --------
    In a ring, two thirds of what is taken take the shorter way:

    >>> shift_factors(((0, 1), (1, 2), (2, 0)), (1.0, 1.0, 1.0), 3).round(3)
    array([[ 0.667,  0.333],
           [-0.333,  0.333],
           [-0.333, -0.667]])
    """
    layers(edges, n_nodes)
    incidence = np.zeros((len(edges), n_nodes))
    for line, (start, end) in enumerate(edges):
        incidence[line, start], incidence[line, end] = 1.0, -1.0
    reduced = incidence[:, 1:]
    weighted = reduced / np.asarray(impedance, float)[:, None]
    factors: npt.NDArray[np.float64] = -weighted @ np.linalg.inv(reduced.T @ weighted)
    return factors.round(12) + 0.0  # no negative zeros
