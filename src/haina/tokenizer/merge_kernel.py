"""Learns merges from a text of symbols: the fast half of BPE training.

In: symbols, one a character, and between neighbours how far apart they are. Out: pairs in the order in which they were
merged, always the most frequent one first (Sennrich et al. 2016, arXiv:1508.07909; Gage 1994).

All texts are one array in which a merged pair keeps its first place and leaves a hole, and every pair knows the places
where it stood when it came into being. A pair comes into being when the later of its two symbols does, so its places
are written once, in order, and only get fewer: the count of a pair never rises, and a heap of stale counts is enough;
a pair that comes to the top is counted again. `merge_reference` is the same in a few lines.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from haina.tokenizer.pair_table import EMPTY, SMALLEST_TABLE, grown, pair_key, pop, push, slot_of, widened

HOLE = -1  # also what no merge may touch: characters without a piece, ends of documents
_BLOCK = 8
_BASE = np.uint64(0xD6E8FEB86659FD93)


@njit(nogil=True, cache=True)
def _power(exponent: int) -> Any:
    result = np.uint64(1)
    for _ in range(exponent):
        result *= _BASE
    return result


def fingerprint(data: bytes) -> int:
    """A number for bytes such that that of two joined follows from those of both: a polynomial modulo 2^64."""
    value = 0
    for byte in data:
        value = (value * int(_BASE) + byte + 1) & 0xFFFFFFFFFFFFFFFF
    return value


@njit(nogil=True, cache=True)
def compact(symbols: NDArray[np.int32], spans: NDArray[np.uint8], gaps: NDArray[np.uint8]) -> int:
    """Move the symbols together, holes out; every symbol then has one place. Returns how many are left.

    Holes that stand for something (span 1) stay.
    """
    kept = at = 0
    while at < len(symbols):
        step = spans[at]
        symbols[kept], gaps[kept], spans[kept] = symbols[at], gaps[at], 1
        kept += 1
        at += step
    return kept


@njit(nogil=True, cache=True)
def moved_borders(spans: NDArray[np.uint8], borders: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where `borders` (ascending places, each the start of a symbol or the end) lie after `compact`."""
    result = np.empty_like(borders)
    kept = at = border = 0
    while border < len(borders):
        while border < len(borders) and borders[border] <= at:
            result[border] = kept
            border += 1
        if at >= len(spans):
            break
        at += spans[at]
        kept += 1
    return result


@njit(nogil=True, cache=True)
def _texts_of_blocks(borders: NDArray[np.int64], total: int) -> NDArray[np.int32]:
    """The text that each block of 2^_BLOCK places begins in."""
    result = np.empty((total >> _BLOCK) + 1, np.int32)
    text = 0
    for block in range(len(result)):
        while text + 2 < len(borders) and (block << _BLOCK) >= borders[text + 1]:
            text += 1
        result[block] = text
    return result


@njit(nogil=True, cache=True)
def _text_at(place: int, blocks: NDArray[np.int32], borders: NDArray[np.int64]) -> Any:
    text = np.int64(blocks[place >> _BLOCK])
    while place >= borders[text + 1]:
        text += 1
    return text


@njit(nogil=True, cache=True)
def _joined_at(
    place: int,
    left: int,
    right: int,
    symbols: NDArray[np.int32],
    spans: NDArray[np.uint8],
    gaps: NDArray[np.uint8],
    widest: int,
) -> bool:
    """Whether the pair still stands at `place`."""
    if symbols[place] != left:
        return False
    second = place + spans[place]
    return second < len(symbols) and symbols[second] == right and gaps[second] <= widest


@njit(nogil=True, cache=True)
def _neighbour(
    place: int,
    side: int,
    new: int,
    symbols: NDArray[np.int32],
    spans: NDArray[np.uint8],
    gaps: NDArray[np.uint8],
    widest: int,
) -> Any:
    """The symbol before (side 0) or after (side 1) the new one at `place`; -1 for none.

    Before, the new symbol itself is none: it has this one after it.
    """
    if side == 0:
        if place == 0 or gaps[place] > widest:
            return -1
        other = np.int64(symbols[place - spans[place - 1]])
        return -1 if other == new else other
    after = place + spans[place]
    if after >= len(symbols) or gaps[after] > widest:
        return -1
    return np.int64(symbols[after])


