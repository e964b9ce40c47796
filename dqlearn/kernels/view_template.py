"""Kernel template: a model seen from outside, many environments or many states at a time.

``first``, ``step`` and ``enumerate_outcomes`` are one model's, of ``rollout_template.py``;
:mod:`dqlearn.jit.specialise` binds them. Environments are masked by `which`; `calls` counts
what has drawn from an environment's stream, resets and steps, so that no two draw the same.
"""

from __future__ import annotations

import numpy as np

from dqlearn.jit.compiled import njit
from dqlearn.random import reset_key, step_key


@njit(cache=True)
def first_at(stream, t, params):
    """Draw an initial state by call t of a stream."""
    return first(reset_key(step_key(stream, np.uint64(t))), params)


@njit(cache=True)
def step_at(stream, t, state, action, params):
    """Make one transition by call t of a stream: (next_state, reward, terminated)."""
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
    """Write the outcomes of all pairs of a block of states, those of one successor merged.

    Parameters
    ----------
    first_state : int
        The block's first state.
    n_states, n_actions, n_events : int
        Of the model.
    params
        Passed on to the user's functions.
    drawn : tuple of arrays (2**n_events,)
        Scratch: (probability, next_state, reward, terminated) of one pair.
    slot : int32 (n_states,)
        Scratch: where a state was last written as a successor. It is never cleared; what it says
        is believed only when that place is in the present row and names the state.
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
