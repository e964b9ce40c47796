"""What the tasks of a round run: the stages, with the plan taken apart.

Invariant: each is a pure function of its arguments, donated shards excepted, which check theirs.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any, cast

import numpy as np

from dqlearn import paged
from dqlearn.asking import Asked, Parcel, ParcelPiece, answer, ask, told
from dqlearn.balance import joined, parts, visits_of_blocks
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
from dqlearn.grid import ChunkGrid, block_bits
from dqlearn.hashgrid import HashGrid
from dqlearn.known import Known
from dqlearn.maxima import Maxima, action_dtype, combine, greedy, join, maxima, ties
from dqlearn.plan import Plan
from dqlearn.policy import KnownPolicy, Part, Policy
from dqlearn.rollout import CompiledShard, Walk, open_shard, rollout
from dqlearn.routing import route, route_pairs
from dqlearn.runs.version import Version
from dqlearn.schedules import Schedule
from dqlearn.settling import unsettled, visited
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
    if isinstance(plan.grid, HashGrid):
        empty = unsettled(plan.grid, plan.initial_value, plan.dtype)
        chunk = plan.origin.sparse_chunk(plan.grid, c, empty) if plan.origin else empty
    elif plan.origin is None:
        zeros = paged.zeros if plan.out_of_core else np.zeros
        chunk = filled(plan.grid.chunk_shape(c), plan.initial_value, plan.dtype, zeros)
    else:
        chunk = plan.origin.chunk(plan.grid, c, plan.dtype)
    return _own(plan, chunk, plan.origin.round if plan.origin else 0)


def load_task(plan: Plan, version: Version, c: int) -> Chunk:
    """Read chunk c of a checkpoint."""
    if isinstance(plan.grid, HashGrid):
        empty = unsettled(plan.grid, plan.initial_value, plan.dtype)
        return _own(plan, version.sparse_chunk(c, empty), version.round)
    return _own(plan, version.chunk(plan.grid, c), version.round)


def recut_task(plan: Plan, before: ChunkGrid, c: int, chunks: list[Chunk], round_: int) -> Chunk:
    """Make chunk c of a grid that was cut anew of those that it lay in."""
    own = [states for _, states in parts(before, plan.laid_out, c)]
    first = chunks[0].at(round_)
    if own == [slice(0, len(first.q))]:
        return replace(first, answers=())
    block = 1 << block_bits(plan.grid.shape[0])
    pairs = [(chunk.at(round_), rows) for chunk, rows in zip(chunks, own, strict=True)]
    q = joined([chunk.q[rows] for chunk, rows in pairs], block)
    visits = joined([chunk.visits[rows] for chunk, rows in pairs], block)
    changed = max(chunk.changed for chunk in chunks)
    return _own(plan, Chunk(q, visits, first.tally, changed=changed), round_)


def _own(plan: Plan, chunk: Chunk, round_: int) -> Chunk:
    """Let a chunk that nobody else holds be donated, where rounds do that."""
    chunk = _placed(plan, chunk)
    return replace(chunk, stamp=Stamp(round_)) if plan.in_place else chunk


def _placed(plan: Plan, chunk: Chunk) -> Chunk:
    """Return a chunk out of core if its table is: not so, if it was read or sent."""
    return chunk.paged() if plan.out_of_core else chunk


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
    plan: Plan, shard: Shard, parts: list[Part | Policy], round_: int
) -> tuple[Transitions, Shard]:
    """Take a shard's steps of one round."""
    return _rollout(plan, shard, joined_task(plan, parts), round_)


def _rollout(plan: Plan, shard: Shard, policy: Policy, round_: int) -> tuple[Transitions, Shard]:
    epsilon = plan.epsilon(policy.timesteps)
    if isinstance(plan.env, TabularEnv):
        compiled = cast("CompiledShard", shard)
        return rollout(plan.env, compiled, policy, epsilon, plan.seed, plan.steps_per_round)
    donated = cast("PythonShard", shard)
    return python_rollout(
        plan.env, donated, policy, epsilon, plan.seed, plan.steps_per_round, round_
    )


def route_task(plan: Plan, batch: Transitions, parts: list[Part | Policy]) -> Routed:
    """Sort a batch by owner."""
    return _route(plan, batch, joined_task(plan, parts))


def _route(plan: Plan, batch: Transitions, policy: Policy) -> Routed:
    if isinstance(plan.grid, HashGrid):
        return route_pairs(batch, policy.value, plan.gamma, plan.grid)
    return route(batch, policy.value, plan.gamma, plan.grid)


def rollout_and_route_task(
    plan: Plan, shard: Shard, parts: list[Part | Policy], round_: int
) -> tuple[Routed, Shard]:
    """Take a shard's steps and sort them by owner."""
    policy = joined_task(plan, parts)
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
    batch, after = _rollout(plan, shard, policy, round_)
    return _route(plan, batch, policy), after


