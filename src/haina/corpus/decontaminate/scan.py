"""From the tokens of documents to places where an item might stand.

Comes in: tokens of a batch and the index. Goes out: candidates (document, group, range of tokens). Seeds of one
part that lie close together have to cover a share of it; each group of that part is then a candidate, and
ranges of the same group that touch become one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.decontaminate.grams import Int64, UInt8, UInt32
from haina.corpus.decontaminate.index import OPTION, Arrays
from haina.corpus.decontaminate.lookup import find_seeds
from haina.corpus.decontaminate.seeds import SEED_UNITS

# Share that has to be found of what the seeds of a question, an option, a passage cover: an option alone says
# little, a passage is long.
LEAST_SHARE = (0.25, 0.5, 0.12)
# Tokens between what belongs together, beside half the part's length: option letters, a page's furniture.
SLACK = 24
# Tokens of a passage that count when the range around a question is chosen.
PASSAGE_TOKENS = 1500
# Sign of a candidate that was found by a question or a passage; options have a bit each.
STRONG = np.int64(1) << np.int64(61)


class Candidates(NamedTuple):
    """Where to look: document of the batch, group, and the first and last token + 1 of the range in the batch."""

    documents: Int64
    groups: Int64
    lows: Int64
    highs: Int64


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _expand(seeds: Int64, arrays: Arrays) -> Int64:
    """Every part and place that seeds stand for: int64 [4, hits], each document, part, token, place in the part."""
    total = 0
    for seed in seeds[2]:
        total += arrays.seed_starts[seed + 1] - arrays.seed_starts[seed]
    out = np.empty((4, total), dtype=np.int64)
    count = 0
    for hit in range(seeds.shape[1]):
        seed = seeds[2, hit]
        for posting in range(arrays.seed_starts[seed], arrays.seed_starts[seed + 1]):
            out[0, count], out[1, count] = seeds[0, hit], arrays.seed_parts[posting]
            out[2, count], out[3, count] = seeds[1, hit], arrays.seed_places[posting]
            count += 1
    return out


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _covered(hits: Int64, first: int, last: int, part: int, arrays: Arrays) -> int:
    """Units of a part that hits first to last cover."""
    start, end = arrays.starts[part], arrays.starts[part + 1]
    seen = np.zeros(end - start, dtype=np.bool_)
    for hit in range(first, last):
        total = 0
        place = start + hits[3, hit]
        while place < end and total < SEED_UNITS:
            seen[place - start] = True
            total += arrays.units[place]
            place += 1
    covered = 0
    for place in range(start, end):
        covered += arrays.units[place] * seen[place - start]
    return covered


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _span(group: int, arrays: Arrays) -> int:
    """Tokens around a hit in which the rest of its group is looked for."""
    size = SLACK
    question, passage = arrays.questions[group], arrays.passages[group]
    if question >= 0:
        size += arrays.starts[question + 1] - arrays.starts[question]
    for place in range(arrays.option_starts[group], arrays.option_starts[group + 1]):
        option = arrays.options[place]
        size += arrays.starts[option + 1] - arrays.starts[option] + 2
    if passage >= 0:
        size += min(arrays.starts[passage + 1] - arrays.starts[passage], PASSAGE_TOKENS)
    return size * 3 // 2


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _sign(group: int, part: int, role: int, arrays: Arrays) -> int:
    """The bit of an option in its group, or STRONG."""
    for place in range(arrays.option_starts[group], arrays.option_starts[group + 1]):
        if role == OPTION and arrays.options[place] == part:
            return int(np.int64(1) << np.int64(min(place - arrays.option_starts[group], 60)))
    return int(STRONG)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _clusters(hits: Int64, documents: Int64, arrays: Arrays) -> Int64:
    """Candidates from hits sorted by document, part and token: int64 [5, candidates].

    Each document, group, first token, last token + 1, and the sign of the part that it was found by.
    """
    out = np.empty((5, 256), dtype=np.int64)
    count = 0
    first = 0
    while first < hits.shape[1]:
        document, part = hits[0, first], hits[1, first]
        reach = (arrays.starts[part + 1] - arrays.starts[part]) * 3 // 2 + SLACK
        last = first + 1
        while (
            last < hits.shape[1]
            and hits[1, last] == part
            and hits[0, last] == document
            and hits[2, last] - hits[2, last - 1] <= reach
        ):
            last += 1
        covered = _covered(hits, first, last, part, arrays)
        for member in range(arrays.member_starts[part], arrays.member_starts[part + 1]):
            group, role = arrays.members[member], arrays.roles[member]
            if covered < LEAST_SHARE[role] * arrays.reach[part]:
                continue
            if count == out.shape[1]:
                larger = np.empty((5, 2 * count), dtype=np.int64)
                larger[:, :count] = out
                out = larger
            size = _span(group, arrays)
            out[0, count], out[1, count] = document, group
            out[2, count] = max(documents[document], hits[2, first] - size)
            out[3, count] = min(documents[document + 1], hits[2, last - 1] + size)
            out[4, count] = _sign(group, part, role, arrays)
            count += 1
        first = last
    return out[:, :count]


def find_candidates(tokens: UInt32, units: UInt8, documents: Int64, arrays: Arrays) -> Candidates:
    """Ranges of documents that hold enough of a part to be looked at, sorted by document, group and place.

    One option by itself is no reason to look, unless the question could not have been found.
    """
    hits = _expand(find_seeds(tokens, units, documents, arrays), arrays)
    found = _clusters(np.ascontiguousarray(hits[:, np.lexsort(hits[::-1])]), documents, arrays)
    owners, groups, lows, highs, signs = found[:, np.lexsort(found[::-1])]
    if not len(owners):
        return Candidates(owners, groups, lows, highs)
    keep = _merge(owners, groups, lows, highs, signs, arrays.alone)
    return Candidates(owners[keep], groups[keep], lows[keep], highs[keep])


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _merge(
    owners: Int64, groups: Int64, lows: Int64, highs: Int64, signs: Int64, alone: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Joins touching ranges of a group in a document into the first of them; which rows are worth looking at."""
    keep = np.zeros(len(owners), dtype=np.bool_)
    last = 0
    for row in range(len(owners)):
        same = (
            row > 0
            and owners[row] == owners[last]
            and groups[row] == groups[last]
            and lows[row] <= highs[last]
        )
        if same:
            highs[last] = max(highs[last], highs[row])
            signs[last] |= signs[row]
        else:
            last = row
        sign = signs[last]
        several = sign & (sign - 1) != 0
        keep[last] = several or sign == STRONG or alone[groups[last]]
    return keep
