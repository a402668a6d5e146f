"""A text as tokens and as a set of shingles: what exact and near-duplicate search compare.

Comes in: UTF-8 text, one document or many in one buffer. Goes out: token hashes with their byte ranges, sorted sets of
the hashes of every run of `width` tokens, and 16 bytes that texts of the same tokens share. A text of fewer tokens than
a shingle has is one shingle, so short texts neither vanish nor collide; a text without any token has none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.dedup.folding import load_folding
from haina.corpus.dedup.runs import MULTIPLY_1
from haina.corpus.dedup.scan import MOST_TOKENS, MULTIPLY_2, scan, whole_vectors
from haina.corpus.dedup.uniform_sort import MOST_BITS, sort_hashes
from haina.corpus.utf8 import pack

SHINGLE_BASE = 0xA0761D6478BD642F
KEY_STEP = 0xC2B2AE3D27D4EB4F
KEY_MULTIPLY = (0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3)
# Of a text without tokens, which its bytes stand for.
BYTES_SEEDS = (0x082EFA98EC4E6C89, 0x452821E638D01377)


class Tokens(NamedTuple):
    """Tokens of a batch of documents.

    Attributes:
        hashes: uint64 [tokens].
        starts, ends: byte range of each token, half-open, within its document's UTF-8: int64 [tokens].
        documents: document d has tokens documents[d] to documents[d + 1]: int64 [documents + 1].
    """

    hashes: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]


class ShingleSets(NamedTuple):
    """Sets of shingle hashes of a batch of documents.

    Attributes:
        shingles: the sets one after the other, each sorted, without repeats: uint64 [shingles].
        starts: document d has shingles starts[d] to starts[d + 1]: int64 [documents + 1].
    """

    shingles: npt.NDArray[np.uint64]
    starts: npt.NDArray[np.int64]


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _tokenize(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    table: npt.NDArray[np.uint32],
    sequences: npt.NDArray[np.uint32],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    # One token in three bytes is more than text has; memory that is not touched costs nothing.
    capacity = (offsets[-1] - offsets[0]) // 3 + 2 * MOST_TOKENS
    hashes = np.empty(capacity, dtype=np.uint64)
    starts = np.empty(capacity, dtype=np.int64)
    ends = np.empty(capacity, dtype=np.int64)
    documents = np.zeros(len(offsets), dtype=np.int64)
    count = 0
    for document in range(len(offsets) - 1):
        base, end = offsets[document], offsets[document + 1]
        place = base
        while place < end:
            if count >= len(hashes) - MOST_TOKENS:
                more = len(hashes) // 2 + MOST_TOKENS
                hashes = np.concatenate((hashes, np.empty(more, dtype=np.uint64)))
                starts = np.concatenate((starts, np.empty(more, dtype=np.int64)))
                ends = np.concatenate((ends, np.empty(more, dtype=np.int64)))
            place, count = scan(data, base, place, end, table, sequences, hashes, starts, ends, count)
        documents[document + 1] = count
    return hashes[:count], starts[:count], ends[:count], documents


def checked(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], width: int = 1
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Both as the kernels, which check nothing, may have them: read-only, so that one compiled form serves all callers.

    Raises:
        ValueError: offsets fall, or lie outside of the data, or a shingle has no token.
    """
    data = np.ascontiguousarray(data, dtype=np.uint8).view()
    offsets = np.ascontiguousarray(offsets, dtype=np.int64).view()
    if len(offsets) == 0 or offsets[0] < 0 or offsets[-1] > len(data) or np.any(offsets[1:] < offsets[:-1]):
        raise ValueError(f"offsets must rise from 0 or more to {len(data)} or less")
    if width < 1:
        raise ValueError(f"a shingle has one token or more, not {width}")
    data.setflags(write=False)
    offsets.setflags(write=False)
    return data, offsets


