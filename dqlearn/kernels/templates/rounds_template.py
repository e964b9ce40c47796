"""Kernel template: many rounds of compiled environments in one call, shared by several threads.

``walk`` takes the steps of a model; ``target``, ``learn`` and ``sum_up`` belong to a rule;
:mod:`dqlearn.stages.fused.compiled` binds them. A round has two phases of independent items::

    phase 2 r        shard w:  walk, find targets, sort by chunk      reads summaries, writes w's
    phase 2 r + 1    chunk c:  update, keep its summaries current     reads batches, writes c's

Invariant: what a phase writes, none of its items reads; so the bits are those of one round after
another, whoever does which item.
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

walk: Callable[..., Any]
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
def keep(shard, copy, own):
    """Copy the states, steps and returns of some environments."""
    copy[0][own], copy[1][own], copy[2][own] = shard[0][own], shard[1][own], shard[2][own]


@njit(nogil=True, cache=True)
def roll(w, r, run):
    """Take the steps of shard w in round r, and sort the transitions by chunk."""
    edges, envs, before, model, policy, when, table, batch, told = run
    streams, state, elapsed, returns = envs
    values, tied = policy
    t0, n_steps, block, tile, thresholds, epsilons, _ = when
    gamma, _, grid = table[:3]
    walked, room, out, first_tile = batch
    members, n_actions = grid[4], grid[5]
    keep(envs[1:], before, slice(edges[w], edges[w + 1]))
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
        if at >= 0:
            told[1][w, 0], told[1][w, 1], told[1][w, 2], told[1][w, 3] = first + at, s, a, after
            told[2][w] = reward
            return
        column = own_walked[1][:n]
        if members > 1:
            columns_of_walk(
                streams[own], t0 + r * n_steps, n_steps, block, members, n_actions, column
            )
        begin = first * n_steps
        room_of_targets = target_room(n, begin, grid, own_room, out)
        find_targets(
            own_walked[2][:n],
            own_walked[3][:n],
            column,
            (members, n_actions),
            values,
            gamma,
            epsilons[r],
            room_of_targets,
        )
        out[2][i] = 0  # where the round before began and ended
        sort_tile(own_walked[0][:n], column, i, begin, grid, own_room, out)
        i += 1


@njit(nogil=True, cache=True)
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
    received = (starts[:, c + 1] - starts[:, c]).sum()
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
def _do(phase, item, run):
    if phase & 1:
        update(item, phase >> 1, run)
    else:
        roll(item, phase >> 1, run)


@njit(nogil=True, cache=True)
def _share(numbers, phase, sizes, done, run):
    """Do the items of a phase beside the helpers; return the items done, or -1 if one failed."""
    open_phase(numbers, phase)
    while True:
        _, item = claim(numbers, sizes)
        if item < 0:
            break
        _do(phase, item, run)
        finish(numbers)
    done += sizes[phase & 1]
    return done if wait_for_items(numbers, done) else -1


@njit(nogil=True, cache=True)
def lead(numbers, n_rounds, sizes, run):
    """Make rounds; return how many were made: fewer, if the next one met a fault.

    If a helper failed, return -1, and leave the phase open that it failed in.
    """
    envs, before, faults = run[1], run[2], run[8][1]
    done = 0
    for r in range(n_rounds):
        done = _share(numbers, 2 * r, sizes, done, run)
        if done < 0:
            return -1
        if faults[:, 0].max() >= 0:  # the steps of this round are taken back
            keep(before, envs[1:], slice(0, len(before[0])))
            close(numbers)
            return r
        done = _share(numbers, 2 * r + 1, sizes, done, run)
        if done < 0:
            return -1
    close(numbers)
    return n_rounds


@njit(nogil=True, cache=True)
def help_out(numbers, sizes, run):
    """Do items of whatever phase is open, until the leader closes."""
    idle = 0
    while True:
        phase, item = claim(numbers, sizes)
        if phase < 0:
            return
        if item < 0:
            nap(idle)
            idle += 1
        else:
            _do(phase, item, run)
            finish(numbers)
            idle = 0
