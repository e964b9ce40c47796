"""Callbacks: who is told what and when, and what their answers do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dqlearn
from dqlearn.callbacks import (
    Callback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    Stop,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnMaxTime,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
    as_callbacks,
)
from dqlearn.errors import ConfigurationError
from dqlearn.events import (
    Checkpoint,
    Evaluation,
    Event,
    RoundEnd,
    RoundReport,
    TrainingEnd,
    TrainingStart,
)
from dqlearn.table.history import History


@dataclass(frozen=True)
class Result:
    """An evaluation's result."""

    mean: float
    standard_error: float = 0.0
    n_episodes: int = 1


@dataclass(eq=False)
class ScriptedLearner:
    """The loop of a learner without the learning: rounds of 10 transitions with 3 episodes each.

    Its n-th evaluation has the n-th of `means`.
    """

    callback: Any
    means: Sequence[float] = ()
    history: History = field(default_factory=History)
    asked: list[dict[str, Any]] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)

    @property
    def n_episodes(self) -> int:
        """Episodes of all rounds."""
        return self.history.n_episodes

    def evaluate(self, n_episodes: int, seed: int | None) -> Result:
        """Return the next of the results."""
        self.asked.append({"n_episodes": n_episodes, "seed": seed})
        return Result(self.means[len(self.asked) - 1], n_episodes=n_episodes)

    def save(self, path: str) -> None:
        """Write the path down."""
        self.saved.append(path)

    def emit(self, event: Event) -> Stop | None:
        """Give an event to the callbacks."""
        return self.callbacks.dispatch(event)

    def learn(self, n_rounds: int) -> tuple[int, Stop | None]:
        """Return the number of rounds made, and why it ended before `n_rounds`."""
        self.callbacks = as_callbacks(self.callback)
        for round in range(n_rounds):
            event = self.make(round)
            if self.callbacks.due(round):
                self.waits.append(round)
                if stop := self.emit(event):
                    return round + 1, stop
        return n_rounds, None

    def make(self, round: int) -> RoundEnd:
        """Make a round."""
        report = RoundReport(
            round=round,
            timesteps=10 * (round + 1),
            n_transitions=10,
            epsilon=0.5,
            learning_rate=0.1,
            n_episodes=3,
            return_sum=3.0,
            return_sq_sum=3.0,
            length_sum=9,
            return_min=1.0,
            return_max=1.0,
            td_abs_sum=1.0,
            wall_time=0.5 * (round + 1),
        )
        self.history.append(report)
        return RoundEnd(self, report)  # type: ignore[arg-type]


class Recorder(Callback):
    """Writes down every event and gives one fixed answer."""

    def __init__(self, every_rounds: int | None = 1, answer: Stop | None = None) -> None:
        self.every_rounds = every_rounds
        self.answer = answer
        self.events: list[Event] = []

    def record(self, event: Event) -> Stop | None:
        """Write the event down."""
        self.events.append(event)
        return self.answer

    on_training_start = on_round_end = on_evaluation = on_checkpoint = on_training_end = record

    @property
    def rounds(self) -> list[int]:
        """The rounds whose end was announced."""
        return [event.report.round for event in self.events if isinstance(event, RoundEnd)]


def events() -> list[Event]:
    """Return one event of each kind."""
    learner: Any = ScriptedLearner(None)
    return [
        TrainingStart(learner, 100),
        learner.make(0),
        Evaluation(learner, 1, 10, Result(1.0)),
        Checkpoint(learner, 1, 10, "q.zarr"),
        TrainingEnd(learner, "all timesteps made", 1.0),
    ]


METHODS = [
    "on_training_start",
    "on_round_end",
    "on_evaluation",
    "on_checkpoint",
    "on_training_end",
]


@pytest.mark.parametrize(("index", "method"), list(enumerate(METHODS)))
def test_each_event_has_its_method(index: int, method: str) -> None:
    """An event reaches the method named after it, and no other."""
    heard: list[Event] = []
    listener = type("Listener", (Callback,), {method: lambda self, event: heard.append(event)})()
    callbacks = as_callbacks(listener)
    told = events()
    for event in told:
        assert callbacks.dispatch(event) is None
    assert heard == [told[index]]


