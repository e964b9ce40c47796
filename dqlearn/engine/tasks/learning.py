"""Tasks of a round: the stages, with the plan taken apart.

Invariant: each is a pure function of its arguments, donated shards and chunks excepted, which check
theirs.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce
from typing import Any, cast

from dqlearn.engine.tasks.begin import Shard
from dqlearn.envs.python.gymnasium_env import PythonShard
from dqlearn.envs.tabular import TabularEnv
from dqlearn.events import RoundReport
from dqlearn.schedules import Schedule
from dqlearn.stages.initial.masks import Masking
from dqlearn.stages.plan import Plan
from dqlearn.stages.policy import Part, Policy
from dqlearn.stages.returns import joined, returned, traced, waiting, worth_of
from dqlearn.stages.rollout import CompiledShard, Walk, rollout, walk_and_route
from dqlearn.stages.rollout_python import python_rollout
from dqlearn.stages.route import route, route_pairs
from dqlearn.stages.summary import Summary, combine, join, summarize
from dqlearn.stages.update import update
from dqlearn.statistics import RoundStats
from dqlearn.table import paged
from dqlearn.table.chunk import Answer, Chunk, Stamp
from dqlearn.table.hash_grid import HashGrid
from dqlearn.table.transitions import Piece, Routed, Transitions

__all__ = [
    "best_task",
    "first_task",
    "joined_task",
    "learned",
    "pieces_task",
    "policy_task",
    "reduce_task",
    "report_of",
    "report_task",
    "rolled_out",
    "rollout_and_route_task",
    "rollout_task",
    "route_task",
    "second_task",
    "sorted_by_owner",
    "summary_task",
    "third_task",
    "update_task",
]


def rollout_task(
    plan: Plan, shard: Shard, parts: list[Part | Policy], round_: int, *before: Transitions
) -> tuple[Transitions, Shard]:
    """Take a shard's steps of one round; join them to what waits of the batch before."""
    made, after = rolled_out(plan, shard, joined_task(plan, parts), round_)
    for batch in before:
        made = joined(waiting(batch, len(after.state), plan.algorithm), made)
    return made, after


def rolled_out(plan: Plan, shard: Shard, policy: Policy, round_: int) -> tuple[Transitions, Shard]:
    """Take a shard's steps of one round on a policy."""
    epsilon = plan.epsilon(policy.timesteps)
    if isinstance(plan.env, TabularEnv):
        compiled, n_steps = cast("CompiledShard", shard), plan.steps_per_round
        batch, after = rollout(plan.env, compiled, policy, epsilon, plan.seed, n_steps)
        if plan.waits:
            batch = traced(batch, compiled.elapsed, n_steps, plan.env.limits[2])
        return batch, after
    donated = cast("PythonShard", shard)
    settings = policy, epsilon, plan.seed, plan.steps_per_round, round_
    return python_rollout(plan.env, donated, *settings, traced=plan.waits)


def route_task(plan: Plan, batch: Transitions, parts: list[Part | Policy], w: int) -> Routed:
    """Sort the batch of shard w by owner; of returns over several steps those that are whole."""
    policy = joined_task(plan, parts)
    if plan.waits:
        n_envs = plan.first_envs[w + 1] - plan.first_envs[w]
        batch, _ = _returned(plan, batch, n_envs, policy)
    return sorted_by_owner(plan, batch, policy)


def _returned(
    plan: Plan, batch: Transitions, n_envs: int, policy: Policy
) -> tuple[Transitions, Transitions]:
    """Return what is learned of a batch, with its targets, and what waits on."""
    known = worth_of(batch.next_state, policy.value, policy.members), policy.tied
    return returned(batch, n_envs, known, plan.gamma, plan.algorithm, plan.n_actions)


def sorted_by_owner(plan: Plan, batch: Transitions, policy: Policy) -> Routed:
    """Sort a batch by owner, with its targets."""
    if isinstance(plan.grid, HashGrid):
        return route_pairs(batch, policy.value, plan.gamma, plan.grid)
    return route(batch, policy.value, plan.gamma, plan.grid)


def rollout_and_route_task(
    plan: Plan, shard: Shard, parts: list[Part | Policy], round_: int, *before: Transitions
) -> tuple[Routed, Shard] | tuple[Routed, Shard, Transitions]:
    """Take a shard's steps and sort them by owner.

    Of returns over several steps, those that are whole; then also return what still waits.
    """
    policy = joined_task(plan, parts)
    for batch in before:
        made, after = rolled_out(plan, shard, policy, round_)
        whole, rest = _returned(plan, joined(batch, made), len(after.state), policy)
        return sorted_by_owner(plan, whole, policy), after, rest
    if isinstance(plan.env, TabularEnv):
        walk = Walk(
            plan.env,
            cast("CompiledShard", shard),
            policy,
            plan.epsilon(policy.timesteps),
            plan.seed,
            plan.steps_per_round,
        )
        return walk_and_route(walk, plan.gamma, plan.laid_out), walk.after()
    batch, after = rolled_out(plan, shard, policy, round_)
    return sorted_by_owner(plan, batch, policy), after


def first_task(results: tuple[Any, ...]) -> Any:
    """Return the first of several results."""
    return results[0]


def second_task(results: tuple[Any, ...]) -> Any:
    """Return the second of several results."""
    return results[1]


