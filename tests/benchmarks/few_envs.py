"""Python environments against a plain loop: transitions a second, and transitions to a return.

The loop is that of the textbooks: one environment, which learns after every step, its table a NumPy
array. `rate` counts transitions a processor second. `return` counts the transitions until greedy
episodes reach a mean return, over seeds: how many more than the loop do several environments need,
which learn from values that are a round old?
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import mean
from typing import Any

import click
import gymnasium
import numpy as np
import numpy.typing as npt
from harness import Report, interleave, json_option, options, ratios

from dqlearn import QLearner

EPSILON, RATE, GAMMA = 0.1, 0.1, 0.99
GOALS = {"Taxi-v4": (7.0, 10_000), "CliffWalking-v1": (-13.5, 500)}  # return; transitions a look
ENVS = ["Taxi-v4", "CliffWalking-v1", "FrozenLake-v1", "Blackjack-v1"]
EPISODES, AT_MOST = 50, 4_000_000

Table = npt.NDArray[np.float64]


class Loop:
    """Q-learning of one environment, a step at a time."""

    def __init__(self, env: str, seed: int) -> None:
        self.env, self.rng = gymnasium.make(env), np.random.default_rng(seed)
        space = self.env.observation_space
        spaces = getattr(space, "spaces", [space])
        self.sizes = [int(part.n) for part in spaces]
        self.plain = len(self.sizes) == 1
        n_actions = int(self.env.action_space.n)
        self.q = np.zeros((int(np.prod(self.sizes)), n_actions))
        self.state = self.number(self.env.reset(seed=seed)[0])

    def number(self, observation: Any) -> int:
        """Return the number of a state."""
        if self.plain:
            return int(observation)
        state = 0
        for size, part in zip(self.sizes, observation, strict=True):
            state = state * size + int(part)
        return state

    def advance(self, transitions: int) -> int:
        """Step so often; return the number of transitions."""
        q, rng, env, n_actions = self.q, self.rng, self.env, self.q.shape[1]
        for _ in range(transitions):
            s = self.state
            explores = rng.random() < EPSILON
            a = int(rng.integers(n_actions)) if explores else int(q[s].argmax())
            observation, reward, terminated, truncated, _ = env.step(a)
            after = self.number(observation)
            y = reward + (0.0 if terminated else GAMMA * q[after].max())
            q[s, a] += RATE * (y - q[s, a])
            ended = terminated or truncated
            self.state = self.number(env.reset()[0]) if ended else after
        return transitions


class OnDask:
    """A learner of as many environments as are said, with its own defaults for what is not."""

    def __init__(self, env: str, seed: int, **settings: int) -> None:
        rates = {"epsilon": EPSILON, "learning_rate": RATE, "gamma": GAMMA, "dtype": "float64"}
        unmasked: Any = {"action_masks": False, **rates}  # as the loop
        self.learner = QLearner(env, compile=False, seed=seed, **unmasked, **settings)

    @property
    def q(self) -> Table:
        """The table."""
        return np.asarray(self.learner.table.q.compute())

    def advance(self, transitions: int) -> int:
        """Learn from so many transitions more, or a few above; return their number."""
        before = self.learner.num_timesteps
        self.learner.learn(before + transitions)
        return self.learner.num_timesteps - before


def rate(competitor: Loop | OnDask, sample: int) -> float:
    """Transitions in a second of processor time."""
    began = time.process_time()
    return competitor.advance(sample) / (time.process_time() - began)


def greedy_return(env: gymnasium.Env[Any, Any], q: Table) -> float:
    """Mean return of greedy episodes."""
    total = 0.0
    for episode in range(EPISODES):
        state, _ = env.reset(seed=episode)
        over = False
        while not over:
            state, reward, terminated, truncated, _ = env.step(int(q[state].argmax()))
            total, over = total + float(reward), terminated or truncated
    return total / EPISODES


def needed(make: Callable[[int], Loop | OnDask], env: str, goal: float, look: int, n: int) -> float:
    """Mean number of transitions until the goal is reached, over n seeds."""
    limited = gymnasium.make(env, max_episode_steps=200)
    found = []
    for seed in range(n):
        competitor, made = make(seed), 0
        while made < AT_MOST:
            made += competitor.advance(look)
            if greedy_return(limited, competitor.q) >= goal:
                break
        found.append(made)
    return mean(found)


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command("rate", help="Transitions a processor second, learner / loop.")
@options
@click.option("--env", "names", multiple=True, default=ENVS, show_default=True)
@click.option("--transitions", default=60_000, show_default=True, help="In a sample.")
def rates(names: tuple[str, ...], transitions: int, repeats: int, json_path: str | None) -> None:
    report = Report("few_envs rate", transitions=transitions)
    for name in names:
        cases: dict[str, Loop | OnDask] = {"loop": Loop(name, 0), "default": OnDask(name, 0)}
        for n in (1, 16, 64):
            cases[f"{n} x 1"] = OnDask(name, 0, num_envs=n, steps_per_round=1)
        for case in cases.values():
            case.advance(transitions // 10)
        found = interleave({it: partial(rate, c, transitions) for it, c in cases.items()}, repeats)
        report.add(f"{name} loop", [r / 1e3 for r in found["loop"]], "k/s")
        for label in list(cases)[1:]:
            target = {"at_least": 1.0} if label == "default" else {}
            report.add(f"{name} {label} / loop", ratios(found[label], found["loop"]), "x", **target)
    report.finish(json_path)


@main.command(
    "return", help="Transitions until greedy episodes have a mean return, learner / loop."
)
@json_option
@click.option("--env", "names", multiple=True, default=list(GOALS), show_default=True)
@click.option("--seeds", default=10, show_default=True, help="Runs of each case.")
@click.option("--goal", type=float, help="The return, if not that of the environment.")
def returns(names: tuple[str, ...], seeds: int, goal: float | None, json_path: str | None) -> None:
    report = Report("few_envs return", seeds=seeds)
    for name in names:
        wanted, look = GOALS[name]
        wanted = wanted if goal is None else goal
        loop = needed(partial(Loop, name), name, wanted, look, seeds)
        report.add(f"{name} loop", [loop / 1e3], "k transitions")
        cases: dict[str, dict[str, int]] = {"default": {}}
        cases |= {f"{n} x 1": {"num_envs": n, "steps_per_round": 1} for n in (1, 4, 16, 64)}
        cases["64 x 16"] = {"num_envs": 64, "steps_per_round": 16}
        for label, settings in cases.items():
            found = needed(partial(OnDask, name, **settings), name, wanted, look, seeds)
            target = {"at_most": 1.05} if label in ("1 x 1", "4 x 1") else {}
            report.add(f"{name} {label} / loop", [found / loop], "x", **target)
    report.finish(json_path)


if __name__ == "__main__":
    main()
