"""Python environments: Taxi on two worker processes, against one process that only steps it.

The peer is a ``SyncVectorEnv`` of as many environments as all shards have together, with actions
drawn beforehand: no table, no encoding, no learning. It resets in the same step, as dqlearn's
shards do, so that every row is a transition in both.
"""

from __future__ import annotations

from functools import partial

import click
import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from harness import Report, interleave, options, rate, ratios
from problems import OnDask, cluster_option, two_workers

ENV = "Taxi-v4"
AT_LEAST = 1.6
N_ENVS, STEPS = 64, 512


class Stepping:
    """Environments that are stepped with actions drawn beforehand."""

    def __init__(self, n_envs: int) -> None:
        make = partial(gymnasium.make, ENV)
        self._envs = SyncVectorEnv([make] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)
        self._envs.reset(seed=0)
        n_actions = self._envs.single_action_space.n
        self._actions = np.random.default_rng(0).integers(n_actions, size=(1024, n_envs))

    def advance(self, transitions: int) -> int:
        """Step so often; return the number of transitions."""
        n_steps = -(-transitions // self._envs.num_envs)
        for k in range(n_steps):
            self._envs.step(self._actions[k % len(self._actions)])
        return n_steps * self._envs.num_envs


@click.command(help="Transitions per second in Python environments, against only stepping them.")
@options
@cluster_option
@click.option("--num-envs", default=N_ENVS, show_default=True, help="Environments in total.")
@click.option("--steps-per-round", default=STEPS, show_default=True, help="Of each in a round.")
@click.option("--policy-lag", default=1, show_default=True, help="Of QLearner.")
@click.option("--rounds", default=24, show_default=True, help="In a sample.")
def main(
    cluster: str | None,
    num_envs: int,
    steps_per_round: int,
    policy_lag: int,
    rounds: int,
    repeats: int,
    json_path: str | None,
) -> None:
    report = Report("python_envs", env=ENV, num_envs=num_envs, steps_per_round=steps_per_round)
    with two_workers(cluster) as scheduler:
        learner = OnDask(
            ENV,
            scheduler,
            compile=False,
            num_envs=num_envs,
            shards=2,
            steps_per_round=steps_per_round,
            policy_lag=policy_lag,
        )
        competitors = {"stepping, one process": Stepping(num_envs), "two workers": learner}
        sample = num_envs * steps_per_round * rounds
        for competitor in competitors.values():
            competitor.advance(sample // rounds)
        rates = interleave(
            {name: partial(rate, partial(c.advance, sample)) for name, c in competitors.items()},
            repeats,
        )
    for name, samples in rates.items():
        report.add(name, [r / 1e3 for r in samples], "k/s")
    stepping, workers = rates.values()
    report.add("two workers / stepping", ratios(workers, stepping), "x", at_least=AT_LEAST)
    report.finish(json_path)


if __name__ == "__main__":
    main()
