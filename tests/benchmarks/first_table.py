"""Seconds until Taxi-v4 is driven well, by its id alone, against a plain loop that only steps.

::

    QLearner("Taxi-v4")   learn, play, learn, play, ...   until 1,000 greedy episodes return 7.5
    a plain loop          random actions                  100,000 steps

Kernels are compiled beforehand; what that takes in a new process, with machine code kept from
earlier and without, is what ``startup.py`` measures.
"""

from __future__ import annotations

import click
import gymnasium
from harness import Report, interleave, options, timed

from dqlearn import QLearner

TARGET, STEPS = 7.5, 100_000
LOOK = 100_000  # transitions between two looks


def learning() -> float:
    """Return the seconds until the target is reached, evaluations included."""

    def learn() -> None:
        learner = QLearner("Taxi-v4", seed=0)
        while learner.evaluate(1_000, max_steps=200).mean < TARGET:
            learner.learn(learner.num_timesteps + LOOK)

    return timed(learn)[0]


def stepping() -> float:
    """Return the seconds of a plain loop."""
    env = gymnasium.make("Taxi-v4")
    env.reset(seed=0)
    env.action_space.seed(0)

    def loop() -> None:
        for _ in range(STEPS):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()

    return timed(loop)[0]


@click.command(help=__doc__)
@options
def main(repeats: int, json_path: str | None) -> None:
    report = Report("first_table", target=TARGET, steps=STEPS, repeats=repeats)
    learning()
    seconds = interleave({"learned": learning, "plain loop": stepping}, repeats)
    for name, samples in seconds.items():
        report.add(name, samples, "s")
    ratios = [a / b for a, b in zip(seconds["learned"], seconds["plain loop"], strict=True)]
    report.add("learned / plain loop", ratios, "x", at_most=1.0)
    report.finish(json_path)


if __name__ == "__main__":
    main()
