"""A small character trigram model for Chinese and English together: how many bits a character costs.

Comes in: the two symbols before a character and the character. Goes out: its cost in steps of `STEP` bits. A trigram
that the model holds has its own cost; otherwise the back-off weight of its context is added to the cost of the
bigram, and so on (Katz 1987, in the form of ARPA files). One model serves both languages, since contexts tell them
apart.

The model is three tables, shipped as `character_model.npz`. `singles` has cost and weight of each symbol; `pairs` and
`triples` are hash tables in which an n-gram's 64-bit hash names a bucket of 16 bytes and some more of its bits are kept
with each entry. An n-gram that is not there is taken for another one in less than one case of a hundred. A lookup
compares a whole bucket at once without branches: a character costs two, both known before the result of either, so
that the processor overlaps them. `train_character_model.py` makes the tables.

Symbols are folded code points; a digit is `0`, white space one space.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.signals.tables import IS_DIGIT, IS_SPACE, LAST, MULTIPLIER, code_table, step

STEP = 0.3
# An entry of `triples`: 10 bits of the hash, 6 of the cost. One of `pairs`: 16 of the hash, 8 cost, 8 weight.
TRIPLES_IN_BUCKET, PAIRS_IN_BUCKET = 8, 4
COST_BITS = 6
LARGEST_COST = (1 << COST_BITS) - 1
UNKNOWN_STEPS = 60
SPACE_SYMBOL = 0x20
DIGIT_SYMBOL = 0x30
# Symbols from here on are unknown to `singles`.
SINGLES = 0x10000
PAIR_SEED = 0xA0761D6478BD642F
BUCKET_SHIFT = 20


class CharacterModel(NamedTuple):
    """The tables for kernels.

    Attributes:
        singles: cost << 8 | weight of each symbol, 0 when unknown: uint16 [SINGLES].
        pairs: buckets of two words, four entries: uint64 [2 * 2^k].
        triples: buckets of two words, eight entries: uint64 [2 * 2^m].
    """

    singles: npt.NDArray[np.uint16]
    pairs: npt.NDArray[np.uint64]
    triples: npt.NDArray[np.uint64]


@cache
def load_model() -> CharacterModel:
    """The shipped tables."""
    with np.load(Path(__file__).with_name("character_model.npz")) as file:
        return CharacterModel(file["singles"], file["pairs"].view(np.uint64), file["triples"].view(np.uint64))


@nb.njit(cache=True, nogil=True)
def _step(state: np.uint64, value: np.uint64) -> np.uint64:
    state = (state ^ value) * np.uint64(MULTIPLIER)
    return state ^ (state >> np.uint64(32))


@nb.njit(cache=True, nogil=True)
def _triple_in(word: np.uint64, wanted: np.uint64) -> np.uint64:
    """The entry of four that starts with the ten bits `wanted` (in all four lanes), in the low 16 bits; else 0."""
    low = np.uint64(0x7FFF7FFF7FFF7FFF)
    differs = (word ^ wanted) & np.uint64(0xFFC0FFC0FFC0FFC0)
    # The top bit of each lane that is zero, and of no other (Warren, Hacker's Delight, 6-1).
    same = ~(((differs & low) + low) | differs | low)
    found = word & ((same >> np.uint64(15)) * np.uint64(0xFFFF))
    found |= found >> np.uint64(32)
    return found | (found >> np.uint64(16))


@nb.njit(cache=True, nogil=True)
def _pair_in(word: np.uint64, wanted: np.uint64) -> np.uint64:
    """The entry of two that starts with the sixteen bits `wanted` (in both lanes), in the low 32 bits; else 0."""
    low = np.uint64(0x7FFFFFFF7FFFFFFF)
    differs = (word ^ wanted) & np.uint64(0xFFFF0000FFFF0000)
    same = ~(((differs & low) + low) | differs | low)
    found = word & ((same >> np.uint64(31)) * np.uint64(0xFFFFFFFF))
    return found | (found >> np.uint64(32))


@nb.njit(cache=True, nogil=True)
def cost_of(
    singles: npt.NDArray[np.uint16],
    pairs: npt.NDArray[np.uint64],
    triples: npt.NDArray[np.uint64],
    older: np.uint64,
    before: np.uint64,
    symbol: np.uint64,
    weight: np.int64,
) -> tuple[np.int64, np.int64]:
    """(cost of `symbol` after `older` and `before`, weight of the context `before`, `symbol`), in steps.

    `weight` is that of the context `older`, `before`, which the call before gave.
    """
    pair = _step(np.uint64(PAIR_SEED), before << np.uint64(32) | symbol)
    triple = _step(pair, older)
    # Unsigned places spare numba's test for negative ones.
    place = (pair >> np.uint64(BUCKET_SHIFT) & np.uint64((len(pairs) >> 1) - 1)) << np.uint64(1)
    wanted = (pair & np.uint64(0xFFFF)) * np.uint64(0x0001000000010000)
    found = _pair_in(pairs[place], wanted) | _pair_in(pairs[place | np.uint64(1)], wanted)
    entry = np.int64(found & np.uint64(0xFFFF))
    place = (triple >> np.uint64(BUCKET_SHIFT) & np.uint64((len(triples) >> 1) - 1)) << np.uint64(1)
    wanted = (triple & np.uint64(0x3FF)) * np.uint64(0x0040004000400040)
    found = _triple_in(triples[place], wanted) | _triple_in(triples[place | np.uint64(1)], wanted)
    cost = np.int64(found & np.uint64(LARGEST_COST))
    if cost == 0:
        cost = weight + (entry >> 8)
        if entry == 0:
            single = np.int64(singles[symbol]) >> 8 if symbol < SINGLES else 0
            cost += np.int64(singles[before]) & 0xFF if before < SINGLES else 0
            cost += single if single else UNKNOWN_STEPS
    return cost, entry & 0xFF


def symbols_of(text: str) -> list[int]:
    """The symbols of a text, runs of white space as one, none at its start."""
    out = [SPACE_SYMBOL]
    for character in text:
        entry = int(code_table()[min(ord(character), LAST)])
        symbol = SPACE_SYMBOL if entry & IS_SPACE else DIGIT_SYMBOL if entry & IS_DIGIT else entry >> 32
        if symbol != SPACE_SYMBOL or out[-1] != SPACE_SYMBOL:
            out.append(symbol)
    return out[1:]


def _find(entries: list[int], wanted: int, bits: int) -> int:
    """The low `bits` of the entry whose other bits are `wanted`, 0 when none is."""
    return next((entry & (1 << bits) - 1 for entry in entries if entry and entry >> bits == wanted), 0)


def bits_per_character_plain(text: str) -> float:
    """Bits that the model spends on a symbol of the text, on average."""
    model = load_model()
    pairs, triples = model.pairs.view(np.uint32), model.triples.view(np.uint16)
    older = before = SPACE_SYMBOL
    steps, weight, symbols = 0, 0, symbols_of(text)
    for symbol in symbols:
        pair = step(PAIR_SEED, before << 32 | symbol)
        triple = step(pair, older)
        bucket = (pair >> BUCKET_SHIFT) % (len(pairs) // PAIRS_IN_BUCKET) * PAIRS_IN_BUCKET
        entry = _find(pairs[bucket : bucket + PAIRS_IN_BUCKET].tolist(), pair & 0xFFFF, 16)
        bucket = (triple >> BUCKET_SHIFT) % (len(triples) // TRIPLES_IN_BUCKET) * TRIPLES_IN_BUCKET
        cost = _find(triples[bucket : bucket + TRIPLES_IN_BUCKET].tolist(), triple & 0x3FF, COST_BITS)
        if cost:
            steps += cost
        elif entry:
            steps += weight + (entry >> 8)
        else:
            single, last = (int(model.singles[it]) if it < SINGLES else 0 for it in (symbol, before))
            steps += weight + (last & 0xFF) + (single >> 8 or UNKNOWN_STEPS)
        weight = entry & 0xFF
        older, before = before, symbol
    return steps * STEP / len(symbols) if symbols else 0.0
