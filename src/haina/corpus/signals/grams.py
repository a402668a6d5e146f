"""Repetition: which words, and runs of two to ten words, a document repeats, and which terms of the lexicons it has.

Comes in: the hashes and lengths of the words. Goes out: counts, and how many characters repetition covers (Rae et al.
2021, appendix A). Words get numbers from 0 in order of first appearance, and a run of n words is the pair of the two
runs of n - 1 words in it, so runs are compared exactly. A run that occurs once repeats nothing, and neither does a
longer run around it: each order looks only at places where the order before found repeats.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.signals.scan import HAS_POLICY
from haina.corpus.signals.tables import GOPHER, LOREM_IPSUM, MULTIPLIER, POLICY_LINES, STOP_EN, STOP_ZH

TOP_WIDTHS = (2, 3, 4)
DUPLICATE_WIDTHS = (5, 6, 7, 8, 9, 10)
CATEGORIES = LOREM_IPSUM + 1


class GramScratch(NamedTuple):
    """Arrays as long as the longest document has words; `slots` is a hash table over entries, a power of two long."""

    slots: npt.NDArray[np.int32]
    keys: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.int32]
    firsts: npt.NDArray[np.int32]
    gram: npt.NDArray[np.int32]
    places: npt.NDArray[np.int32]
    number: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int64]
    terms: npt.NDArray[np.int64]


def new_gram_scratch(longest: int) -> GramScratch:
    """Scratch for documents of up to `longest` words."""

    def empty(dtype: Any) -> Any:
        return np.empty(longest + 1, dtype=dtype)

    return GramScratch(
        np.empty(table_size(longest), dtype=np.int32),
        empty(np.uint64), empty(np.int32), empty(np.int32), empty(np.int32), empty(np.int32), empty(np.int32),
        empty(np.int64), np.zeros(CATEGORIES, dtype=np.int64),
    )  # fmt: skip


@nb.njit(cache=True, nogil=True)
def table_size(count: int) -> int:
    """Slots of a hash table of `count` entries: a power of two, at most half full."""
    size = 16
    while size < 2 * count:
        size *= 2
    return size


@nb.njit(cache=True, nogil=True)
def number_of(
    slots: npt.NDArray[np.int32], mask: np.int64, keys: npt.NDArray[np.uint64], key: np.uint64, entries: int
) -> int:
    """Number of the entry with this key; `entries`, the next free number, when it is new and was put there."""
    mixed = key * np.uint64(MULTIPLIER)
    slot = np.int64((mixed ^ (mixed >> np.uint64(32))) >> np.uint64(8)) & mask
    while True:
        entry = slots[slot]
        if entry < 0:
            slots[slot] = entries
            keys[entries] = key
            return entries
        if keys[entry] == key:
            return int(entry)
        slot = (slot + 1) & mask


@nb.njit(cache=True, nogil=True)
def repeated_rows(
    scratch: GramScratch, hashes: npt.NDArray[np.uint64], lengths: npt.NDArray[np.int32], count: int
) -> tuple[int, int]:
    """How many of `count` rows (lines, paragraphs) stood before, and their characters."""
    slots, keys = scratch.slots, scratch.keys
    size = table_size(count)
    slots[:size] = -1
    entries = repeated = characters = 0
    for row in range(count):
        found = number_of(slots, size - 1, keys, hashes[row], entries)
        if found == entries:
            entries += 1
        else:
            repeated += 1
            characters += lengths[row]
    return repeated, characters


@nb.njit(cache=True, nogil=True)
def _known_word(hashes: npt.NDArray[np.uint64], numbers: npt.NDArray[np.int32], key: np.uint64) -> int:
    """Number of a word in the lexicon, 0 when it is not there."""
    mask = np.int64(len(hashes) - 1)
    slot = np.int64(key & np.uint64(mask))
    while numbers[slot]:
        if hashes[slot] == key:
            return int(numbers[slot])
        slot = (slot + 1) & mask
    return 0


@nb.njit(cache=True, nogil=True)
def _child(edges: npt.NDArray[np.int64], targets: npt.NDArray[np.int32], node: int, word: int) -> int:
    """Node of the trie after one more word, 0 when no term goes on so."""
    edge = node << 20 | word
    mask = len(edges) - 1
    slot = np.int64((np.uint64(edge) * np.uint64(MULTIPLIER)) >> np.uint64(40)) & mask
    while edges[slot] >= 0:
        if edges[slot] == edge:
            return int(targets[slot])
        slot = (slot + 1) & mask
    return 0


@nb.njit(cache=True, nogil=True)
def count_words(
    scratch: GramScratch,
    word_hash: npt.NDArray[np.uint64],
    count: int,
    hashes: npt.NDArray[np.uint64],
    numbers: npt.NDArray[np.int32],
    flags: npt.NDArray[np.uint32],
    chinese: bool,
) -> tuple[int, int, int]:
    """Number the words: (different words, stop words, different words of Gopher's list).

    Leaves in `gram` the number of each word, in `counts` how often each occurs, in `number` its place in the lexicon.
    """
    size = table_size(count)
    slots, keys, counts, gram, number = (
        scratch.slots,
        scratch.keys,
        scratch.counts,
        scratch.gram,
        scratch.number,
    )
    slots[:size] = -1
    entries = 0
    for word in range(count):
        entry = number_of(slots, size - 1, keys, word_hash[word], entries)
        if entry == entries:
            counts[entry] = 0
            number[entry] = _known_word(hashes, numbers, word_hash[word])
            entries += 1
        counts[entry] += 1
        gram[word] = entry
    stops = gopher = 0
    wanted = STOP_ZH if chinese else STOP_EN
    for entry in range(entries):
        flag = flags[number[entry]]
        if flag & wanted:
            stops += counts[entry]
        if flag & GOPHER:
            gopher += 1
    return entries, stops, gopher


@nb.njit(cache=True, nogil=True)
def count_terms(
    scratch: GramScratch,
    count: int,
    roots: npt.NDArray[np.int32],
    edges: npt.NDArray[np.int64],
    targets: npt.NDArray[np.int32],
    term_ends: npt.NDArray[np.uint32],
    word_line: npt.NDArray[np.int32],
    line_flags: npt.NDArray[np.uint8],
) -> None:
    """Count the terms of each category in `terms`, the longest at each place, none in another; marks policy lines."""
    terms, gram, number = scratch.terms, scratch.gram, scratch.number
    terms[:] = 0
    word = 0
    while word < count:
        node = np.int64(roots[number[gram[word]]])
        place, found, after = word + 1, np.uint32(0), word + 1
        while node:
            if term_ends[node]:
                found, after = term_ends[node], place
            if place == count:
                break
            known = number[gram[place]]
            node = np.int64(_child(edges, targets, node, known)) if known else np.int64(0)
            place += 1
        if found:
            for category in range(CATEGORIES):
                terms[category] += found >> category & 1
            if found >> POLICY_LINES & 1:
                line_flags[word_line[word]] |= HAS_POLICY
        word = after


@nb.njit(cache=True, nogil=True)
def _pair_up(scratch: GramScratch, candidates: int) -> tuple[int, int]:
    """One word more: number the runs that two overlapping candidates make, (different runs, runs).

    `places` and `gram` hold the candidates and are written over with the runs; `counts` and `firsts` say how often
    each run occurs and where first.
    """
    slots, keys, counts, firsts = scratch.slots, scratch.keys, scratch.counts, scratch.firsts
    gram, places = scratch.gram, scratch.places
    size = table_size(candidates)
    slots[:size] = -1
    entries = runs = 0
    for candidate in range(candidates - 1):
        place = places[candidate]
        if places[candidate + 1] != place + 1:
            continue
        key = np.uint64(gram[place]) << np.uint64(32) | np.uint64(gram[place + 1])
        entry = number_of(slots, size - 1, keys, key, entries)
        if entry == entries:
            counts[entry] = 0
            firsts[entry] = place
            entries += 1
        counts[entry] += 1
        # What stands at or before this candidate is not read again.
        places[runs] = place
        gram[place] = entry
        runs += 1
    return entries, runs


@nb.njit(cache=True, nogil=True)
def _characters(scratch: GramScratch, word_length: npt.NDArray[np.int32], first: int, width: int) -> int:
    return int(scratch.ends[first + width - 1] - scratch.ends[first] + word_length[first])


@nb.njit(cache=True, nogil=True)
def _most_frequent(scratch: GramScratch, entries: int) -> int:
    """The most frequent run, the first of equals; -1 when none is repeated."""
    counts = scratch.counts
    best, most = -1, 1
    for entry in range(entries):
        if counts[entry] > most:
            best, most = entry, counts[entry]
    return best


@nb.njit(cache=True, nogil=True)
def _repeated_characters(
    scratch: GramScratch, word_length: npt.NDArray[np.int32], candidates: int, width: int
) -> int:
    """Characters in runs that stood before; the words of a repeat are skipped over. Spends `counts`."""
    counts, gram, places = scratch.counts, scratch.gram, scratch.places
    characters = free = 0
    for candidate in range(candidates):
        place = places[candidate]
        if place < free:
            continue
        entry = gram[place]
        # A run seen once is marked by its sign, so that the second time finds it.
        if counts[entry] < 0:
            characters += _characters(scratch, word_length, place, width)
            free = place + width
        else:
            counts[entry] = -counts[entry]
    return characters


@nb.njit(cache=True, nogil=True)
def repeated_runs(
    scratch: GramScratch, word_length: npt.NDArray[np.int32], count: int, out: npt.NDArray[np.int64]
) -> None:
    """Repetition of runs of words, from what `count_words` left.

    Fills `out`: how often the most frequent pair occurs (0 if once), the characters in the most frequent run of 2, 3
    and 4 words, and the characters in repeated runs of 5 to 10 words.
    """
    counts, gram, places, ends = scratch.counts, scratch.gram, scratch.places, scratch.ends
    out[:] = 0
    total = np.int64(0)
    candidates = 0
    for word in range(count):
        total += word_length[word]
        ends[word] = total
        if counts[gram[word]] > 1:
            places[candidates] = word
            candidates += 1
    for width in range(TOP_WIDTHS[0], DUPLICATE_WIDTHS[-1] + 1):
        entries, runs = _pair_up(scratch, candidates)
        candidates = 0
        for run in range(runs):
            if counts[gram[places[run]]] > 1:
                places[candidates] = places[run]
                candidates += 1
        if candidates == 0:
            break
        if width <= TOP_WIDTHS[-1]:
            best = _most_frequent(scratch, entries)
            out[width - 1] = counts[best] * _characters(scratch, word_length, scratch.firsts[best], width)
            if width == TOP_WIDTHS[0]:
                out[0] = counts[best]
        else:
            out[width - 1] = _repeated_characters(scratch, word_length, candidates, width)
