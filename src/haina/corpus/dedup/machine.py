"""Machine operations that numba has no name for: unaligned loads, 64 bytes compared at once, counting zero bits.

They are plain LLVM IR, which the compiler turns into whatever vector instructions the processor has; values are the
same everywhere (little-endian machines only, as all that PyTorch supports). None checks bounds: the caller does.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BLOCK = 64
# Three-byte characters decoded at once.
THREES = 16


def _pointer(context: Any, builder: Any, array: Any, args: Any, content: Any) -> Any:
    """Address of element `args[1]` of array `args[0]`, as that of a `content`."""
    data = cgutils.create_struct_proxy(array)(context, builder, value=args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), content.as_pointer())


@intrinsic
def load64(typing_context: Any, array: Any, place: Any) -> Any:
    """Eight bytes of uint8 [n] from `place` on as a uint64, the first lowest."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_pointer(context, builder, array, args, ir.IntType(64)))
        value.align = 1
        return value

    return types.uint64(array, types.int64), generate


@intrinsic
def ascii_masks(typing_context: Any, array: Any, place: Any) -> Any:
    """(letters and digits, not ASCII): uint64 masks of the 64 bytes from `place` on, the first byte lowest."""
    result = types.UniTuple(types.uint64, 2)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(8), BLOCK)

        def every(value: int) -> Any:
            return ir.Constant(vector, [value] * BLOCK)

        content = builder.load(_pointer(context, builder, array, args, vector))
        content.align = 1
        lower = builder.or_(content, every(0x20))
        letters = builder.icmp_unsigned("<", builder.sub(lower, every(ord("a"))), every(26))
        digits = builder.icmp_unsigned("<", builder.sub(content, every(ord("0"))), every(10))
        wide = builder.icmp_signed("<", content, every(0))
        masks = [builder.bitcast(mask, ir.IntType(64)) for mask in (builder.or_(letters, digits), wide)]
        return context.make_tuple(builder, result, masks)

    return result(array, types.int64), generate


@intrinsic
def decode_threes(typing_context: Any, array: Any, place: Any, most: Any, codes: Any) -> Any:
    """Code points of the three-byte characters from `place` on, up to the first of another kind, `most` or 16 of them.

    Writes 16 code points to `codes` (uint32 [16]), spaces behind those that are there, and gives how many that are.
    Overlong forms are not told apart: what is below 0x800 is none. Reads 64 bytes.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, start, limit, target = args
        narrow, vector = ir.VectorType(ir.IntType(8), BLOCK), ir.VectorType(ir.IntType(32), THREES)
        content = builder.load(_pointer(context, builder, array, [data, start], narrow))
        content.align = 1
        # Byte 64 is the first of the second operand, zero.
        picks = [3 * lane + byte if byte < 3 else BLOCK for lane in range(THREES) for byte in range(4)]
        index = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), picks)
        words = builder.bitcast(
            builder.shuffle_vector(content, ir.Constant(narrow, [0] * BLOCK), index), vector
        )

        def every(value: int) -> Any:
            return ir.Constant(vector, [value] * THREES)

        fits = builder.icmp_unsigned("==", builder.and_(words, every(0xC0C0F0)), every(0x8080E0))
        code = builder.shl(builder.and_(words, every(0xF)), every(12))
        code = builder.or_(code, builder.and_(builder.lshr(words, every(2)), every(0xFC0)))
        code = builder.or_(code, builder.and_(builder.lshr(words, every(16)), every(0x3F)))
        wide = ir.IntType(64)
        mask = builder.zext(builder.bitcast(fits, ir.IntType(THREES)), wide)
        found = builder.cttz(builder.not_(mask), ir.Constant(ir.IntType(1), 0))
        count = builder.select(builder.icmp_unsigned("<", found, limit), found, limit)
        keep = builder.sub(builder.shl(ir.Constant(wide, 1), count), ir.Constant(wide, 1))
        kept = builder.bitcast(builder.trunc(keep, ir.IntType(THREES)), ir.VectorType(ir.IntType(1), THREES))
        zero = context.get_constant(types.int64, 0)
        stored = builder.store(
            builder.select(kept, code, every(ord(" "))),
            _pointer(context, builder, codes, [target, zero], vector),
        )
        stored.align = 1
        return count

    return types.int64(array, types.int64, types.int64, codes), generate


@intrinsic
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """Zero bits below the lowest set bit of a uint64; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def leading_zeros(typing_context: Any, value: Any) -> Any:
    """Zero bits above the highest set bit of a uint64; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate
