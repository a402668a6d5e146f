"""How surprising a token is in ordinary text: what makes a shared phrase evidence, or none.

Comes in: text to count (once, to make the shipped table), later the tokens of evaluation items. Goes out: bits
of each token after the one before it. `Which of the following is correct` costs a writer few bits and `the
hyoid bone` many; a match is worth the bits it covers. The table holds the commonest words and pairs of words of
encyclopaedia, laws, histories and manuals in Chinese and English as text, so that it outlives a change of the
token hash. Phrases that the evaluation files themselves repeat are cheap too: the counts of their pairs are
mixed in, less the item's own.

    python -m haina.corpus.decontaminate.surprise FILE.parquet[:MEGABYTES]...
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from haina.corpus.dedup.shingles import tokenize_batch
from haina.corpus.utf8 import pack

PATH = Path(__file__).with_name("surprise.npz")
SCALE = 8
# A token that the table does not know: seen less than once in some million.
UNKNOWN_BITS = 20.0
SINGLES, PAIRS = 40_000, 100_000
# Weight, in tokens, of the single-token probability beside the counts of pairs among the items.
_PRIOR = 12.0
_TAKE_EVERY = 5
_PAIR = np.uint64(0x9E3779B97F4A7C15)

UInt64 = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]


class Table(NamedTuple):
    """Costs of tokens and of pairs, by hash: keys uint64 sorted, bits float64."""

    singles: UInt64
    single_bits: Floats
    pairs: UInt64
    pair_bits: Floats


def pair_keys(tokens: UInt64) -> UInt64:
    """One key for each token and the one before it: uint64 [tokens - 1]."""
    with np.errstate(over="ignore"):
        return (tokens[:-1] * _PAIR) ^ (tokens[1:] + (tokens[:-1] >> np.uint64(29)))


def _find(keys: UInt64, values: Floats, wanted: UInt64, missing: float) -> Floats:
    if not len(keys):
        return np.full(len(wanted), missing)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], missing)


@cache
def load_table() -> Table:
    """The shipped table, hashed by the tokenizer of today."""
    with np.load(PATH) as stored:
        text, bits = stored["text"].tobytes().decode("utf-8"), stored["bits"] / SCALE
    tokens = tokenize_batch(*pack(text.split("\n")))
    sizes = np.diff(tokens.documents)
    first = tokens.hashes[np.minimum(tokens.documents[:-1], len(tokens.hashes) - 1)]
    second = tokens.hashes[np.minimum(tokens.documents[:-1] + 1, len(tokens.hashes) - 1)]
    keys = pair_keys(np.column_stack([first, second]).ravel())[::2]
    out: list[npt.NDArray[np.generic]] = []
    for size, hashes in ((1, first), (2, keys)):
        unique, places = np.unique(hashes[sizes == size], return_index=True)
        out += [unique, bits[sizes == size][places]]
    return Table(*out)  # type: ignore[arg-type]


def surprise(tokens: UInt64, starts: npt.NDArray[np.int64], table: Table | None = None) -> Floats:
    """Bits of each token of the parts of all items after the token before it: float64 [tokens].

    Args:
        tokens: of all parts, one after the other. Equal parts should stand there once: a copy counts as a habit.
        starts: where each part begins, and the end of the last: int64 [parts + 1].
    """
    table = table or load_table()
    if not len(tokens):
        return np.zeros(0)
    singles = _find(table.singles, table.single_bits, tokens, UNKNOWN_BITS)
    background = singles.copy()
    keys = pair_keys(tokens)
    background[1:] = np.minimum(background[1:], _find(table.pairs, table.pair_bits, keys, UNKNOWN_BITS))
    part = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    inside = part[1:] == part[:-1]
    # Each pair and each first token once a part, so that a part's own repetitions are no habit of others.
    pair_counts = _parts_with(keys, part[1:], inside)
    first_counts = _parts_with(tokens[:-1], part[1:], inside)
    prior = np.exp2(-singles[1:])
    own = (pair_counts - 1 + _PRIOR * prior) / (first_counts - 1 + _PRIOR)
    bits = background
    bits[1:] = np.where(inside, np.minimum(background[1:], -np.log2(own)), singles[1:])
    return bits


def _parts_with(keys: UInt64, part: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_]) -> Floats:
    """In how many parts each key occurs: float64 [keys], at least 1."""
    unique, inverse = np.unique(keys, return_inverse=True)
    parts = int(part.max()) + 1 if len(part) else 1
    # Sorted here: `np.unique` of a single array hashes, which takes five times as long on millions.
    occurrences = np.sort(inverse[valid] * parts + part[valid])
    occurrences = occurrences[np.diff(occurrences, prepend=-1) != 0]
    counts = np.bincount(occurrences // parts, minlength=len(unique))
    return np.maximum(counts[inverse], 1).astype(np.float64)


def read_text(source: str) -> list[str]:
    """Texts of `FILE` or `FILE:MEGABYTES`: every fifth document, so that the others stay unseen."""
    import pyarrow.parquet as pq

    name, _, limit = source.partition(":")
    left = float(limit or "inf") * 1e6
    column = pq.read_table(name, columns=["text"]).column("text").to_pylist()
    texts = []
    for text in column[::_TAKE_EVERY]:
        if text and left > 0:
            texts.append(text)
            left -= len(text.encode())
    return texts


def count(texts: list[str]) -> tuple[list[str], npt.NDArray[np.uint8]]:
    """The table of some text: words and pairs as lines, and their costs in 1/SCALE bits."""
    data, offsets = pack(texts)
    tokens = tokenize_batch(data, offsets)
    starts = tokens.starts + np.repeat(offsets[:-1], np.diff(tokens.documents))
    ends = tokens.ends + np.repeat(offsets[:-1], np.diff(tokens.documents))
    document = np.repeat(np.arange(len(texts)), np.diff(tokens.documents))
    raw = data.tobytes()

    def word(place: int) -> str:
        return raw[starts[place] : ends[place]].decode("utf-8").replace("\n", "")

    keys, first, inverse, counts = np.unique(
        tokens.hashes, return_index=True, return_inverse=True, return_counts=True
    )
    lines: list[str] = []
    bits: list[float] = []
    chosen = np.sort(np.lexsort((keys, -counts))[:SINGLES])
    for place in chosen.tolist():
        lines.append(word(first[place]))
        bits.append(-np.log2(counts[place] / len(tokens.hashes)))
    within = document[1:] == document[:-1]
    places = np.flatnonzero(within)
    pairs, pair_first, pair_counts = np.unique(
        pair_keys(tokens.hashes)[places], return_index=True, return_counts=True
    )
    before = counts[inverse[places[pair_first]]]
    after = counts[inverse[places[pair_first] + 1]] / len(tokens.hashes)
    # Worth storing: pairs that save most bits over the whole text against their second word alone.
    saved = pair_counts * (np.log2(pair_counts / before) - np.log2(after))
    for place in np.sort(np.lexsort((pairs, -saved))[:PAIRS]).tolist():
        start = int(places[pair_first[place]])
        lines.append(f"{word(start)} {word(start + 1)}")
        bits.append(-np.log2(pair_counts[place] / before[place]))
    return lines, np.clip(np.rint(np.array(bits) * SCALE), 0, 255).astype(np.uint8)


def main(sources: list[str]) -> None:
    """Count the text of the files and write the shipped table."""
    lines, bits = count([text for source in sources for text in read_text(source)])
    np.savez_compressed(PATH, text=np.frombuffer("\n".join(lines).encode(), dtype=np.uint8), bits=bits)


if __name__ == "__main__":
    main(sys.argv[1:])
