"""Transitions until the greedy policy is as good as asked for, by the size of a round.

::

    num_envs x steps ──learn──► 10 % more transitions ──play──► mean return ──► enough?
                         ▲                                                        │ no
                         └────────────────────────────────────────────────────────┘

All else is what an id brings: the defaults, or the recipe of its family. A sample is a seed. The
counts do not depend on the machine, since the seed and the shards are given; what was not reached
within the limit is infinite.
"""

from __future__ import annotations

import math
from typing import Any

import click
from harness import Report, options

from dqlearn import QLearner

TARGETS = {  # of a return of about 7.9, 0.9 and -586 at best
    "Taxi-v4": 7.0,
    "FrozenLake8x8-v1": 0.7,
    "dqlearn/TrafficGrid-v0": -650.0,
}
ROUNDS = (
    (64, 1),
    (64, 16),
    (1024, 1),
    (64, 64),
    (4096, 1),
    (1024, 16),
    (16384, 1),
    (4096, 10),
)
FIRST = 1_000  # transitions before the first look
EVALUATION = 1_000_003  # seed of evaluations; no run's own


def needed(learner: QLearner, target: float, episodes: int, limit: float) -> float:
    """Learn until an evaluation reaches the target; return the transitions that it took."""
    following = FIRST
    while learner.learn(following).num_timesteps <= limit:
        if learner.evaluate(episodes, seed=EVALUATION).mean >= target:
            return learner.num_timesteps
        following = math.ceil(1.1 * learner.num_timesteps)
    return math.inf


@click.command(help=__doc__)
@options
@click.option("--problem", "problems", multiple=True, type=click.Choice(list(TARGETS)))
@click.option("--target", type=float, help="Mean return to be reached, of all problems.")
@click.option("--episodes", default=1_000, show_default=True, help="Of an evaluation.")
@click.option("--limit", default=5e7, show_default=True, help="Transitions at most.")
def main(
    problems: tuple[str, ...],
    target: float | None,
    episodes: int,
    limit: float,
    repeats: int,
    json_path: str | None,
) -> None:
    report = Report("settings", repeats=repeats, episodes=episodes, limit=limit)
    for problem in problems or TARGETS:
        wanted = TARGETS[problem] if target is None else target
        for num_envs, steps in ROUNDS:
            size: dict[str, Any] = {"num_envs": num_envs, "steps_per_round": steps, "shards": 2}
            size["action_masks"] = False
            learners = (QLearner(problem, seed=seed, **size) for seed in range(repeats))
            samples = [needed(learner, wanted, episodes, limit) / 1e3 for learner in learners]
            label = f"{problem} {num_envs} x {steps} to {wanted:g}"
            report.add(f"{label}: transitions", samples, "thousand")
            report.add(f"{label}: rounds", [1e3 * n / (num_envs * steps) for n in samples], "")
    report.finish(json_path)


if __name__ == "__main__":
    main()