@njit(nogil=True, cache=True)
def _first_pairs(  # noqa: PLR0912 - three passes over the same text
    symbols: NDArray[np.int32],
    gaps: NDArray[np.uint8],
    widest: int,
    borders: NDArray[np.int64],
    blocks: NDArray[np.int32],
    weights: NDArray[np.int64],
    sizes: NDArray[np.int32],
    largest: int,
    floor: int,
    cap: int,
) -> Any:
    """All pairs of the text that count at least `floor`: the table, their places one pair after another."""
    keys = np.full(SMALLEST_TABLE, EMPTY, np.uint64)
    counts = np.zeros(len(keys), np.int64)
    firsts = np.zeros(len(keys), np.int64)
    lengths = np.zeros(len(keys), np.int64)
    used = 0
    last = len(symbols) - 1
    for place in range(last):
        left, right = symbols[place], symbols[place + 1]
        if left < 0 or right < 0 or gaps[place + 1] > widest or sizes[left] + sizes[right] > largest:
            continue
        key = pair_key(left, right)
        at = slot_of(keys, key)
        if keys[at] == EMPTY:
            if 2 * used >= len(keys):
                keys, counts, firsts, lengths = widened(keys, counts, firsts, lengths)
                at = slot_of(keys, key)
            keys[at] = key
            used += 1
        # The text seen last and the occurrences in it, where the list of places goes later.
        text = _text_at(place, blocks, borders)
        if firsts[at] != text + 1:
            firsts[at] = text + 1
            lengths[at] = 0
        lengths[at] += 1
        if lengths[at] <= cap:
            counts[at] += weights[text]
    for at in range(len(keys)):
        firsts[at] = lengths[at] = 0
        if counts[at] < floor:
            counts[at] = 0
    keys, counts, firsts, lengths = widened(keys, counts, firsts, lengths)
    filled = 0
    places = np.empty(0, np.int32)
    for fill in range(2):
        for place in range(last):
            left, right = symbols[place], symbols[place + 1]
            if left < 0 or right < 0 or gaps[place + 1] > widest:
                continue
            at = slot_of(keys, pair_key(left, right))
            if keys[at] != EMPTY:
                if fill:
                    places[firsts[at] + lengths[at]] = place
                lengths[at] += 1
        if not fill:
            for at in range(len(keys)):
                firsts[at] = filled
                filled += lengths[at]
                lengths[at] = 0
            places = np.empty(filled + filled // 2 + 1024, np.int32)
    return keys, counts, firsts, lengths, places, filled


@njit(nogil=True, cache=True)
def _count_again(
    places: NDArray[np.int32],
    first: int,
    last: int,
    left: int,
    right: int,
    symbols: NDArray[np.int32],
    spans: NDArray[np.uint8],
    gaps: NDArray[np.uint8],
    widest: int,
    borders: NDArray[np.int64],
    blocks: NDArray[np.int32],
    weights: NDArray[np.int64],
    cap: int,
) -> Any:
    """Strike out the places that other merges have taken; where the list ends now, and what the pair counts."""
    kept = first
    count = in_text = np.int64(0)
    text = np.int64(-1)
    for number in range(first, last):
        place = np.int64(places[number])
        if not _joined_at(place, left, right, symbols, spans, gaps, widest):
            continue
        places[kept] = place
        kept += 1
        here = _text_at(place, blocks, borders)
        if here != text:
            text, in_text = here, np.int64(0)
        in_text += 1
        if in_text <= cap:
            count += weights[here]
    return kept, count


@njit(nogil=True, cache=True)
def _merge(
    places: NDArray[np.int32],
    first: int,
    last: int,
    left: int,
    right: int,
    new: int,
    symbols: NDArray[np.int32],
    spans: NDArray[np.uint8],
    gaps: NDArray[np.uint8],
    widest: int,
) -> Any:
    """Put `new` where the pair stands, from the left; the list of places then ends where the new symbol's places do."""
    kept = first
    for number in range(first, last):
        place = np.int64(places[number])
        # In a run of one symbol the place may have been taken just now.
        if not _joined_at(place, left, right, symbols, spans, gaps, widest):
            continue
        second = place + spans[place]
        after = second + spans[second]
        symbols[second] = HOLE
        symbols[place] = new
        spans[place] = after - place
        spans[after - 1] = after - place
        places[kept] = place
        kept += 1
    return kept


@njit(nogil=True, cache=True)
def learn(  # noqa: PLR0912, PLR0915 - one merge after another, on arrays that grow
    symbols: NDArray[np.int32],
    spans: NDArray[np.uint8],
    gaps: NDArray[np.uint8],
    widest: int,
    borders: NDArray[np.int64],
    weights: NDArray[np.int64],
    sizes: NDArray[np.int32],
    prints: NDArray[np.uint64],
    known: int,
    wanted: int,
    largest: int,
    floor: int,
    cap: int,
    barred: NDArray[np.uint64],
    control: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Merge the most frequent pair, again and again; of equally frequent ones the pair with the smaller ids.

    Args:
        symbols: int32 [n], ids below `known`, or HOLE; changed in place, as are `spans`.
        spans: uint8 [n], all 1: places a symbol takes up, kept at its first and last place.
        gaps: uint8 [n], distance of each place from the one before it.
        widest: neighbours further apart are never merged; the first place of a text is further from the one before.
        borders: int64 [texts + 1], where texts begin, then n.
        weights: int64 [texts], how much an occurrence in each text counts.
        sizes: int32 [known + wanted], length of each symbol in bytes; those from `known` on are written here.
        prints: uint64 [known + wanted], `fingerprint` of each symbol's bytes; likewise. A pair whose bytes are a piece
            already is not merged: every piece is made in one way only.
        known: ids that exist.
        wanted: merges to make.
        largest: no piece is longer, in bytes.
        floor: pairs that count less are not merged.
        cap: occurrences of a pair in one text beyond so many count nothing.
        barred: uint64, `fingerprint` of bytes that must not become a piece.
        control: int64 [2]: merges made so far, for another thread to read; not 0: stop.

    Returns:
        pairs: int64 [made, 2]; merge i made id known + i. Fewer than `wanted` where no pair is left, or when stopped.
        counts: int64 [made], how much each counted when it was merged.
    """
    blocks = _texts_of_blocks(borders, len(symbols))
    keys, counts, firsts, lengths, places, filled = _first_pairs(
        symbols, gaps, widest, borders, blocks, weights, sizes, largest, floor, cap
    )
    used = heap = np.int64(0)
    for at in range(len(keys)):
        used += keys[at] != EMPTY
    heap_counts = np.empty(2 * used + 1024, np.int64)
    heap_keys = np.empty(2 * used + 1024, np.uint64)
    for at in range(len(keys)):
        if keys[at] != EMPTY:
            heap = push(heap_counts, heap_keys, heap, counts[at], keys[at])
    marks_size = 1 << 10
    while marks_size < 4 * (known + wanted + len(barred)):
        marks_size *= 2
    marks = np.full(marks_size, EMPTY, np.uint64)
    for mark in barred:
        marks[slot_of(marks, mark)] = mark
    for mark in prints[:known]:
        marks[slot_of(marks, mark)] = mark

    pairs = np.empty((wanted, 2), np.int64)
    made_counts = np.empty(wanted, np.int64)
    made = 0
    # For the pairs of one merge, by neighbour: occurrences, the text seen last, occurrences in it, what they count.
    seen = np.zeros(known + wanted, np.int64)
    last_text = np.full(known + wanted, -1, np.int64)
    in_text = np.zeros(known + wanted, np.int64)
    amount = np.zeros(known + wanted, np.int64)
    first_of = np.zeros(known + wanted, np.int64)
    touched = np.empty(known + wanted, np.int64)
    while made < wanted and heap > 0 and control[1] == 0:
        control[0] = made
        count, key = heap_counts[0], heap_keys[0]
        heap = pop(heap_counts, heap_keys, heap)
        slot = slot_of(keys, key)
        if keys[slot] == EMPTY:
            continue
        left, right = np.int64(key >> np.uint64(32)), np.int64(key & np.uint64(0xFFFFFFFF))
        first = firsts[slot]
        last, now = _count_again(
            places, first, first + lengths[slot], left, right, symbols, spans, gaps, widest, borders, blocks,
            weights, cap,
        )  # fmt: skip
        lengths[slot] = last - first
        counts[slot] = now
        if floor <= now < count:
            heap = push(heap_counts, heap_keys, heap, now, key)
            continue
        counts[slot] = 0
        mark = prints[left] * _power(sizes[right]) + prints[right]
        at = slot_of(marks, mark)
        if now < floor or marks[at] == mark:
            continue
        marks[at] = mark
        new = known + made
        prints[new] = mark
        pairs[made, 0], pairs[made, 1] = left, right
        made_counts[made] = count
        sizes[new] = sizes[left] + sizes[right]
        made += 1
        last = _merge(places, first, last, left, right, new, symbols, spans, gaps, widest)

        for side in range(2):
            distinct = 0
            for number in range(first, last):
                place = np.int64(places[number])
                other = _neighbour(place, side, new, symbols, spans, gaps, widest)
                if other < 0 or sizes[other] + sizes[new] > largest:
                    continue
                if seen[other] == 0:
                    touched[distinct] = other
                    distinct += 1
                seen[other] += 1
                text = _text_at(place, blocks, borders)
                if last_text[other] != text:
                    last_text[other], in_text[other] = text, 0
                in_text[other] += 1
                if in_text[other] <= cap:
                    amount[other] += weights[text]
            for other in touched[:distinct]:
                first_of[other] = -1
                if amount[other] < floor:
                    continue
                key = pair_key(other, new) if side == 0 else pair_key(new, other)
                if 2 * used >= len(keys):
                    keys, counts, firsts, lengths = widened(keys, counts, firsts, lengths)
                    used = np.int64(0)
                    for at in range(len(keys)):
                        used += keys[at] != EMPTY
                at = slot_of(keys, key)
                keys[at], counts[at], firsts[at], lengths[at] = key, amount[other], filled, seen[other]
                used += 1
                first_of[other] = filled
                filled += seen[other]
                if filled > len(places):
                    places = grown(places, filled)
                if heap + 1 > len(heap_keys):
                    heap_counts, heap_keys = grown(heap_counts, heap), grown(heap_keys, heap)
                heap = push(heap_counts, heap_keys, heap, amount[other], key)
            for number in range(first, last):
                place = np.int64(places[number])
                other = _neighbour(place, side, new, symbols, spans, gaps, widest)
                if other < 0 or sizes[other] + sizes[new] > largest or first_of[other] < 0:
                    continue
                places[first_of[other]] = place - spans[place - 1] if side == 0 else place
                first_of[other] += 1
            for other in touched[:distinct]:
                seen[other] = amount[other] = 0
                last_text[other] = -1
    return pairs[:made], made_counts[:made]
