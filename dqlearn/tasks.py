"""What the tasks of a round run: the stages, with the plan taken apart.

Invariant: each is a pure function of its arguments, donated shards excepted, which check theirs.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce
from typing import Any, cast

from dqlearn.asking import Asked, Parcel, ParcelPiece, answer, ask, told
from dqlearn.chunk import Answer, Chunk, Stamp, filled
from dqlearn.envs.python import (
    Begin,
    Parked,
    PythonEnv,
    PythonShard,
    open_python_shard,
    thaw,
)
from dqlearn.envs.python_rollout import python_rollout
from dqlearn.envs.tabular import TabularEnv
from dqlearn.evaluation import EpisodePlan, Played, play_compiled, play_python
from dqlearn.events import RoundReport
from dqlearn.maxima import Maxima, combine, join, maxima, ties
from dqlearn.plan import Plan
from dqlearn.policy import Policy
from dqlearn.rollout import CompiledShard, Walk, open_shard, rollout
from dqlearn.routing import route
from dqlearn.runs.version import Version
from dqlearn.schedules import Schedule
from dqlearn.tiles import walk_and_route
from dqlearn.transitions import Piece, Routed, Tally, Transitions
from dqlearn.update import update

Shard = CompiledShard | PythonShard


def open_task(plan: Plan, w: int) -> Shard:
    """Begin shard w."""
    first, last = plan.first_envs[w], plan.first_envs[w + 1]
    # A stored table goes on in fresh episodes: on numbers that no environment has drawn yet.
    begun, drawn = (plan.origin.round, plan.origin.timesteps) if plan.origin else (0, 0)
    if isinstance(plan.env, PythonEnv):
        begin = Begin(begun, drawn, begun)
        return open_python_shard(plan.env, first, last - first, plan.seed, begin, w, plan.faults)
    return open_shard(plan.env, first, last - first, plan.seed, drawn)


def thaw_task(plan: Plan, copy: bytes | Parked | None, w: int, round_: int, placed: int) -> Shard:
    """Make a donated shard of its copy; build it anew where there is none."""
    shard = thaw(copy)
    return reopen_task(plan, w, round_ + plan.policy_lag, placed) if shard is None else shard


def reopen_task(plan: Plan, w: int, round_: int, placed: int) -> Shard:
    """Build a donated shard anew, from seeds that were not used before."""
    first, last = plan.first_envs[w], plan.first_envs[w + 1]
    drawn = round_ * plan.steps_per_round + (plan.origin.timesteps if plan.origin else 0)
    env = cast("PythonEnv", plan.env)  # shards of compiled ones are never opened again
    begin = Begin(round_, drawn, placed)
    return open_python_shard(env, first, last - first, plan.seed, begin, w, plan.faults)


def fill_task(plan: Plan, c: int) -> Chunk:
    """Make chunk c as the run begins with it."""
    if plan.origin is None:
        return _own(plan, filled(plan.grid.chunk_shape(c), plan.initial_value, plan.dtype), 0)
    return _own(plan, plan.origin.chunk(plan.grid, c, plan.dtype), plan.origin.round)


def load_task(plan: Plan, version: Version, c: int) -> Chunk:
    """Read chunk c of a checkpoint."""
    return _own(plan, version.chunk(plan.grid, c), version.round)


def _own(plan: Plan, chunk: Chunk, round_: int) -> Chunk:
    """Let a chunk that nobody else holds be donated, on the path that does that."""
    return replace(chunk, stamp=Stamp(round_)) if plan.path == "gather" else chunk


def load_shard_task(plan: Plan, version: Version, w: int) -> Shard:
    """Read shard w of a checkpoint; Python environments are no data, and begin new episodes."""
    if isinstance(plan.env, PythonEnv):
        return reopen_task(plan, w, version.round + plan.policy_lag, version.round)
    first, last = plan.first_envs[w], plan.first_envs[w + 1]
    return version.shard(w, first, last - first)


def load_batch_task(version: Version, w: int) -> Transitions:
    """Read the batch of shard w of a checkpoint."""
    return version.batch(w)


def rollout_task(
    plan: Plan, shard: Shard, policy: Policy, round_: int
) -> tuple[Transitions, Shard]:
    """Take a shard's steps of one round."""
    epsilon = plan.epsilon(policy.timesteps)
    if isinstance(plan.env, TabularEnv):
        compiled = cast("CompiledShard", shard)
        return rollout(plan.env, compiled, policy, epsilon, plan.seed, plan.steps_per_round)
    donated = cast("PythonShard", shard)
    return python_rollout(
        plan.env, donated, policy, epsilon, plan.seed, plan.steps_per_round, round_
    )