def pieces_task(
    plan: Plan, made: Routed | tuple[Routed, Shard], m: int, memories: int, w: int
) -> dict[int, Piece]:
    """Cut out what each chunk of memory m receives from shard w; what stays there is not copied."""
    routed = made[0] if isinstance(made, tuple) else made
    piece = routed.own if m == w % memories else routed.piece
    return {c: piece(c) for c in range(m, plan.grid.n_chunks, memories)}


def _piece(sent: Routed | tuple[Routed, Shard] | dict[int, Piece], c: int) -> Piece:
    if isinstance(sent, dict):
        return sent[c]
    return (sent[0] if isinstance(sent, tuple) else sent).own(c)


def update_task(
    plan: Plan, c: int, chunk: Chunk, sent: list[Any], round_: int, in_place: bool
) -> Chunk:
    """Make chunk c of a round of what it received, and find its maxima."""
    after = _learned(plan, chunk, [_piece(parcel, c) for parcel in sent], round_, in_place)
    best = maxima(after, plan.laid_out.origin(c), plan.n_actions, ties(plan.seed, round_))
    paged.let_go(after.q, after.visits)
    return replace(after, answers=(Answer(best.value, best.action, after.timesteps),))


def _learned(plan: Plan, chunk: Chunk, pieces: list[Piece], round_: int, in_place: bool) -> Chunk:
    """Make a chunk of a round of that of the round before, in its own arrays where it may."""
    chunk = _placed(plan, chunk)
    stamp = chunk.at(round_ - 1).stamp if in_place and chunk.q.flags.writeable else None
    if stamp is not None:
        stamp.round = -1  # an update that fails leaves arrays that no round can use
    after = update(chunk, pieces, plan.learning_rate, donated=stamp is not None)
    if stamp is not None:
        stamp.round = round_
    elif after.q is not chunk.q:
        stamp = Stamp(round_)
    return replace(after, stamp=stamp)


def maxima_task(plan: Plan, chunk: Chunk, c: int, round_: int) -> Maxima:
    """Find the best actions in chunk c."""
    origin = plan.laid_out.origin(c)
    best = maxima(chunk.at(round_), origin, plan.n_actions, ties(plan.seed, round_))
    paged.let_go(chunk.q)
    return best


def best_task(plan: Plan, chunks: list[Chunk], m: int, memories: int, round_: int) -> Part:
    """Pick the maxima out of the chunks of memory m."""
    numbers = tuple(range(m, plan.grid.n_chunks, memories))
    best = tuple(_best(plan, c, chunk) for c, chunk in zip(numbers, chunks, strict=True))
    return Part(numbers, best, round_)


def _best(plan: Plan, c: int, chunk: Chunk) -> Maxima:
    (best,) = chunk.answers
    first_state, _ = plan.laid_out.origin(c)
    return Maxima(best.value, best.action, first_state, chunk.tally, chunk.td_abs_sum)


def policy_task(plan: Plan, chunks: list[Chunk], round_: int) -> Policy:
    """Make the policy of all chunks, which hold their maxima."""
    return reduce_task(plan, [_best(plan, c, chunk) for c, chunk in enumerate(chunks)], round_)


def joined_task(plan: Plan, parts: list[Part | Policy]) -> Policy:
    """Put a policy together that is in parts."""
    if isinstance(parts[0], Policy):
        return parts[0]
    of_chunk = {
        c: best
        for part in cast("list[Part]", parts)
        for c, best in zip(part.chunks, part.maxima, strict=True)
    }
    return reduce_task(plan, [of_chunk[c] for c in range(len(of_chunk))], parts[0].round)


def reduce_task(plan: Plan, best: list[Maxima], round_: int) -> Policy:
    """Combine maxima over actions, and join them over states."""
    key, columns = ties(plan.seed, round_), plan.grid.n_columns

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
    answers = _answers(said, w)
    best = told(asked, answers, plan.grid, plan.n_actions, ties(plan.seed, round_))
    policy = Policy(best.value, best.action, best.timesteps, Tally(best.timesteps, 0.0))
    routed = [_route(plan, replace(b, next_state=asked.of_next), policy) for b in batch]
    policy = replace(policy, rows=asked.of_env)
    after, shard = _rollout(plan, shard, policy, round_ + len(batch))
    again = _ask(plan, shard, round_ + len(batch), after)
    return after, shard, Parcel(routed[0] if routed else None, again)


def _ask(plan: Plan, shard: Shard, round_: int, batch: Transitions | None = None) -> Asked:
    """Ask for what must be known of a round; a batch of it puts the shard one round ahead."""
    if isinstance(shard, PythonShard):
        shard.check_round(round_ + (batch is not None))
    next_state = shard.state[:0] if batch is None else batch.next_state
    return ask(shard.state, next_state, plan.grid)


