"""Kernel template: resets, steps and outcomes of a model, for many environments or states at once.

::

    stream, call t ──► first_at, step_at             one draw
    pair ──► outcomes ──► tabulate                   merged successors, kept
                      └─► bound_backups              TQ and its rounding error, nothing kept
    pair, n draws ──► sample_backups                 mean and variance of the target

``first``, ``step``, ``may``, ``alive`` and ``enumerate_outcomes`` are those that
``rollout_template.py`` makes of one model; :mod:`dqlearn.jit.specialise` binds them. The mask
`which` selects environments. `calls` counts the resets and steps that have drawn from an
environment's stream. Pairs that are not valid have the backup of minus infinity; a state without a
valid one is worth nothing. Invariant: no two draw the same numbers.
"""

from __future__ import annotations

import numpy as np

from dqlearn.jit.compiled import njit
from dqlearn.random import EVALUATION, reset_key, step_key
from dqlearn.random import stream as pair_stream

ESTIMATES = EVALUATION  # what is drawn to judge a table, be it a pair's or an episode's
TINY = 1e-290  # more than the products lose together that are below the least normal number


@njit(cache=True)
def first_at(stream, t, params):
    """Draw an initial state with the random numbers of call t of a stream."""
    return first(reset_key(step_key(stream, np.uint64(t))), params)


@njit(cache=True)
def step_at(stream, t, state, action, params):
    """Return (next_state, reward, terminated), drawn with the numbers of call t of a stream."""
    return step(state, action, step_key(stream, np.uint64(t)), params)


@njit(nogil=True, cache=True)
def reset_many(streams, calls, which, params, state):
    """Write initial states where `which`."""
    for e in range(len(state)):
        if which[e]:
            state[e] = first_at(streams[e], calls[e], params)
            calls[e] += 1


@njit(nogil=True, cache=True)
def step_many(streams, calls, which, params, action, state, reward, terminated):
    """Make one transition where `which`; elsewhere none, and no reward."""
    for e in range(len(state)):
        reward[e], terminated[e] = 0.0, False
        if which[e]:
            state[e], reward[e], terminated[e] = step_at(
                streams[e], calls[e], state[e], action[e], params
            )
            calls[e] += 1


@njit(nogil=True, cache=True)
def tabulate(first_state, n_states, n_actions, n_events, params, drawn, slot, block):
    """Write the outcomes of all pairs of a block of states, merged where the successor is the same.

    A pair that is not valid has none, and the reward of minus infinity.

    Parameters
    ----------
    first_state : int
        The block's first state.
    n_states, n_actions, n_events : int
        Numbers of states, actions and events of the model.
    params
        Parameters that are passed on to the user's functions.
    drawn : tuple of arrays (2**n_events,)
        Scratch: (probability, next_state, reward, terminated) of the outcomes of one pair.
    slot : int32 (n_states,)
        Scratch: where each state was last written as a successor. It is never cleared; an entry
        counts only if it points into the present row, at this state.
    block : tuple of arrays
        (reward, start, next_state, weight), written: see ``dqlearn.exact.outcomes.Block``.

    Returns
    -------
    (pair, outcome)
        The first fault, which `drawn` then shows; (-1, -1) when there is none.
    """
    p, s, r, t = drawn
    reward, start, next_state, weight = block
    end = 0
    start[0] = 0
    for pair in range(len(reward)):
        row = end
        reward[pair] = 0.0
        state, action = first_state + pair // n_actions, pair % n_actions
        if not may(state, action, params):
            reward[pair], start[pair + 1] = -np.inf, end
            continue
        enumerate_outcomes(state, action, n_events, params, p, s, r, t)
        for k in range(1 << n_events):
            if p[k] == 0.0:
                continue
            if not (p[k] > 0.0 and 0 <= s[k] < n_states and abs(r[k]) < np.inf):
                return pair, k
            reward[pair] += p[k] * r[k]
            if t[k]:
                continue
            if not alive(s[k], n_actions, params):
                return pair, k
            j = slot[s[k]]
            if row <= j < end and next_state[j] == s[k]:
                weight[j] += p[k]
            else:
                slot[s[k]] = end
                next_state[end], weight[end] = s[k], p[k]
                end += 1
        start[pair + 1] = end
    return -1, -1


@njit(nogil=True, cache=True)
def bound_backup(n_events, sizes, discount, params, value, pair, drawn):
    """Return the backup of a pair, the bound of its rounding error, and its chance to end.

    The outcomes of the pair are added up in float64, in their order. Their sum has `unit` times the
    sum of their absolute values as the bound of its error. A fault is a negative bound.
    """
    (gamma, unit), (n_states, n_actions) = discount, sizes
    p, s, r, t = drawn
    state, action = pair
    enumerate_outcomes(state, action, n_events, params, p, s, r, t)
    total, size, ending = 0.0, 0.0, 0.0
    for k in range(1 << n_events):
        if p[k] == 0.0:
            continue
        if not (p[k] > 0.0 and 0 <= s[k] < n_states and abs(r[k]) < np.inf):
            return 0.0, -1.0, 0.0
        if not t[k] and not alive(s[k], n_actions, params):
            return 0.0, -1.0, 0.0
        onward = 0.0 if t[k] else gamma * np.float64(value[s[k]])
        total += p[k] * (r[k] + onward)
        size += p[k] * (abs(r[k]) + abs(onward))
        ending += p[k] if t[k] else 0.0
    return total, unit * size + TINY, ending


