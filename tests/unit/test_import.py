"""Importing dqlearn changes nothing that belongs to others."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import copy, logging, os, signal, sys, threading, warnings

# What these do to a process when they are imported is theirs.
import click, cloudpickle, dask.array, distributed, filelock, gymnasium, icechunk, numba, psutil
import matplotlib, numpy, tqdm, xarray, zarr
import gymnasium.wrappers, scipy.special

def state():
    loggers = logging.Logger.manager.loggerDict | {"": logging.getLogger()}
    return copy.deepcopy({
        "loggers": {
            name: (logger.level, repr(logger.handlers), logger.propagate, logger.disabled)
            for name, logger in loggers.items()
            if isinstance(logger, logging.Logger) and name != "dqlearn"
        },
        "logging": (logging.root.manager.disable, logging.raiseExceptions),
        "warnings": (list(map(repr, warnings.filters)), warnings.showwarning),
        "numpy": (numpy.geterr(), numpy.geterrcall(), numpy.get_printoptions()),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "hooks": (sys.excepthook, threading.excepthook, sys.getrecursionlimit()),
        "threads": [thread.name for thread in threading.enumerate()],
        "dask": dask.config.config,
        "matplotlib": dict(matplotlib.rcParams),
        "process": (dict(os.environ), os.getcwd(), sys.path),
    })

before = state()
import dqlearn
after = state()
dqlearn_logger = logging.getLogger("dqlearn")
print({part: (before[part], after[part]) for part in before if before[part] != after[part]})
print(dqlearn_logger.level, dqlearn_logger.handlers, dqlearn_logger.propagate)
"""


def test_nothing_of_other_libraries_is_changed() -> None:
    """Loggers, warnings, NumPy, signals, hooks, Dask, matplotlib, and the process itself."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("{}\n0 [] True\n", "")