def tokenize_batch(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Tokens:
    """Tokens of documents that lie one after the other: document d is `data[offsets[d]:offsets[d + 1]]`."""
    return Tokens(*_tokenize(*checked(data, offsets), *load_folding()))


def tokens_of(text: str) -> npt.NDArray[np.uint64]:
    """Token hashes of a text, in order: uint64 [tokens]."""
    return tokenize_batch(*pack([text])).hashes


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def shingle_hashes(
    tokens: npt.NDArray[np.uint64], count: int, width: int, hashes: npt.NDArray[np.uint64]
) -> int:
    """Hash of every run of `width` tokens into `hashes`, repeats and all; how many there are.

    Only the first `count` of `tokens` count; both arrays may be longer, and what is behind the result is overwritten.
    Fewer tokens than `width` are one run. The hash is a polynomial of the tokens, mixed, so their order counts.
    """
    length = min(width, count)
    if length == 0:
        return 0
    shingles = count - length + 1
    limit = min(whole_vectors(shingles), len(hashes), len(tokens) - length + 1)
    for start in range(limit):
        hashes[start] = tokens[start]
    for index in range(1, length):
        for start in range(limit):
            hashes[start] = hashes[start] * np.uint64(SHINGLE_BASE) + tokens[start + index]
    for start in range(limit):
        state = hashes[start]
        state = (state ^ (state >> np.uint64(32))) * np.uint64(MULTIPLY_1)
        state = (state ^ (state >> np.uint64(29))) * np.uint64(MULTIPLY_2)
        hashes[start] = state ^ (state >> np.uint64(32))
    return shingles


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def unique_sorted(values: npt.NDArray[np.uint64]) -> int:
    """Move the different ones of sorted values to the front, in place; how many they are."""
    count = min(1, len(values))
    for index in range(1, len(values)):
        values[count] = values[index]
        count += int(values[index] != values[count - 1])
    return count


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _shingle_sets(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    table: npt.NDArray[np.uint32],
    sequences: npt.NDArray[np.uint32],
    width: int,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    shingles = np.empty((offsets[-1] - offsets[0]) // 3 + 2 * MOST_TOKENS, dtype=np.uint64)
    bounds = np.zeros(len(offsets), dtype=np.int64)
    tokens = np.empty(4096, dtype=np.uint64)
    spare = np.empty(4096, dtype=np.uint64)
    buckets = np.empty(2 << MOST_BITS, dtype=np.int64)
    total = 0
    for document in range(len(offsets) - 1):
        base, end = offsets[document], offsets[document + 1]
        place, count = base, 0
        while place < end:
            if count >= len(tokens) - MOST_TOKENS:
                tokens = np.concatenate((tokens, np.empty(len(tokens), dtype=np.uint64)))
                spare = np.empty(len(tokens), dtype=np.uint64)
            place, count = scan(data, base, place, end, table, sequences, tokens, None, None, count)
        if total + count > len(shingles):
            shingles = np.concatenate((shingles, np.empty(len(shingles) // 2 + count, dtype=np.uint64)))
        own = shingles[total : total + count]
        own = own[: shingle_hashes(tokens, count, width, own)]
        sort_hashes(own, spare, buckets)
        total += unique_sorted(own)
        bounds[document + 1] = total
    return shingles[:total], bounds


def shingle_sets(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], width: int) -> ShingleSets:
    """Sets of shingle hashes of documents: document d is `data[offsets[d]:offsets[d + 1]]`."""
    return ShingleSets(*_shingle_sets(*checked(data, offsets, width), *load_folding(), width))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _set_of(tokens: npt.NDArray[np.uint64], width: int) -> npt.NDArray[np.uint64]:
    hashes = np.empty(len(tokens), dtype=np.uint64)
    hashes = hashes[: shingle_hashes(tokens, len(tokens), width, hashes)]
    sort_hashes(hashes, np.empty(len(tokens), dtype=np.uint64), np.empty(2 << MOST_BITS, dtype=np.int64))
    return hashes[: unique_sorted(hashes)]


def shingles_of(tokens: npt.NDArray[np.uint64], width: int) -> npt.NDArray[np.uint64]:
    """Set of shingle hashes, sorted: uint64 [shingles]; at least one unless there is no token."""
    return _set_of(tokens, width)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def add_to_key(key: npt.NDArray[np.uint64], first: int, tokens: npt.NDArray[np.uint64]) -> None:
    """Add tokens that stand from place `first` on to the sums uint64 [2] that a key is made of.

    Sums of hashes of (token, place) depend on the order as a chain of hashes does, yet vectorise. The tokens of a text
    are followed by as many zeros as make their number that of `whole_vectors`.
    """
    left, right = np.uint64(0), np.uint64(0)
    for index in range(len(tokens)):
        state = tokens[index] + np.uint64(first + index) * np.uint64(KEY_STEP)
        state = (state ^ (state >> np.uint64(32))) * np.uint64(KEY_MULTIPLY[0])
        left += state ^ (state >> np.uint64(29))
        state = (state ^ (state >> np.uint64(31))) * np.uint64(KEY_MULTIPLY[1])
        right += state ^ (state >> np.uint64(32))
    key[0] += left
    key[1] += right


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def finish_key(key: npt.NDArray[np.uint64], count: int, raw: npt.NDArray[np.uint8]) -> None:
    """Make the sums uint64 [2] of a text of `count` tokens its key; `raw` are its bytes."""
    if count == 0:
        key[0], key[1] = BYTES_SEEDS
        for start in range(0, len(raw), 1024):
            add_to_key(key, start, raw[start : start + 1024].astype(np.uint64))
        count = len(raw)
    for index in range(2):
        state = key[index] ^ (np.uint64(count) * np.uint64(MULTIPLY_2))
        state = (state ^ (state >> np.uint64(32))) * np.uint64(MULTIPLY_1)
        key[index] = state ^ (state >> np.uint64(29))


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _key(tokens: npt.NDArray[np.uint64], raw: npt.NDArray[np.uint8], key: npt.NDArray[np.uint64]) -> None:
    padded = np.zeros(whole_vectors(len(tokens)), dtype=np.uint64)
    padded[: len(tokens)] = tokens
    add_to_key(key, 0, padded)
    finish_key(key, len(tokens), raw)


def exact_key(text: str, tokens: npt.NDArray[np.uint64] | None = None) -> bytes:
    """16 bytes that texts of the same tokens share; a text without tokens stands for itself.

    Args:
        text: the text.
        tokens: its token hashes, where they are at hand.
    """
    data, _ = pack([text])
    key = np.zeros(2, dtype=np.uint64)
    _key(tokens_of(text) if tokens is None else tokens, data, key)
    return key.astype("<u8").tobytes()
