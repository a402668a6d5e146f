"""Exact byte-pair encoding in one walk from left to right.

Comes in: UTF-8 documents in one buffer. Goes out: their pieces. A row of pieces is the encoding of a text if and only
if each piece encodes to itself and each two neighbours do: the first merge that crossed a border would cross it in
those two pieces alone as well. So we lay pieces one behind the other, each compatible with the one before: the longest
that stands at this place, else the next shorter one; when none is left, the piece before this place is taken back and
made shorter. What lies before a place is always the encoding of that part of the text, of which there is one only: no
place is reached twice, and time is linear in the text. The algorithm is that of GitHub's article "So many tokens, so
little time" (December 2024), less its record of places that failed, which this makes needless; the code is our own.

A piece is `number << 11 | bytes` until it is given out.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from haina.runtime.bpe.memory import i64, put_i64, put_u32, u8, u32, u64
from haina.runtime.bpe.spans import INVALID, span_end
from haina.runtime.bpe.tables import BEGINS, ENDS, SHORTER, STOPS, Addresses, compatible
from haina.runtime.bpe.trie import LABEL_BITS, LABEL_MASK, LENGTH_BITS, ROOT_BASE

LENGTH_MASK = (1 << LENGTH_BITS) - 1
BASE_MASK = (1 << 32) - 1


@njit(nogil=True, cache=True, forceinline=True)  # pragma: no cover - compiled
def _longest(data: int, place: int, end: int, at: Addresses) -> int:
    """The longest piece that stands at `place`, packed."""
    node = i64(at.slots, ROOT_BASE + u8(data, place))
    place += 1
    while place < end:
        byte = u8(data, place)
        child = i64(at.slots, ((node & BASE_MASK) >> LABEL_BITS) ^ byte)
        if (child & LABEL_MASK) != byte:
            break
        node = child
        place += 1
    return node >> 32


@njit(nogil=True, cache=True, forceinline=True)  # pragma: no cover - compiled
def _stops(data: int, place: int, end: int, stops: np.uint64) -> bool:
    """Whether the byte at `place` cannot follow a piece with these stops."""
    if stops == 0 or place == end:
        return False
    byte = u8(data, place)
    return 0x40 <= byte < 0xC0 and (stops >> np.uint64(byte & 63)) & np.uint64(1) != 0


@njit(nogil=True, cache=True, forceinline=True)  # pragma: no cover - compiled
def _encode_span(data: int, begin: int, end: int, at: Addresses, out: int, count: int) -> int:
    """Lay the pieces of `data[begin:end]` behind `out[:count]`; how many `out` then holds, -1 for a fault of ours."""
    floor, place = count, begin
    last, ends = 0, np.uint64(0)  # the piece before `place`, and its ends
    while place < end:
        piece = _longest(data, place, end, at)
        number = piece >> LENGTH_BITS
        while _stops(data, place + (piece & LENGTH_MASK), end, u64(at.rows, 4 * number + STOPS)) or (
            (ends & u64(at.rows, 4 * number + BEGINS)) and not compatible(last, number, at, 0)
        ):
            piece = i64(at.rows, 4 * number + SHORTER)
            while piece == 0:
                if count == floor:  # never: an encoding exists
                    return -1
                count -= 1
                taken = u32(out, count)
                place -= taken & LENGTH_MASK
                piece = i64(at.rows, 4 * (taken >> LENGTH_BITS) + SHORTER)
                last, ends = 0, np.uint64(0)
                if count > floor:
                    last = u32(out, count - 1) >> LENGTH_BITS
                    ends = u64(at.rows, 4 * last + ENDS)
            number = piece >> LENGTH_BITS
        put_u32(out, count, piece)
        count += 1
        place += piece & LENGTH_MASK
        last, ends = number, u64(at.rows, 4 * number + ENDS)
    return count


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def encode_documents(
    data: int,
    borders: int,
    documents: int,
    first: int,
    numbers: int,
    at: Addresses,
    ids: int,
    out: int,
    offsets: int,
) -> bool:
    """Encode document i, `data[borders[i]:borders[i + 1]]`, into `out[offsets[i]:offsets[i + 1]]`; False for a fault.

    Args, all but `documents` and `at` addresses:
        first, numbers: `spans.classes`.
        ids: int32 [pieces] the id that stands for a piece.
        out: int32 with room for as many ids as there are bytes.
        offsets: int64 [documents + 1], filled.
    """
    count = 0
    put_i64(offsets, 0, 0)
    for document in range(documents):
        place, end = i64(borders, document), i64(borders, document + 1)
        token = count
        while place < end:
            stop, kind = span_end(data, place, end, first, numbers)
            if kind == INVALID:
                put_u32(out, count, (u8(data, place) << LENGTH_BITS) | 1)
                count += 1
            else:
                count = _encode_span(data, place, stop, at, out, count)
                if count < 0:
                    return False
            place = stop
        while token < count:
            put_u32(out, token, u32(ids, u32(out, token) >> LENGTH_BITS))
            token += 1
        put_i64(offsets, document + 1, count)
    return True