def test_base_callback_goes_on() -> None:
    """A callback without methods of its own answers None to everything."""
    callbacks = as_callbacks(Callback())
    assert [callbacks.dispatch(event) for event in events()] == [None] * 5


def test_first_stop_wins_and_all_are_told() -> None:
    """Callbacks are called in order; a Stop keeps no event from those behind."""
    recorders = [Recorder(), Recorder(answer=Stop("b")), Recorder(answer=Stop("c"))]
    callbacks = as_callbacks(recorders)
    told = events()
    for event in told:
        assert callbacks.dispatch(event) == Stop("b")
    assert [recorder.events for recorder in recorders] == [told] * 3


@given(st.lists(st.none() | st.integers(1, 7), max_size=4))
def test_every_rounds(periods: list[int | None]) -> None:
    """Each callback hears of its own rounds only, and only for these is there a wait."""
    recorders = [Recorder(every_rounds=period) for period in periods]
    learner = ScriptedLearner(recorders)
    learner.learn(20)
    expected = [list(range(p - 1, 20, p)) if p else [] for p in periods]
    assert [recorder.rounds for recorder in recorders] == expected
    assert learner.waits == sorted(set().union(*expected))


def test_rounds_made_again_are_not_announced_again() -> None:
    """A run that goes back from round 4 to round 2 tells 0, 1, 2, 3, 4, 5 once each."""
    recorder = Recorder()
    learner = ScriptedLearner(recorder)
    learner.learn(5)
    learner.history.truncate(2)
    for round in (2, 3, 4, 5):
        assert learner.callbacks.due(round) == (round == 5)
        learner.emit(learner.make(round))
    assert recorder.rounds == [0, 1, 2, 3, 4, 5]


def test_as_callbacks_accepts() -> None:
    """None, one, many, functions, a list within; in order."""
    first, second = Recorder(), Recorder()
    heard: list[int] = []

    def function(event: RoundEnd) -> None:
        heard.append(event.report.round)

    assert as_callbacks(None).callbacks == ()
    assert not as_callbacks(None).due(0)
    assert as_callbacks(first).callbacks == (first,)
    nested = as_callbacks([first, CallbackList([second]), function])
    assert nested.callbacks[:2] == (first, second)
    ScriptedLearner(nested).learn(3)
    assert heard == first.rounds == second.rounds == [0, 1, 2]


def test_function_may_stop() -> None:
    """A plain function's Stop ends learning."""
    learner = ScriptedLearner(lambda event: Stop("enough") if event.report.round == 3 else None)
    assert learner.learn(10) == (4, Stop("enough"))


@pytest.mark.parametrize("callback", [3, "callback", Callback, [None, Recorder], [Recorder(), 1.5]])
def test_as_callbacks_refuses(callback: Any) -> None:
    """Neither numbers nor classes are callbacks."""
    with pytest.raises(ConfigurationError, match="expected a Callback"):
        as_callbacks(callback)


@pytest.mark.parametrize("answer", [False, True, "stop", 0])
def test_answers_other_than_none_and_stop_are_errors(answer: Any) -> None:
    """False means stop in some libraries; here it would be a silent no."""
    with pytest.raises(ConfigurationError, match=r"must return None.*Stop\(reason\)"):
        ScriptedLearner(lambda event: answer).learn(1)


@pytest.mark.parametrize("period", [0, -1, 1.5, "10"])
def test_every_rounds_refuses(period: Any) -> None:
    """A period is a positive int, also in a user's own callback."""
    with pytest.raises(ConfigurationError, match="every_rounds"):
        as_callbacks(Recorder(every_rounds=period))
    with pytest.raises(ConfigurationError, match="every_rounds"):
        EvalCallback(period)
    with pytest.raises(ConfigurationError, match="every_rounds"):
        CheckpointCallback(period, "tables")


def test_eval_callback() -> None:
    """Evaluates every second round, tells everybody, and remembers."""
    evaluate, recorder = EvalCallback(2, n_eval_episodes=7, seed=5), Recorder(every_rounds=None)
    assert evaluate.best is None
    learner = ScriptedLearner([recorder, evaluate], means=[1.0, 3.0, 3.0])
    learner.learn(7)
    assert learner.asked == [{"n_episodes": 7, "seed": 5}] * 3
    told = [(e.round, e.timesteps, e.result.mean) for e in evaluate.results]
    assert told == [(2, 20, 1.0), (4, 40, 3.0), (6, 60, 3.0)]
    assert recorder.events == evaluate.results
    assert evaluate.best is evaluate.results[1]


