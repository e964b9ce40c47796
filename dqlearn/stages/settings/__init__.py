"""The settings of a run: hyperparameters, the values chosen for them, and how these are stored."""

from dqlearn.stages.settings.chosen import Settings, check_names, checked
from dqlearn.stages.settings.hyperparameters import (
    HYPERPARAMETERS,
    Hyperparameter,
    Hyperparameters,
)
from dqlearn.stages.settings.kinds import whole_number
from dqlearn.stages.settings.stored import attributes, from_attributes, loaded

__all__ = [
    "HYPERPARAMETERS",
    "Hyperparameter",
    "Hyperparameters",
    "Settings",
    "attributes",
    "check_names",
    "checked",
    "from_attributes",
    "loaded",
    "whole_number",
]
