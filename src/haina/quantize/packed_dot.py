"""Matrix products on INT4 weights that stay packed: the CPU kernel for decoding, compiled by numba.

Decoding is one row of activations against every weight, and the time goes into unpacking. Here activations
are rounded to 16-bit integers, one scale per group, so that the inner loop is an integer dot product of 4-bit
with 16-bit numbers: LLVM turns it into one multiply-add instruction (`vpmaddwd`) for 16 products where floats
need a conversion and eight. The rounding moves a result by some 1e-5 of its size, far below bfloat16's 4e-3,
and integer sums are the same in any order, so machines agree.

Layout (`to_halves`): inside a group of g weights, byte j holds weight j in its low and weight j + g/2 in its
high half. Both halves then meet activations that lie side by side.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numba
import numpy as np
import torch
from torch import Tensor

# Below this many weights, handing rows to other threads costs more than it saves.
_PARALLEL_WEIGHTS = 1 << 20
_FULL_SCALE = np.float32(32767)
_LOW = np.uint8(15)
_FOUR = np.uint8(4)
_EIGHT = np.int8(8)


def to_halves(values: Tensor, group_size: int) -> np.ndarray:
    """int8 [out, in] in -8..7 to this file's layout: uint8 [out, in / 2]."""
    rows, columns = values.shape
    nibbles = (values + 8).to(torch.uint8).view(rows, columns // group_size, 2, group_size // 2)
    return (nibbles[:, :, 0] | (nibbles[:, :, 1] << 4)).reshape(rows, columns // 2).numpy()


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _round_activations(row, group_size, rounded, scales, offsets):  # type: ignore[no-untyped-def]
    """float32 [in] to int16 [in] and float32 scales [groups]; offsets int32 [groups]: 8 * sum of the
    group."""
    for group in range(scales.shape[0]):
        start = group * group_size
        largest = np.float32(0)
        taint = np.float32(0)
        for place in range(start, start + group_size):
            largest = max(largest, abs(row[place]))
            # NaN as soon as one activation is not finite, so that the result shows it.
            taint += row[place] * np.float32(0)
        scales[group] = largest / _FULL_SCALE + taint
        inverse = _FULL_SCALE / largest if largest > 0 else np.float32(0)
        total = np.int32(0)
        for place in range(start, start + group_size):
            value = np.int16(np.rint(row[place] * inverse))
            rounded[place] = value
            total = np.int32(total + value)
        offsets[group] = np.int32(8 * total)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _dot_rows(halves, weight_scales, activations, out, span):  # type: ignore[no-untyped-def]
    """out[batch, first:last]. halves: uint8 [out, in / 2]; rounded: int16 [batch, in]; scales, offsets:
    [batch, groups]."""
    rounded, scales, offsets = activations
    first, last = span
    groups = weight_scales.shape[1]
    half = halves.shape[1] // groups
    for row in range(first, last):
        for item in range(rounded.shape[0]):
            total = np.float32(0)
            for group in range(groups):
                packed = halves[row, group * half : (group + 1) * half]
                low = rounded[item, 2 * group * half : (2 * group + 1) * half]
                high = rounded[item, (2 * group + 1) * half : (2 * group + 2) * half]
                # int32 at every step, or numba widens to int64 and LLVM no longer sees a 16-bit multiply-add.
                sum_ = np.int32(0)
                for place in range(half):
                    byte = packed[place]
                    sum_ = np.int32(
                        sum_
                        + np.int32(np.int32(byte & _LOW) * np.int32(low[place]))
                        + np.int32(np.int32(byte >> _FOUR) * np.int32(high[place]))
                    )
                # Stored nibbles are value + 8, hence the offset.
                total += (
                    weight_scales[row, group] * scales[item, group] * np.float32(sum_ - offsets[item, group])
                )
            out[item, row] = total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _expand_rows(halves, weight_scales, out, first):  # type: ignore[no-untyped-def]
    """Dequantised float32 weights of rows first .. first + len(out)."""
    groups = weight_scales.shape[1]
    half = halves.shape[1] // groups
    for index in range(out.shape[0]):
        for group in range(groups):
            scale = weight_scales[first + index, group]
            packed = halves[first + index, group * half : (group + 1) * half]
            low = out[index, 2 * group * half : (2 * group + 1) * half]
            high = out[index, (2 * group + 1) * half : (2 * group + 2) * half]
            for place in range(half):
                byte = packed[place]
                low[place] = np.float32(np.int8(byte & _LOW) - _EIGHT) * scale
                high[place] = np.float32(np.int8(byte >> _FOUR) - _EIGHT) * scale


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    # Threads of our own: numba's default threading layer aborts the process when two threads enter it at
    # once.
    return ThreadPoolExecutor(count, thread_name_prefix="haina-int4")


def packed_dot(halves: np.ndarray, weight_scales: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """inputs @ weights.T without unpacking the weights to memory.

    Args:
        halves: uint8 [out, in / 2], of `to_halves`.
        weight_scales: float32 [out, groups].
        inputs: float32 [batch, in], contiguous; meant for a few rows.

    Returns:
        float32 [batch, out]; the same bits for any number of threads.
    """
    batch, width = inputs.shape
    rows, groups = weight_scales.shape
    rounded = np.empty((batch, width), dtype=np.int16)
    scales = np.empty((batch, groups), dtype=np.float32)
    offsets = np.empty((batch, groups), dtype=np.int32)
    for item in range(batch):
        _round_activations(inputs[item], width // groups, rounded[item], scales[item], offsets[item])
    activations = (rounded, scales, offsets)
    out = np.empty((batch, rows), dtype=np.float32)
    threads = torch.get_num_threads() if rows * width >= _PARALLEL_WEIGHTS else 1
    if threads == 1:
        _dot_rows(halves, weight_scales, activations, out, (0, rows))
        return out
    borders = [rows * part // threads for part in range(threads + 1)]
    waiting = [
        _threads(threads).submit(_dot_rows, halves, weight_scales, activations, out, span)
        for span in pairwise(borders[1:])
    ]
    _dot_rows(halves, weight_scales, activations, out, (0, borders[1]))
    for future in waiting:
        future.result()
    return out


def expand(halves: np.ndarray, weight_scales: np.ndarray, first: int, last: int) -> np.ndarray:
    """Dequantised weights of rows first .. last: float32 [last - first, in]."""
    out = np.empty((last - first, 2 * halves.shape[1]), dtype=np.float32)
    _expand_rows(halves, weight_scales, out, first)
    return out
