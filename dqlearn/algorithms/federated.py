r"""Federated members: whole tables that learn apart, and are merged into one now and then.

::

    Q ─┬─► member 1: E rounds by itself ─┐
       ├─► member 2: E rounds by itself ─┼─► merge ─► Q
       └─► member K: E rounds by itself ─┘

.. math:: Q(s, a) = \sum_k p_k(s, a) \, Q_k(s, a)

===================  ===============================================================
merge                p_k(s, a)
===================  ===============================================================
equal                1 / K
visits               proportional to N_k(s, a), the member's visits since the last merge
importance           proportional to the product of 1 / (1 - alpha) over those visits
trimmed_mean         1 / (K - 2), and 0 of the least and of the greatest value
===================  ===============================================================

(Khodadadian, Sharma, Joshi and Maguluri 2022, "Federated reinforcement learning: linear speedup
under Markovian sampling", ICML; Woo, Joshi and Chi 2023, "The blessing of heterogeneity in
federated Q-learning", ICML.) Invariant: a pair that no member has visited keeps its value, and
visits are added up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from dqlearn.checks import check_choice, check_whole
from dqlearn.errors import ConfigurationError

__all__ = ["MERGES", "Federated", "Merge"]

Merge = Literal["equal", "importance", "visits", "trimmed_mean"]

MERGES: tuple[str, ...] = get_args(Merge)
"""Ways to merge the members' tables."""

_EXTREMES = 2
_TEXT = re.compile(r"(?P<members>\d+)(:(?P<local_rounds>\d+)(:(?P<merge>\w+))?)?")


@dataclass(frozen=True)
class Federated:
    """How many tables learn apart, for how long, and how they are merged.

    Parameters
    ----------
    members : int
        Number of tables. Each is whole, and one task on one thread learns it; so as many as there
        are threads, or a multiple of that.
    local_rounds : int
        Rounds that each member makes by itself before all are merged.
    merge : {"equal", "importance", "visits", "trimmed_mean"}
        What a merged value is: the mean of the members'; the mean weighted by the product of
        1 / (1 - alpha) over a member's visits since the last merge, so that who has seen much says
        much; the mean weighted by those visits; the mean without the least and the greatest value.

    Raises
    ------
    ConfigurationError
        If a number is not positive, there is no such merge, or nothing is left of a trimmed mean.

    Examples
    --------
    >>> Federated(members=4, local_rounds=16, merge="equal")
    Federated(members=4, local_rounds=16, merge='equal')
    """

    members: int
    local_rounds: int = 16
    merge: Merge = "importance"

    def __post_init__(self) -> None:
        """Check the fields."""
        check_whole("members", self.members, 1)
        check_whole("local_rounds", self.local_rounds, 1)
        check_choice("merge", self.merge, MERGES)
        if self.merge == "trimmed_mean" and self.members <= _EXTREMES:
            raise ConfigurationError(
                "merge='trimmed_mean' drops the least and the greatest value, so that members must "
                f"be at least {_EXTREMES + 1}, got {self.members}"
            )

    @classmethod
    def of(cls, text: str) -> Self:
        """Return what a text describes, as :attr:`text` writes it.

        Raises
        ------
        ConfigurationError
            If it is not ``MEMBERS:LOCAL_ROUNDS:MERGE``, of which the last two may be left out.

        Examples
        --------
        >>> Federated.of("4:16:visits")
        Federated(members=4, local_rounds=16, merge='visits')
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ConfigurationError(
                f"expected MEMBERS:LOCAL_ROUNDS:MERGE, such as 4:16:importance, got {text!r}"
            )
        given = {name: it for name, it in found.groupdict().items() if it is not None}
        merge: Any = given.pop("merge", cls.merge)
        return cls(**{name: int(it) for name, it in given.items()}, merge=merge)

    @property
    def text(self) -> str:
        """These numbers and the merge as a text, ``MEMBERS:LOCAL_ROUNDS:MERGE``."""
        return f"{self.members}:{self.local_rounds}:{self.merge}"
