"""Kernel template: many rounds of compiled environments in one call, shared by several threads.

``walk`` takes the steps of a model; ``target``, ``learn`` and ``sum_up`` belong to a rule;
:mod:`dqlearn.stages.fused.kernels` binds them. A round has two phases of independent items::

    phase 2 r        shard w:  walk, find targets, sort by chunk      reads summaries, writes w's
    phase 2 r + 1    chunk c:  update, keep its summaries current     reads batches, writes c's

`work` makes both. Python environments take their steps by themselves, and there is no ``walk``:
`learn_round` does the rest. Invariant: what a phase writes, none of its items reads; so the bits
are those of one round after another, whoever does which item.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray

from dqlearn.jit.atomics import at_address, nap
from dqlearn.jit.compiled import njit
from dqlearn.kernels.crew import claim, close, finish, open_phase, wait_for_items
from dqlearn.kernels.members import columns_of_walk
from dqlearn.kernels.route import sort_tile, target_room

walk: Callable[..., Any] | None
target: Callable[..., Any]
learn: Callable[..., Any]
sum_up: Callable[..., Any]


@njit(nogil=True, cache=True, inline="always")
def find_targets(reward, next_state, column, shape, values, gamma, epsilon, out):
    """Write the target of each transition; a state's worth is found when it is needed."""
    nothing, (members, n_actions) = gamma - gamma, shape
    for t in range(len(reward)):
        s = next_state[t]
        member = 0 if members == 1 else np.int64(column[t]) // n_actions
        worth = target(values[np.uint64(max(s, 0))], epsilon, n_actions, member)
        future = gamma * values.dtype.type(worth)
        out[t] = reward[t] + (future if s >= 0 else nothing)


@njit(nogil=True, cache=True)
def keep(shard, copy, first, last):
    """Copy the states, steps and returns of some environments."""
    for e in range(first, last):  # slices would bring code for errors of their shapes
        copy[0][e], copy[1][e], copy[2][e] = shard[0][e], shard[1][e], shard[2][e]


@njit(nogil=True, cache=True)
def met_fault(faults):
    """Return whether a shard met a fault."""
    for w in range(len(faults)):
        if faults[w, 0] >= 0:
            return True
    return False


@njit(nogil=True, cache=True, inline="always")
def roll(w, r, run):
    """Take the steps of shard w in round r, and sort the transitions by chunk."""
    edges, envs, before, model, policy, when, table, batch, told = run
    streams, state, elapsed, returns = envs
    values, tied = policy
    t0, n_steps, block, tile, thresholds, epsilons, _, by_env = when
    gamma, _, grid = table[:3]
    walked, room, out, first_tile = batch
    members, n_actions = grid[4], grid[5]
    keep(envs[1:], before, edges[w], edges[w + 1])
    told[5][w] = r
    own_walked = walked[0][w], walked[1][w], walked[2][w], walked[3][w]
    own_room = room[0][w], room[1][w], room[2][w]
    i = first_tile[w]
    for first in range(edges[w], edges[w + 1], tile):
        own = slice(first, min(first + tile, edges[w + 1]))
        n = (own.stop - first) * n_steps
        shard = state[own], elapsed[own], returns[own]
        at, s, a, after, reward = walk(
            streams[own],
            t0 + r * n_steps,
            n_steps,
            block,
            model[1],
            model[0],
            tied,
            state[own],
            thresholds[r],
            shard,
            told[0][r, w],
            own_walked,
        )
        met = at >= 0  # without a return in the loop, which would not be inlined right
        if met:
            told[1][w, 0], told[1][w, 1], told[1][w, 2], told[1][w, 3] = first + at, s, a, after
            told[2][w] = reward
        column = own_walked[1][:n]
        if members > 1 and not met:
            own_first = first if by_env else -1
            begun = t0 + r * n_steps
            columns_of_walk(
                streams[own], begun, n_steps, block, own_first, members, n_actions, column
            )
        begin = first * n_steps
        if not met:
            find_targets(
                own_walked[2][:n],
                own_walked[3][:n],
                column,
                (members, n_actions),
                values,
                gamma,
                epsilons[r],
                target_room(n, begin, grid, own_room, out),
            )
            for c in range(out[2].shape[1]):  # where the runs of the round before ended
                out[2][i, c] = 0
            sort_tile(own_walked[0][:n], column, i, begin, grid, own_room, out)
        i += 1