@pytest.mark.parametrize("folder", ["tables", "tables/", "s3://bucket/tables"])
def test_checkpoint_callback(folder: str) -> None:
    """Saves Q_3 and Q_6 under their names, then tells everybody."""
    recorder = Recorder(every_rounds=None)
    learner = ScriptedLearner([recorder, CheckpointCallback(3, folder)])
    learner.learn(8)
    paths = [f"{folder.rstrip('/')}/round-0000000{n}.zarr" for n in (3, 6)]
    assert learner.saved == paths
    assert recorder.events == [
        Checkpoint(learner, 3, 30, paths[0]),  # type: ignore[arg-type]
        Checkpoint(learner, 6, 60, paths[1]),  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("make", [lambda: EvalCallback(1), lambda: CheckpointCallback(1, "tables")])
def test_stop_from_an_event_within_an_event(make: Any) -> None:
    """A Stop that answers an Evaluation or a Checkpoint ends learning."""
    learner = ScriptedLearner([make(), Recorder(None, Stop("seen"))], means=[0.0])
    assert learner.learn(10) == (1, Stop("seen"))


@pytest.mark.parametrize(
    ("callback", "n_rounds"),
    [
        # 0.5 s and 3 episodes a round; an evaluation each round: 1, 2, 2, 2.5, 2, 2.4, 2.6, 2, ...
        (StopTrainingOnMaxTime(2.0), 4),
        (StopTrainingOnMaxTime(2.1), 5),
        (StopTrainingOnMaxTime(2.1, every_rounds=4), 8),
        (StopTrainingOnMaxTime(1e9), 12),
        (StopTrainingOnMaxEpisodes(9), 3),
        (StopTrainingOnMaxEpisodes(10), 4),
        (StopTrainingOnMaxEpisodes(10, every_rounds=5), 5),
        (StopTrainingOnRewardThreshold(2.5), 4),
        (StopTrainingOnRewardThreshold(2.55), 7),
        (StopTrainingOnRewardThreshold(2.7), 12),
        (StopTrainingOnNoModelImprovement(0), 3),
        (StopTrainingOnNoModelImprovement(1), 6),
        (StopTrainingOnNoModelImprovement(2), 10),
        (StopTrainingOnNoModelImprovement(1, min_delta=0.5), 4),
        (StopTrainingOnNoModelImprovement(0, min_evals=3), 5),
        (StopTrainingOnNoModelImprovement(9), 12),
    ],
)
def test_stop_conditions(callback: Callback, n_rounds: int) -> None:
    """Each condition stops after the round worked out by hand, or not at all in 12."""
    means = [1.0, 2.0, 2.0, 2.5, 2.0, 2.4, 2.6] + [2.0] * 5
    made, stop = ScriptedLearner([EvalCallback(1), callback], means).learn(12)
    assert made == n_rounds
    assert (stop is None) == (n_rounds == 12)


@pytest.mark.parametrize("kind", [StopTrainingOnRewardThreshold, StopTrainingOnNoModelImprovement])
def test_listeners_cost_no_wait(kind: Any) -> None:
    """What listens to evaluations only never makes the learner wait."""
    learner = ScriptedLearner(kind(5))
    learner.learn(10)
    assert learner.waits == []


def test_undefined_mean_reaches_no_threshold() -> None:
    """NaN is no success."""
    learner = ScriptedLearner(
        [EvalCallback(1), StopTrainingOnRewardThreshold(-1e9)], means=[float("nan")]
    )
    assert learner.learn(1) == (1, None)


@pytest.mark.parametrize("kind", [StopTrainingOnRewardThreshold, StopTrainingOnNoModelImprovement])
def test_a_judge_without_anything_to_judge_says_so(kind: Any) -> None:
    """Without an EvalCallback it would never stop, in silence."""
    learner = dqlearn.QLearner("FrozenLake-v1", num_envs=4, shards=1, steps_per_round=4, seed=0)
    with pytest.warns(UserWarning, match=f"{kind.__name__} could not stop: no evaluation was made"):
        learner.learn(64, callback=kind(5))
    learner.learn(128, callback=[EvalCallback(1, n_eval_episodes=1), kind(5)])
