"""Loads and stores at an address, for the kernels of this package.

A function that takes arrays counts references to each of them on every call, compiled code too, and looks for negative
indices: measured, that tripled the time of the walk. So the hot functions take addresses (`array.ctypes.data`) and
index them with these; whoever calls them keeps the arrays alive. Values are widened to signed 64 bits, because
numba makes a float of signed and unsigned 64 bits together. Little-endian machines only, as for the other kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _load(bits: int, step: int, result: Any) -> Callable[..., Any]:
    """`load(address, index)`: the value of `bits` at `address + index * step`, at any alignment."""

    @intrinsic
    def load(_context: Any, _address: Any, _index: Any) -> Any:
        def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
            address, index = arguments
            place = builder.add(address, builder.mul(index, ir.Constant(ir.IntType(64), step)))
            pointer = builder.inttoptr(place, ir.IntType(bits).as_pointer())
            value = builder.load(pointer, align=step)
            return value if bits == 64 else builder.zext(value, ir.IntType(64))

        return result(types.int64, types.int64), generate

    return load


u8 = _load(8, 1, types.int64)
u32 = _load(32, 4, types.int64)
i64 = _load(64, 8, types.int64)
u64 = _load(64, 8, types.uint64)
eight_bytes = _load(64, 1, types.uint64)  # u8 to u8 + 7, unaligned


def _store(bits: int, step: int, kind: Any) -> Callable[..., Any]:
    """`store(address, index, value)`: the counterpart of `_load`."""

    @intrinsic
    def store(_context: Any, _address: Any, _index: Any, _value: Any) -> Any:
        def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            address, index, value = arguments
            place = builder.add(address, builder.mul(index, ir.Constant(ir.IntType(64), step)))
            pointer = builder.inttoptr(place, ir.IntType(bits).as_pointer())
            builder.store(
                value if bits == 64 else builder.trunc(value, ir.IntType(bits)), pointer, align=step
            )
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, kind), generate

    return store


put_u32 = _store(32, 4, types.int64)
put_i64 = _store(64, 8, types.int64)
