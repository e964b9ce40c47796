"""Transitions that masks save: Taxi-v4 with its mask and without, to the same policy.

::

    learn ─► value of the greedy policy, exact ─► within 0.05 of the optimum? ─► transitions

Both learn from the same compiled table with the same settings, in rounds of 512 transitions.
"""

from __future__ import annotations

import click
import gymnasium
import numpy as np
from harness import Report, options, ratios

from dqlearn import QLearner, exact
from dqlearn.envs import from_table

NEAR = 0.05  # in units of return
GAMMA, LOOK = 0.99, 5_120


def needed(seed: int, masks: bool, start: tuple[np.ndarray, float], most: int) -> float:
    """Return the transitions after which the greedy policy is near the optimum."""
    settings = {"epsilon": 0.1, "learning_rate": 0.5, "gamma": GAMMA, "dtype": "float64"}
    learner = QLearner("Taxi-v4", action_masks=masks, seed=seed, shards=1, **settings)
    model = from_table("Taxi-v4", masks=False)
    chances, best = start
    while learner.num_timesteps < most:
        learner.learn(learner.num_timesteps + LOOK)
        policy = learner.table.policy.compute().astype(np.int64)
        if best - chances @ exact.policy_value(model, policy, GAMMA, tolerance=1e-3) < NEAR:
            break
    return learner.num_timesteps


@click.command(help=__doc__)
@click.option("--most", default=2_000_000, show_default=True, help="Transitions to give up at.")
@options
def main(most: int, repeats: int, json_path: str | None) -> None:
    report = Report("masks", near=NEAR, repeats=repeats)
    env = gymnasium.make("Taxi-v4")
    chances = env.unwrapped.initial_state_distrib  # type: ignore[attr-defined]
    best = float(chances @ exact.solve(env, GAMMA).value)
    samples = {
        masks: [needed(seed, masks, (chances, best), most) for seed in range(repeats)]
        for masks in (True, False)
    }
    report.add("with the mask", samples[True], "transitions")
    report.add("without", samples[False], "transitions")
    report.add("with / without", ratios(samples[True], samples[False]), "x", at_most=1.0)
    report.finish(json_path)


if __name__ == "__main__":
    main()
