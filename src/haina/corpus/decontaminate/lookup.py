"""Seeds in documents: one pass over the tokens, a bit set for nearly all of them, a hash table for the rest.

Comes in: tokens of a batch and the index. Goes out: (document, token, seed), in the order of the text. This is
where the time goes: nearly every document holds no item.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from haina.corpus.decontaminate.grams import (
    GRAM_BASE,
    GRAM_SEED,
    Int64,
    UInt8,
    UInt32,
    UInt64,
    finish_gram,
)
from haina.corpus.decontaminate.index import Arrays
from haina.corpus.decontaminate.seeds import SAMPLE_MASK, SAMPLE_SHIFT, SEED_UNITS, SHORT_UNITS


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _in_filter(value: np.uint64, bits: UInt64, shift: np.uint64) -> bool:
    bit = value >> shift
    return (bits[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1) != 0


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _shift(bits: UInt64) -> np.uint64:
    """By how much a hash is shifted to give a bit of the filter."""
    size, shift = len(bits) * 64, 64
    while size > 1:
        size >>= 1
        shift -= 1
    return np.uint64(shift)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _number(value: np.uint64, arrays: Arrays) -> int:
    """Number of the seed with this hash, -1 without one."""
    mask = np.uint64(len(arrays.table) - 1)
    slot = value & mask
    while arrays.table[slot] != 0 and arrays.seeds[arrays.table[slot] - 1] != value:
        slot = (slot + np.uint64(1)) & mask
    return int(arrays.table[slot]) - 1


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def find_seeds(tokens: UInt32, units: UInt8, documents: Int64, arrays: Arrays) -> Int64:
    """Seeds in a batch: int64 [3, hits], each document, token and seed, in the order of the text."""
    out = np.empty((3, 1024), dtype=np.int64)
    count = 0
    sampled_bits, whole_bits, brief_bits = arrays.sampled, arrays.whole, arrays.brief
    sampled_shift, whole_shift, brief_shift = _shift(sampled_bits), _shift(whole_bits), _shift(brief_bits)
    for document in range(len(documents) - 1):
        end = documents[document + 1]
        for place in range(documents[document], end):
            state, total, at = np.uint64(GRAM_SEED), 0, place
            while at < end and total < SHORT_UNITS:
                state = state * np.uint64(GRAM_BASE) + np.uint64(tokens[at])
                total += units[at]
                at += 1
            if total < SHORT_UNITS:
                break
            value = finish_gram(state)
            short = _number(value, arrays) if _in_filter(value, brief_bits, brief_shift) else -1
            while at < end and total < SEED_UNITS:
                state = state * np.uint64(GRAM_BASE) + np.uint64(tokens[at])
                total += units[at]
                at += 1
            long = -1
            if total >= SEED_UNITS:
                value = finish_gram(state)
                in_sample = (value >> np.uint64(SAMPLE_SHIFT)) & np.uint64(SAMPLE_MASK) == 0
                if _in_filter(value, whole_bits, whole_shift) or (
                    in_sample and _in_filter(value, sampled_bits, sampled_shift)
                ):
                    long = _number(value, arrays)
            for seed in (short, long):
                if seed >= 0:
                    if count == out.shape[1]:
                        larger = np.empty((3, 2 * count), dtype=np.int64)
                        larger[:, :count] = out
                        out = larger
                    out[0, count], out[1, count], out[2, count] = document, place, seed
                    count += 1
    return out[:, :count]
