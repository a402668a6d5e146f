"""From UTF-8 bytes to tokens, in one pass.

Comes in: bytes of one document, wherever it lies in a buffer, and the folding table. Goes out: a 64-bit hash of every
token with the byte range it came from. A Han character is one token, elsewhere a run of letters and digits with their
marks is. A run is hashed as the UTF-8 bytes of its folded form, eight at a time, a Han character as its code point.

Three ways lead to the same hashes: ASCII by masks of 64 bytes, from which words are cut with bit operations;
three-byte characters that are Han or separate by one look-up each; everything else character by character (`runs`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.dedup.folding import CLASS_SHIFT, HAN, NOTHING
from haina.corpus.dedup.machine import (
    BLOCK,
    THREES,
    ascii_masks,
    decode_threes,
    leading_zeros,
    load64,
    trailing_zeros,
)
from haina.corpus.dedup.runs import (
    HAN_SEED,
    MOST_MARKS,
    MULTIPLY_1,
    SEED,
    absorb,
    decode,
    entry_of,
    next_run,
    put,
)

MULTIPLY_2 = 0xD6E8FEB86659FD93
# A scan stops when fewer places are left: a block of 64 bytes gives 32 tokens at most, a character fewer, and what
# comes after works on whole vectors of 32.
MOST_TOKENS = 64
# A word of eight bytes may begin at the last byte of a block.
_REACH = BLOCK + 8
_LOWER = 0x2020202020202020
_HAN = HAN << CLASS_SHIFT
_ONES = 0xFFFFFFFFFFFFFFFF


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def whole_vectors(count: int) -> int:
    """`count` rounded up to where a vectorised loop has no remainder, which would be worked off one by one."""
    return (count + 31) // 32 * 32


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _mix_hashes(hashes: npt.NDArray[np.uint64], first: int, last: int) -> None:
    """Mix `hashes[first:last]`, which hold state ^ last word, in place: apart from the scan because it vectorises.

    What is behind them is free to be overwritten.
    """
    for index in range(first, min(first + whole_vectors(last - first), len(hashes))):
        state = hashes[index] * np.uint64(MULTIPLY_1)
        state = (state ^ (state >> np.uint64(32))) * np.uint64(MULTIPLY_2)
        hashes[index] = state ^ (state >> np.uint64(29))


@njit(nogil=True, cache=True, inline="always")  # pragma: no cover - compiled
def _low_bits(count: int) -> np.uint64:
    """A mask of the `count` lowest of 64 bits."""
    return np.uint64(_ONES) if count >= BLOCK else (np.uint64(1) << np.uint64(count)) - np.uint64(1)


@njit(nogil=True, cache=True, inline="always")  # pragma: no cover - compiled
def _han(
    data: npt.NDArray[np.uint8],
    base: int,
    place: int,
    end: int,
    table: npt.NDArray[np.uint32],
    entries: npt.NDArray[np.uint32],
    hashes: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.int64] | None,
    ends: npt.NDArray[np.int64] | None,
    count: int,
) -> tuple[int, int]:
    """Tokens of three-byte characters from `place` on, as long as they are Han or separate; `entries` is scratch."""
    room = len(hashes) - MOST_TOKENS
    while place < end and place + BLOCK <= len(data) and count < room:
        found = decode_threes(data, place, min(THREES, (end - place) // 3), entries)
        for index in range(np.uint64(THREES)):
            entries[index] = table[entries[index]]
        other = False
        for index in range(np.uint64(THREES)):
            other |= np.uint32(0) < entries[index] < np.uint32(_HAN)
        taken = found
        if other:
            taken = 0
            while entries[taken] == 0 or entries[taken] >= _HAN:
                taken += 1
            entries[taken:] = 0
        for index in range(np.uint64(THREES)):
            # What separates is put there too and overwritten by the next token: cheaper than a branch.
            hashed = np.uint64(HAN_SEED ^ _HAN) ^ np.uint64(entries[index])
            start = place + 3 * np.int64(index) - base
            put(hashes, starts, ends, count, hashed, start, start + 3)
            count += entries[index] >= np.uint32(_HAN)
        place += 3 * taken
        # One ASCII separator, a line end most of all, does not end the stretch.
        byte = data[np.uint64(place)]
        skipped = int((place < end) & (byte < 0x80) & (table[byte] == 0))
        place += skipped
        if taken < THREES and not skipped:
            break
    return place, count


@njit(nogil=True, cache=True, inline="always")  # pragma: no cover - compiled
def _words(
    data: npt.NDArray[np.uint8],
    base: int,
    place: int,
    letters: np.uint64,
    hashes: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.int64] | None,
    ends: npt.NDArray[np.int64] | None,
    count: int,
) -> int:
    """Tokens of the block at `place` whose letters and digits `letters` marks; all of them end there."""
    while letters:
        first = trailing_zeros(letters)
        # The carry clears the run and sets the bit behind it.
        after = letters + (np.uint64(1) << np.uint64(first))
        letters &= after
        last = trailing_zeros(after)
        start, length = place + first, last - first
        state = np.uint64(SEED)
        while length > 8:
            state = absorb(state, load64(data, start) | np.uint64(_LOWER))
            start += 8
            length -= 8
        # Bit 5 makes letters small and is set in digits.
        word = (load64(data, start) | np.uint64(_LOWER)) & (np.uint64(_ONES) >> np.uint64(64 - 8 * length))
        put(hashes, starts, ends, count, state ^ word, place + first - base, place + last - base)
        count += 1
    return count


@njit(nogil=True, cache=True, inline="always")  # pragma: no cover - compiled
def _block(
    data: npt.NDArray[np.uint8], place: int, end: int, table: npt.NDArray[np.uint32]
) -> tuple[np.uint64, int, bool]:
    """(letters, step, open): words that are whole in the block at `place`, how far it was read, if a word goes on.

    A word that only the end of the block cuts is read again from its start; one that another than an ASCII character
    may belong to, or that is longer than a block, is open.
    """
    letters, wide = ascii_masks(data, place)
    limit = min(trailing_zeros(wide), end - place)
    letters &= _low_bits(limit)
    touches = (letters >> np.uint64(limit - 1)) & np.uint64(1)
    if not touches or place + limit >= end:
        return letters, min(limit, BLOCK), False
    if limit < BLOCK:
        code, _ = decode(data, place + limit, end)
        if entry_of(code, table) >> np.uint32(CLASS_SHIFT) in (HAN, NOTHING):
            return letters, limit, False
    step = BLOCK - leading_zeros(~letters & _low_bits(limit))
    return letters & _low_bits(step), step, limit < BLOCK or step == 0


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def scan(
    data: npt.NDArray[np.uint8],
    base: int,
    place: int,
    end: int,
    table: npt.NDArray[np.uint32],
    sequences: npt.NDArray[np.uint32],
    hashes: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.int64] | None,
    ends: npt.NDArray[np.int64] | None,
    count: int,
) -> tuple[int, int]:
    """Tokens of `data[place:end]` into `hashes`, `starts` and `ends` (bytes after `base`), from `count` on.

    Stops between tokens when fewer than MOST_TOKENS places are left. Returns (place, count): where to go on and how
    many tokens there are now; the text is done when place equals end. Without `starts` and `ends` the compiler leaves
    out what concerns them.
    """
    begin = count
    room = len(hashes) - MOST_TOKENS
    entries = np.empty(THREES, dtype=np.uint32)
    marks = np.empty(MOST_MARKS, dtype=np.uint32)
    while place < end and count < room:
        is_open = True
        if place + _REACH <= len(data):
            if data[place] >= 0x80:
                place, count = _han(data, base, place, end, table, entries, hashes, starts, ends, count)
                if place >= end or count >= room:
                    break
            if data[place] < 0x80 and place + _REACH <= len(data):
                letters, step, is_open = _block(data, place, end, table)
                count = _words(data, base, place, letters, hashes, starts, ends, count)
                place += step
        if is_open:
            place, count = next_run(
                data, base, place, end, table, sequences, marks, hashes, starts, ends, count
            )
    _mix_hashes(hashes, begin, count)
    return place, count
