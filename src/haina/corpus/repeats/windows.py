"""Windows of tokens: which could stand twice, and a key for each.

Comes in: token hashes of a document. Goes out: the hash that stands for each window of `width` tokens, and the
windows' 128-bit keys. A window is represented by the smallest hash among its grams (winnowing; Schleimer, Wilkerson,
Aiken 2003): equal windows have the same one, so a window whose smallest hash stands nowhere else cannot be repeated.
Some 2 in 36 grams are the smallest of a window of 50 tokens and grams of 16; only those are exchanged. Hashes are
built by doubling: a run of 2n tokens from two of n, and any length from two overlapping runs (as in Karp, Miller,
Rosenberg 1972), so that neither sums nor periods of a rolling polynomial let two different windows agree.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.repeats.tables import I64, U64, contains

MASK = (1 << 64) - 1
SHORTEST = 8
_LONGEST_GRAM = 16
GRAM_SEED, HIGH_SEED, LOW_SEED = 0x9FB21C651E98DF25, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F
_MULTIPLY_1 = 0xBF58476D1CE4E5B9
_MULTIPLY_2 = 0x94D049BB133111EB


def gram_width(width: int) -> int:
    """Tokens in a gram: a power of two, 16 or at most half a window."""
    gram = _LONGEST_GRAM
    while 2 * gram > width:
        gram //= 2
    return gram


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _mix(value: np.uint64) -> np.uint64:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): each output bit depends on all input bits."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(_MULTIPLY_1)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(_MULTIPLY_2)
    return value ^ (value >> np.uint64(31))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def run_hashes(tokens: U64, width: int, seed: np.uint64) -> U64:
    """Hash of each run of `width` tokens: uint64 [max(0, tokens - width + 1)]."""
    count = len(tokens)
    if count < width:
        return np.empty(0, dtype=np.uint64)
    hashes = np.empty(count, dtype=np.uint64)
    for index in range(count):
        hashes[index] = tokens[index] ^ seed
    length = 1
    while length < width:
        step = length if 2 * length <= width else width - length
        count -= step
        for index in range(count):
            hashes[index] = _mix(hashes[index] * seed + hashes[index + step])
        length += step
    return hashes[:count]


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def smallest_of(hashes: U64, width: int) -> U64:
    """The smallest of each `width` neighbours: uint64 [max(0, hashes - width + 1)].

    Blocks of `width`: every window is the end of one block and the beginning of the next (van Herk 1992).
    """
    count = len(hashes) - width + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    out = np.empty(count, dtype=np.uint64)
    for low in range(0, count, width):
        high = min(low + width, len(hashes))
        least = np.uint64(MASK)
        for index in range(high - 1, low - 1, -1):
            least = min(least, hashes[index])
            if index < count:
                out[index] = least
        least = np.uint64(MASK)
        for index in range(low + width, min(low + 2 * width - 1, len(hashes))):
            least = min(least, hashes[index])
            out[index - width + 1] = min(out[index - width + 1], least)
    return out


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def name_of(value: np.uint64) -> np.uint64:
    """What stands for a smallest hash outside: an even number, spread evenly again.

    Where two collide, windows are looked at in vain; none is missed."""
    return _mix(value) & np.uint64(MASK - 1)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def minimizers(
    tokens: U64, width: int, gram: int, skip: int, values: U64, twice: npt.NDArray[np.bool_]
) -> int:
    """Names of the hashes that stand for the windows of a document, into `values`; how many.

    Windows in a row that share theirs give it once; `twice` says that more than one gram of these windows has it, so
    that two of them may be equal. The first `skip` windows are left out.
    """
    hashes = run_hashes(tokens, gram, np.uint64(GRAM_SEED))
    span = width - gram + 1
    least = smallest_of(hashes, span)
    count, window = 0, skip
    while window < len(least):
        value = least[window]
        beyond = window + 1
        while beyond < len(least) and least[beyond] == value:
            beyond += 1
        places = 0
        for index in range(window, beyond + span - 1):
            places += hashes[index] == value
        values[count] = name_of(value)
        twice[count] = places > 1
        count += 1
        window = beyond
    return count


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def batch_minimizers(
    tokens: U64, bounds: I64, skips: I64, width: int, gram: int
) -> tuple[U64, npt.NDArray[np.bool_]]:
    """`minimizers` of many pieces: piece i has tokens bounds[i] to bounds[i + 1], and its first skips[i] windows do not
    count."""
    values = np.empty(len(tokens), dtype=np.uint64)
    twice = np.empty(len(tokens), dtype=np.bool_)
    count = 0
    for piece in range(len(bounds) - 1):
        count += minimizers(
            tokens[bounds[piece] : bounds[piece + 1]],
            width,
            gram,
            skips[piece],
            values[count:],
            twice[count:],
        )
    return values[:count].copy(), twice[:count].copy()


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def batch_windows(
    tokens: U64,
    bounds: I64,
    skips: I64,
    width: int,
    gram: int,
    slots: npt.NDArray[np.int32],
    repeated: U64,
) -> tuple[I64, I64, U64, U64, U64]:
    """Windows whose representing hash is in the set (`slots`, `repeated`): those that may stand elsewhere too.

    Returns:
        Of each: piece, first token in the piece, name of its hash, and the two halves of the key.
    """
    room = max(np.int64(1024), np.int64(len(tokens) // 8))
    piece_of, first_of = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    route, high, low = np.empty(room, np.uint64), np.empty(room, np.uint64), np.empty(room, np.uint64)
    count = 0
    for piece in range(len(bounds) - 1):
        own = tokens[bounds[piece] : bounds[piece + 1]]
        least = smallest_of(run_hashes(own, gram, np.uint64(GRAM_SEED)), width - gram + 1)
        window = skips[piece]
        while window < len(least):
            # A stretch of windows that all qualify; `beyond` goes behind the windows of one hash at a time.
            beyond = window
            while beyond < len(least) and contains(name_of(least[beyond]), slots, repeated):
                value = least[beyond]
                while beyond < len(least) and least[beyond] == value:
                    beyond += 1
            if beyond == window:
                value = least[window]
                while window < len(least) and least[window] == value:
                    window += 1
                continue
            more = beyond - window
            if count + more > room:
                while count + more > room:
                    room *= 2
                piece_of, first_of = _more(piece_of, room), _more(first_of, room)
                route, high, low = _more(route, room), _more(high, room), _more(low, room)
            stretch = own[window : beyond + width - 1]
            high[count : count + more] = run_hashes(stretch, width, np.uint64(HIGH_SEED))
            low[count : count + more] = run_hashes(stretch, width, np.uint64(LOW_SEED))
            for index in range(more):
                piece_of[count + index] = piece
                first_of[count + index] = window + index
                route[count + index] = name_of(least[window + index])
            count += more
            window = beyond
    return piece_of[:count], first_of[:count], route[:count], high[:count], low[:count]


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _more(array: npt.NDArray[np.generic], room: int) -> npt.NDArray[np.generic]:
    out = np.empty(room, dtype=array.dtype)
    out[: len(array)] = array
    return out


def mix_plain(value: int) -> int:
    """`_mix` in Python integers."""
    value = ((value ^ (value >> 30)) * _MULTIPLY_1) & MASK
    value = ((value ^ (value >> 27)) * _MULTIPLY_2) & MASK
    return value ^ (value >> 31)


def run_hash_plain(tokens: list[int], seed: int) -> int:
    """Hash of one run, by the definition: of its first and its last 2^k tokens, that overlap or meet."""

    def doubled(run: list[int]) -> int:
        if len(run) == 1:
            return run[0] ^ seed
        half = len(run) // 2
        return mix_plain((doubled(run[:half]) * seed + doubled(run[half:])) & MASK)

    length = 1 << (len(tokens).bit_length() - 1)
    if length == len(tokens):
        return doubled(tokens)
    return mix_plain((doubled(tokens[:length]) * seed + doubled(tokens[-length:])) & MASK)


def repeated_windows_plain(
    documents: list[list[int]], width: int
) -> dict[tuple[int, ...], list[tuple[int, int]]]:
    """Every window of `width` tokens that occurs at least twice, with all its (document, first token) in order."""
    places: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for number, tokens in enumerate(documents):
        for first in range(len(tokens) - width + 1):
            places.setdefault(tuple(tokens[first : first + width]), []).append((number, first))
    return {window: found for window, found in places.items() if len(found) > 1}
