"""Kernel template: resets, steps and outcomes of a model, for many environments or states at once.

``first``, ``step`` and ``enumerate_outcomes`` are those that ``rollout_template.py`` makes of one
model; :mod:`dqlearn.jit.specialise` binds them. The mask `which` selects environments. `calls`
counts the resets and steps that have drawn from an environment's stream, so that no two draw the
same numbers.
"""

from __future__ import annotations

import numpy as np

from dqlearn.jit.compiled import njit
from dqlearn.random import reset_key, step_key


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
        enumerate_outcomes(
            first_state + pair // n_actions, pair % n_actions, n_events, params, p, s, r, t
        )
        for k in range(1 << n_events):
            if p[k] == 0.0:
                continue
            if not (p[k] > 0.0 and 0 <= s[k] < n_states and abs(r[k]) < np.inf):
                return pair, k
            reward[pair] += p[k] * r[k]
            if t[k]:
                continue
            j = slot[s[k]]
            if row <= j < end and next_state[j] == s[k]:
                weight[j] += p[k]
            else:
                slot[s[k]] = end
                next_state[end], weight[end] = s[k], p[k]
                end += 1
        start[pair + 1] = end
    return -1, -1
