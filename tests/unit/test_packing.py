"""What is pickled once is sent on as it was, whatever is done with it where it comes by."""

from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass, replace
from typing import Any

import cloudpickle
import numpy as np
import numpy.typing as npt
import pytest

from dqlearn.packing import PackedOnce


@dataclass(frozen=True)
class Box(PackedOnce):
    """Something to send."""

    values: npt.NDArray[np.float64]
    notes: dict[str, Any]


def sent(box: Box, protocol: int, apart: bool) -> Box:
    """Send it, with the bytes of arrays among the others or apart."""
    buffers: list[pickle.PickleBuffer] = []
    told = buffers.append if apart else None
    data = pickle.dumps(box, protocol=protocol, buffer_callback=told)
    copies = [bytearray(buffer.raw()) for buffer in buffers]
    return pickle.loads(data, buffers=copies)


@pytest.mark.parametrize(("protocol", "apart"), [(5, True), (5, False), (4, False)])
def test_a_copy_of_a_copy(protocol: int, apart: bool) -> None:
    """Caches, and an object that changes while it is used, do not come along."""
    box = Box(np.arange(5.0), {"calls": 0, "inner": lambda: 3})
    box.notes["calls"] = 1
    first = sent(box, protocol, apart)
    first.notes["calls"] = 2
    first.__dict__["cache"] = "filled"
    second = sent(first, protocol, apart)
    assert second.notes["calls"] == 1
    assert second.notes["inner"]() == 3
    assert "cache" not in second.__dict__
    np.testing.assert_array_equal(second.values, box.values)


def test_another_value_is_packed_anew() -> None:
    box = Box(np.zeros(2), {"n": 1})
    pickle.dumps(box)
    other = pickle.loads(pickle.dumps(replace(box, notes={"n": 2})))
    assert other.notes == {"n": 2}


def test_it_is_used_while_it_is_sent() -> None:
    """What holds a lock, say, cannot be pickled; it is not asked to be."""
    first = pickle.loads(cloudpickle.dumps(Box(np.zeros(2), {"n": 1})))
    first.notes["lock"] = threading.Lock()
    assert pickle.loads(pickle.dumps(first)).notes == {"n": 1}
