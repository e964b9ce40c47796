"""Decisions: which modes the machines may have together.

::

    idle, run, maintain for each of N machines: 3^N
      at most `crews` maintained at once, idle only those of `idlers` ──► decisions, sorted

A line of N = 5: 243 decisions, 112 with one crew, 11 if the first machine alone may be idle; of
N = 7: 2187, 576, 15. Invariant: "all run" is a decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import numpy.typing as npt

from dqlearn.envs.problems.production.kernels import IDLE, MAINTAIN, RUN

__all__ = ["MODES", "Decisions"]

MODES = ("idle", "run", "maintain")


@dataclass(frozen=True)
class Decisions:
    """All decisions of a line.

    Parameters
    ----------
    machines : int
        How many.
    crews : int
        Machines that may be maintained at once.
    idlers : tuple of int
        Machines that may be idle.
    """

    machines: int
    crews: int
    idlers: tuple[int, ...]

    def modes(self) -> npt.NDArray[np.int64]:
        """Return the modes of each decision.

        Returns
        -------
        int64 (n_actions, machines)
            In lexicographic order.
        """
        return _modes(self)

    def labels(self) -> list[str]:
        """Return a name for each decision, such as ``"run-idle-maintain"``.

        Returns
        -------
        list of str
            The first machine first.
        """
        return ["-".join(MODES[mode] for mode in modes) for modes in self.modes().tolist()]

    def words(self) -> npt.NDArray[np.int64]:
        """Return the decisions for the kernels.

        Returns
        -------
        int64 (n_actions,)
            Eight bits a machine.
        """
        shifts = 8 * np.arange(self.machines)
        words: npt.NDArray[np.int64] = (self.modes() << shifts).sum(axis=1)
        return words

    def fit(
        self, wanted: npt.NDArray[np.int64], urgent: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64]:
        """Return the decisions nearest to wishes: machines that may not have theirs run.

        Crews go first to what is urgent, then to the machines nearest to the customer.

        Parameters
        ----------
        wanted : int64 (n, machines)
            Modes.
        urgent : bool (n, machines)
            Where maintenance comes first.

        Returns
        -------
        int64 (n,)
            Actions.
        """
        modes = wanted.copy()
        rank = (modes == MAINTAIN) * (1 + np.arange(self.machines) + self.machines * urgent)
        spare = np.sort(rank, axis=1)[:, : max(0, self.machines - self.crews)].max(
            axis=1, initial=0
        )
        late = (modes == MAINTAIN) & (rank <= spare[:, None])
        held = (modes == IDLE) & ~np.isin(np.arange(self.machines), self.idlers)
        modes[late | held] = RUN
        radix = 3 ** np.arange(self.machines)[::-1]
        actions: npt.NDArray[np.int64] = np.searchsorted(self.modes() @ radix, modes @ radix)
        return actions


@cache
def _modes(decisions: Decisions) -> npt.NDArray[np.int64]:
    allowed = [
        (IDLE, RUN, MAINTAIN) if i in decisions.idlers else (RUN, MAINTAIN)
        for i in range(decisions.machines)
    ]
    few = [modes for modes in product(*allowed) if modes.count(MAINTAIN) <= decisions.crews]
    rows = np.array(few, np.int64)
    rows.flags.writeable = False  # one array for all callers
    return rows
