"""Hyperparameters: each is declared here, once.

::

    Hyperparameters ─┬─► keyword arguments of QLearner: signature, types, docstring
                     ├─► checks, defaults                    (`Settings`)
                     ├─► attributes of a stored table, and back
                     ├─► options of ``dqlearn train``, and their help
                     └─► the table of the reference

Invariant: this is the only list of hyperparameters; all others are derived from it. A plan has a
value for each that its stages use, under the same name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypedDict, get_args, get_type_hints

import numpy.typing as npt

from dqlearn.algorithms import Algorithm
from dqlearn.algorithms.federated import Federated
from dqlearn.schedules import Schedule, VisitCount
from dqlearn.stages.initial.values import InitialValues
from dqlearn.stages.settings.federation import Federation
from dqlearn.stages.settings.kinds import (
    ChunkSizes,
    Flag,
    FloatType,
    Integer,
    Kind,
    Number,
    OneOf,
    Rule,
    Scheduled,
    Seconds,
    Seed,
    Values,
)
from dqlearn.table.grid import Chunks

__all__ = ["HYPERPARAMETERS", "Hyperparameter", "Hyperparameters"]

Exchange = Literal["auto", "broadcast", "gather"]
OnError = Literal["raise", "restart"]

_SENTENCE_END = re.compile(r"(?<=[^.]\.) ")  # and not the dots of "0 .. 1"

REQUIRED: Final = object()
"""In place of `earlier`: every table that was ever stored has a value of this hyperparameter."""


@dataclass(frozen=True)
class Hyperparameter:
    """The declaration of a hyperparameter, besides its name and its type.

    Attributes
    ----------
    kind : Kind
        Which values it takes, and how they are stored.
    default : object
        The value of a run that sets none; None if that depends on the environment.
    doc : str
        A description in sentences; the command line shows the first alone as help.
    unit : str
        Unit of the value; "" if it has none.
    advised : bool
        Whether an environment's recipe may set the value. QLearner's argument then defaults to
        None, which stands for the recipe's value, or for `default` if there is none.
    earlier : object
        The attribute to assume of tables that were stored before this hyperparameter existed.
    """

    kind: Kind
    default: Any
    doc: str
    unit: str = ""
    advised: bool = False
    earlier: Any = REQUIRED

    @property
    def shown_default(self) -> Any:
        """The default of QLearner's argument."""
        return None if self.advised else self.default

    @property
    def label(self) -> str:
        """The type, as docstrings name it."""
        return f"{self.kind.label}, optional" if self.shown_default is None else self.kind.label

    @property
    def summary(self) -> str:
        """The first sentence of its description, and the unit."""
        return _SENTENCE_END.split(self.doc, maxsplit=1)[0] + self._measured

    @property
    def description(self) -> str:
        """Its description, and the unit."""
        return self.doc + self._measured

    @property
    def _measured(self) -> str:
        return f" Unit: {self.unit}." if self.unit else ""

    def check(self, name: str, value: Any) -> Any:
        """Return a value in the form that a run uses; None where the environment decides.

        Raises
        ------
        ConfigurationError
            If the value is not of this kind.
        """
        is_open = value is None and self.default is None
        return None if is_open else self.kind.check(name, value)

    def load(self, name: str, attrs: Mapping[str, Any]) -> Any:
        """Return the value from the attributes of a stored table."""
        return self.kind.load(
            attrs[name] if self.earlier is REQUIRED else attrs.get(name, self.earlier)
        )


