"""Train the shipped character model from Parquet files of text.

Comes in: tables with a column `text`. Goes out: `character_model.npz`. Probabilities are interpolated with
absolute discounting (Ney, Essen and Kneser 1994); the most frequent n-grams of each language are kept up to what the
table holds, and back-off weights make up for those left out.

    python -m haina.corpus.signals.train_character_model OUT.npz --zh FILE[:MEGABYTES]... --en FILE[:MEGABYTES]...
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from haina.corpus.characters import code_points
from haina.corpus.signals.character_model import (
    BUCKET_SHIFT,
    COST_BITS,
    DIGIT_SYMBOL,
    LARGEST_COST,
    PAIR_SEED,
    PAIRS_IN_BUCKET,
    SINGLES,
    SPACE_SYMBOL,
    STEP,
    TRIPLES_IN_BUCKET,
)
from haina.corpus.signals.tables import IS_DIGIT, IS_SPACE, LAST, MULTIPLIER, code_table

Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]
_SHIFT = np.uint64(18)
_SYMBOL = np.uint64((1 << 18) - 1)
DISCOUNT = 0.75
BUCKETS = 1 << 15
# Entries that the tables are asked to hold; a bucket that is full turns the rarest away.
PAIRS = {"zh": 95_000, "en": 6_000}
TRIPLES = {"zh": 170_000, "en": 35_000}
# Bits over the whole text that storing an n-gram must save: fewer may be an accident.
_SMALLEST_GAIN = 3.0
_TAKE_EVERY = 5


def symbols(texts: Sequence[str]) -> Keys:
    """Symbols of all texts, one space between them: uint64 [symbols]."""
    codes = code_points("\n".join(texts))
    entries = code_table()[np.minimum(codes, LAST)]
    out = entries >> np.uint64(32)
    out[(entries & np.uint64(IS_DIGIT)) != 0] = DIGIT_SYMBOL
    space = (entries & np.uint64(IS_SPACE)) != 0
    out[space] = SPACE_SYMBOL
    return out[~(space & np.roll(space, 1))]


def read_text(source: str) -> list[str]:
    """Texts of `FILE` or `FILE:MEGABYTES`, every fifth document, so that held-out ones stay untouched."""
    name, _, limit = source.partition(":")
    left = float(limit or "inf") * 1e6
    texts: list[str] = []
    row = 0
    with pq.ParquetFile(name) as file:
        for batch in file.iter_batches(batch_size=4096, columns=["text"]):
            for text in batch.column("text").to_pylist():
                if row % _TAKE_EVERY == 0 and text and left > 0:
                    texts.append(text)
                    left -= len(text.encode())
                row += 1
    return texts


def _lookup(keys: Keys, values: Floats, wanted: Keys) -> Floats:
    """`values` at sorted `keys`, 0 where a wanted key is not there."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0.0)


def _discounted(keys: Keys, counts: Floats, lower: Floats) -> Floats:
    """Interpolated probability of each n-gram, given those of one symbol less."""
    _, first = np.unique(keys >> _SHIFT, return_index=True)
    total = np.add.reduceat(counts, first)
    kinds = np.diff(np.append(first, len(keys)))
    own = np.repeat(np.arange(len(first)), kinds)
    return np.maximum(counts - DISCOUNT, 0.0) / total[own] + (DISCOUNT * kinds / total)[own] * lower


def _backoff(keys: Keys, probability: Floats, lower: Floats) -> tuple[Keys, Floats]:
    """Weight of each context of the kept n-grams: what they leave, over what the shorter ones would give it."""
    context, first = np.unique(keys >> _SHIFT, return_index=True)
    left = 1.0 - np.add.reduceat(probability, first)
    other = 1.0 - np.add.reduceat(lower, first)
    return context, np.clip(left, 1e-4, 1.0) / np.clip(other, 1e-4, 1.0)


def _hash(keys: Keys, width: int) -> Keys:
    """Hash of packed n-grams, as the kernel takes it: the last two symbols at once, then the one before."""
    state = np.full(len(keys), PAIR_SEED, dtype=np.uint64)
    pair = (keys >> _SHIFT & _SYMBOL) << np.uint64(32) | keys & _SYMBOL
    for value in (pair, keys >> np.uint64(36))[: width - 1]:
        state = (state ^ value) * np.uint64(MULTIPLIER)
        state ^= state >> np.uint64(32)
    return state


def _steps(probability: Floats, smallest: int) -> npt.NDArray[np.int64]:
    return np.clip(np.rint(-np.log2(probability) / STEP), smallest, LARGEST_COST).astype(np.int64)


def _heaviest(gain: Floats, count: int) -> npt.NDArray[np.bool_]:
    """Which n-grams to keep: those that save most, up to `count`."""
    return gain >= max(np.sort(gain)[-min(count, len(gain))], _SMALLEST_GAIN)


class Grams(NamedTuple):
    """Entries of one language: symbols or hashes, what is stored with each, and what it saves in bits."""

    keys: Keys
    values: npt.NDArray[np.int64]
    gain: Floats