@njit(nogil=True, cache=True, inline="always")
def update(c, r, run):
    """Learn what chunk c receives in round r, shard by shard."""
    edges, _, _, _, policy, when, table, batch, told = run
    values, tied = policy
    _, by_visits, grid, addresses, states, tie_key = table
    offset, target_, starts = batch[2]
    first_tile, members, n_actions = batch[3], grid[4], grid[5]
    shape = states[c + 1] - states[c], members, n_actions
    q = carray(at_address(addresses[c, 0]), shape, values.dtype)
    visits = carray(at_address(addresses[c, 1]), shape, np.uint32)
    ties = n_actions, tie_key
    received = 0
    for i in range(len(starts)):
        received += starts[i, c + 1] - starts[i, c]
    beside = received < shape[0]
    for w in range(len(edges) - 1):
        total = 0.0
        for i in range(first_tile[w], first_tile[w + 1]):
            own = slice(starts[i, c], starts[i, c + 1])
            if own.stop > own.start:
                told[4][c] = r + 1
                total = learn(
                    q,
                    visits,
                    states[c],
                    offset[own],
                    target_[own],
                    when[6][r],
                    by_visits,
                    ties,
                    values,
                    tied,
                    beside,
                    total,
                )
        told[3][r, c] += total
    if received and not beside:
        sum_up(q, states[c], ties, values, tied)


@njit(nogil=True, cache=True)
def learn_round(r, made, run):
    """Learn round r of what shards did: the first ``made[w]`` transitions in row w of the batch."""
    policy, when, table, batch = run[4:8]
    gamma, _, grid, addresses = table[:4]
    walked, room, out, _ = batch
    members, n_actions = grid[4], grid[5]
    begin = 0
    for w in range(len(made)):
        n = made[w]
        column, own_room = walked[1][w, :n], (room[0][w], room[1][w], room[2][w])
        find_targets(
            walked[2][w, :n],
            walked[3][w, :n],
            column,
            (members, n_actions),
            policy[0],
            gamma,
            when[5][r],
            target_room(n, begin, grid, own_room, out),
        )
        for c in range(out[2].shape[1]):  # where the runs of the round before ended
            out[2][w, c] = 0
        sort_tile(walked[0][w, :n], column, w, begin, grid, own_room, out)
        begin += n
    for c in range(len(addresses)):
        if begin > 0:
            update(c, r, run)


@njit(nogil=True, cache=True)
def work(numbers, n_rounds, leads, sizes, run):
    """Do items of whatever phase is open; who leads opens the phases, and waits for their ends.

    One function for both, as it takes seconds to compile. It returns how many rounds were made, to
    who leads: fewer than `n_rounds` if the next one met a fault, and -1 if a helper failed, which
    leaves the phase open that it failed in.
    """
    phase, done, idle = -1, 0, 0
    while True:
        now, item = claim(numbers, sizes)
        if item >= 0:
            if now & 1:
                update(item, now >> 1, run)
            else:
                roll(item, now >> 1, run)
            finish(numbers)
            idle = 0
        elif not leads:
            if now < 0:
                return 0
            nap(idle)
            idle += 1
        else:
            if not wait_for_items(numbers, done):
                return -1
            met = phase & 1 == 0 and met_fault(run[8][1])
            if met:  # the steps of this round are taken back
                keep(run[2], run[1][1:], 0, len(run[2][0]))
            phase += 1
            if met or phase == 2 * n_rounds:
                close(numbers)
                return phase >> 1
            done += sizes[phase & 1]
            open_phase(numbers, phase)
