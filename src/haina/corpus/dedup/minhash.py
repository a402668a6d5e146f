"""MinHash signatures of a batch of documents, straight from their UTF-8 bytes.

Comes in: documents in one buffer. Goes out: for each a signature whose share of equal values estimates the Jaccard
similarity of shingle sets, the number of its shingles and its exact key. One-permutation hashing (Li, Owen, Zhang 2012)
puts each shingle hash in one of `permutations` bins and keeps the smallest of a bin; empty bins borrow from others by
optimal densification (Shrivastava 2017), which keeps the estimate unbiased for short texts too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.dedup.folding import load_folding
from haina.corpus.dedup.runs import MULTIPLY_1
from haina.corpus.dedup.scan import MOST_TOKENS, MULTIPLY_2, scan, whole_vectors
from haina.corpus.dedup.shingles import add_to_key, checked, finish_key, shingle_hashes

EMPTY = np.uint32(0xFFFFFFFF)
MULTIPLY_32 = 0x85EBCA6B
MULTIPLY_32_2 = 0xC2B2AE35
# Tokens at a time, so that what is between the steps stays in the processor's first cache.
CHUNK = 1024
# Shingles of a document whose hashes are kept for filling empty bins; more of them hardly leave any empty.
KEPT = 16384
# 32-bit values that a vectorised loop takes at once.
VECTORS = 64


class Signatures(NamedTuple):
    """What near-duplicate and exact search need of each document.

    Attributes:
        values: signatures, all EMPTY for a document without tokens: uint32 [documents, permutations].
        sizes: shingles, repeats counted: int64 [documents].
        keys: `exact_key` of each document: uint8 [documents, 16].
    """

    values: npt.NDArray[np.uint32]
    sizes: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint8]


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def mix(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(32))) * np.uint64(MULTIPLY_1)
    value = (value ^ (value >> np.uint64(29))) * np.uint64(MULTIPLY_2)
    return value ^ (value >> np.uint64(32))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def value_of(hashed: np.uint64) -> np.uint32:
    """Low half of a hash; EMPTY itself is no value."""
    return min(np.uint32(hashed & np.uint64(0xFFFFFFFF)), np.uint32(EMPTY - 1))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _add(
    hashes: npt.NDArray[np.uint64], values: npt.NDArray[np.uint32], lows: npt.NDArray[np.uint32]
) -> None:
    """Smallest value of each bin: the high 32 bits of a hash choose the bin, the low 32 bits are the value.

    The low halves of all hashes are left in `lows`.
    """
    bins = np.uint64(len(values))
    for index in range(len(hashes)):
        hashed = hashes[index]
        place = ((hashed >> np.uint64(32)) * bins) >> np.uint64(32)
        value = value_of(hashed)
        values[place] = min(values[place], value)
        lows[index] = value


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _permutations(bins: int) -> npt.NDArray[np.uint32]:
    """A permutation of 32-bit values for each bin, (value ^ shift) * factor: uint32 [bins, (shift, factor)]."""
    out = np.empty((bins, 2), dtype=np.uint32)
    for place in range(bins):
        seed = mix(np.uint64(place) + np.uint64(1))
        out[place, 0] = np.uint32(seed >> np.uint64(32))
        out[place, 1] = np.uint32(seed & np.uint64(0xFFFFFFFF)) | np.uint32(1)
    return out


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _fill(
    lows: npt.NDArray[np.uint32],
    empty: npt.NDArray[np.bool_],
    permutations: npt.NDArray[np.uint32],
    values: npt.NDArray[np.uint32],
) -> None:
    """Smallest of `lows` under its own permutation for each bin that is `empty`, and of what is there already."""
    for place in range(len(values)):
        if empty[place]:
            shift, factor = permutations[place]
            smallest = min(values[place], np.uint32(EMPTY - 1))
            for index in range(len(lows)):
                # numba widens 32-bit arithmetic unless told.
                smallest = min(smallest, np.uint32((lows[index] ^ shift) * factor))
            values[place] = smallest


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _fill_kept(
    lows: npt.NDArray[np.uint32],
    count: int,
    empty: npt.NDArray[np.bool_],
    permutations: npt.NDArray[np.uint32],
    values: npt.NDArray[np.uint32],
) -> None:
    """`_fill` with the first `count` of `lows`, made up to whole vectors with the first one again."""
    padded = (count + VECTORS - 1) // VECTORS * VECTORS
    lows[count:padded] = lows[0]
    for place in range(len(values)):
        empty[place] = values[place] == EMPTY
    _fill(lows[:padded], empty, permutations, values)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def signature_of(shingles: npt.NDArray[np.uint64], permutations: int) -> npt.NDArray[np.uint32]:
    """Signature of a set of shingle hashes: uint32 [permutations]; all EMPTY for the empty set."""
    values = np.full(permutations, EMPTY, dtype=np.uint32)
    lows = np.empty(len(shingles) + VECTORS, dtype=np.uint32)
    _add(shingles, values, lows)
    if len(shingles):
        _fill_kept(
            lows, len(shingles), np.empty(permutations, dtype=np.bool_), _permutations(permutations), values
        )
    return values


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _walk(
    data: npt.NDArray[np.uint8],
    base: int,
    end: int,
    table: npt.NDArray[np.uint32],
    sequences: npt.NDArray[np.uint32],
    width: int,
    tokens: npt.NDArray[np.uint64],
    hashes: npt.NDArray[np.uint64],
    lows: npt.NDArray[np.uint32],
    filling: bool,
    empty: npt.NDArray[np.bool_],
    permutations: npt.NDArray[np.uint32],
    values: npt.NDArray[np.uint32],
    key: npt.NDArray[np.uint64],
) -> tuple[int, int]:
    """All shingles of a document into its signature, and its tokens into its key; how many there are of either.

    When `filling`, into bins that were `empty` before and nowhere else. Otherwise `lows` has the low halves of all
    hashes, if they are KEPT at most.
    """
    place, carried, total, shingles = base, 0, 0, 0
    while place < end:
        place, count = scan(data, base, place, end, table, sequences, tokens, None, None, carried)
        fresh = count - carried
        if not filling:
            zeros = whole_vectors(total + fresh) - total - fresh if place == end else 0
            tokens[count : count + zeros] = 0
            add_to_key(key, total, tokens[carried : count + zeros])
        total += fresh
        # Fewer tokens than a shingle has are left over at the end of a text only.
        if count >= width or shingles == 0:
            fresh = shingle_hashes(tokens, count, width, hashes)
            if filling:
                for index in range(fresh):
                    lows[index] = value_of(hashes[index])
                _fill(lows[:fresh], empty, permutations, values)
            else:
                _add(hashes[:fresh], values, lows[shingles if shingles + fresh <= KEPT else 0 :])
            shingles += fresh
        carried = min(width - 1, count)
        for index in range(carried):
            tokens[index] = tokens[count - carried + index]
    return total, shingles


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _signatures(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    table: npt.NDArray[np.uint32],
    sequences: npt.NDArray[np.uint32],
    width: int,
    values: npt.NDArray[np.uint32],
    sizes: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint64],
) -> None:
    capacity = CHUNK + 2 * width + MOST_TOKENS
    tokens = np.empty(capacity, dtype=np.uint64)
    hashes = np.empty(capacity, dtype=np.uint64)
    lows = np.empty(max(KEPT, capacity) + VECTORS, dtype=np.uint32)
    empty = np.empty(values.shape[1], dtype=np.bool_)
    permutations = _permutations(values.shape[1])
    for document in range(len(offsets) - 1):
        own, key = values[document], keys[document]
        base, end = offsets[document], offsets[document + 1]
        total, shingles = _walk(
            data, base, end, table, sequences, width, tokens, hashes, lows, False, empty,
            permutations, own, key,
        )  # fmt: skip
        sizes[document] = shingles
        if 0 < shingles <= KEPT:
            _fill_kept(lows, shingles, empty, permutations, own)
        elif shingles and np.any(own == EMPTY):
            # A long text leaves bins empty when it repeats itself.
            empty[:] = own == EMPTY
            _walk(
                data, base, end, table, sequences, width, tokens, hashes, lows, True, empty,
                permutations, own, key,
            )  # fmt: skip
        finish_key(key, total, data[base:end])


def signatures_batch(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], width: int, permutations: int
) -> Signatures:
    """Signatures, sizes and keys of documents: document d is `data[offsets[d]:offsets[d + 1]]`."""
    data, offsets = checked(data, offsets, width)
    count = len(offsets) - 1
    values = np.full((count, permutations), EMPTY, dtype=np.uint32)
    sizes = np.zeros(count, dtype=np.int64)
    keys = np.zeros((count, 2), dtype=np.uint64)
    _signatures(data, offsets, *load_folding(), width, values, sizes, keys)
    return Signatures(values, sizes, keys.astype("<u8").view(np.uint8).reshape(count, 16))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def estimate(left: npt.NDArray[np.uint32], right: npt.NDArray[np.uint32]) -> float:
    """Share of equal values of two signatures: the estimate of the Jaccard similarity."""
    equal = 0
    for index in range(len(left)):
        equal += left[index] == right[index]
    return equal / len(left)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _truncate(signatures: npt.NDArray[np.uint32], out: npt.NDArray[np.uint8]) -> None:
    for row in range(signatures.shape[0]):
        for column in range(signatures.shape[1]):
            value = signatures[row, column]
            value = np.uint32((value ^ (value >> np.uint32(16))) * np.uint32(MULTIPLY_32))
            value = np.uint32((value ^ (value >> np.uint32(13))) * np.uint32(MULTIPLY_32_2))
            out[row, column] = value >> np.uint32(24)


def truncate8(signatures: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """b-bit MinHash (Li, Koenig 2010) with b = 8: uint8 [documents, permutations].

    Equal values give equal bytes; different ones do so in one of 256 cases: J = (equal share - 1/256) * 256/255. The
    byte of EMPTY is one of 256 as any other: a document without tokens is told by its size, not by its bytes.
    """
    out = np.empty(signatures.shape, dtype=np.uint8)
    _truncate(signatures, out)
    return out


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _sketch(signatures: npt.NDArray[np.uint32], out: npt.NDArray[np.uint64]) -> None:
    count = signatures.shape[1]
    for row in range(signatures.shape[0]):
        sketch = np.uint64(0)
        for bit in range(64):
            value = np.uint64(signatures[row, bit * count // 64])
            sketch |= (mix(value + np.uint64(bit) * np.uint64(MULTIPLY_1)) >> np.uint64(63)) << np.uint64(bit)
        out[row] = sketch


def sketch64(signatures: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """One bit from each of 64 values, spread over the signature: uint64 [documents].

    At a Hamming distance d of two sketches, J is estimated by 1 - 2 * d / 64. Needs at least 64 permutations.
    """
    out = np.empty(len(signatures), dtype=np.uint64)
    _sketch(signatures, out)
    return out
