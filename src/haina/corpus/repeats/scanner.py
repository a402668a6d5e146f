"""What a level looks at in a text: keyed units, or keyed windows of tokens.

Comes in: a batch of texts with their tokens. Goes out: short hashes of everything that might stand twice, to find out
what does; then, for what might, one row each with its 128-bit key and its place. Lines, paragraphs, sentences and
windows differ here and nowhere else.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.repeats.blocks import TokenBatch
from haina.corpus.repeats.config import Level, RepeatsConfig
from haina.corpus.repeats.tables import I64, U64, HashSet, Occurrences, contains, no_occurrences
from haina.corpus.repeats.units import units_batch
from haina.corpus.repeats.windows import (
    HIGH_SEED,
    LOW_SEED,
    MASK,
    _mix,
    batch_minimizers,
    batch_windows,
    gram_width,
    mix_plain,
)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _unit_keys(
    hashes: U64, places: I64, documents: I64, offsets: I64, starts: I64, ends: I64, bounds: I64
) -> tuple[U64, U64, I64, I64]:
    """Keys of units, their numbers of tokens, and the piece each stands in."""
    high, low = np.zeros(len(starts), dtype=np.uint64), np.zeros(len(starts), dtype=np.uint64)
    counts, pieces = np.zeros(len(starts), dtype=np.int64), np.empty(len(starts), dtype=np.int64)
    for piece in range(len(bounds) - 1):
        token, last, base = documents[piece], documents[piece + 1], offsets[piece]
        for unit in range(bounds[piece], bounds[piece + 1]):
            while token < last and base + places[token] < starts[unit]:
                token += 1
            left, right, first = np.uint64(HIGH_SEED), np.uint64(LOW_SEED), token
            while token < last and base + places[token] < ends[unit]:
                left = (left ^ hashes[token]) * np.uint64(HIGH_SEED)
                left ^= left >> np.uint64(29)
                right = (right + hashes[token]) * np.uint64(LOW_SEED)
                right ^= right >> np.uint64(32)
                token += 1
            high[unit], low[unit] = _mix(left), _mix(right)
            counts[unit], pieces[unit] = token - first, piece
    return high, low, counts, pieces


def unit_key_plain(tokens: list[int]) -> tuple[int, int]:
    """Both halves of the key of a unit, in Python integers."""
    left, right = HIGH_SEED, LOW_SEED
    for token in tokens:
        left = ((left ^ token) * HIGH_SEED) & MASK
        left ^= left >> 29
        right = ((right + token) * LOW_SEED) & MASK
        right ^= right >> 32
    return mix_plain(left), mix_plain(right)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _held(values: U64, slots: npt.NDArray[np.int32], known: U64) -> npt.NDArray[np.bool_]:
    found = np.empty(len(values), dtype=np.bool_)
    for index in range(len(values)):
        found[index] = contains(values[index], slots, known)
    return found


class Scanner:
    """A level's way through batches.

    Attributes:
        level: line, paragraph, sentence or substring.
        width: tokens of a window; 0 for units.
    """

    def __init__(self, config: RepeatsConfig) -> None:
        self.level: Level = config.level
        self.width = config.tokens if config.level == "substring" else 0

    @property
    def overlap(self) -> int:
        """Tokens that pieces of a long document share."""
        return max(0, self.width - 1)

    def hashes(self, batch: TokenBatch) -> tuple[U64, npt.NDArray[np.bool_]]:
        """Even 64-bit hashes of what the batch holds, and which of them stand for more than one thing."""
        if self.width:
            tokens = batch.tokens
            return batch_minimizers(
                tokens.hashes, tokens.documents, batch.pieces[:, 3], self.width, gram_width(self.width)
            )
        high = self._units(batch)[3]
        return high & np.uint64(MASK - 1), np.zeros(len(high), dtype=np.bool_)

    def rows(self, batch: TokenBatch, repeated: HashSet, rank: I64) -> Occurrences:
        """Everything in the batch whose hash is among `repeated`, one row each.

        Args:
            batch: texts and tokens.
            repeated: the hashes of the block that were seen twice.
            rank: of each document of the block.
        """
        if self.width:
            return self._windows(batch, repeated, rank)
        starts, ends, piece, high, low, tokens = self._units(batch)
        held = _held(high & np.uint64(MASK - 1), repeated.slots, repeated.values)
        piece = piece[held]
        own = batch.pieces[piece]
        shift = own[:, 1] - batch.offsets[piece]
        starts, ends, high = starts[held] + shift, ends[held] + shift, high[held]
        return _rows(high, low[held], high, own[:, 0], rank, starts, starts, ends, tokens[held])

    def _units(self, batch: TokenBatch) -> tuple[I64, I64, I64, U64, U64, I64]:
        assert self.level != "substring"
        starts, ends, bounds = units_batch(batch.data, batch.offsets, self.level)
        tokens = batch.tokens
        high, low, counts, piece = _unit_keys(
            tokens.hashes, tokens.starts, tokens.documents, batch.offsets, starts, ends, bounds
        )
        some = counts > 0  # a rule or a row of stars is nothing that could be compared
        return starts[some], ends[some], piece[some], high[some], low[some], counts[some]

    def _windows(self, batch: TokenBatch, repeated: HashSet, rank: I64) -> Occurrences:
        if not repeated.count:
            return no_occurrences()
        tokens = batch.tokens
        piece, first, route, high, low = batch_windows(
            tokens.hashes,
            tokens.documents,
            batch.pieces[:, 3],
            self.width,
            gram_width(self.width),
            repeated.slots,
            repeated.values,
        )
        own = batch.pieces[piece]
        index = tokens.documents[piece] + first
        return _rows(
            high,
            low,
            route,
            own[:, 0],
            rank,
            own[:, 2] + first,
            own[:, 1] + tokens.starts[index],
            own[:, 1] + tokens.ends[index + self.width - 1],
            np.full(len(high), self.width, dtype=np.int64),
        )


def _rows(
    high: U64,
    low: U64,
    route: U64,
    document: I64,
    rank: I64,
    position: I64,
    start: I64,
    end: I64,
    tokens: I64,
) -> Occurrences:
    once = np.ones(len(high), dtype=np.int64)
    document = np.ascontiguousarray(document)
    return Occurrences(high, low, route, document, rank[document], position, start, end, tokens, once, once)
