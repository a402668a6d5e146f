"""What can be told of a border from one piece alone: 64 bits each, so that most pairs need not be compared.

Comes in: the merges. Goes out: for each piece, which pieces could merge with its end, which pieces begin it, and which
bytes cannot follow it. Only merges count that are in time: before the one that uses up the part that they take.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.runtime.bpe.rules import BYTES

NEVER = 1 << 30  # later than any merge
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: multiplicative hashing, Knuth vol. 3, 6.4
Bits = npt.NDArray[np.uint64]


@njit(nogil=True, cache=True, forceinline=True)  # pragma: no cover - compiled
def _bit(piece: int) -> np.uint64:
    """One of 64 bits for a piece."""
    return np.uint64(1) << ((np.uint64(piece) * _MIX) >> np.uint64(58))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _follow(data: npt.NDArray[np.uint8], start: int, end: int) -> int:
    """The first of 64 byte values that stops tell of, for the piece `data[start:end]`.

    UTF-8 goes on with 0x80 to 0xBF inside a character and never between two, where we take 0x40 to 0x7F. A piece of
    which one cannot tell, because its first character began before it, has none: NEVER.
    """
    place = end - 1
    while place >= start and (data[place] & 0xC0) == 0x80:
        place -= 1
    if place < start:
        return NEVER
    first = data[place]
    size = 1 + (first >= 0xC0) + (first >= 0xE0) + (first >= 0xF0)
    return 0x80 if end - place < size else 0x40


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def border_bits(
    left: npt.NDArray[np.int32],
    right: npt.NDArray[np.int32],
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
) -> tuple[Bits, Bits, Bits]:
    """Three uint64 [pieces].

    Ends: bits of the pieces that could merge with the end of this one. Begins: bits of the pieces that begin this one.
    Where ends of a piece and begins of the next have no common bit, no merge takes place across their border.

    Stops: bit b says that a merge takes place across the border, whatever else comes, if byte 0x40 + b follows a piece
    that ends with a character, or byte 0x80 + b one that ends inside a character.

    Args:
        data, offsets: the bytes of the pieces, piece p from offsets[p] to offsets[p + 1].
    """
    size = len(left)
    # Merges by their first part, earliest first: those of piece p are merges[starts[p]:starts[p + 1]].
    starts = np.zeros(size + 2, np.int64)
    earliest = np.full(size, NEVER)
    for piece in range(size - 1, BYTES - 1, -1):
        starts[left[piece] + 2] += 1
        earliest[right[piece]] = piece
    starts = np.cumsum(starts)
    merges = np.empty(size, np.int64)
    for piece in range(BYTES, size):
        merges[starts[left[piece] + 1]] = piece
        starts[left[piece] + 1] += 1
    ends = np.zeros(size, np.uint64)
    begins = np.zeros(size, np.uint64)
    stops = np.zeros(size, np.uint64)
    for piece in range(size):
        follow = _follow(data, offsets[piece], offsets[piece + 1])
        part: Any = piece
        until: Any = NEVER
        while part >= 0:
            for place in range(starts[part], starts[part + 1]):
                if merges[place] >= until:
                    break
                other = np.int64(right[merges[place]])
                ends[piece] |= _bit(other)
                # Whatever begins with that byte has it by itself until the byte's own first merge.
                if follow <= other < follow + 64 and (
                    starts[other] == starts[other + 1] or merges[place] <= merges[starts[other]]
                ):
                    stops[piece] |= np.uint64(1) << np.uint64(other & 63)
            until = part
            part = np.int64(right[part])
        part = piece
        until = NEVER
        while part >= 0:
            if earliest[part] <= until and earliest[part] < NEVER:
                begins[piece] |= _bit(part)
            until = part
            part = np.int64(left[part])
    return ends, begins, stops
