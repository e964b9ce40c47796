from . import (
    algorithms,
    callbacks,
    envs,
    errors,
    events,
    exact,
    random,
    runs,
    schedules,
    spaces,
    testing,
)
from .algorithms.federated import Federated
from .certificates.certificate import Certificate
from .certificates.certify import certify
from .certificates.estimate import ResidualEstimate, estimate_residual
from .envs.tabular import TabularEnv
from .errors import DQLearnError
from .learner.q_learner import QLearner
from .learner.reopen import load, resume
from .policy.decision import Decision, TableVersion
from .policy.policy import Policy
from .stages.evaluation import EvaluationResult
from .stages.observed.outcome import Observed
from .stages.reference_policy import evaluate_policy
from .storage.reading import open_history, open_table
from .table.history import learning_curve
from .table.views.arrays import Table
from .table.views.axes import unfold
from .table.views.sparse import SparseTable
from .training.every import Every

__version__: str
__all__ = [
    "Certificate",
    "DQLearnError",
    "Decision",
    "EvaluationResult",
    "Every",
    "Federated",
    "Observed",
    "Policy",
    "QLearner",
    "ResidualEstimate",
    "SparseTable",
    "Table",
    "TableVersion",
    "TabularEnv",
    "algorithms",
    "callbacks",
    "certify",
    "envs",
    "errors",
    "estimate_residual",
    "evaluate_policy",
    "events",
    "exact",
    "learning_curve",
    "load",
    "open_history",
    "open_table",
    "random",
    "resume",
    "runs",
    "schedules",
    "spaces",
    "testing",
    "unfold",
]
