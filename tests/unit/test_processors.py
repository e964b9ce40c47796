"""A model is the same on every processor, so that a run can go on anywhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from dqlearn import envs
from dqlearn.envs.resolve import resolve
from dqlearn.algorithms import Q_LEARNING
from dqlearn.storage.description import fingerprint_of

print(fingerprint_of(resolve(getattr(envs, sys.argv[1]).make(sys.argv[2]), None, None), Q_LEARNING))
"""

PLAIN = {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX2 FMA3"}


@pytest.mark.parametrize(
    ("family", "size"),
    [("PowerGrid", "medium"), ("PowerGrid", "large"), ("NetworkDefence", "small")],
)
def test_the_fingerprint_of_a_family(family: str, size: str) -> None:
    """Its parameters come from NumPy's linear algebra and powers, which have many versions."""
    told = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, family, size],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for more in ({}, PLAIN)
    ]
    assert "model" in told[0]
    assert told[0] == told[1]
