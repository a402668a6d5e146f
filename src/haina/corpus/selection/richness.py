"""How much running, unrepeated language a document holds, against documents of its length and of its topic.

Comes in: signals of all documents, a block at a time. Goes out: a factor for each document. Two ranks follow
one another: each signal against all documents of the same language and length, because short texts compress
less and repeat fewer words; their mean against all documents of the same stratum (a topic, or a source),
because a law is not a poem. The factor is 1 on average in every stratum: what it prefers, it prefers within.
Histograms hold whole numbers, so that nothing depends on the order of the documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Signal and whether more of it is richer.
DIRECTIONS = {
    "signal.compression_ratio": False,
    "signal.unique_word_share": True,
    "signal.digit_share": False,
    "signal.stop_word_share": True,
}
RICHNESS_SIGNALS = tuple(DIRECTIONS)
# The richest document of a stratum weighs e ** 2 times the poorest.
STRENGTH = 2.0
# Strata with fewer documents are ranked together with the other small ones of their language.
SMALLEST_STRATUM = 30

_VALUE_BINS = 768
_LENGTH_BINS = 80
_RANK_BINS = 256


def length_bin(characters: Ints) -> Ints:
    """Half octaves of length: 0 to 79."""
    return np.minimum(2.0 * np.log2(characters + 1.0), _LENGTH_BINS - 1).astype(np.int64)


def value_bin(values: Floats) -> Ints:
    """64 bins an octave from 1/1024 to 4; what is outside counts in the first or the last."""
    place = 64.0 * (np.log2(np.maximum(values, 2.0**-10)) + 10.0)
    return np.clip(place, 0, _VALUE_BINS - 1).astype(np.int64)


def middle_ranks(histogram: Ints) -> Floats:
    """Share of the mass below the middle of each bin, along the last axis; 0.5 everywhere where there is none."""
    below = np.cumsum(histogram, axis=-1) - histogram / 2.0
    total = histogram.sum(axis=-1, keepdims=True)
    return np.where(total > 0, below / np.maximum(total, 1), 0.5)


def _empty() -> Ints:
    return np.zeros((_LENGTH_BINS, _VALUE_BINS), np.int64)


@dataclass
class SignalStatistics:
    """Signals of the documents of one language, in tokens.

    Attributes:
        histograms: by signal, then length and value: int64 [80, 768].
    """

    histograms: dict[str, Ints] = field(default_factory=lambda: {name: _empty() for name in DIRECTIONS})

    def add(self, characters: Ints, signals: Mapping[str, Floats], tokens: Ints) -> None:
        """Count documents; a signal that is NaN is passed over."""
        length = length_bin(characters)
        for name, histogram in self.histograms.items():
            known = ~np.isnan(signals[name])
            np.add.at(histogram, (length[known], value_bin(signals[name][known])), tokens[known])

    def richness(self, characters: Ints, signals: Mapping[str, Floats]) -> Floats:
        """Mean rank over the signals, 1 for the richest of its length; one that is NaN ranks in the middle."""
        length = length_bin(characters)
        total = np.zeros(len(characters))
        for name, rising in DIRECTIONS.items():
            values = signals[name]
            known = ~np.isnan(values)
            rank = np.full(len(values), 0.5)
            rank[known] = middle_ranks(self.histograms[name])[length[known], value_bin(values[known])]
            total += rank if rising else 1.0 - rank
        return total / len(DIRECTIONS)


@dataclass
class StratumStatistics:
    """Richness of the documents of all strata, in expected tokens.

    Attributes:
        histogram: fixed-point weight x tokens, by stratum and richness: int64 [strata, 256].
        documents: int64 [strata].
        language: the stratum that holds the small ones of a stratum's language: int64 [strata].
    """

    histogram: Ints
    documents: Ints
    language: Ints

    @classmethod
    def of(cls, language: Ints) -> StratumStatistics:
        """Empty statistics."""
        count = len(language)
        return cls(np.zeros((count, _RANK_BINS), np.int64), np.zeros(count, np.int64), language)

    def add(self, stratum: Ints, richness: Floats, mass: Ints) -> None:
        """Count documents, each with its fixed-point weight x tokens."""
        np.add.at(self.histogram, (stratum, _rank_bin(richness)), mass)
        self.documents += np.bincount(stratum, minlength=len(self.documents))

    def ranks(self) -> tuple[Floats, Ints]:
        """Ranks of the bins of every stratum, and the stratum whose ranks hold for each.

        Returns:
            float64 [strata, 256] and int64 [strata].
        """
        small = self.documents < SMALLEST_STRATUM
        stands = np.where(small, self.language, np.arange(len(small)))
        merged = np.zeros_like(self.histogram)
        np.add.at(merged, stands, self.histogram)
        return middle_ranks(merged), stands


def _rank_bin(richness: Floats) -> Ints:
    return np.clip(richness * _RANK_BINS, 0, _RANK_BINS - 1).astype(np.int64)


def richness_factor(richness: Floats, stratum: Ints, ranks: Floats, stands: Ints) -> Floats:
    """Weight of documents by their rank within their stratum; 1 on average over ranks.

    Args:
        richness, stratum: of each document.
        ranks, stands: of `StratumStatistics.ranks`.
    """
    rank = ranks[stands[stratum], _rank_bin(richness)]
    return np.asarray(np.exp(STRENGTH * (rank - 0.5)) * (STRENGTH / 2.0) / math.sinh(STRENGTH / 2.0))
