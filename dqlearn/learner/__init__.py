"""`QLearner`, and learners made from what was stored."""

from dqlearn.learner.q_learner import QLearner

__all__ = ["QLearner"]
