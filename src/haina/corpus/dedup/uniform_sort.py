"""Sorting hashes faster than a sort that may assume nothing.

Comes in: 64-bit hashes, so about as many in each range of values of the same length. Goes out: the same, sorted.
Values are dealt into about twice as many buckets as there are values, by their highest bits; what is out of order then
is a neighbour or two away, which insertion sort settles. Where hashes repeat so often that it does not, a comparison
sort takes over.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

MOST_BITS = 14
# Moves per value that insertion may take; evenly spread values need half of one.
_PATIENCE = 8


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _bits_for(count: int) -> int:
    """Bits of a bucket number: so many that there are 1 to 2 buckets a value, MOST_BITS at most."""
    bits = 1
    while bits < MOST_BITS and (1 << bits) < count:
        bits += 1
    return bits


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _deal(
    values: npt.NDArray[np.uint64],
    target: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.int64],
    shift: np.uint64,
    mask: np.uint64,
) -> None:
    """Values into `target`, bucket by bucket; `ends[bucket]` becomes where each ends."""
    buckets = np.int64(mask) + 1
    ends[:buckets] = 0
    for value in values:
        ends[(value >> shift) & mask] += 1
    total = 0
    for bucket in range(buckets):
        size = ends[bucket]
        ends[bucket] = total
        total += size
    for value in values:
        bucket = (value >> shift) & mask
        place = ends[bucket]
        target[np.uint64(place)] = value
        ends[bucket] = place + 1


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _insert(values: npt.NDArray[np.uint64]) -> None:
    """Insertion sort in place, given up for a comparison sort when it takes too many moves."""
    moves = _PATIENCE * len(values) + 64
    highest = values[0]
    for index in range(1, len(values)):
        value = values[index]
        if value >= highest:
            highest = value
            continue
        place = index
        while place > 0 and values[place - 1] > value:
            values[place] = values[place - 1]
            place -= 1
        values[place] = value
        moves -= index - place
        if moves < 0:
            values.sort()
            return


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def sort_hashes(
    values: npt.NDArray[np.uint64], spare: npt.NDArray[np.uint64], ends: npt.NDArray[np.int64]
) -> None:
    """Sort hashes in place.

    Args:
        values: uint64 [n], evenly spread except for repeats.
        spare: room for n values.
        ends: int64 [2 * 2**MOST_BITS], scratch.
    """
    count = len(values)
    if count < 2:
        return
    bits = _bits_for(count)
    _deal(values, spare, ends, np.uint64(64 - bits), np.uint64((1 << bits) - 1))
    if count <= 1 << (MOST_BITS + 1):
        _insert(spare[:count])
        values[:] = spare[:count]
        return
    # Too many for one round: every bucket is a smaller problem, `ends` behind the first round's is free for it.
    inner = ends[1 << MOST_BITS :]
    start = 0
    for bucket in range(1 << bits):
        end = ends[bucket]
        if end > start:
            finer = min(_bits_for(end - start), 64 - bits)
            part, target = spare[start:end], values[start:end]
            _deal(part, target, inner, np.uint64(64 - bits - finer), np.uint64((1 << finer) - 1))
            _insert(target)
        start = end
