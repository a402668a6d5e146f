"""What a document weighs: quality x diversity x frequency, as plain functions of arrays.

Comes in: columns of numbers and the histograms of the whole pool. Goes out: factors, all positive. Histograms
hold whole numbers, so that sums do not depend on the order of the documents.

    quality     score ** (1 / temperature)
    diversity   richness / copies: what is said several times counts once, and within a topic documents that
                repeat themselves count less
    frequency   how good documents with as many removed duplicates are, against all (FineWeb-2's rehydration,
                Penedo et al. 2025, arXiv 2506.20920, with scores in place of filter rates)

Weighted sampling by quality follows QuRating (Wettig et al. 2024, arXiv 2402.09739), less weight for what is
dense or said twice SemDeDup and D4 (Abbas et al. 2023, arXiv 2303.09540; Tirumala et al. 2023, arXiv
2308.12284).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Of a document with score 0: it comes last, but a budget as large as the pool takes it.
LOWEST_QUALITY = 1e-3
FREQUENCY_RANGE = (0.5, 2.0)
# A bucket of duplicates is drawn towards the mean of all as if it had this many more average documents.
FREQUENCY_PRIOR = 100
FREQUENCY_BUCKETS = 64

QUALITY_BINS = 4096
# Fractions are summed as whole multiples of 2 ** -FIXED_BITS.
FIXED_BITS = 16


def fixed(values: Floats) -> Ints:
    """Values as whole multiples of 2 ** -FIXED_BITS: sums of these are the same in any order."""
    return np.rint(values * (1 << FIXED_BITS)).astype(np.int64)


def quality_factor(quality: Floats, temperature: float) -> Floats:
    """Weight for a score of 0 to 1; it rises with the score."""
    lifted = LOWEST_QUALITY + (1.0 - LOWEST_QUALITY) * quality
    return np.asarray(lifted ** (1.0 / temperature))


@dataclass
class QualityStatistics:
    """Scores of one language, in documents.

    Attributes:
        histogram: of scores: int64 [QUALITY_BINS].
        sums, counts: fixed-point scores and documents, by bucket of duplicates: int64 [FREQUENCY_BUCKETS].
    """

    histogram: Ints = field(default_factory=lambda: np.zeros(QUALITY_BINS, np.int64))
    sums: Ints = field(default_factory=lambda: np.zeros(FREQUENCY_BUCKETS, np.int64))
    counts: Ints = field(default_factory=lambda: np.zeros(FREQUENCY_BUCKETS, np.int64))

    def add(self, quality: Floats, duplicates: Ints) -> None:
        """Count documents; those without a score are passed over."""
        known = ~np.isnan(quality)
        bins = np.minimum(quality[known] * QUALITY_BINS, QUALITY_BINS - 1).astype(np.int64)
        self.histogram += np.bincount(bins, minlength=QUALITY_BINS)
        bucket = duplicate_bucket(duplicates[known])
        np.add.at(self.sums, bucket, fixed(quality[known]))
        self.counts += np.bincount(bucket, minlength=FREQUENCY_BUCKETS)

    def median(self) -> float:
        """Of the scores, to 1 / QUALITY_BINS; 1 when there are none, which makes all alike."""
        total = int(self.histogram.sum())
        if not total:
            return 1.0
        place = int(np.searchsorted(np.cumsum(self.histogram), (total + 1) // 2))
        return (place + 0.5) / QUALITY_BINS

    def frequency(self) -> Floats:
        """Factor of each bucket of duplicates: float64 [FREQUENCY_BUCKETS], 1 where all documents stand alone."""
        sums, counts = self.sums / float(1 << FIXED_BITS), self.counts
        total = int(counts.sum())
        mean = float(sums.sum()) / total if total else 0.0
        if mean <= 0.0 or int((counts > 0).sum()) < 2:
            return np.ones(FREQUENCY_BUCKETS)
        drawn = (sums + FREQUENCY_PRIOR * mean) / (counts + FREQUENCY_PRIOR)
        return np.clip(drawn / mean, *FREQUENCY_RANGE)


def duplicate_bucket(duplicates: Ints) -> npt.NDArray[np.int64]:
    """Whole octaves of the number of documents that one stands for: 1 is 0, 2-3 is 1, 4-7 is 2."""
    return np.minimum(np.log2(np.maximum(duplicates, 1)), FREQUENCY_BUCKETS - 1).astype(np.int64)


def uniform_draws(keys: npt.NDArray[np.uint64], seed: int) -> Floats:
    """A number between 0 and 1, ends excluded, for each key: SplitMix64 (Steele et al. 2014) of key and seed."""
    mask = (1 << 64) - 1
    start = (seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & mask
    with np.errstate(over="ignore"):
        mixed = keys ^ np.uint64(start)
        for _ in range(2):
            mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(31))
    return np.asarray(((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / float(1 << 53))
