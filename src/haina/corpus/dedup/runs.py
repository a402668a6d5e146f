"""Tokens of any text, character by character: the way that is right for everything and the fastest for nothing.

Comes in: bytes of a text and the folding table. Goes out: state and last word of every token's hash, with the byte
range it came from. Bytes that are no valid UTF-8 (RFC 3629) separate tokens, as punctuation does. Marks of a run are
put in canonical order (Unicode Standard Annex 15), so that NFC and NFD of a text give the same tokens; of more than 30
marks in a row, 30 at a time, as in that annex's Stream-Safe Text Format.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.dedup.folding import (
    APART,
    CLASS_SHIFT,
    CODE,
    COMBINING_SHIFT,
    CONTINUE,
    HAN,
    IGNORED,
    IGNORED_PLANE,
    LENGTH_BITS,
    LETTER,
    MARK,
    NOTHING,
    PAYLOAD,
    SEQUENCE,
    TABLE_SIZE,
)

MULTIPLY_1 = 0x9E3779B97F4A7C15
SEED = 0x243F6A8885A308D3
# No run has a last word that makes it the same as a Han character: it would have to hold zero bytes.
HAN_SEED = SEED ^ (1 << 63)
MOST_MARKS = 30
_INVALID = 0xFFFFFFFF


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def absorb(state: np.uint64, word: np.uint64) -> np.uint64:
    """One more word of a token that goes on; a bijection of either argument."""
    state = (state ^ word) * np.uint64(MULTIPLY_1)
    return state ^ (state >> np.uint64(32))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def put(
    hashes: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.int64] | None,
    ends: npt.NDArray[np.int64] | None,
    count: int,
    hashed: np.uint64,
    start: int,
    end: int,
) -> None:
    """One token at place `count`."""
    # An unsigned index spares the question whether it counts from the end.
    index = np.uint64(count)
    hashes[index] = hashed
    if starts is not None and ends is not None:
        starts[index] = start
        ends[index] = end


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def decode(data: npt.NDArray[np.uint8], place: int, end: int) -> tuple[np.uint32, int]:
    """Code point at `place` and where the next one starts; (2**32 - 1, place + 1) where there is none."""
    first = np.uint32(data[place])
    if first < 0x80:
        return first, place + 1
    size = 0
    if 0xC2 <= first < 0xE0:
        size = 2
    elif 0xE0 <= first < 0xF0:
        size = 3
    elif 0xF0 <= first < 0xF5:
        size = 4
    if size == 0 or place + size > end:
        return np.uint32(_INVALID), place + 1
    code = first & np.uint32(0x7F >> size)
    for index in range(1, size):
        byte = np.uint32(data[place + index])
        if byte & np.uint32(0xC0) != np.uint32(0x80):
            return np.uint32(_INVALID), place + 1
        code = (code << np.uint32(6)) | (byte & np.uint32(0x3F))
    if (size == 3 and code < 0x800) or (size == 4 and (code < 0x10000 or code > 0x10FFFF)):
        return np.uint32(_INVALID), place + 1
    return code, place + size


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def entry_of(code: np.uint32, table: npt.NDArray[np.uint32]) -> np.uint32:
    """Entry of the folding table."""
    if code < TABLE_SIZE:
        return table[code]
    if IGNORED_PLANE[0] <= code < IGNORED_PLANE[1]:
        return np.uint32(IGNORED << CLASS_SHIFT)
    return np.uint32(NOTHING << CLASS_SHIFT)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _utf8(code: np.uint32) -> tuple[np.uint64, np.uint64]:
    """UTF-8 bytes of a code point, the first lowest, and how many there are."""
    wide = np.uint64(code)
    last = np.uint64(0x80) | (wide & np.uint64(0x3F))
    if wide < np.uint64(0x80):
        return wide, np.uint64(1)
    if wide < np.uint64(0x800):
        return np.uint64(0xC0) | (wide >> np.uint64(6)) | (last << np.uint64(8)), np.uint64(2)
    middle = np.uint64(0x80) | ((wide >> np.uint64(6)) & np.uint64(0x3F))
    if wide < np.uint64(0x10000):
        lead = np.uint64(0xE0) | (wide >> np.uint64(12))
        return lead | (middle << np.uint64(8)) | (last << np.uint64(16)), np.uint64(3)
    second = np.uint64(0x80) | ((wide >> np.uint64(12)) & np.uint64(0x3F))
    lead = np.uint64(0xF0) | (wide >> np.uint64(18)) | (second << np.uint64(8))
    return lead | (middle << np.uint64(16)) | (last << np.uint64(24)), np.uint64(4)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _append(
    state: np.uint64, word: np.uint64, filled: np.uint64, code: np.uint32
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """One more character of a token whose last word has `filled` bytes so far."""
    encoded, size = _utf8(code)
    if filled == np.uint64(8):
        return absorb(state, word), encoded, size
    word |= encoded << (np.uint64(8) * filled)
    if filled + size <= np.uint64(8):
        return state, word, filled + size
    over = filled + size - np.uint64(8)
    return absorb(state, word), encoded >> (np.uint64(8) * (size - over)), over


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _append_marks(
    state: np.uint64, word: np.uint64, filled: np.uint64, marks: npt.NDArray[np.uint32], waiting: int
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """The marks that waited for their order to be settled."""
    for index in range(waiting):
        state, word, filled = _append(state, word, filled, marks[index] & np.uint32(CODE))
    return state, word, filled


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _insert_mark(marks: npt.NDArray[np.uint32], waiting: int, mark: np.uint32) -> None:
    """Put a mark behind those whose combining class is not higher."""
    while waiting > 0 and (marks[waiting - 1] >> COMBINING_SHIFT) > (mark >> COMBINING_SHIFT):
        marks[waiting] = marks[waiting - 1]
        waiting -= 1
    marks[waiting] = mark


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def next_run(  # noqa: PLR0912 - a branch a class of character
    data: npt.NDArray[np.uint8],
    base: int,
    place: int,
    end: int,
    table: npt.NDArray[np.uint32],
    sequences: npt.NDArray[np.uint32],
    marks: npt.NDArray[np.uint32],
    hashes: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.int64] | None,
    ends: npt.NDArray[np.int64] | None,
    count: int,
) -> tuple[int, int]:
    """`scan.scan` of any text, for at least one character and until no run is open; hashes are not mixed yet.

    `marks` (uint32 [MOST_MARKS]) is scratch: to allocate it here would cost as much as a short run.
    """
    waiting = 0
    inside = False
    state, word, filled = np.uint64(SEED), np.uint64(0), np.uint64(0)
    run_start = run_end = place
    while place < end:
        code, following = decode(data, place, end)
        entry = entry_of(code, table)
        kind = entry >> np.uint32(CLASS_SHIFT)
        if kind == APART and inside:
            break
        first, length = np.uint32(0), np.uint32(1)
        if kind in (SEQUENCE, APART):
            first = (entry & np.uint32(PAYLOAD)) >> np.uint32(LENGTH_BITS)
            length = entry & np.uint32((1 << LENGTH_BITS) - 1)
        for index in range(length):
            if kind in (SEQUENCE, APART):
                entry = sequences[first + index]
            part = entry >> np.uint32(CLASS_SHIFT)
            if part == IGNORED or (part in (MARK, CONTINUE) and not inside):
                continue
            if part != MARK or waiting == MOST_MARKS:
                state, word, filled = _append_marks(state, word, filled, marks, waiting)
                waiting = 0
            if part == MARK:
                _insert_mark(marks, waiting, entry & np.uint32(PAYLOAD))
                waiting += 1
                run_end = following
            elif part in (LETTER, CONTINUE):
                if not inside:
                    inside = True
                    run_start = place
                    state, word, filled = np.uint64(SEED), np.uint64(0), np.uint64(0)
                state, word, filled = _append(state, word, filled, entry & np.uint32(CODE))
                run_end = following
            else:
                if inside:
                    put(hashes, starts, ends, count, state ^ word, run_start - base, run_end - base)
                    count += 1
                    inside = False
                if part == HAN:
                    hashed = np.uint64(HAN_SEED) ^ np.uint64(entry & np.uint32(CODE))
                    put(hashes, starts, ends, count, hashed, place - base, following - base)
                    count += 1
        place = following
        if not inside:
            return place, count
        if kind == APART:
            break
    state, word, filled = _append_marks(state, word, filled, marks, waiting)
    put(hashes, starts, ends, count, state ^ word, run_start - base, run_end - base)
    return place, count + 1
