"""Runs of tokens that weigh alike in Chinese and English, and their hashes.

Comes in: token hashes of a text with its bytes. Goes out: units of each token, and the hash of the run that starts at
each token and ends where its units reach a size. A Han character or a single letter or digit is one unit, a longer
word two: six units are six Han characters, three English words, or a formula of six letters. Fixed lengths in tokens
would ask for twice the text in one of the languages.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

GRAM_BASE = 0xA0761D6478BD642F
_MIX = 0xD6E8FEB86659FD93
GRAM_SEED = 0x2545F4914F6CDD1D
_MASK = (1 << 64) - 1

UInt8 = npt.NDArray[np.uint8]
UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]
Int64 = npt.NDArray[np.int64]


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def token_units(data: UInt8, offsets: Int64, starts: Int64, ends: Int64, documents: Int64) -> UInt8:
    """Units of each token of a batch: uint8 [tokens], 1 for one character and 2 for more.

    Args:
        data, offsets: UTF-8 of the batch, and where each document begins in it.
        starts, ends, documents: as in `Tokens`.
    """
    units = np.empty(len(starts), dtype=np.uint8)
    for document in range(len(documents) - 1):
        base = offsets[document]
        for token in range(documents[document], documents[document + 1]):
            start, end = base + starts[token], base + ends[token]
            lead = data[start]
            width = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            units[token] = 1 if end - start <= width else 2
    return units


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def fold_tokens(hashes: UInt64) -> UInt32:
    """The tokens that an index stores and compares: uint32 [tokens]."""
    out = np.empty(len(hashes), dtype=np.uint32)
    for place in range(len(hashes)):
        out[place] = np.uint32(hashes[place] >> np.uint64(32)) ^ np.uint32(
            hashes[place] & np.uint64(0xFFFFFFFF)
        )
    return out


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def finish_gram(state: np.uint64) -> np.uint64:
    """Hash of a run from its polynomial: upper and lower bits depend on all tokens."""
    state = (state ^ (state >> np.uint64(32))) * np.uint64(_MIX)
    return state ^ (state >> np.uint64(29))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def gram_at(tokens: UInt32, units: UInt8, place: int, end: int, size: int) -> tuple[np.uint64, int]:
    """(hash, tokens) of the run that starts at `place`; 0 tokens when `end` comes before `size` units."""
    state = np.uint64(GRAM_SEED)
    total = 0
    at = place
    while at < end:
        state = state * np.uint64(GRAM_BASE) + np.uint64(tokens[at])
        total += units[at]
        at += 1
        if total >= size:
            return finish_gram(state), at - place
    return np.uint64(0), 0


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def grams_of(tokens: UInt32, units: UInt8, starts: Int64, size: int) -> tuple[UInt64, Int64]:
    """Hash and length in tokens of the run at each token of each part; length 0 where the part ends first."""
    hashes = np.zeros(len(tokens), dtype=np.uint64)
    lengths = np.zeros(len(tokens), dtype=np.int64)
    for part in range(len(starts) - 1):
        for place in range(starts[part], starts[part + 1]):
            hashes[place], lengths[place] = gram_at(tokens, units, place, starts[part + 1], size)
    return hashes, lengths


def gram_plain(tokens: list[int], units: list[int], size: int) -> tuple[int, int]:
    """`gram_at` at the first of some tokens, in Python integers."""
    state, total = GRAM_SEED, 0
    for count, (token, unit) in enumerate(zip(tokens, units, strict=True), 1):
        state = (state * GRAM_BASE + token) & _MASK
        total += unit
        if total >= size:
            state = ((state ^ (state >> 32)) * _MIX) & _MASK
            return state ^ (state >> 29), count
    return 0, 0
