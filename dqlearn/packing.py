"""Values that are pickled once; every later copy is made from those bytes.

::

    client: value ──pickle──► (state, buffers) ──► worker: value ──► (state, buffers) ──► worker ...
                                                     │ tasks fill caches of it, and of what is in it

Dask's workers pickle values and send them on while their tasks use them: pickling an object whose
caches another thread fills may fail, as a dictionary changes size. So a process keeps the bytes
that a value came as, and sends those on. The buffers of arrays are shared with the value, so the
kept bytes cost only the memory of the rest.

Invariant: a copy of a copy equals the original, whatever was done with the copy in between.
"""

from __future__ import annotations

import pickle
from dataclasses import fields
from typing import Any

import cloudpickle

__all__ = ["PackedOnce"]

_PACKED = "_packed"


class PackedOnce:
    """Base of frozen dataclasses that are pickled once."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Return what makes a copy: the bytes that it was first pickled to, or that it came as."""
        state, *buffers = self.__dict__.get(_PACKED) or _keep(self, *_pickled(self))
        shared: Any = pickle.PickleBuffer if protocol >= 5 else bytes
        return _unpack, (type(self), state, *map(shared, buffers))


def _pickled(value: Any) -> tuple[Any, ...]:
    """Pickle the fields of a value; large buffers stay out."""
    buffers: list[pickle.PickleBuffer] = []
    state = {field.name: getattr(value, field.name) for field in fields(value)}
    return cloudpickle.dumps(state, protocol=5, buffer_callback=buffers.append), *buffers


def _keep(value: Any, *packed: Any) -> tuple[Any, ...]:
    value.__dict__[_PACKED] = packed
    return packed


def _unpack(kind: type[Any], state: bytes, *buffers: Any) -> Any:
    value: Any = object.__new__(kind)
    value.__dict__.update(pickle.loads(state, buffers=buffers))
    _keep(value, state, *buffers)
    return value