def route_task(plan: Plan, batch: Transitions, policy: Policy) -> Routed:
    """Sort a batch by owner."""
    return route(batch, policy.value, plan.gamma, plan.grid)


def rollout_and_route_task(
    plan: Plan, shard: Shard, policy: Policy, round_: int
) -> tuple[Routed, Shard]:
    """Take a shard's steps and sort them by owner."""
    if isinstance(plan.env, TabularEnv):
        walk = Walk(
            plan.env,
            cast("CompiledShard", shard),
            policy,
            plan.epsilon(policy.timesteps),
            plan.seed,
            plan.steps_per_round,
        )
        return walk_and_route(walk, plan.gamma, plan.grid), walk.after()
    batch, after = rollout_task(plan, shard, policy, round_)
    return route_task(plan, batch, policy), after


def piece_task(routed: Piece | Routed | tuple[Routed, Shard], c: int) -> Piece:
    """Cut out what chunk c receives; a piece that was cut out before stays as it is."""
    if isinstance(routed, tuple):
        routed = routed[0]
    return routed.piece(c) if isinstance(routed, Routed) else routed


def update_task(plan: Plan, c: int, chunk: Chunk, sent: list[Any]) -> Chunk:
    """Learn what chunk c received."""
    return update(chunk, [piece_task(routed, c) for routed in sent], plan.learning_rate)


def maxima_task(plan: Plan, chunk: Chunk, c: int, round_: int) -> Maxima:
    """Find the best actions in chunk c."""
    return maxima(chunk.at(round_), plan.grid.origin(c), plan.n_actions, ties(plan.seed, round_))


def reduce_task(plan: Plan, best: list[Maxima], round_: int) -> Policy:
    """Combine maxima over actions, and join them over states."""
    key, columns = ties(plan.seed, round_), len(plan.grid.columns)

    def over_actions(a: Maxima, b: Maxima) -> Maxima:
        return combine(a, b, plan.n_actions, key)

    rows = [
        reduce(over_actions, best[first : first + columns])
        for first in range(0, len(best), columns)
    ]
    return Policy.of(join(rows))


# On the gather path shards and chunks talk to each other.


def ask_task(plan: Plan, shard: Shard, round_: int, *batch: Transitions) -> Parcel:
    """Ask for what a shard must know of a round, with nothing to learn."""
    return Parcel(None, _ask(plan, shard, round_, *batch))


def turn_task(
    plan: Plan, w: int, shard: Shard, said: list[Any], round_: int, *batch: Transitions
) -> tuple[Transitions, Shard, Parcel]:
    """Act on what chunks answered: route the batch, take the next step, ask again.

    The first time there is no batch: the step is that of the round itself, not of the next.
    """
    asked = _ask(plan, shard, round_, *batch)
    answers = [told_task(answer, w) for answer in said]
    best = told(asked, answers, plan.grid, plan.n_actions, ties(plan.seed, round_))
    policy = Policy(best.value, best.action, best.timesteps, Tally(best.timesteps, 0.0))
    routed = [route_task(plan, replace(b, next_state=asked.of_next), policy) for b in batch]
    policy = replace(policy, rows=asked.of_env)
    after, shard = rollout_task(plan, shard, policy, round_ + len(batch))
    again = _ask(plan, shard, round_ + len(batch), after)
    return after, shard, Parcel(routed[0] if routed else None, again)


def _ask(plan: Plan, shard: Shard, round_: int, batch: Transitions | None = None) -> Asked:
    """Ask for what must be known of a round; a batch of it puts the shard one round ahead."""
    if isinstance(shard, PythonShard):
        shard.check_round(round_ + (batch is not None))
    next_state = shard.state[:0] if batch is None else batch.next_state
    return ask(shard.state, next_state, plan.grid)


