"""The runs of tokens that a search starts from.

Comes in: the tokens of all parts with their bits. Goes out: hashes with the places they stand for, and what
they are looked up with: bit sets and a hash table. A seed is a run of 6 units that costs an ordinary text
enough bits; a run that many parts share is a habit of examiners and no seed. Of long parts a sample by hash is
enough, which keeps the bit set of the others, that every token of every document is tried against, in the
processor's cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.decontaminate.grams import Int64, UInt8, UInt32, UInt64, grams_of
from haina.corpus.decontaminate.index import OPTION, PASSAGE, QUESTION

SEED_UNITS, SHORT_UNITS = 6, 4
SEED_BITS = 16.0
# Kinds of seeds: a quarter of the runs of long parts, all runs of questions with few, runs of 4 units.
SAMPLED, WHOLE, BRIEF = 1, 2, 4
SAMPLE_SHIFT, SAMPLE_MASK = 20, 3
# So many sampled seeds make the others of a part unnecessary.
FEWEST_SAMPLED = 4
# Parts that may share a seed, and groups that may share a part, by its role.
MOST_PARTS = 24
MOST_GROUPS = {QUESTION: 32, OPTION: 8, PASSAGE: 256}


class Seeds(NamedTuple):
    """Seeds sorted by hash; seed s stands at postings starts[s] to starts[s + 1].

    Attributes:
        hashes: uint64 [seeds]. starts: int64 [seeds + 1].
        parts, places: part and token in it of each posting: int32 [postings].
        kinds: SAMPLED, WHOLE and BRIEF as bits: uint8 [seeds].
    """

    hashes: UInt64
    starts: Int64
    parts: npt.NDArray[np.int32]
    places: npt.NDArray[np.int32]
    kinds: UInt8


def sampled(hashes: UInt64) -> npt.NDArray[np.bool_]:
    """The quarter of all runs that documents are searched for everywhere."""
    return (hashes >> np.uint64(SAMPLE_SHIFT)) & np.uint64(SAMPLE_MASK) == 0


def choose_seeds(
    tokens: UInt32,
    units: UInt8,
    part_starts: Int64,
    bits: npt.NDArray[np.float64],
    members: list[list[int]],
    roles: list[list[int]],
) -> Seeds:
    """The runs that a search starts from.

    Of a part with many runs a sample is enough. Questions with few give all of theirs, and so do the options of a
    question that has none. What then has nothing gives runs of 4 units.
    """
    parts = len(members)
    owner = np.repeat(np.arange(parts), np.diff(part_starts))
    place = np.arange(len(tokens)) - np.repeat(part_starts[:-1], np.diff(part_starts))
    total = np.concatenate([[0.0], np.cumsum(bits)])
    usable = np.zeros(parts, dtype=np.bool_)
    for part, (groups, kinds) in enumerate(zip(members, roles, strict=True)):
        usable[part] = bool(groups) and all(len(groups) <= MOST_GROUPS[role] for role in kinds)

    def runs(size: int) -> tuple[Int64, UInt64]:
        """Tokens where a run of enough bits begins that few parts have, and the hash of the run at every token."""
        hashes, lengths = grams_of(tokens, units, part_starts, size)
        found = np.flatnonzero(lengths)
        found = found[usable[owner[found]]]
        found = found[total[found + lengths[found]] - total[found] >= SEED_BITS]
        _, inverse = np.unique(hashes[found], return_inverse=True)
        pairs = np.sort(inverse * parts + owner[found])
        pairs = pairs[np.diff(pairs, prepend=-1) != 0]
        spread = np.bincount(pairs // max(parts, 1))
        return found[spread[inverse] <= MOST_PARTS], hashes

    found, hashes = runs(SEED_UNITS)
    counts = np.bincount(owner[found], minlength=parts)
    of_sample = np.bincount(owner[found[sampled(hashes[found])]], minlength=parts)
    of_questions = np.array([QUESTION in kinds for kinds in roles], dtype=np.bool_)
    alone = {
        group for part in np.flatnonzero(of_questions & (counts == 0)).tolist() for group in members[part]
    }
    helpers = np.array([not alone.isdisjoint(groups) for groups in members], dtype=np.bool_)
    whole = (of_sample < FEWEST_SAMPLED) & (of_questions | helpers)
    kind = np.where(whole[owner[found]], WHOLE, SAMPLED).astype(np.uint8)
    taken = (kind == WHOLE) | sampled(hashes[found])
    columns = [(hashes[found[taken]], found[taken], kind[taken])]
    reached = {group for part in np.unique(owner[found[taken]]).tolist() for group in members[part]}
    left = [
        asked and not reached.issuperset(groups) for asked, groups in zip(of_questions, members, strict=True)
    ]
    found, hashes = runs(SHORT_UNITS)
    found = found[np.array(left, dtype=np.bool_)[owner[found]]]
    columns.append((hashes[found], found, np.full(len(found), BRIEF, dtype=np.uint8)))
    values, at, kind = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.lexsort((at, values))
    values, at, kind = values[order], at[order], kind[order]
    unique, first = np.unique(values, return_index=True)
    starts = np.append(first, len(values)).astype(np.int64)
    merged = np.bitwise_or.reduceat(kind, first) if len(first) else kind
    return Seeds(unique, starts, owner[at].astype(np.int32), place[at].astype(np.int32), merged)


def reach_of(seeds: Seeds, units: UInt8, part_starts: Int64) -> npt.NDArray[np.int32]:
    """Units of each part that lie in its seeds: int32 [parts]."""
    seen = np.zeros(len(units), dtype=np.bool_)
    _cover(seen, units, part_starts, seeds.parts, seeds.places)
    covered = np.concatenate([[0], np.cumsum(np.where(seen, units, 0))])
    return (covered[part_starts[1:]] - covered[part_starts[:-1]]).astype(np.int32)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _cover(
    seen: npt.NDArray[np.bool_],
    units: UInt8,
    starts: Int64,
    parts: npt.NDArray[np.int32],
    places: npt.NDArray[np.int32],
) -> None:
    for posting in range(len(parts)):
        end = starts[parts[posting] + 1]
        at = starts[parts[posting]] + places[posting]
        total = 0
        while at < end and total < SEED_UNITS:
            seen[at] = True
            total += units[at]
            at += 1


def filter_of(seeds: UInt64) -> UInt64:
    """Bit set of some hashes, eight to sixteen bits for each: uint64 [2^k]. The upper bits of a hash choose the bit."""
    power = max(13, (8 * len(seeds)).bit_length())
    out = np.zeros(1 << (power - 6), dtype=np.uint64)
    bit = seeds >> np.uint64(64 - power)
    np.bitwise_or.at(out, (bit >> np.uint64(6)).astype(np.int64), np.uint64(1) << (bit & np.uint64(63)))
    return out


def table_of(seeds: UInt64) -> npt.NDArray[np.int32]:
    """Open-addressing table from the lower bits of a hash to its number + 1."""
    table = np.zeros(1 << max(8, (2 * len(seeds)).bit_length()), dtype=np.int32)
    _fill(seeds, table)
    return table


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _fill(seeds: UInt64, table: npt.NDArray[np.int32]) -> None:
    mask = np.uint64(len(table) - 1)
    for number in range(len(seeds)):
        slot = seeds[number] & mask
        while table[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        table[slot] = number + 1
