"""The callbacks that come with dqlearn; names as in Stable-Baselines3 where it has the same."""

from __future__ import annotations

import os
import warnings

from dqlearn.callbacks.base import Callback, Stop
from dqlearn.checks import check_count
from dqlearn.events import Checkpoint, Evaluation, RoundEnd, TrainingEnd, TrainingStart

__all__ = [
    "CheckpointCallback",
    "EvalCallback",
    "StopTrainingOnMaxEpisodes",
    "StopTrainingOnMaxTime",
    "StopTrainingOnNoModelImprovement",
    "StopTrainingOnRewardThreshold",
]


class EvalCallback(Callback):
    """Evaluate the greedy policy every so often, and tell all callbacks by an `Evaluation`.

    Parameters
    ----------
    every_rounds : int
        Number of rounds from one evaluation to the next.
    n_eval_episodes : int, default 100
        Number of episodes of an evaluation.
    seed : int, optional
        For `QLearner.evaluate`. With a seed, all evaluations draw the same numbers, so that their
        differences come from the policy.

    Attributes
    ----------
    results : list of Evaluation
        All evaluations so far, in order.
    """

    def __init__(
        self, every_rounds: int, n_eval_episodes: int = 100, seed: int | None = None
    ) -> None:
        self.every_rounds = check_count("every_rounds", every_rounds)
        self.n_eval_episodes = check_count("n_eval_episodes", n_eval_episodes)
        self.seed = seed
        self.results: list[Evaluation] = []

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the greatest mean, the earliest of equals; None before the first."""
        return max(self.results, key=lambda evaluation: evaluation.result.mean, default=None)

    def on_round_end(self, event: RoundEnd) -> Stop | None:  # noqa: D102  (inherited)
        result = event.learner.evaluate(n_episodes=self.n_eval_episodes, seed=self.seed)
        report = event.report
        evaluation = Evaluation(event.learner, report.round + 1, report.timesteps, result)
        self.results.append(evaluation)
        return event.learner.emit(evaluation)


class CheckpointCallback(Callback):
    """Save the table every so often, and tell all callbacks by a `Checkpoint`.

    Each is a Zarr group of its own, `save_path/round-00000100.zarr` for Q_100, that `dqlearn.load`
    and `xarray.open_zarr` can open. To be able to resume a run, give `learn` a `store` instead.

    Parameters
    ----------
    every_rounds : int
        Number of rounds from one table to the next.
    save_path : str or path-like
        The folder, or its URL.
    """

    def __init__(self, every_rounds: int, save_path: str | os.PathLike[str]) -> None:
        self.every_rounds = check_count("every_rounds", every_rounds)
        self.save_path = os.fspath(save_path)

    def on_round_end(self, event: RoundEnd) -> Stop | None:  # noqa: D102  (inherited)
        round = event.report.round + 1
        # Not pathlib: it would turn s3://bucket into s3:/bucket.
        path = f"{self.save_path.rstrip('/')}/round-{round:08d}.zarr"
        event.learner.save(path)
        return event.learner.emit(Checkpoint(event.learner, round, event.report.timesteps, path))


class _JudgesEvaluations(Callback):
    """Says, at the end, that there was nothing to judge."""

    every_rounds = None
    _judged = 0

    def on_training_start(self, event: TrainingStart) -> None:
        self._judged = 0

    def on_evaluation(self, event: Evaluation) -> Stop | None:
        self._judged += 1
        return self._judge(event.result.mean)

    def _judge(self, mean: float) -> Stop | None:
        raise NotImplementedError

    def on_training_end(self, event: TrainingEnd) -> None:
        if not self._judged:
            warnings.warn(
                f"{type(self).__name__} could not stop: no evaluation was made. Pass an "
                "EvalCallback too, with every_rounds of no more than the rounds of the run",
                stacklevel=2,
            )


class StopTrainingOnRewardThreshold(_JudgesEvaluations):
    """Stop when an evaluation's mean return reaches `reward_threshold`; needs an `EvalCallback`.

    Parameters
    ----------
    reward_threshold : float
        Least mean return that stops training.
    """

    def __init__(self, reward_threshold: float) -> None:
        self.reward_threshold = reward_threshold

    def _judge(self, mean: float) -> Stop | None:
        if mean >= self.reward_threshold:
            return Stop(f"mean return {mean:g} reached the threshold {self.reward_threshold:g}")
        return None


class StopTrainingOnNoModelImprovement(_JudgesEvaluations):
    """Stop after too many evaluations in a row without a new best; needs an `EvalCallback`.

    Parameters
    ----------
    max_no_improvement_evals : int
        Evaluations in a row that may bring no improvement; the next one stops.
    min_evals : int, default 0
        Evaluations at the beginning that are not counted.
    min_delta : float, default 0.0
        A mean return is an improvement when it is more than the best one plus this.
    """

    def __init__(
        self, max_no_improvement_evals: int, min_evals: int = 0, min_delta: float = 0.0
    ) -> None:
        self.max_no_improvement_evals = max_no_improvement_evals
        self.min_evals = min_evals
        self.min_delta = min_delta
        self.best_mean = -float("inf")
        self.n_evals = 0
        self.no_improvement_evals = 0

    def _judge(self, mean: float) -> Stop | None:
        self.n_evals += 1
        if mean > self.best_mean + self.min_delta:
            self.best_mean = mean
            self.no_improvement_evals = 0
        elif self.n_evals > self.min_evals:
            self.no_improvement_evals += 1
        if self.no_improvement_evals > self.max_no_improvement_evals:
            return Stop(
                f"{self.no_improvement_evals} evaluations no better than {self.best_mean:g}"
            )
        return None


class StopTrainingOnMaxTime(Callback):
    """Stop at the end of the first round that is asked for after `seconds` of training.

    Parameters
    ----------
    seconds : float
        Counted from the start of this call of `learn`.
    every_rounds : int, default 1
        Look at the clock after so many rounds. No task ends for that: a look may be later, by the
        fraction of a second that a task takes.
    """

    ends_tasks = False

    def __init__(self, seconds: float, every_rounds: int = 1) -> None:
        self.seconds = seconds
        self.every_rounds = check_count("every_rounds", every_rounds)

    def on_round_end(self, event: RoundEnd) -> Stop | None:  # noqa: D102  (inherited)
        if event.report.wall_time >= self.seconds:
            return Stop(f"{event.report.wall_time:.1f} s reached the limit of {self.seconds:g} s")
        return None


class StopTrainingOnMaxEpisodes(Callback):
    """Stop when so many episodes have ended, as counted by `learner.n_episodes`.

    Parameters
    ----------
    max_episodes : int
        Episodes of all environments together.
    every_rounds : int, default 1
        Look at the count after each so many rounds: the learner waits for these.
    """

    def __init__(self, max_episodes: int, every_rounds: int = 1) -> None:
        self.max_episodes = max_episodes
        self.every_rounds = check_count("every_rounds", every_rounds)

    def on_round_end(self, event: RoundEnd) -> Stop | None:  # noqa: D102  (inherited)
        n_episodes = event.learner.n_episodes
        if n_episodes >= self.max_episodes:
            return Stop(f"{n_episodes} episodes reached the limit of {self.max_episodes}")
        return None
