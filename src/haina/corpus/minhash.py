"""MinHash signatures in one pass, and the buckets they are looked up by.

Comes in: a set of shingle hashes. Goes out: a signature whose share of equal values estimates the Jaccard
similarity, and one bucket number per band. One-permutation hashing (Li, Owen, Zhang 2012) puts each hash in
one of `permutations` bins and keeps the smallest of a bin; empty bins borrow from others by optimal
densification (Shrivastava 2017), which keeps the estimate unbiased for short texts too. The plain reference
stands beside the kernel.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.shingles import _mix, mix_plain

EMPTY = np.uint32(0xFFFFFFFF)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def signature(shingles: npt.NDArray[np.uint64], permutations: int) -> npt.NDArray[np.uint32]:
    """MinHash signature of a set: uint32 [permutations]; all EMPTY for the empty set.

    The high 32 bits of a hash choose the bin, the low 32 bits are the value.
    """
    values = np.full(permutations, EMPTY, dtype=np.uint32)
    filled = np.zeros(permutations, dtype=np.bool_)
    for hashed in shingles:
        place = ((hashed >> np.uint64(32)) * np.uint64(permutations)) >> np.uint64(32)
        value = np.uint32(hashed & np.uint64(0xFFFFFFFF))
        if not filled[place] or value < values[place]:
            values[place] = value
            filled[place] = True
    if len(shingles) == 0:
        return values
    out = values.copy()
    for place in range(permutations):
        attempt = 0
        source = np.int64(place)
        while not filled[source]:
            attempt += 1
            hashed = _mix(np.uint64(place) * np.uint64(0x100000001) + np.uint64(attempt))
            source = np.int64(((hashed >> np.uint64(32)) * np.uint64(permutations)) >> np.uint64(32))
        out[place] = values[source]
    return out


def signature_plain(shingles: list[int], permutations: int) -> list[int]:
    """`signature` in Python integers."""
    bins: dict[int, int] = {}
    for hashed in shingles:
        place, value = ((hashed >> 32) * permutations) >> 32, hashed & 0xFFFFFFFF
        bins[place] = min(bins.get(place, value), value)
    if not bins:
        return [int(EMPTY)] * permutations
    out = []
    for place in range(permutations):
        source, attempt = place, 0
        while source not in bins:
            attempt += 1
            source = (
                (mix_plain((place * 0x100000001 + attempt) & ((1 << 64) - 1)) >> 32) * permutations
            ) >> 32
        out.append(bins[source])
    return out


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def estimate(left: npt.NDArray[np.uint32], right: npt.NDArray[np.uint32]) -> float:
    """Share of equal values of two signatures: the estimate of the Jaccard similarity."""
    equal = 0
    for index in range(len(left)):
        equal += left[index] == right[index]
    return equal / len(left)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def band_keys(signatures: npt.NDArray[np.uint32], band: int, rows: int) -> npt.NDArray[np.uint64]:
    """Hash of one band of every signature: uint64 [documents]."""
    keys = np.empty(len(signatures), dtype=np.uint64)
    for document in range(len(signatures)):
        state = np.uint64(band + 1)
        for row in range(band * rows, (band + 1) * rows):
            state = _mix(state ^ np.uint64(signatures[document, row]))
        keys[document] = state
    return keys


def buckets(signatures: npt.NDArray[np.uint32], rows: int) -> npt.NDArray[np.int32]:
    """Bucket of every document in every band, numbered from 0 within the band: int32 [bands, documents].

    Documents that share no bucket with another in a band have -1 there: nothing is to be looked up.
    """
    bands = signatures.shape[1] // rows
    out = np.full((bands, len(signatures)), -1, dtype=np.int32)
    for band in range(bands):
        keys = band_keys(signatures, band, rows)
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        shared = counts > 1
        numbers = np.where(shared, np.cumsum(shared) - 1, -1).astype(np.int32)
        out[band] = numbers[inverse]
    return out
