"""What the learning of merges keeps about pairs: a table that grows, and a heap.

Both are plain arrays, so that kernels can hand them to one another. The table is open-addressed: `keys` with EMPTY
where nothing is, and arrays of the same length with what is known of each pair. The heap gives the pair that counts
most first, of equals the one with the smaller key.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
SMALLEST_TABLE = 1 << 16
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@njit(nogil=True, cache=True)
def pair_key(left: int, right: int) -> Any:
    return (np.uint64(left) << np.uint64(32)) | np.uint64(right)


@njit(nogil=True, cache=True)
def slot_of(keys: NDArray[np.uint64], key: Any) -> Any:
    """Where `key` is in the open-addressed table `keys` (a power of two), or the free place for it."""
    mask = np.uint64(len(keys) - 1)
    value = key * _MULTIPLIER
    at = (value ^ (value >> np.uint64(29))) & mask
    while keys[at] != key and keys[at] != EMPTY:
        at = (at + np.uint64(1)) & mask
    return np.int64(at)


@njit(nogil=True, cache=True)
def _comes_first(count: int, key: Any, other_count: int, other_key: Any) -> bool:
    return count > other_count or (count == other_count and key < other_key)


@njit(nogil=True, cache=True)
def push(counts: NDArray[np.int64], keys: NDArray[np.uint64], size: int, count: int, key: Any) -> Any:
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if not _comes_first(count, key, counts[parent], keys[parent]):
            break
        counts[at], keys[at] = counts[parent], keys[parent]
        at = parent
    counts[at], keys[at] = count, key
    return size + 1


@njit(nogil=True, cache=True)
def pop(counts: NDArray[np.int64], keys: NDArray[np.uint64], size: int) -> int:
    """Take the first entry off; the caller has read it."""
    size -= 1
    count, key = counts[size], keys[size]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _comes_first(counts[child + 1], keys[child + 1], counts[child], keys[child]):
            child += 1
        if not _comes_first(counts[child], keys[child], count, key):
            break
        counts[at], keys[at] = counts[child], keys[child]
        at = child
    counts[at], keys[at] = count, key
    return size


@njit(nogil=True, cache=True)
def grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    """`array` with room for `size` and a half more."""
    result = np.empty(size + size // 2 + 1024, array.dtype)
    result[: len(array)] = array
    return result


@njit(nogil=True, cache=True)
def widened(
    keys: NDArray[np.uint64],
    counts: NDArray[np.int64],
    firsts: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The table of pairs with room for as many again; pairs that ended are left behind."""
    alive = 0
    for at in range(len(keys)):
        if keys[at] != EMPTY and counts[at] > 0:
            alive += 1
    size = SMALLEST_TABLE
    while size < 4 * alive:
        size *= 2
    new_keys = np.full(size, EMPTY, np.uint64)
    new_counts = np.zeros(size, np.int64)
    new_firsts = np.zeros(size, np.int64)
    new_lengths = np.zeros(size, np.int64)
    for at in range(len(keys)):
        if keys[at] != EMPTY and counts[at] > 0:
            to = slot_of(new_keys, keys[at])
            new_keys[to], new_counts[to] = keys[at], counts[at]
            new_firsts[to], new_lengths[to] = firsts[at], lengths[at]
    return new_keys, new_counts, new_firsts, new_lengths