def parcel_task(sent: Parcel | ParcelPiece | tuple[Any, ...], plan: Plan, c: int) -> ParcelPiece:
    """Cut out what chunk c receives; a piece that was cut out before stays as it is."""
    if isinstance(sent, ParcelPiece):
        return sent
    parcel: Parcel = sent[-1] if isinstance(sent, tuple) else sent
    return parcel.piece(c, plan.grid.position(c)[0])


def told_task(said: Chunk | Answer, w: int) -> Answer:
    """Cut out what a chunk answers to shard w."""
    return said.answers[w] if isinstance(said, Chunk) else said


def answer_task(plan: Plan, c: int, chunk: Chunk, sent: list[Any], round_: int) -> Chunk:
    """Answer all shards, on the chunk of a round."""
    key, origin = ties(plan.seed, round_), plan.grid.origin(c)
    answers = [
        answer(chunk, parcel_task(parcel, plan, c).states, origin, plan.n_actions, key)
        for parcel in sent
    ]
    return replace(chunk, answers=tuple(answers))


def learn_task(
    plan: Plan, c: int, chunk: Chunk, sent: list[Any], round_: int, in_place: bool
) -> Chunk:
    """Learn what chunk c received, in its own arrays where it may; answer on what it is then."""
    parcels = [parcel_task(parcel, plan, c) for parcel in sent]
    pieces = [parcel.piece for parcel in parcels if parcel.piece is not None]
    stamp = chunk.at(round_ - 1).stamp if in_place and chunk.q.flags.writeable else None
    if stamp is not None:
        stamp.round = -1  # an update that fails leaves arrays that no round can use
    after = update(chunk, pieces, plan.learning_rate, donated=stamp is not None)
    if stamp is not None:
        stamp.round = round_
    elif after.q is not chunk.q:
        stamp = Stamp(round_)
    return answer_task(plan, c, replace(after, stamp=stamp), parcels, round_)


def report_task(plan: Plan, policy: Policy, round_: int) -> RoundReport:
    """Say what a round did, in some bytes."""
    return _report(plan, policy.tally, policy.td_abs_sum, round_)


def note_task(chunk: Chunk) -> tuple[Tally, float]:
    """Say what the round of a chunk counted."""
    return chunk.tally, chunk.td_abs_sum


def notes_task(plan: Plan, notes: list[tuple[Tally, float]], round_: int) -> RoundReport:
    """Say what a round did, as :func:`report_task`, from the notes of all chunks."""
    return _report(plan, notes[0][0], sum(td_abs_sum for _, td_abs_sum in notes), round_)


def _report(plan: Plan, tally: Tally, td_abs_sum: float, round_: int) -> RoundReport:
    rate = plan.learning_rate
    return RoundReport(
        round=round_,
        timesteps=tally.timesteps + tally.n_transitions,
        n_transitions=tally.n_transitions,
        epsilon=tally.epsilon,
        learning_rate=rate(tally.timesteps) if isinstance(rate, Schedule) else math.nan,
        n_episodes=tally.n_episodes,
        return_sum=tally.return_sum,
        return_sq_sum=tally.return_sq_sum,
        length_sum=tally.length_sum,
        return_min=tally.return_min,
        return_max=tally.return_max,
        td_abs_sum=td_abs_sum,
        wall_time=math.nan,  # the client's clock, not a worker's
        n_restarts=tally.n_restarts,
    )


def evaluate_task(
    plan: Plan, policy: Policy, episodes: EpisodePlan, first: int, last: int
) -> Played:
    """Play some episodes of an evaluation."""
    if isinstance(plan.env, TabularEnv):
        return play_compiled(plan.env, policy.action, episodes, first, last)
    return play_python(plan.env, policy.action, episodes, first, last)


def first_task(results: tuple[Any, ...]) -> Any:
    """Return the first of several results."""
    return results[0]


def second_task(results: tuple[Any, ...]) -> Any:
    """Return the second of several results."""
    return results[1]
