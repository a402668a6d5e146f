"""All documents that could be taken, as numbers: their factors and weights, a block at a time.

Comes in: measures of all blocks, and what `lookup` found. Goes out: arrays with an entry a document, mapped
into memory, and the statistics of the whole. Two passes over the measures: one counts, one weighs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from haina.corpus.selection.budget import Arrays
from haina.corpus.selection.lookup import NO_TOPIC, flush, new_array
from haina.corpus.selection.measure import Measures
from haina.corpus.selection.richness import (
    RICHNESS_SIGNALS,
    SignalStatistics,
    StratumStatistics,
    richness_factor,
)
from haina.corpus.selection.weights import (
    QualityStatistics,
    duplicate_bucket,
    fixed,
    quality_factor,
    uniform_draws,
)

Floats = npt.NDArray[np.float64]
FACTORS = ("quality", "diversity", "frequency")
# Strata by source are for a handful of sources; where every file is one, they say nothing.
_MOST_SOURCES = 4096


@dataclass
class Pool:
    """Measures of all blocks, with the names that their codes stand for.

    Attributes:
        measures: a file a block, in order.
        languages, sources: names in alphabetical order.
        topics: names, by code.
        copies: documents of the input in each one's near-duplicate cluster: int32 [documents].
        topic: code of each document, `NO_TOPIC` without: int32 [documents].
        duplicate: whether it is a near-duplicate by meaning: bool [documents].
        folder: where the arrays of factors lie, as `NAME.npy`.
    """

    measures: Sequence[Measures]
    languages: list[str]
    sources: list[str]
    topics: list[str]
    copies: npt.NDArray[np.int32]
    topic: npt.NDArray[np.int32]
    duplicate: npt.NDArray[np.bool_]
    folder: Path

    @property
    def documents(self) -> int:
        return sum(part.rows for part in self.measures)

    def codes(self, part: Measures, column: str) -> npt.NDArray[np.int32]:
        """Language or source of the documents of a block, as an index into `languages` or `sources`."""
        names = self.languages if column == "language" else self.sources
        place = {name: number for number, name in enumerate(names)}
        codes, own = part.names(column)
        return np.array([place[name] for name in own], np.int32)[codes]

    def signals(self, part: Measures) -> dict[str, Floats]:
        """Signals of richness of a block."""
        return {name: part[name].astype(np.float64) for name in RICHNESS_SIGNALS}

    def factors(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that `weigh` filled, mapped into memory."""
        return {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in FACTORS}

    def arrays(self, seed: int) -> Iterator[Arrays]:
        """Language, weight, draw and tokens of the documents, a block at a time."""
        factors = self.factors()
        for part in self.measures:
            rows = slice(part.first, part.first + part.rows)
            weight = weight_of(*(factors[name][rows] for name in FACTORS))
            yield self.codes(part, "language"), weight, uniform_draws(part["key"], seed), part["tokens"]


def open_pool(
    measures: Sequence[Measures],
    topics: list[str],
    copies: npt.NDArray[np.int32],
    topic: npt.NDArray[np.int32],
    duplicate: npt.NDArray[np.bool_],
    folder: Path,
) -> Pool:
    """The pool of some measures."""
    names = {
        column: sorted({name for part in measures for name in part.names(column)[1]})
        for column in ("language", "source")
    }
    return Pool(measures, names["language"], names["source"], topics, copies, topic, duplicate, folder)


def weight_of(quality: Floats, diversity: Floats, frequency: Floats) -> Floats:
    """The product of the factors."""
    return np.asarray(quality * diversity * frequency)


@dataclass
class _Strata:
    """Numbers for pairs of a language and a topic, or a source where a document has no topic.

    Layout: one stratum a language for what is small, then language x (topics + sources).
    """

    languages: int
    topics: int
    sources: int

    def number(self, language: Any, topic: Any, source: Any) -> Any:
        inside = np.where(topic == NO_TOPIC, self.topics + source % self.sources, topic)
        return self.languages + language.astype(np.int64) * (self.topics + self.sources) + inside

    def small(self) -> npt.NDArray[np.int64]:
        """The stratum of a language for each stratum."""
        per_language = np.repeat(np.arange(self.languages), self.topics + self.sources)
        return np.concatenate([np.arange(self.languages), per_language]).astype(np.int64)


def weigh(pool: Pool, temperature: float) -> None:
    """Fill the arrays of factors: quality, diversity and frequency of every document, float64.

    A document without a score has the median score of its language. Diversity is 0 for a near-duplicate by meaning
    and for a document without text: they are never taken.
    """
    quality_counts = [QualityStatistics() for _ in pool.languages]
    signal_counts = [SignalStatistics() for _ in pool.languages]
    for part in pool.measures:
        language, signals = pool.codes(part, "language"), pool.signals(part)
        for code in np.unique(language):
            rows = language == code
            quality_counts[code].add(part["quality"][rows].astype(np.float64), part["duplicates"][rows])
            signal_counts[code].add(
                part["characters"][rows],
                {name: values[rows] for name, values in signals.items()},
                part["tokens"][rows],
            )

    medians = np.array([counts.median() for counts in quality_counts])
    frequencies = np.stack([counts.frequency() for counts in quality_counts])
    sources = len(pool.sources) if len(pool.sources) <= _MOST_SOURCES else 1
    strata = _Strata(len(pool.languages), len(pool.topics), sources)
    ranked = StratumStatistics.of(strata.small())
    arrays = {name: new_array(pool.folder / f"{name}.npy", np.float64, pool.documents) for name in FACTORS}
    richness = new_array(pool.folder / "richness.npy", np.float64, pool.documents)
    stratum = new_array(pool.folder / "stratum.npy", np.int64, pool.documents)
    for part in pool.measures:
        here = slice(part.first, part.first + part.rows)
        language, signals = pool.codes(part, "language"), pool.signals(part)
        score = part["quality"].astype(np.float64)
        score = np.where(np.isnan(score), medians[language], score)
        arrays["quality"][here] = quality_factor(score, temperature)
        arrays["frequency"][here] = frequencies[language, duplicate_bucket(part["duplicates"])]
        takable = (part["tokens"] > 0) & ~pool.duplicate[here]
        arrays["diversity"][here] = np.where(takable, 1.0 / pool.copies[here], 0.0)
        for code in np.unique(language):
            rows = np.flatnonzero(language == code)
            richness[part.first + rows] = signal_counts[code].richness(
                part["characters"][rows], {name: values[rows] for name, values in signals.items()}
            )
        stratum[here] = strata.number(language, pool.topic[here], pool.codes(part, "source"))
        weight = weight_of(*(arrays[name][here] for name in FACTORS))
        ranked.add(stratum[here], richness[here], fixed(weight) * part["tokens"])

    ranks, stands = ranked.ranks()
    for part in pool.measures:
        here = slice(part.first, part.first + part.rows)
        arrays["diversity"][here] *= richness_factor(richness[here], stratum[here], ranks, stands)
    for array in (*arrays.values(), richness, stratum):
        flush(array)
