"""Tables that the encoder walks, built from the merges in a fraction of a second.

Comes in: the two parts of each piece. Goes out: `Tables`: the trie of trie.py, the bits of borders.py, and a hash table
from a pair of pieces to the piece that they merge into. Here is also how two pieces are compared with it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.runtime.bpe.borders import NEVER, border_bits
from haina.runtime.bpe.memory import i64, u8, u32
from haina.runtime.bpe.rules import BYTES, MAX_PIECE_BYTES, Merges
from haina.runtime.bpe.trie import build_trie

ENDS, BEGINS, STOPS, SHORTER = range(4)
_NUMBER_BITS = 20
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: multiplicative hashing, Knuth vol. 3, 6.4


class Tables(NamedTuple):
    """What `kernel.py` reads. A piece is packed with its length: `number << 11 | bytes`, 0 for none."""

    left: npt.NDArray[np.int32]  # [pieces] first part, -1 for bytes
    right: npt.NDArray[np.int32]  # [pieces] second part
    slots: npt.NDArray[np.uint64]  # [slots] trie: longest piece on the way (packed) << 32 | base << 9 | label
    pairs: npt.NDArray[np.int64]  # [power of two] first << 40 | second << 20 | merged, 0 for empty
    filter: npt.NDArray[np.uint8]  # bits: a pair whose bit is 0 is not in `pairs`
    # [pieces, 4] what is asked of a piece in turn, side by side so that it comes from memory at once: the bits of
    # borders.py, and the longest piece that is a shorter prefix of this one, packed. Columns: ENDS to SHORTER.
    rows: npt.NDArray[np.uint64]


class Addresses(NamedTuple):
    """Where the arrays of `Tables` lie, for functions that must not count references (memory.py)."""

    left: int
    right: int
    slots: int
    pairs: int
    filter: int
    rows: int
    pairs_mask: int  # entries of `pairs`, less one
    filter_mask: int  # bits of `filter`, less one


def addresses(tables: Tables) -> Addresses:
    """Good for as long as `tables` lives."""
    masks = len(tables.pairs) - 1, 8 * len(tables.filter) - 1
    return Addresses._make([*(array.ctypes.data for array in tables), *masks])


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _spell(
    left: npt.NDArray[np.int32], right: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """Bytes of all pieces, one behind the other; `offsets` [pieces + 1] is known."""
    data = np.empty(offsets[-1], np.uint8)
    for piece in range(len(left)):
        place = offsets[piece]
        if piece < BYTES:
            data[place] = piece
            continue
        for part in (left[piece], right[piece]):
            size = offsets[part + 1] - offsets[part]
            data[place : place + size] = data[offsets[part] : offsets[part] + size]
            place += size
    return data


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _lengths(left: npt.NDArray[np.int32], right: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    lengths = np.ones(len(left), np.int64)
    for piece in range(BYTES, len(left)):
        lengths[piece] = min(lengths[left[piece]] + lengths[right[piece]], MAX_PIECE_BYTES + 1)
    return lengths


@njit(nogil=True, cache=True, forceinline=True)  # pragma: no cover - compiled
def _hashed(key: int) -> Any:
    """24 bits, int64: the table and the filter take the lower ones."""
    return np.int64((np.uint64(key) * _MIX) >> np.uint64(40))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _pair_table(
    left: npt.NDArray[np.int32],
    right: npt.NDArray[np.int32],
    pairs: npt.NDArray[np.int64],
    bits: npt.NDArray[np.uint8],
) -> None:
    """Fill `pairs` and the filter `bits`, both powers of two in length."""
    for piece in range(BYTES, len(left)):
        key = (np.int64(left[piece]) << (2 * _NUMBER_BITS)) | (np.int64(right[piece]) << _NUMBER_BITS)
        hashed = _hashed(key)
        bit = hashed & (8 * len(bits) - 1)
        bits[bit >> 3] |= np.uint8(1 << (bit & 7))
        place = hashed & (len(pairs) - 1)
        while pairs[place] != 0:
            place = (place + 1) & (len(pairs) - 1)
        pairs[place] = key | piece


@njit(nogil=True, cache=True, forceinline=True)  # pragma: no cover - compiled
def merged(first: int, second: int, at: Addresses) -> Any:
    """The piece that `first` and `second` merge into, `NEVER` if no merge names them."""
    key = (first << (2 * _NUMBER_BITS)) | (second << _NUMBER_BITS)
    hashed = _hashed(key)
    bit = hashed & at.filter_mask
    if not (u8(at.filter, bit >> 3) >> (bit & 7)) & 1:
        return NEVER
    place = hashed & at.pairs_mask
    entry = i64(at.pairs, place)
    while entry != 0:
        if (entry ^ key) >> _NUMBER_BITS == 0:
            return entry & _NUMBER_MASK
        place = (place + 1) & at.pairs_mask
        entry = i64(at.pairs, place)
    return NEVER


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def compatible(first: int, second: int, at: Addresses, own: int) -> bool:
    """Whether the bytes of two pieces, joined, encode to exactly these two.

    They do unless some merge takes place across the border. Merges happen in the order of their numbers, so at each
    moment one piece ends at the border and one begins there. We go back in time from the finished pieces: the one that
    was made later falls into its parts. A merge of the two across the border comes first if its number is below that of
    the merge that used up the left one; it is to the left of the merge that used up the right one, so there a tie goes
    to the border. `own` is a merge that does not count: 0, or the one that makes a piece of these two.
    """
    left_until, right_until = NEVER, NEVER
    while True:
        piece = merged(first, second, at)
        if piece < left_until and piece <= right_until and piece < NEVER and piece != own:
            return False
        if max(first, second) < BYTES:
            return True
        # Both parts are read and one is chosen, because which of the two was made later cannot be foretold.
        last_part, first_part, later = u32(at.right, first), u32(at.left, second), first > second
        left_until = first if later else left_until
        right_until = right_until if later else second
        first = last_part if later else first
        second = second if later else first_part


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _encode_to_themselves(pieces: int, at: Addresses) -> bool:
    """Whether the bytes of each piece encode to that piece: nothing crosses its border before its own merge."""
    count = BYTES
    while count < pieces and compatible(u32(at.left, count), u32(at.right, count), at, count):
        count += 1
    return count == pieces


def build_tables(merges: Merges) -> tuple[Tables, list[bytes]] | None:
    """Tables and the bytes of each piece; None if a piece is too long or does not encode to itself."""
    lengths = _lengths(merges.left, merges.right)
    if lengths.max() > MAX_PIECE_BYTES:
        return None
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    data = _spell(merges.left, merges.right, offsets)
    joined = data.tobytes()
    pieces = [joined[start:end] for start, end in pairwise(offsets.tolist())]
    slots, shorter = build_trie(pieces, data, offsets)
    if not len(slots):
        return None
    size = 1 << max(8, (2 * len(pieces)).bit_length())
    pairs, bits = np.zeros(size, np.int64), np.zeros(size, np.uint8)
    _pair_table(merges.left, merges.right, pairs, bits)
    rows = np.column_stack(
        [*border_bits(merges.left, merges.right, data, offsets), shorter.astype(np.uint64)]
    )
    tables = Tables(merges.left, merges.right, slots, pairs, bits, np.ascontiguousarray(rows))
    return (tables, pieces) if _encode_to_themselves(len(pieces), addresses(tables)) else None
