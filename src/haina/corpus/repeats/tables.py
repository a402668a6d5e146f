"""Hash tables of repeated things: which 64-bit hashes were seen twice, and what is known of each 128-bit key.

Comes in: arrays of hashes or keys, batch by batch. Goes out: the distinct ones in the order of their first appearance,
with counts and the best occurrence of each. Open addressing over NumPy arrays that double as they fill: one pass, no
sorting, linear in what comes in, however often one key returns.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from numba import njit

EMPTY = -1
_FIRST_SLOTS = 1024
_SPREAD = 0x9E3779B97F4A7C15

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _insert_hashes(
    hashes: U64,
    again: npt.NDArray[np.bool_],
    slots: I32,
    values: U64,
    seen: npt.NDArray[np.bool_],
    count: int,
) -> int:
    """Add `hashes` to the set `values[:count]`; `seen` says which came more than once or came with `again`."""
    mask = np.uint64(len(slots) - 1)
    for index in range(len(hashes)):
        value = hashes[index]
        slot = (value * np.uint64(_SPREAD)) >> np.uint64(32) & mask
        while slots[slot] >= 0 and values[slots[slot]] != value:
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] >= 0:
            seen[slots[slot]] = True
        else:
            slots[slot] = count
            values[count] = value
            seen[count] = again[index]
            count += 1
    return count


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _refill_hashes(slots: I32, values: U64, count: int) -> None:
    mask = np.uint64(len(slots) - 1)
    for index in range(count):
        slot = (values[index] * np.uint64(_SPREAD)) >> np.uint64(32) & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = index


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def contains(value: np.uint64, slots: I32, values: U64) -> bool:
    """Whether the set holds a value."""
    mask = np.uint64(len(slots) - 1)
    slot = (value * np.uint64(_SPREAD)) >> np.uint64(32) & mask
    while slots[slot] >= 0:
        if values[slots[slot]] == value:
            return True
        slot = (slot + np.uint64(1)) & mask
    return False


def _grown(array: npt.NDArray[np.generic], room: int) -> npt.NDArray[np.generic]:
    out = np.empty(room, dtype=array.dtype)
    out[: len(array)] = array
    return out


@dataclass
class HashSet:
    """Distinct 64-bit hashes.

    Attributes:
        slots: index into `values`, or EMPTY: int32 [a power of two].
        values: in the order of first appearance: uint64 [room].
        seen: which of them came more than once: bool [room].
        count: how many there are.
    """

    slots: I32 = field(default_factory=lambda: np.full(_FIRST_SLOTS, EMPTY, dtype=np.int32))
    values: U64 = field(default_factory=lambda: np.empty(_FIRST_SLOTS // 2, dtype=np.uint64))
    seen: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(_FIRST_SLOTS // 2, dtype=np.bool_))
    count: int = 0

    def add(self, hashes: U64, again: npt.NDArray[np.bool_] | None = None) -> None:
        """Add hashes; `again` marks those that stand for more than one appearance."""
        if again is None:
            again = np.zeros(len(hashes), dtype=np.bool_)
        while self.count + len(hashes) > len(self.values):
            room = 2 * len(self.values)
            self.values, self.seen = _grown(self.values, room), _grown(self.seen, room)  # type: ignore[assignment]
            self.slots = np.full(2 * room, EMPTY, dtype=np.int32)
            if self.count + len(hashes) <= room:
                _refill_hashes(self.slots, self.values, self.count)
        self.count = _insert_hashes(hashes, again, self.slots, self.values, self.seen, self.count)


@dataclass
class Occurrences:
    """Places where keyed things stand, one a row; or keys with what is known of each.

    Attributes:
        high, low: the 128-bit key: uint64 [rows].
        route: what decides the partition; equal for equal keys: uint64 [rows].
        document: int64 [rows]; what is added must not go back to an earlier document.
        rank: of the document, smaller is better; documents of one corpus have different ranks: int64 [rows].
        position: which token of its document (units: which byte) it starts at: int64 [rows].
        start, end: UTF-8 bytes in the document: int64 [rows].
        tokens: int64 [rows].
        documents, occurrences: how many the row stands for: int64 [rows].
    """

    high: U64
    low: U64
    route: U64
    document: I64
    rank: I64
    position: I64
    start: I64
    end: I64
    tokens: I64
    documents: I64
    occurrences: I64

    def __len__(self) -> int:
        return len(self.high)


FIELDS = tuple(Occurrences.__dataclass_fields__)
WHOLE_NUMBERS = FIELDS[3:]


def no_occurrences(room: int = 0) -> Occurrences:
    """Arrays of `room` rows, not filled."""
    keys = [np.empty(room, dtype=np.uint64) for _ in range(3)]
    numbers = {name: np.empty(room, dtype=np.int64) for name in WHOLE_NUMBERS}
    return Occurrences(keys[0], keys[1], keys[2], **numbers)


(
    _HIGH, _LOW, _ROUTE, _DOCUMENT, _RANK, _POSITION, _START, _END, _TOKENS, _DOCUMENTS, _OCCURRENCES, _LAST,
) = range(12)  # fmt: skip


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _refill_keys(slots: I32, known: I64, count: int) -> None:
    mask = np.uint64(len(slots) - 1)
    for index in range(count):
        slot = np.uint64(known[index, _HIGH]) & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = index


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _find(high: U64, low: U64, slots: I32, known: I64) -> I64:
    mask = np.uint64(len(slots) - 1)
    found = np.empty(len(high), dtype=np.int64)
    for index in range(len(high)):
        slot = high[index] & mask
        while slots[slot] >= 0:
            row = slots[slot]
            if known[row, _HIGH] == np.int64(high[index]) and known[row, _LOW] == np.int64(low[index]):
                break
            slot = (slot + np.uint64(1)) & mask
        found[index] = slots[slot]
    return found


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _group(
    slots: I32, count: int, known: I64, high: U64, low: U64, route: U64, document: I64, rank: I64, position: I64,
    start: I64, end: I64, tokens: I64, documents: I64, occurrences: I64,
) -> int:  # fmt: skip
    mask = np.uint64(len(slots) - 1)
    for index in range(len(high)):
        left, right = np.int64(high[index]), np.int64(low[index])
        slot = high[index] & mask
        while slots[slot] >= 0 and (known[slots[slot], _HIGH] != left or known[slots[slot], _LOW] != right):
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] < 0:
            row = known[count]
            slots[slot] = count
            count += 1
            row[_HIGH], row[_LOW], row[_ROUTE] = left, right, np.int64(route[index])
            row[_DOCUMENTS] = documents[index]
            row[_OCCURRENCES] = occurrences[index]
            better = True
        else:
            row = known[slots[slot]]
            if row[_LAST] != document[index]:
                row[_DOCUMENTS] += documents[index]
            row[_OCCURRENCES] += occurrences[index]
            better = rank[index] < row[_RANK] or (
                rank[index] == row[_RANK] and position[index] < row[_POSITION]
            )
        row[_LAST] = document[index]
        if better:
            row[_DOCUMENT], row[_RANK] = document[index], rank[index]
            row[_POSITION], row[_START] = position[index], start[index]
            row[_END], row[_TOKENS] = end[index], tokens[index]
    return count


@dataclass
class KeyTable:
    """Distinct 128-bit keys, each with its counts and its best occurrence.

    Attributes:
        slots: index into `known`, or EMPTY: int32 [a power of two].
        known: one row a key, in the order of first appearance: the fields of `Occurrences`, then the document of the
            latest one: int64 [room, 12]. A row is together in memory, since rows are met in no order.
        count: how many keys there are.
    """

    slots: I32 = field(default_factory=lambda: np.full(_FIRST_SLOTS, EMPTY, dtype=np.int32))
    known: I64 = field(default_factory=lambda: np.empty((_FIRST_SLOTS // 2, _LAST + 1), dtype=np.int64))
    count: int = 0

    def add(self, rows: Occurrences) -> None:
        """Count more occurrences."""
        room = len(self.known)
        if self.count + len(rows) > room:
            while self.count + len(rows) > room:
                room *= 2
            known = np.empty((room, _LAST + 1), dtype=np.int64)
            known[: self.count] = self.known[: self.count]
            self.known = known
            self.slots = np.full(2 * room, EMPTY, dtype=np.int32)
            _refill_keys(self.slots, self.known, self.count)
        self.count = _group(
            self.slots,
            self.count,
            self.known,
            *(getattr(rows, name) for name in FIELDS),
        )

    def rows(self) -> Occurrences:
        """What is known: document, rank, position, start, end and tokens are those of the best occurrence, the one of
        smallest (rank, position). The arrays are views."""
        known = self.known[: self.count]
        keys = known.view(np.uint64)
        numbers = {name: known[:, 3 + place] for place, name in enumerate(WHOLE_NUMBERS)}
        return Occurrences(keys[:, _HIGH], keys[:, _LOW], keys[:, _ROUTE], **numbers)

    def find(self, high: U64, low: U64) -> I64:
        """Index of each key in `rows`, EMPTY where it is unknown: int64 [keys]."""
        return _find(high, low, self.slots, self.known)