def third_task(results: tuple[Any, ...]) -> Any:
    """Return the third of several results."""
    return results[2]


def pieces_task(
    plan: Plan, made: Routed | tuple[Routed, ...], m: int, memories: int, w: int
) -> dict[int, Piece]:
    """Cut out what each chunk of memory m receives from shard w; what stays there is not copied."""
    routed = made[0] if isinstance(made, tuple) else made
    piece = routed.own if m == w % memories else routed.piece
    return {c: piece(c) for c in range(m, plan.grid.n_chunks, memories)}


def _piece(sent: Routed | tuple[Routed, ...] | dict[int, Piece], c: int) -> Piece:
    if isinstance(sent, dict):
        return sent[c]
    return (sent[0] if isinstance(sent, tuple) else sent).own(c)


def update_task(
    plan: Plan, c: int, chunk: Chunk, sent: list[Any], round_: int, in_place: bool
) -> Chunk:
    """Make chunk c of a round of what it received, and find its summary."""
    after = learned(plan, c, chunk, [_piece(parcel, c) for parcel in sent], round_, in_place)
    summary = summarize(after, plan.algorithm, plan.extent(c))
    paged.let_go(*after.columns.values())
    return replace(after, answers=(Answer(summary.found, after.timesteps),))


def learned(
    plan: Plan, c: int, chunk: Chunk, pieces: list[Piece], round_: int, in_place: bool
) -> Chunk:
    """Make a chunk of a round of that of the round before, in its own arrays where it may."""
    chunk = chunk.paged() if plan.out_of_core else chunk
    stamp = chunk.at(round_ - 1).stamp if in_place and chunk.q.flags.writeable else None
    if stamp is not None:
        stamp.round = -1  # an update that fails leaves arrays that no round can use
    after = update(
        chunk,
        pieces,
        plan.learning_rate,
        stamp is not None,
        plan.algorithm.step,
        Masking(plan.env, plan.extent(c)),
    )
    if stamp is not None:
        stamp.round = round_
    elif after.q is not chunk.q:
        stamp = Stamp(round_)
    return replace(after, stamp=stamp)


def summary_task(plan: Plan, chunk: Chunk, c: int, round_: int) -> Summary:
    """Find the summary of chunk c."""
    summary = summarize(chunk.at(round_), plan.algorithm, plan.extent(c))
    paged.let_go(chunk.q)
    return summary


def best_task(plan: Plan, chunks: list[Chunk], m: int, memories: int, round_: int) -> Part:
    """Pick the summaries out of the chunks of memory m."""
    numbers = tuple(range(m, plan.grid.n_chunks, memories))
    best = tuple(_best(plan, c, chunk) for c, chunk in zip(numbers, chunks, strict=True))
    return Part(numbers, best, round_)


def _best(plan: Plan, c: int, chunk: Chunk) -> Summary:
    (best,) = chunk.answers
    first_state, _ = plan.laid_out.origin(c)
    return Summary(best.found, first_state, chunk.tally, chunk.td_abs_sum)


def policy_task(plan: Plan, chunks: list[Chunk], round_: int) -> Policy:
    """Make the policy of all chunks, which hold their summaries."""
    return reduce_task(plan, [_best(plan, c, chunk) for c, chunk in enumerate(chunks)], round_)


def joined_task(plan: Plan, parts: list[Part | Policy]) -> Policy:
    """Put a policy together that is in parts."""
    if isinstance(parts[0], Policy):
        return parts[0]
    of_chunk = {
        c: best
        for part in cast("list[Part]", parts)
        for c, best in zip(part.chunks, part.summaries, strict=True)
    }
    return reduce_task(plan, [of_chunk[c] for c in range(len(of_chunk))], parts[0].round)


def reduce_task(plan: Plan, best: list[Summary], round_: int) -> Policy:
    """Combine summaries over actions, and join them over states."""
    extent, columns = plan.extent(), plan.grid.n_columns

    def over_actions(a: Summary, b: Summary) -> Summary:
        return combine(a, b, plan.algorithm, extent)

    rows = [
        reduce(over_actions, best[first : first + columns])
        for first in range(0, len(best), columns)
    ]
    whole = join(rows)
    made = whole.tally.timesteps + whole.tally.n_transitions
    decided, by_env = plan.decide(whole.found, made), plan.algorithm.by_env
    return Policy(*decided, made, whole.tally, extent, whole.td_abs_sum, by_env=by_env)


def report_task(plan: Plan, parts: list[Part | Policy], round_: int) -> RoundReport:
    """Say what a round did, in some bytes."""
    if isinstance(parts[0], Policy):
        return report_of(plan, parts[0].tally, parts[0].td_abs_sum, round_)
    best = [best for part in cast("list[Part]", parts) for best in part.summaries]
    return report_of(plan, best[0].tally, sum(chunk.td_abs_sum for chunk in best), round_)


def report_of(plan: Plan, tally: RoundStats, td_abs_sum: float, round_: int) -> RoundReport:
    """Say what a round did, from what its chunks counted."""
    rate = plan.learning_rate
    return RoundReport(
        round=round_,
        timesteps=tally.timesteps + tally.n_transitions,
        epsilon=tally.epsilon,
        learning_rate=rate(tally.timesteps) if isinstance(rate, Schedule) else math.nan,
        td_abs_sum=td_abs_sum,
        **tally.counts,
    )
