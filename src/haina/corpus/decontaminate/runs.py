"""Runs of tokens that a range of a document shares with an item, and the stretch where most of them stand.

Comes in: tokens of a range, and the parts of an item one after the other. Goes out: matches (token of the
range, token of the item, length), in order. A run is the shortest of 3 units (three Han characters, two words);
a part shorter than that has to stand there whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.decontaminate.grams import Int64, UInt8, UInt32, gram_at

RUN_UNITS = 3
# Matches kept of one range: a page that repeats itself without end needs no more to be judged.
MOST_MATCHES = 1 << 17
Floats = npt.NDArray[np.float32]


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _chains(item: UInt32, item_units: UInt8, starts: Int64) -> tuple[Int64, Int64, Int64]:
    """Hash chains of the runs of an item: head of each slot, the next place, the length of the run at a place."""
    size = 1
    while size < 2 * len(item) + 2:
        size *= 2
    head = np.full(size, -1, dtype=np.int64)
    following = np.full(len(item), -1, dtype=np.int64)
    lengths = np.zeros(len(item), dtype=np.int64)
    # Backwards, so that a chain gives its places in ascending order.
    for part in range(len(starts) - 2, -1, -1):
        for place in range(starts[part + 1] - 1, starts[part] - 1, -1):
            value, length = gram_at(item, item_units, place, starts[part + 1], RUN_UNITS)
            if length:
                slot = value & np.uint64(size - 1)
                following[place] = head[slot]
                head[slot] = place
                lengths[place] = length
    return head, following, lengths


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _same(tokens: UInt32, at: int, high: int, item: UInt32, place: int, length: int) -> bool:
    if at + length > high:
        return False
    same = True
    for index in range(length):
        same &= tokens[at + index] == item[place + index]
    return same


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def find_matches(
    tokens: UInt32, units: UInt8, low: int, high: int, item: UInt32, item_units: UInt8, starts: Int64
) -> Int64:
    """Runs that tokens low to high share with an item: int64 [3, matches], by token of the range, then of the item.

    Args:
        tokens, units: of the batch.
        item, item_units: the parts one after the other.
        starts: where each part begins, and the end of the last.
    """
    head, following, lengths = _chains(item, item_units, starts)
    mask = np.uint64(len(head) - 1)
    briefs = np.array(
        [
            part
            for part in range(len(starts) - 1)
            if starts[part + 1] > starts[part] and lengths[starts[part]] == 0
        ],
        dtype=np.int64,
    )
    out = np.empty((3, 256), dtype=np.int64)
    count = 0
    for at in range(low, high):
        value, length = gram_at(tokens, units, at, high, RUN_UNITS)
        place = head[value & mask] if length else -1
        brief = 0
        while place >= 0 or brief < len(briefs):
            where, run = place, length
            if place >= 0:
                place = following[place]
                if lengths[where] != length:
                    continue
            else:
                where = starts[briefs[brief]]
                run = starts[briefs[brief] + 1] - where
                brief += 1
            if not _same(tokens, at, high, item, where, run):
                continue
            if count == MOST_MATCHES:
                return out[:, :count]
            if count == out.shape[1]:
                larger = np.empty((3, 2 * count), dtype=np.int64)
                larger[:, :count] = out
                out = larger
            out[0, count], out[1, count], out[2, count] = at, where, run
            count += 1
    return out[:, :count]


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def best_stretch(matches: Int64, low: int, high: int, longest: int, weights: Floats) -> tuple[int, int]:
    """First match and last + 1 of the stretch of at most `longest` tokens that covers most weight of the item's tokens
    low to high; the first of equals."""
    times = np.zeros(high - low, dtype=np.int64)
    total = best = 0.0
    first = best_first = best_last = 0
    for last in range(matches.shape[1]):
        at, where, run = matches[0, last], matches[1, last], matches[2, last]
        if where < low or where >= high:
            continue
        for index in range(where - low, where - low + run):
            if times[index] == 0:
                total += weights[low + index]
            times[index] += 1
        while first < last and at + run - matches[0, first] > longest:
            where, run_first = matches[1, first], matches[2, first]
            if low <= where < high:
                for index in range(where - low, where - low + run_first):
                    times[index] -= 1
                    if times[index] == 0:
                        total -= weights[low + index]
            first += 1
        if total > best + 1e-6:
            best, best_first, best_last = total, first, last + 1
    return best_first, best_last
