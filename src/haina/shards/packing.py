"""Best-fit decreasing: sizes of documents in, the row of each out.

The longest document first, each goes to the row whose remaining room fits it most closely, or opens a new one
(Johnson 1974; for language models: Ding et al. 2024, arXiv 2404.10830). The room of a row is a whole number up to the
length of a row, so rows stand in stacks by room, and a bitmap of two levels finds the smallest stack that fits: a
document costs a few operations, however many rows there are. `plain_best_fit` is the same in seven lines.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_ONE, _ALL = np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)


def plain_best_fit(sizes: list[int], room: int) -> list[int]:
    """`best_fit`, written plainly; of rows with the same room the one that came to it last is taken."""
    result = [0] * len(sizes)
    stacks: list[list[int]] = [[] for _ in range(room + 1)]
    rows = 0
    for item in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        fitting = next((left for left in range(sizes[item], room + 1) if stacks[left]), None)
        row, left = (rows, room) if fitting is None else (stacks[fitting].pop(), fitting)
        rows += fitting is None
        result[item] = row
        stacks[left - sizes[item]].append(row)
    return result


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _lowest_bit(word: np.uint64) -> int:
    """Number of the lowest bit of a word that is not 0."""
    place, width = 0, 32
    while width:
        if word & ((_ONE << np.uint64(width)) - _ONE) == 0:
            word >>= np.uint64(width)
            place += width
        width >>= 1
    return place


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _first_from(words: NDArray[np.uint64], upper: NDArray[np.uint64], start: int) -> int:
    """Smallest number >= start that is set, or -1; bit w of `upper` says that `words[w]` is not 0."""
    word = start >> 6
    found = words[word] & (_ALL << np.uint64(start & 63))
    if found != 0:
        return (word << 6) + _lowest_bit(found)
    word += 1
    above = word >> 6
    if above >= len(upper):
        return -1
    found = upper[above] & (_ALL << np.uint64(word & 63))
    while found == 0:
        above += 1
        if above == len(upper):
            return -1
        found = upper[above]
    word = (above << 6) + _lowest_bit(found)
    return (word << 6) + _lowest_bit(words[word])


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def best_fit(sizes: NDArray[np.int32], room: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Rows for documents.

    Args:
        sizes: int32 [documents], each 1 to `room`.
        room: length of a row.

    Returns:
        rows: int32 [documents], the row of each, counted from 0 in the order in which rows are opened.
        left: int32 [rows], what remains free in each.
    """
    count = len(sizes)
    # Counting sort, longest first; among equals the order that they came in.
    starts = np.zeros(room + 2, np.int64)
    for number in range(count):
        starts[room - sizes[number] + 1] += 1
    for place in range(room + 1):
        starts[place + 1] += starts[place]
    order = np.empty(count, np.int32)
    for number in range(count):
        key = room - sizes[number]
        order[starts[key]] = number
        starts[key] += 1

    rows = np.empty(count, np.int32)
    left = np.empty(count, np.int32)
    below = np.empty(count, np.int32)
    top = np.full(room + 1, -1, np.int32)
    words = np.zeros((room >> 6) + 1, np.uint64)
    upper = np.zeros((len(words) >> 6) + 1, np.uint64)
    opened = 0
    for item in order:
        size = sizes[item]
        fitting = _first_from(words, upper, size)
        if fitting < 0:
            row = opened
            opened += 1
            remaining = room - size
        else:
            row = int(top[fitting])
            top[fitting] = below[row]
            if top[fitting] < 0:
                word = fitting >> 6
                words[word] &= ~(_ONE << np.uint64(fitting & 63))
                if words[word] == 0:
                    upper[word >> 6] &= ~(_ONE << np.uint64(word & 63))
            remaining = fitting - size
        rows[item] = row
        left[row] = remaining
        if remaining > 0:
            below[row] = top[remaining]
            top[remaining] = row
            word = remaining >> 6
            words[word] |= _ONE << np.uint64(remaining & 63)
            upper[word >> 6] |= _ONE << np.uint64(word & 63)
    return rows, left[:opened].copy()


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def group_by_row(
    rows: NDArray[np.int32], chosen: NDArray[np.int32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Items of the chosen rows, row by row, in the order that they came in.

    Args:
        rows: int32 [items], the row of each.
        chosen: int32 [all rows], new number of a row, -1 where it is not chosen.
        count: chosen rows.

    Returns:
        items: int64 [items of chosen rows].
        sizes: int64 [count], items of each.
    """
    starts = np.zeros(count + 1, np.int64)
    for row in rows:
        if chosen[row] >= 0:
            starts[chosen[row] + 1] += 1
    sizes = starts[1:].copy()
    for row in range(count):
        starts[row + 1] += starts[row]
    items = np.empty(starts[count], np.int64)
    for item in range(len(rows)):
        row = chosen[rows[item]]
        if row >= 0:
            items[starts[row]] = item
            starts[row] += 1
    return items, sizes
