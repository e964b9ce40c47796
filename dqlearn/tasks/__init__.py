"""What the tasks of all graphs run: the stages, with the plan taken apart.

::

    begin ─► learning, or asking and learning ─► ...        a state; a round, and the next
                    └─► looking                             at a state, beside the rounds

Invariant: each is a pure function of its arguments, donated shards and chunks excepted, which check
theirs.
"""

from dqlearn.tasks.asking import (
    answer_task,
    ask_task,
    learn_task,
    note_task,
    notes_task,
    parcels_task,
    told_task,
    turn_task,
)
from dqlearn.tasks.begin import (
    fill_task,
    load_batch_task,
    load_shard_task,
    load_task,
    open_task,
    recut_task,
    reopen_task,
    thaw_task,
)
from dqlearn.tasks.learning import (
    best_task,
    first_task,
    joined_task,
    maxima_task,
    pieces_task,
    policy_task,
    reduce_task,
    report_task,
    rollout_and_route_task,
    rollout_task,
    route_task,
    second_task,
    update_task,
)
from dqlearn.tasks.looking import (
    evaluate_task,
    known_policy_task,
    known_task,
    stamp_task,
    visited_task,
    visits_task,
)

__all__ = [
    "answer_task",
    "ask_task",
    "best_task",
    "evaluate_task",
    "fill_task",
    "first_task",
    "joined_task",
    "known_policy_task",
    "known_task",
    "learn_task",
    "load_batch_task",
    "load_shard_task",
    "load_task",
    "maxima_task",
    "note_task",
    "notes_task",
    "open_task",
    "parcels_task",
    "pieces_task",
    "policy_task",
    "recut_task",
    "reduce_task",
    "reopen_task",
    "report_task",
    "rollout_and_route_task",
    "rollout_task",
    "route_task",
    "second_task",
    "stamp_task",
    "thaw_task",
    "told_task",
    "turn_task",
    "update_task",
    "visited_task",
    "visits_task",
]
