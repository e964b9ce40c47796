"""JAX on the CPU: `vmap` over walkers, `scan` over steps, `jit` around both; the table is donated.

::

    jit( scan over STEPS ( vmap over walkers: explore, step ) ; gather rows ; scatter updates )

Of walkers that update the same pair in one step the last one wins. The random numbers are XLA's own
generator, which on the CPU is cheaper than JAX's default.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from problems import LEARNING_RATE, Problem

from competitors.rules import Rules, explore, rules_of
from competitors.walkers import batch_of

WALKERS = 8192
STEPS = 64  # of a compiled call

State = tuple[jax.Array, jax.Array, jax.Array, jax.Array]  # table, states, greedy actions, key


class Learner:
    """A table, and a batch of walkers."""

    def __init__(self, problem: Problem, seed: int) -> None:
        rules, n = rules_of(problem), batch_of(problem, WALKERS)
        key, first = jax.random.split(jax.random.key(seed, impl="rbg"))
        self._n = n
        self._arrays = tuple(jnp.asarray(array) for array in rules.arrays)
        self._state: State = (
            jnp.zeros((rules.n_states, rules.n_actions), jnp.float32),
            jax.random.randint(first, (n,), 0, rules.n_states, jnp.int32),
            jnp.zeros(n, jnp.int32),
            key,
        )
        self._run = compiled(rules, problem.gamma)

    def advance(self, transitions: int) -> int:
        """Learn, in whole scans."""
        calls = -(-transitions // (self._n * STEPS))
        for _ in range(calls):
            self._state = self._run(self._state, self._arrays)
        jax.block_until_ready(self._state)
        return calls * self._n * STEPS

    def value(self) -> npt.NDArray[np.float32]:
        """Return the largest Q-value of each state."""
        return np.asarray(self._state[0].max(axis=1))


@cache
def compiled(rules: Rules, gamma: float) -> Callable[[State, tuple[Any, ...]], State]:
    """Compile STEPS steps of all walkers."""

    def move(arrays: Any, state: Any, greedy: Any, u: Any) -> tuple[Any, ...]:
        """One walker's action, and what comes of it."""
        action = explore(jnp, greedy, rules.n_actions, u[0])
        after, reward, terminated = rules.step(jnp, arrays, state, action, u[1])
        again = (u[2] * rules.n_states).astype(state.dtype)
        return action, jnp.where(terminated, again, after), reward, terminated

    def step(arrays: Any, carry: State, _: None) -> tuple[State, None]:
        q, state, greedy, key = carry
        key, draw = jax.random.split(key)
        u = jax.random.uniform(draw, (len(state), 3))
        moved = jax.vmap(partial(move, arrays))(state, greedy, u)
        action, after, reward, terminated = moved
        # These rows are the bootstrap of this step and the greedy choice of the next.
        rows = q[after]
        target = reward + gamma * jnp.where(terminated, 0.0, rows.max(axis=1))
        now = q[state, action]
        q = q.at[state, action].set(now + LEARNING_RATE * (target - now))
        return (q, after, rows.argmax(axis=1).astype(greedy.dtype), key), None

    def run(state: State, arrays: tuple[Any, ...]) -> State:
        return jax.lax.scan(partial(step, arrays), state, length=STEPS)[0]

    return jax.jit(run, donate_argnums=0)