@njit(nogil=True, cache=True)
def bound_backups(first_state, n_events, discount, params, value, policy, q, drawn, out):
    """Bound the backups of a block of states from below and from above.

    Parameters
    ----------
    first_state : int
        The block's first state.
    n_events : int
        Number of events of the model.
    discount : (float, float)
        The discount factor, and the relative bound of rounding errors.
    params
        Parameters that are passed on to the user's functions.
    value : float (n_states,)
        Values of all states.
    policy : int (n,) or None
        The action of each state; without it the one with the least backup of those with the
        greatest value.
    q : float (n, n_actions)
        Values of the block's pairs.
    drawn : tuple of arrays (2**n_events,)
        Scratch: (probability, next_state, reward, terminated) of the outcomes of one pair.
    out : (float64 (3, n), float64 (7,))
        Written: bounds of TV from below, from above, and of the backup of the greedy action from
        below; and the extremes of the block: the largest residual, the largest rounding error, the
        least and the largest chance to end, the least and the largest TV - V, and the least of the
        greedy action.

    Returns
    -------
    (state, action)
        The first fault; (-1, -1) when there is none.
    """
    bounds, extremes = out
    extremes[:] = 0.0, 0.0, 1.0, 0.0, np.inf, -np.inf, np.inf
    for i in range(len(q)):
        state = first_state + i
        best = np.float64(q[i].max())
        below, above, own = -np.inf, -np.inf, np.inf
        for action in range(q.shape[1]):
            if not may(state, action, params):
                continue
            total, radius, ending = bound_backup(
                n_events, (len(value), q.shape[1]), discount, params, value, (state, action), drawn
            )
            if radius < 0.0:
                return state, action
            low, entry = np.nextafter(total - radius, -np.inf), np.float64(q[i, action])
            below = max(below, low)
            above = max(above, np.nextafter(total + radius, np.inf))
            chosen = entry == best if policy is None else action == policy[i]
            own = min(own, low) if chosen else own
            off = np.nextafter(abs(total - entry), np.inf) + radius
            extremes[0] = max(extremes[0], np.nextafter(off, np.inf))
            extremes[1] = max(extremes[1], radius)
            extremes[2] = min(extremes[2], ending)
            extremes[3] = max(extremes[3], ending)
        if above == -np.inf:
            below, above, own = 0.0, 0.0, 0.0
        bounds[0, i], bounds[1, i], bounds[2, i] = below, above, own
        now = np.float64(value[state])
        extremes[4] = min(extremes[4], np.nextafter(below - now, -np.inf))
        extremes[5] = max(extremes[5], np.nextafter(above - now, np.inf))
        extremes[6] = min(extremes[6], np.nextafter(own - now, -np.inf))
    return -1, -1


@njit(nogil=True, cache=True)
def sample_backups(first_state, gamma, n_samples, seed, params, value, n_actions, out):
    """Draw targets of the pairs of a block of states; the draws of a pair have a stream of its own.

    Parameters
    ----------
    first_state : int
        The block's first state.
    gamma : float
        Discount factor.
    n_samples : int
        Targets of each pair, at least 2.
    seed : uint64
        Seed of the streams.
    params
        Parameters that are passed on to the user's functions.
    value : float (n_states,)
        Values of all states.
    n_actions : int
        Number of actions.
    out : (float64 (n, n_actions), float64 (n, n_actions), float64 (2,))
        Written: means of the targets, their variances with n_samples - 1, and the range of the
        rewards.

    Returns
    -------
    (state, action, next_state, reward)
        The first fault; the state is -1 when there is none.
    """
    means, variances, rewards = out
    rewards[:] = np.inf, -np.inf
    for i in range(len(means)):
        for action in range(n_actions):
            state = first_state + i
            stream = pair_stream(seed, ESTIMATES, np.uint64(state * n_actions + action))
            mean, squares = 0.0, 0.0
            for t in range(n_samples if may(state, action, params) else 0):
                s, r, ends = step(state, action, step_key(stream, np.uint64(t)), params)
                if not (0 <= s < len(value) and abs(r) < np.inf):
                    return state, action, s, r
                rewards[0], rewards[1] = min(rewards[0], r), max(rewards[1], r)
                y = r if ends else r + gamma * np.float64(value[s])
                off = y - mean
                mean += off / (t + 1)
                squares += off * (y - mean)
            means[i, action], variances[i, action] = mean, squares / (n_samples - 1)
    return -1, -1, np.int64(0), 0.0
