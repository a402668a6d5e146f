"""What a selection did, in numbers: by language, topic and source, before and after.

Comes in: the pool and the scales. Goes out: a dictionary for `summary.json`. Everything is summed in whole
numbers, so that it does not depend on the order of the documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from haina.corpus.selection.lookup import NO_TOPIC
from haina.corpus.selection.pool import Pool
from haina.corpus.selection.weights import FIXED_BITS, fixed
from haina.corpus.selection.write import decide

Ints = npt.NDArray[np.int64]
# Of topics and sources, the largest are listed one by one.
LISTED = 1000
_ONE = float(1 << FIXED_BITS)
_COUNTS = (
    "documents_in", "documents_out", "tokens_in", "tokens_out", "scored_in", "scored_out", "quality_in",
    "quality_out", "copied_in", "copied_out", "chance", "chance_squared",
)  # fmt: skip


class _Table:
    """Whole-number sums by a code: int64 [names] each."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.sums = {name: np.zeros(len(names), np.int64) for name in _COUNTS}

    def add(self, code: npt.NDArray[np.int32], values: Mapping[str, Ints]) -> None:
        rows = code >= 0
        for name, sums in self.sums.items():
            np.add.at(sums, code[rows], values[name][rows])

    def row(self, place: int) -> dict[str, Any]:
        """Documents and tokens before and after."""
        return {name: int(self.sums[name][place]) for name in _COUNTS[:4]}

    def largest(self) -> dict[str, dict[str, Any]]:
        """Rows by falling tokens, names in order where these are equal."""
        order = sorted(
            range(len(self.names)), key=lambda place: (-self.sums["tokens_in"][place], self.names[place])
        )
        return {self.names[place]: self.row(place) for place in order[:LISTED]}


def _values(
    numbers: Mapping[str, Any], chosen: npt.NDArray[np.bool_], quality: npt.NDArray[np.float32], copies: Any
) -> dict[str, Ints]:
    """What is summed of each document."""
    tokens, one, taken = numbers["tokens"], np.ones(len(chosen), np.int64), chosen.astype(np.int64)
    known = ~np.isnan(quality)
    score = fixed(np.where(known, quality, 0.0).astype(np.float64))
    chance = fixed(numbers["probability"])
    before = {
        "documents": one,
        "tokens": tokens,
        "scored": tokens * known,
        "quality": score * tokens,
        "copied": (copies > 1).astype(np.int64),
    }
    return {
        **{f"{name}_in": values for name, values in before.items()},
        **{f"{name}_out": values * taken for name, values in before.items()},
        "chance": chance,
        "chance_squared": chance * chance >> FIXED_BITS,
    }


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def summarise(
    pool: Pool, scales: Mapping[str, float], budgets: Mapping[str, int], seed: int
) -> dict[str, Any]:
    """The figures of a selection.

    Effective documents are (sum p)^2 / sum p^2 (Kish 1965): over how many documents the choice is spread.
    """
    languages, topics, sources = _Table(pool.languages), _Table(pool.topics), _Table(pool.sources)
    factors = pool.factors()
    for part in pool.measures:
        here = slice(part.first, part.first + part.rows)
        decided = decide(part, factors, scales, seed)
        values = _values(decided.numbers, decided.chosen, part["quality"], pool.copies[here])
        languages.add(pool.codes(part, "language"), values)
        sources.add(pool.codes(part, "source"), values)
        if len(pool.topics):
            topics.add(np.asarray(pool.topic[here]), values)
    by_language = {}
    for place, name in enumerate(pool.languages):
        sums = {column: int(values[place]) for column, values in languages.sums.items()}
        by_language[name] = {
            **languages.row(place),
            "budget": budgets[name],
            "scale": None if math.isinf(scales[name]) else scales[name],
            "quality_in": _ratio(sums["quality_in"], int(sums["scored_in"] * _ONE)),
            "quality_out": _ratio(sums["quality_out"], int(sums["scored_out"] * _ONE)),
            "copied_in": sums["copied_in"],
            "copied_out": sums["copied_out"],
            "effective_documents": round(sums["chance"] ** 2 / (sums["chance_squared"] * _ONE), 1)
            if sums["chance_squared"]
            else 0.0,
        }
    totals = {name: sum(row[name] for row in by_language.values()) for name in _COUNTS[:4]}
    return {
        **totals,
        "dropped": totals["documents_in"] - totals["documents_out"],
        "topics_in": int((topics.sums["documents_in"] > 0).sum()),
        "topics_out": int((topics.sums["documents_out"] > 0).sum()),
        "without_topic": int((pool.topic == NO_TOPIC).sum()) if pool.topics else 0,
        "similar_meaning": int(pool.duplicate.sum()),
        "by_language": by_language,
        "by_topic": topics.largest(),
        "by_source": sources.largest(),
    }