def parcels_task(
    plan: Plan, made: Parcel | tuple[Transitions, Shard, Parcel], m: int, memories: int, w: int
) -> dict[int, ParcelPiece]:
    """Cut out what each chunk of memory m receives from shard w; what stays there is not copied."""
    parcel: Parcel = made[-1] if isinstance(made, tuple) else made
    piece = parcel.own if m == w % memories else parcel.piece
    return {c: piece(c, plan.grid.position(c)[0]) for c in range(m, plan.grid.n_chunks, memories)}


def _parcel(plan: Plan, sent: Any, c: int) -> ParcelPiece:
    if isinstance(sent, dict):
        piece: ParcelPiece = sent[c]
        return piece
    parcel: Parcel = sent[-1] if isinstance(sent, tuple) else sent
    return parcel.own(c, plan.grid.position(c)[0])


def told_task(chunks: list[Chunk], m: int, memories: int, w: int) -> dict[int, Answer]:
    """Cut out what the chunks of memory m answer to shard w."""
    return {m + memories * i: chunk.answers[w] for i, chunk in enumerate(chunks)}


def _answers(said: list[Any], w: int) -> list[Answer]:
    """Return what all chunks answer to shard w, in their order."""
    if isinstance(said[0], Chunk):
        return [chunk.answers[w] for chunk in said]
    told: dict[int, Answer] = reduce(or_, said)
    return [told[c] for c in range(len(told))]


def answer_task(plan: Plan, c: int, chunk: Chunk, sent: list[Any], round_: int) -> Chunk:
    """Answer all shards, on the chunk of a round."""
    key = ties(plan.seed, round_)
    origin = (0, 0) if plan.sparse else plan.laid_out.origin(c)
    answers = [
        answer(chunk, _parcel(plan, parcel, c).states, origin, plan.n_actions, key)
        for parcel in sent
    ]
    paged.let_go(chunk.q, chunk.visits)
    return replace(chunk, answers=tuple(answers))


def learn_task(
    plan: Plan, c: int, chunk: Chunk, sent: list[Any], round_: int, in_place: bool
) -> Chunk:
    """Make chunk c of a round of what it received; answer on what it is then."""
    pieces = [piece for parcel in sent if (piece := _parcel(plan, parcel, c).piece) is not None]
    return answer_task(plan, c, _learned(plan, chunk, pieces, round_, in_place), sent, round_)


def stamp_task(chunk: Chunk) -> int | None:
    """Say which round a chunk's arrays are in; None if nobody writes to them."""
    return chunk.stamp.round if chunk.stamp else None


def visits_task(plan: Plan, chunk: Chunk, round_: int) -> Any:
    """Add up the visits of a chunk by blocks of states."""
    return visits_of_blocks(chunk.at(round_).visits, plan.grid.shape[0])


def visited_task(chunk: Chunk, round_: int) -> Any:
    """List the states that a sparse chunk has learned of."""
    return visited(chunk.at(round_))[0]


def known_task(plan: Plan, chunk: Chunk, round_: int) -> tuple[Any, Any]:
    """Find the best actions of all states that a sparse chunk knows; return blocks and actions."""
    known, n_actions = cast("Known", chunk.at(round_).known), plan.n_actions
    rows = np.arange(1 << known.bits, known.n_rows)
    _, action = greedy(chunk.q, (0, 0), n_actions, ties(plan.seed, round_), known.states, rows)
    return known.blocks[1 : known.n], action


def known_policy_task(plan: Plan, parts: list[tuple[Any, Any]], round_: int) -> KnownPolicy:
    """Make the policy of a sparse table."""
    grid = cast("HashGrid", plan.grid)
    known = Known.of(np.concatenate([blocks for blocks, _ in parts]), grid.bits)
    nobody = np.zeros(grid.block, action_dtype(plan.n_actions))
    action = np.concatenate([nobody, *(actions for _, actions in parts)])
    return KnownPolicy(known, action, ties(plan.seed, round_), plan.n_actions)


def report_task(plan: Plan, parts: list[Part | Policy], round_: int) -> RoundReport:
    """Say what a round did, in some bytes."""
    if isinstance(parts[0], Policy):
        return _report(plan, parts[0].tally, parts[0].td_abs_sum, round_)
    best = [best for part in cast("list[Part]", parts) for best in part.maxima]
    return _report(plan, best[0].tally, sum(chunk.td_abs_sum for chunk in best), round_)


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
    plan: Plan, policy: Policy | KnownPolicy, episodes: EpisodePlan, first: int, last: int
) -> Played:
    """Play some episodes of an evaluation."""
    if isinstance(plan.env, TabularEnv):
        return play_compiled(plan.env, policy, episodes, first, last)
    return play_python(plan.env, policy, episodes, first, last)


def first_task(results: tuple[Any, ...]) -> Any:
    """Return the first of several results."""
    return results[0]


def second_task(results: tuple[Any, ...]) -> Any:
    """Return the second of several results."""
    return results[1]
