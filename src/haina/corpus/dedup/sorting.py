"""Rows of 64-bit words: sorted, split among partitions, and numbers packed into them.

Every record that moves between steps of the clustering is a row of one to four uint64 words, so one radix sort and one
counting split serve all of them. Both take linear time for any input: ten million equal keys cost as much as ten
million different ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.runtime.executor import Buckets, iter_blocks

Words = npt.NDArray[np.uint64]

_DIGIT_BITS = 11
NARROW_BITS, WIDE_BITS = 32, 40


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def mix(value: np.uint64) -> np.uint64:
    """A bijection of 64 bits that spreads every bit (the finaliser of MurmurHash3)."""
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def share_of(hashed: np.uint64, partitions: int) -> np.int64:
    """Which of `partitions` equal shares of all 64-bit hashes one falls into, by its high 32 bits."""
    return np.int64(((hashed >> np.uint64(32)) * np.uint64(partitions)) >> np.uint64(32))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _sort_digit(source: Words, target: Words, column: int, shift: int, counts: npt.NDArray[np.int64]) -> bool:
    """One stable pass of counting sort; False, and nothing moved, where all rows share the digit."""
    at, mask = np.uint64(shift), np.uint64(len(counts) - 1)
    counts[:] = 0
    for row in range(len(source)):
        counts[np.int64((source[row, column] >> at) & mask)] += 1
    if counts[np.int64((source[0, column] >> at) & mask)] == len(source):
        return False
    total = 0
    for digit in range(len(counts)):
        counts[digit], total = total, total + counts[digit]
    width = source.shape[1]
    for row in range(len(source)):
        value = np.int64((source[row, column] >> at) & mask)
        place = counts[value]
        counts[value] = place + 1
        for word in range(width):
            target[place, word] = source[row, word]
    return True


def sort_rows(rows: Words, bits: Sequence[tuple[int, int]]) -> Words:
    """Rows in order, by stable radix sort; `rows` may be used as scratch.

    Args:
        rows: uint64 [rows, words].
        bits: for each word, first to last in weight, the bits [low, high) that count.
    """
    if len(rows) < 2:
        return rows
    counts = np.empty(1 << _DIGIT_BITS, dtype=np.int64)
    source, target = rows, np.empty_like(rows)
    for column in reversed(range(len(bits))):
        low, high = bits[column]
        for shift in range(low, high, _DIGIT_BITS):
            digits = counts[: 1 << min(_DIGIT_BITS, high - shift)]
            if _sort_digit(source, target, column, shift, digits):
                source, target = target, source
    return source


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _split(
    rows: Words, partition: npt.NDArray[np.int64], partitions: int
) -> tuple[Words, npt.NDArray[np.int64]]:
    starts = np.zeros(partitions + 1, dtype=np.int64)
    for number in partition:
        starts[number + 1] += 1
    for number in range(partitions):
        starts[number + 1] += starts[number]
    places = starts[:-1].copy()
    out = np.empty_like(rows)
    width = rows.shape[1]
    for row in range(len(rows)):
        place = places[partition[row]]
        places[partition[row]] += 1
        for word in range(width):
            out[place, word] = rows[row, word]
    return out, starts


def send_rows(buckets: Buckets, rows: Words, partition: npt.NDArray[np.int64], first: int = 0) -> None:
    """Add each row to its partition, in order; `first` is added to partition numbers."""
    if not len(rows):
        return
    count = int(partition.max()) + 1
    sorted_rows, starts = _split(np.ascontiguousarray(rows), partition, count)
    for number in np.flatnonzero(np.diff(starts)).tolist():
        buckets.add(first + number, sorted_rows[starts[number] : starts[number + 1]])


def read_rows(files: Iterable[Any], partition: int, width: int) -> Words:
    """All rows of a partition of exchange files: uint64 [rows, width]."""
    return rows_of(bytearray().join(iter_blocks(files, partition)), width)


def rows_of(data: bytes | bytearray, width: int) -> Words:
    """Rows that lie one after the other."""
    return np.frombuffer(data, dtype="<u8").reshape(-1, width)


def pack_pairs(left: npt.NDArray[Any], right: npt.NDArray[Any], bits: int) -> Words:
    """Two numbers a row: in one word where both have 32 bits, in two beyond.

    Sorting the rows sorts by `left`, then by `right`.
    """
    if bits <= NARROW_BITS:
        return ((left.astype(np.uint64) << np.uint64(32)) | right.astype(np.uint64)).reshape(-1, 1)
    return np.column_stack([left.astype(np.uint64), right.astype(np.uint64)])


def pair_width(bits: int) -> int:
    """Words of a row of `pack_pairs`."""
    return 1 if bits <= NARROW_BITS else 2


def pair_bits(bits: int) -> list[tuple[int, int]]:
    """What `sort_rows` needs to sort rows of `pack_pairs`."""
    return [(0, 64)] if bits <= NARROW_BITS else [(0, bits), (0, bits)]


def unpack_pairs(rows: Words) -> tuple[Words, Words]:
    """`left` and `right` of rows of `pack_pairs`: uint64 [rows] each."""
    if rows.shape[1] == 1:
        return rows[:, 0] >> np.uint64(32), rows[:, 0] & np.uint64(0xFFFFFFFF)
    return rows[:, 0], rows[:, 1]


def number_type(bits: int) -> Any:
    """Smallest type for numbers of `bits` in arrays on disk."""
    return np.dtype("<u4") if bits <= NARROW_BITS else np.dtype("<u8")


def none_of(bits: int) -> int:
    """The number that stands for none in arrays of `number_type`."""
    return int(np.iinfo(number_type(bits)).max)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def make_index(keys: Words, table: npt.NDArray[np.int64]) -> None:
    """Fill a hash table of positions: open addressing, -1 where free; its length is a power of two above len(keys)."""
    mask = np.int64(len(table) - 1)
    table[:] = -1
    for position in range(len(keys)):
        slot = np.int64(mix(keys[position]) & np.uint64(mask))
        while table[slot] >= 0 and keys[table[slot]] != keys[position]:
            slot = (slot + 1) & mask
        if table[slot] < 0:
            table[slot] = position


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _find(keys: Words, table: npt.NDArray[np.int64], wanted: Words, out: npt.NDArray[np.int64]) -> None:
    mask = np.int64(len(table) - 1)
    for index in range(len(wanted)):
        slot = np.int64(mix(wanted[index]) & np.uint64(mask))
        while table[slot] >= 0 and keys[table[slot]] != wanted[index]:
            slot = (slot + 1) & mask
        out[index] = table[slot]


class Index:
    """Where a number stands in an array of numbers: 8 to 16 bytes a number, about 10 ns a look-up in cache."""

    def __init__(self, keys: npt.NDArray[Any]) -> None:
        self.keys = np.ascontiguousarray(keys, dtype=np.uint64)
        self._table = np.empty(1 << max(3, int(len(self.keys) * 3 // 2).bit_length()), dtype=np.int64)
        make_index(self.keys, self._table)

    def find(self, wanted: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """First position of each wanted number, -1 where it is not: int64 [wanted]."""
        out = np.empty(len(wanted), dtype=np.int64)
        _find(self.keys, self._table, np.ascontiguousarray(wanted, dtype=np.uint64), out)
        return out