class Hyperparameters(TypedDict, total=False):
    """Keyword arguments of :class:`dqlearn.QLearner`, except those that make its environment."""

    num_envs: Annotated[
        int | None,
        Hyperparameter(
            Integer(),
            None,
            "Environments that are stepped together. By default so many of a compiled model that a "
            "round makes about 8 times the square root of the number of pairs, 65,536 with "
            '``exchange="gather"``, and 4096 where rounds are large. Of Python environments in one '
            "shard, by default about the square root of the number of pairs, 16 .. 64; in several "
            "64.",
            advised=True,
        ),
    ]
    shards: Annotated[
        int | None,
        Hyperparameter(
            Integer(),
            None,
            "Tasks that the environments are divided over. By default, of a compiled model the "
            "number of threads there are, of any other the number of processes, whose threads "
            "would wait for one interpreter. For results that are equal on other machines, say it.",
        ),
    ]
    steps_per_round: Annotated[
        int | None,
        Hyperparameter(
            Integer(),
            None,
            "Steps of each environment in a round. By default 4 of a compiled model, up to 64 of "
            "few environments; 1 of Python environments in one shard, and with "
            '``exchange="gather"``; about as many as make one transition per pair where rounds are '
            "large, which they are with `policy_lag` 1, beyond 33 million pairs, and of Python "
            "environments in several shards.",
            advised=True,
        ),
    ]
    gamma: Annotated[
        float | None,
        Hyperparameter(
            Number(0, 1),
            0.99,
            "Discount factor, 0 .. 1. By default 0.99. Of this and the next three, as of "
            "`num_envs` and `steps_per_round`, the network environments have defaults of their "
            "own, which :doc:`/environments/index` lists.",
            advised=True,
        ),
    ]
    learning_rate: Annotated[
        float | Schedule | VisitCount | None,
        Hyperparameter(
            Scheduled(visits=True),
            0.1,
            "Alpha, 0 .. 1: a number, or a schedule. By default 0.1.",
            advised=True,
        ),
    ]
    epsilon: Annotated[
        float | Schedule | None,
        Hyperparameter(
            Scheduled(),
            0.1,
            "Probability of a random action, 0 .. 1: a number, or a schedule. By default 0.1.",
            advised=True,
        ),
    ]
    initial_value: Annotated[
        float | InitialValues | None,
        Hyperparameter(
            Values(),
            0.0,
            "Q of every pair at the beginning. By default 0. In place of a number, an array "
            "(n_states, n_actions), or a function of states (m,) that returns (m, n_actions).",
            unit="reward",
            advised=True,
        ),
    ]
    policy_lag: Annotated[
        int | None,
        Hyperparameter(
            Integer(0, 1),
            None,
            "0: round r acts on Q_r; 1: on Q_{r-1}, so that rounds overlap. The rollouts of one "
            "round then go on beside the updates of the one before. By default 1 on the gather "
            "path, and 0 on the other.",
        ),
    ]
    exchange: Annotated[
        Exchange,
        Hyperparameter(
            OneOf(get_args(Exchange), open_="auto"),
            "auto",
            "How the maxima of the table reach the environments. "
            '"broadcast": all of them after every round; "gather": those that are asked for, with '
            "`steps_per_round` and `policy_lag` 1. At those both give the same bits. "
            '"auto" gathers if `steps_per_round` and `policy_lag` are 1, or the former is and '
            "there are more than 33 million pairs, and the table has a million states or more and "
            "16 for each environment. See :doc:`/explanation/round`.",
            earlier="broadcast",
        ),
    ]
    chunks: Annotated[
        Chunks,
        Hyperparameter(
            ChunkSizes(),
            "auto",
            "Chunks of the table along states and actions. They are what ``dask.array`` takes; "
            'of a sparse table, how many there are. With "auto" those of compiled models are cut '
            "anew while the learner learns if their loads are uneven; see "
            ":doc:`/explanation/round`.",
        ),
    ]
    sparse: Annotated[
        bool,
        Hyperparameter(
            Flag("sparse_block says how many states stand side by side"),
            False,
            "Keep room for visited states only. There may be 2**62 states then; on the gather "
            "path. See :doc:`/how-to/sparse-tables`.",
            earlier=0,
        ),
    ]
    sparse_block: Annotated[
        int,
        Hyperparameter(
            Integer(),
            1,
            "How many successive states of a sparse table stand side by side. A power of two: 1 "
            "where visits scatter, more where they stay near.",
            earlier=1,
        ),
    ]
    algorithm: Annotated[
        str | Algorithm,
        Hyperparameter(
            Rule(),
            "q_learning",
            "The rule to learn by. One of one's own is an `Algorithm`; see "
            ":doc:`/explanation/algorithms`.",
            earlier="q_learning",
        ),
    ]
    federated: Annotated[
        str | Federated | None,
        Hyperparameter(
            Federation(),
            None,
            "Tables that learn apart, each on one worker, and are merged after some rounds. All "
            "together they have `num_envs` environments, by default as many for each as a single "
            "table has, and by default a shard each. By default there is one table. See "
            ":doc:`/explanation/algorithms`.",
            earlier="",
        ),
    ]
    dtype: Annotated[
        npt.DTypeLike,
        Hyperparameter(FloatType(), "float32", "Type of the values of the table."),
    ]
    seed: Annotated[
        int,
        Hyperparameter(Seed(0, 2**64 - 1), 0, "Seed of all randomness."),
    ]
    action_masks: Annotated[
        bool,
        Hyperparameter(
            Flag(),
            True,
            "Use the masks of actions that environments have. They stand in "
            '``info["action_mask"]``, or come from a method ``action_masks``; of a model from '
            "`valid`. Actions that are not valid are never tried, and do not count in targets. See "
            ":doc:`/how-to/action-masks`.",
            earlier=0,
        ),
    ]
    on_env_error: Annotated[
        OnError,
        Hyperparameter(
            OneOf(get_args(OnError)),
            "raise",
            "What to do when an environment raises in a step or reset. "
            '"raise": stop with an `EnvironmentFault`; "restart": build it anew, drop the step, '
            "and go on. Restarts are counted in `history`, and the logger ``dqlearn`` tells of "
            "them. They need a factory of single environments, or an id.",
            earlier="raise",
        ),
    ]
    env_timeout: Annotated[
        float | None,
        Hyperparameter(
            Seconds(),
            None,
            "How long one step of a shard's environments may take. So may the making, "
            "resetting or closing of one of them. Beyond that the thread that hangs is left "
            "behind, with an `EnvironmentFault`. Steps are made in threads of their own then. Not "
            "seen: C code that never releases the GIL, and evaluations. By default there is no "
            "limit.",
            unit="seconds",
            earlier="null",
        ),
    ]


HYPERPARAMETERS: Final[Mapping[str, Hyperparameter]] = {
    name: get_args(hint)[1]
    for name, hint in get_type_hints(Hyperparameters, include_extras=True).items()
}
"""All hyperparameters, by name."""
