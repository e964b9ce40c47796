"""Atomics: what threads in compiled code need to share work: atomic numbers, addresses, a nap.

Numbers are elements of an int64 array; each operation is sequentially consistent, so what a thread
wrote before it, others see after it. Invariant: a nap gives the processor to whoever waits for it.
"""

from __future__ import annotations

import os
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from dqlearn.jit.compiled import njit

__all__ = ["NAPS", "add_atomic", "at_address", "load_atomic", "nap", "store_atomic"]

NAPS = os.name == "posix"
"""Whether threads can wait for each other here without keeping a processor busy."""

_ORDER = "seq_cst"


def _element(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Return a pointer to an element of an array, given (array, index, ...)."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return cgutils.get_item_pointer(context, builder, signature.args[0], array, [args[1]])


_intrinsic: Any = intrinsic  # numba types what it makes as functions with a context


@_intrinsic
def load_atomic(typingctx, array, index):
    """Return a number."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_element(context, builder, signature, args), _ORDER, 8)

    return types.int64(array, types.intp), codegen


@_intrinsic
def store_atomic(typingctx, array, index, value):
    """Replace a number."""

    def codegen(context, builder, signature, args):
        builder.store_atomic(args[2], _element(context, builder, signature, args), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@_intrinsic
def add_atomic(typingctx, array, index, value):
    """Add to a number; return what it was before."""

    def codegen(context, builder, signature, args):
        at = _element(context, builder, signature, args)
        return builder.atomic_rmw("add", at, args[2], _ORDER)

    return types.int64(array, types.intp, types.int64), codegen


@_intrinsic
def at_address(typingctx, address):
    """Return the pointer to an address, for `numba.carray`; whoever gives it keeps the memory."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), codegen


if NAPS:
    _yield: Any = types.ExternalFunction("sched_yield", types.int32())
    _sleep: Any = types.ExternalFunction("usleep", types.int32(types.uint32))

    @njit(nogil=True, cache=True)
    def nap(n):
        """Wait a little, the n-th time in a row; longer and longer, up to 50 microseconds."""
        if n > 200:
            _sleep(50)
        elif n > 40:
            _yield()

else:  # nobody waits: see `NAPS`

    @njit(nogil=True, cache=True)
    def nap(n):
        """Do nothing."""
