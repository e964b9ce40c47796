"""Kernel template: a block of environments takes K steps together.

``initial``, ``events``, ``transition`` and ``valid`` are the user's functions;
:mod:`dqlearn.jit.specialise` binds them and compiles. A step is six short loops over the
lanes of a block instead of one long one: each is free of branches and of dependence between lanes,
so that it vectorises or its cache misses overlap. The one loop with branches runs only in steps in
which an episode ends.

    keys ─► actions ─► events ─► transitions ─► check ─► record ─► (episodes that ended: reset)

Order of the records: block of environments, step, environment; see :mod:`dqlearn.stages.rollout`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dqlearn.jit.compiled import njit
from dqlearn.kernels.choose import choose_among, greedy_action, untried_key
from dqlearn.kernels.codes import BEGINNING, IMPOSSIBLE, NO_ACTION
from dqlearn.kernels.members import bootstrap_rows, columns_of_walk
from dqlearn.kernels.route import route_tile
from dqlearn.kernels.ties import choose, only_one, tie_hash
from dqlearn.random import explores, reset_key, step_key, uniform

initial: Callable[..., Any]
events: Callable[..., Any] | None
transition: Callable[..., Any]
valid: Callable[..., Any] | None

if events is None:
    DRAWN = np.uint64

    @njit(cache=True)
    def draw(state, action, key, params):
        """Key form: return the key, from which the transition draws for itself."""
        return key, True

else:
    DRAWN = np.int64

    @njit(cache=True)
    def draw(state, action, key, params):
        """Events form: return a bit mask of the events that happen, and whether all are valid."""
        p = events(state, action, params)
        happened, fit = 0, True
        for k in range(len(p)):
            happened |= np.int64(uniform(key, k) < p[k]) << k
            fit &= (p[k] >= 0.0) & (p[k] <= 1.0)
        return happened, fit


if valid is None:

    @njit(cache=True)
    def revise(keys, tied, rows, threshold, state, params, scratch, action):
        """Leave the actions of a block as they were chosen."""
        return False

    @njit(cache=True)
    def may(state, action, params):
        """Return whether an action is valid."""
        return True

    @njit(cache=True)
    def alive(state, n_actions, params):
        """Return whether a state has a valid action."""
        return True

    @njit(cache=True)
    def admitted(greedy, row, state, params):
        """Return the greedy action of a row."""
        return greedy_action(greedy, row)

else:

    @njit(cache=True)
    def may(state, action, params):
        """Return whether an action is valid."""
        return bool(valid(state, action, params))

    @njit(cache=True)
    def alive(state, n_actions, params):
        """Return whether a state has a valid action."""
        for a in range(n_actions):
            if may(state, a, params):
                return True
        return False

    @njit(cache=True)
    def revise(keys, tied, rows, threshold, state, params, scratch, action):
        """Choose the actions of a block again, among the valid ones; return whether one has none.

        A single greedy action needs no other to be looked at.
        """
        lost = False
        for e in range(len(keys)):
            key, row, s = keys[e], np.uint64(rows[e]), np.int64(state[e])
            greedy = only_one(tied, row) >= 0 and not explores(key, threshold)
            if not greedy or not may(s, action[e], params):
                for a in range(len(scratch)):
                    scratch[a] = may(s, a, params)
                action[e] = choose_among(key, tied, row, threshold, scratch)
                lost |= action[e] < 0
        return lost

    @njit(cache=True)
    def admitted(greedy, row, state, params):
        """Return the greedy action of a row, if it is valid; if it was never tried, one that is."""
        action = greedy_action(greedy, row)
        if may(state, action, params):
            return np.int64(action)
        tie_key, n_actions = untried_key(greedy)
        top, winner = np.uint64(0), np.int64(NO_ACTION)
        for a in range(n_actions):
            h = tie_hash(tie_key, state, a, n_actions)
            if h >= top and may(state, a, params):
                top, winner = h, np.int64(a)
        return winner


@njit(nogil=True, cache=True)
def find_valid(states, n_actions, params, out):
    """Write which actions are valid in each state, bool (n, n_actions)."""
    for i in range(len(states)):
        for a in range(n_actions):
            out[i, a] = may(np.int64(states[i]), a, params)


@njit(nogil=True, cache=True)
def forbid(q, first_state, states, first_action, params):
    """Give invalid pairs the value of minus infinity; return how many pairs have it.

    `q` is (states, members, actions); its states are given, or the successive ones of a first.
    """
    n = 0
    for i in range(len(q)):
        state = first_state + i if states is None else np.int64(states[i])
        for a in range(q.shape[2]):
            if not may(state, first_action + a, params):
                q[i, :, a] = -np.inf
                n += 1
    return n


@njit(cache=True)
def step(state, action, key, params):
    """Return (next_state, reward, terminated); the state IMPOSSIBLE if a probability is invalid."""
    drawn, fit = draw(state, action, key, params)
    s, r, t = transition(state, action, drawn, params)
    return np.int64(s) if fit else IMPOSSIBLE, np.float64(r), bool(t)


@njit(cache=True)
def first(key, params):
    """Draw one initial state."""
    return np.int64(initial(key, params))


@njit(cache=True)
def enumerate_outcomes(state, action, n_events, params, p, s, r, t):
    """Write the 2**n_events outcomes of (state, action) and their probabilities into p, s, r, t."""
    chance = events(state, action, params)
    for mask in range(1 << n_events):
        weight = 1.0
        for k in range(n_events):
            weight *= chance[k] if (mask >> k) & 1 else 1.0 - chance[k]
        p[mask] = weight
        s[mask], r[mask], t[mask] = 0, 0.0, False
        if weight > 0.0:
            s[mask], r[mask], t[mask] = transition(state, action, mask, params)


@njit(nogil=True, cache=True)
def begin(streams, t0, params, state):
    """Write the initial states of fresh environments, whose streams begin at step `t0`."""
    for e in range(len(state)):
        state[e] = initial(reset_key(streams[e] + np.uint64(t0)), params)


@njit(nogil=True, cache=True, inline="always")
def walk(streams, t0, n_steps, block, limits, params, tied, rows, threshold, shard, episodes, out):
    """Take `n_steps` steps in every environment, in place; return the first fault.

    Parameters
    ----------
    streams : uint64 (n,)
        One stream of random numbers for each environment.
    t0 : int
        Steps that the environments have made before.
    n_steps, block : int
        Steps to make, and the number of environments that advance together.
    limits : tuple of int
        (n_states, n_actions, max_episode_steps).
    params
        Parameters that are passed on to the user's functions.
    tied : unsigned int (m,) or uint64 (m, words)
        The set of greedy actions of each row; see :mod:`dqlearn.kernels.ties`.
    rows : int (n,)
        The row of each environment in `tied`. Where row s is that of state s, this is the array
        of the environments' states itself, and changes with it.
    threshold : uint64
        The probability of exploring as a bound, epsilon * 2**32.
    shard : tuple of arrays (n,)
        (state, elapsed, returns), updated in place.
    episodes : float64 (6,)
        (count, sum of returns, of squared returns, of lengths, minimum, maximum), added to.
    out : tuple of arrays (n * n_steps,)
        (state, action, reward, next_state), written; next_state -1 where the episode terminated.

    Returns
    -------
    (environment, state, action, next_state, reward)
        The first faulty transition, as :mod:`dqlearn.envs.model_faults` reads it; environment -1
        when there is none.
    """
    n_states, n_actions, max_episode_steps = limits
    all_state, all_elapsed, all_returns = shard
    keys, drawn = np.empty(block, np.uint64), np.empty(block, DRAWN)
    action, next_state = np.empty(block, np.int64), np.empty(block, np.int64)
    reward, terminated = np.empty(block, np.float64), np.empty(block, np.bool_)
    scratch = np.empty(n_actions, np.bool_)
    for b in range(0, len(streams), block):
        n = min(block, len(streams) - b)
        env, row = streams[b : b + n], rows[b : b + n]
        state, elapsed, returns = (
            all_state[b : b + n],
            all_elapsed[b : b + n],
            all_returns[b : b + n],
        )
        for k in range(n_steps):
            o = b * n_steps + k * n
            o_state, o_action = out[0][o : o + n], out[1][o : o + n]
            o_reward, o_next = out[2][o : o + n], out[3][o : o + n]
            t = np.uint64(t0 + k)
            for e in range(n):
                keys[e] = step_key(env[e], t)
            for e in range(n):
                action[e] = choose(
                    keys[e], tied, np.uint64(row[e]), threshold, np.uint64(n_actions)
                )
            lost = revise(keys[:n], tied, row, threshold, state, params, scratch, action)
            if lost:
                for e in range(n):
                    if action[e] < 0:
                        return b + e, np.int64(state[e]), NO_ACTION, np.int64(state[e]), 0.0
            fit = True
            for e in range(n):
                drawn[e], possible = draw(np.int64(state[e]), action[e], keys[e], params)
                fit &= possible
            for e in range(n):
                next_state[e], reward[e], terminated[e] = transition(
                    np.int64(state[e]), action[e], drawn[e], params
                )
            fault = not fit
            for e in range(n):
                o_reward[e] = reward[e]
                fault |= (next_state[e] < 0) | (next_state[e] >= n_states)
                fault |= not (abs(o_reward[e]) < np.inf)
            if fault:
                for e in range(n):
                    if not draw(np.int64(state[e]), action[e], keys[e], params)[1]:
                        next_state[e] = IMPOSSIBLE
                    inside = 0 <= next_state[e] < n_states
                    r = np.float64(o_reward[e])  # infinite where the table's dtype cannot hold it
                    if not inside or not (abs(r) < np.inf):
                        return b + e, np.int64(state[e]), action[e], next_state[e], r
            ended = False
            for e in range(n):
                o_state[e], o_action[e] = state[e], action[e]
                o_next[e] = -1 if terminated[e] else next_state[e]
                returns[e] += reward[e]
                elapsed[e] += 1
                ended |= terminated[e] | (elapsed[e] >= max_episode_steps)
                state[e] = next_state[e]
            if ended:
                for e in range(n):
                    if terminated[e] or elapsed[e] >= max_episode_steps:
                        episodes[0] += 1
                        episodes[1] += returns[e]
                        episodes[2] += returns[e] * returns[e]
                        episodes[3] += elapsed[e]
                        episodes[4] = min(episodes[4], returns[e])
                        episodes[5] = max(episodes[5], returns[e])
                        returns[e], elapsed[e] = 0.0, 0
                        fresh = np.int64(initial(reset_key(keys[e]), params))
                        if fresh < 0 or fresh >= n_states:
                            return b + e, np.int64(state[e]), BEGINNING, fresh, reward[e]
                        state[e] = fresh
    return -1, np.int64(0), np.int64(0), np.int64(0), 0.0


@njit(nogil=True, cache=True)
def walk_alone(
    streams, t0, n_steps, block, limits, params, tied, rows, threshold, shard, episodes, out
):
    """Do what `walk` does, without being compiled into its caller.

    Numba's inlining loses a branch on what `walk` returns where the caller is longer.
    """
    return walk(
        streams, t0, n_steps, block, limits, params, tied, rows, threshold, shard, episodes, out
    )


@njit(nogil=True, cache=True)
def walk_and_route(
    streams,
    t0,
    n_steps,
    block,
    limits,
    params,
    tied,
    rows,
    threshold,
    shard,
    episodes,
    first_env,
    tile,
    walked,
    bootstrap,
    grid,
    room,
    routed,
):
    """Walk, and route the transitions of each tile of environments as soon as they are made.

    Parameters
    ----------
    streams, t0, n_steps, block, limits, params, tied, rows, threshold, shard, episodes
        The arguments of these names of `walk`.
    first_env : int
        Number of the first environment if each has a member of its own, else -1.
    tile : int
        Environments in a tile, a multiple of `block`.
    walked : tuple of arrays (tile * n_steps,)
        Scratch for the transitions of a tile, in the form of `out` of `walk`.
    bootstrap, grid, room, routed
        The last arguments of :func:`dqlearn.kernels.route.route_tile`.

    Returns
    -------
    (environment, state, action, next_state, reward)
        The first faulty transition, as `walk` returns it.
    """
    state, elapsed, returns = shard
    for first in range(0, len(streams), tile):
        last = min(first + tile, len(streams))
        own = state[first:last], elapsed[first:last], returns[first:last]
        at, s, a, after, reward = walk(
            streams[first:last],
            t0,
            n_steps,
            block,
            limits,
            params,
            tied,
            rows[first:last],
            threshold,
            own,
            episodes,
            walked,
        )
        if at >= 0:
            return first + at, s, a, after, reward
        n = (last - first) * n_steps
        members = grid[4]
        if members > 1:
            column, after_row = walked[1][:n], walked[3][:n]
            own_streams = streams[first:last]
            own_first = first_env + first if first_env >= 0 else first_env
            columns_of_walk(own_streams, t0, n_steps, block, own_first, members, limits[1], column)
            bootstrap_rows(column, after_row, members, limits[1], after_row)
        route_tile(walked, n, first // tile, first * n_steps, bootstrap, grid, room, routed)
    return -1, np.int64(0), np.int64(0), np.int64(0), 0.0


@njit(nogil=True, cache=True)
def play(streams, n_steps, limits, params, greedy, rows, episodes):
    """Take up to `n_steps` steps in each episode that goes on, in place; return the first fault.

    Parameters
    ----------
    streams : uint64 (n,)
        One stream of random numbers for each episode.
    n_steps : int
        Steps to make.
    limits : tuple of int
        (n_states, n_actions, max_episode_steps).
    params
        Parameters that are passed on to the user's functions.
    greedy : Lookup
        Greedy actions; see :mod:`dqlearn.kernels.choose`.
    rows : int64 (n,)
        The state, or the row, whose greedy action each episode takes; see `rows` of `walk`.
    episodes : tuple of arrays (n,)
        (state, going, returns, lengths), updated in place; no episode goes on beyond
        ``max_episode_steps``.

    Returns
    -------
    (episode, state, action, next_state, reward)
        The first faulty transition, as `walk` returns it.
    """
    n_states, _, max_episode_steps = limits
    state, going, returns, lengths = episodes
    for i in range(len(streams)):
        k = 0
        while going[i] and k < n_steps:
            key = step_key(streams[i], np.uint64(lengths[i]))
            action = admitted(greedy, np.int64(rows[i]), state[i], params)
            if action < 0:
                return i, state[i], NO_ACTION, state[i], 0.0
            after, reward, terminated = step(state[i], action, key, params)
            if after < 0 or after >= n_states or not (abs(reward) < np.inf):
                return i, state[i], action, after, reward
            state[i] = after
            returns[i] += reward
            lengths[i] += 1
            going[i] = not terminated and lengths[i] < max_episode_steps
            k += 1
    return -1, np.int64(0), np.int64(0), np.int64(0), 0.0