def grams_of(text: Keys, pair_room: int, triple_room: int) -> tuple[Grams, Grams, Grams]:
    """Singles, pairs and triples of one language."""
    unigrams, unigram_counts = np.unique(text, return_counts=True)
    pairs, pair_counts = np.unique(text[:-1] << _SHIFT | text[1:], return_counts=True)
    triples, triple_counts = np.unique(
        (text[:-2] << _SHIFT | text[1:-1]) << _SHIFT | text[2:], return_counts=True
    )
    one = (unigram_counts + 0.5) / (unigram_counts.sum() + 0.5 * (len(unigrams) + 1))
    two = _discounted(pairs, pair_counts.astype(float), _lookup(unigrams, one, pairs & _SYMBOL))
    shorter = triples & np.uint64((1 << 36) - 1)
    three = _discounted(triples, triple_counts.astype(float), _lookup(pairs, two, shorter))

    gain_two = pair_counts * np.maximum(np.log2(two / _lookup(unigrams, one, pairs & _SYMBOL)), 0)
    gain_three = triple_counts * np.maximum(np.log2(three / _lookup(pairs, two, shorter)), 0)
    keep = _heaviest(gain_two, pair_room)
    pairs, two, gain_two = pairs[keep], two[keep], gain_two[keep]
    keep = _heaviest(gain_three, triple_room)
    triples, three, gain_three, shorter = triples[keep], three[keep], gain_three[keep], shorter[keep]

    after_one, weight_one = _backoff(pairs, two, _lookup(unigrams, one, pairs & _SYMBOL))
    stored = _lookup(pairs, two, shorter)
    fallback = _lookup(after_one, weight_one, shorter >> _SHIFT & _SYMBOL)
    fallback = np.where(fallback > 0, fallback, 1.0) * _lookup(unigrams, one, shorter & _SYMBOL)
    after_two, weight_two = _backoff(triples, three, np.where(stored > 0, stored, fallback))

    def weights(contexts: Keys, known: Keys, weight: Floats) -> npt.NDArray[np.int64]:
        found = _lookup(known, weight, contexts)
        return _steps(np.where(found > 0, found, 1.0), 0)

    return (
        Grams(
            unigrams,
            _steps(one, 1) << 8 | weights(unigrams, after_one, weight_one),
            unigram_counts.astype(float),
        ),
        Grams(_hash(pairs, 2), _steps(two, 1) << 8 | weights(pairs, after_two, weight_two), gain_two),
        Grams(_hash(triples, 3), _steps(three, 1), gain_three),
    )


def table_of(parts: Sequence[Grams], size: int, value_bits: int, key_bits: int) -> npt.NDArray[np.int64]:
    """Buckets of `size` entries; one takes its heaviest, and only the heaviest of those that look alike."""
    hashes, values, gain = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((hashes, -gain))
    hashes, values = hashes[order], values[order]
    bucket = (hashes >> np.uint64(BUCKET_SHIFT) & np.uint64(BUCKETS - 1)).astype(np.int64)
    entry = (hashes & np.uint64((1 << key_bits) - 1)).astype(np.int64)
    first = np.sort(np.unique(bucket << key_bits | entry, return_index=True)[1])
    bucket, entry, values = bucket[first], entry[first], values[first]
    order = np.argsort(bucket, kind="stable")
    bucket, entry, values = bucket[order], entry[order], values[order]
    rank = np.arange(len(bucket)) - np.searchsorted(bucket, bucket)
    fits = rank < size
    table = np.zeros(BUCKETS * size, dtype=np.int64)
    table[(bucket * size + rank)[fits]] = (entry << value_bits | values)[fits]
    return table


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--zh", nargs="+", required=True, metavar="FILE[:MEGABYTES]")
    parser.add_argument("--en", nargs="+", required=True, metavar="FILE[:MEGABYTES]")
    arguments = parser.parse_args()
    found = [
        grams_of(
            symbols([text for source in sources for text in read_text(source)]), PAIRS[group], TRIPLES[group]
        )
        for group, sources in (("en", arguments.en), ("zh", arguments.zh))
    ]
    singles = np.zeros(SINGLES, dtype=np.uint16)
    # What a Latin letter costs is learnt from English and the rest from Chinese: the cheaper of both.
    for part, _, _ in found:
        keys, values = part.keys[part.keys < SINGLES].astype(np.int64), part.values[part.keys < SINGLES]
        cheaper = (singles[keys] == 0) | (values < singles[keys])
        singles[keys[cheaper]] = values[cheaper]
    pairs = table_of([part for _, part, _ in found], PAIRS_IN_BUCKET, 16, 16).astype(np.uint32)
    triples = table_of([part for _, _, part in found], TRIPLES_IN_BUCKET, COST_BITS, 16 - COST_BITS).astype(
        np.uint16
    )
    np.savez_compressed(arguments.out, singles=singles, pairs=pairs, triples=triples)
    print(
        f"{np.count_nonzero(singles):,} symbols, {np.count_nonzero(pairs):,} pairs, {np.count_nonzero(triples):,} "
        f"triples, {arguments.out.stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main()
