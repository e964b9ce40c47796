"""Compiled kernels of fused rounds: those of a model and a rule, or of a rule alone.

::

    template ─┬─ rule: target, learn, sum_up ─────────────► learn_round   Python environments
              └─ rule, and the walk of a model ───────────► work          compiled environments

Invariant: a rule and a model that are the same have one module in a process.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from dqlearn.algorithms.fields import Best
from dqlearn.algorithms.rule import Algorithm
from dqlearn.envs.tabular import TabularEnv
from dqlearn.jit.fingerprint import fingerprint
from dqlearn.jit.specialise import specialise
from dqlearn.kernels.summary import unroll
from dqlearn.kernels.update import learn_by

__all__ = ["rounds_of", "rounds_of_model"]

_TEMPLATE = Path(__file__).parents[2] / "kernels" / "templates" / "rounds_template.py"


def rounds_of(rule: Algorithm, n_actions: int) -> ModuleType:
    """Return what learns rounds of a rule from transitions that are there."""
    token = _token(rule, unroll(n_actions))
    return specialise(_TEMPLATE, {"walk": None, **_functions(rule, n_actions)}, token)


def rounds_of_model(env: TabularEnv, rule: Algorithm) -> ModuleType:
    """Return what makes rounds of a rule with a model."""
    functions = {"walk": env.kernels.walk_alone, **_functions(rule, env.n_actions)}
    return env.specialised(_TEMPLATE, functions, f"_{_token(rule, unroll(env.n_actions))}")


def _functions(rule: Algorithm, n_actions: int) -> dict[str, Callable[..., Any]]:
    fields = tuple(
        (it.score, it.value) if isinstance(it, Best) else (it.term,) for it in rule.summary
    )
    learn, sum_up = learn_by(rule.step, unroll(n_actions), fields, rule.behaviour)
    return {"target": rule.target, "learn": learn, "sum_up": sum_up}


@cache
def _token(rule: Algorithm, width: int) -> str:
    """Return a name for a rule and the number of actions that its kernels are unrolled for."""
    mark = fingerprint(rule.functions) or uuid.uuid4().hex
    return f"{mark}_{width}"
