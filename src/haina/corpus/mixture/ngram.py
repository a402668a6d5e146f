"""The built-in proxy: an interpolated Kneser-Ney n-gram model over token ids, trained and scored in milliseconds.

Comes in: token streams, each with how many times it is read, and a held-out stream. Goes out: bits of the held-out
tokens. Highest-order counts are occurrences, lower-order counts are distinct continuations (Kneser and Ney 1995), one
absolute discount for all orders (Ney et al. 1994). Counts live in two open-addressing hash tables keyed by 64-bit
hashes, so the order in which streams are read changes nothing that is measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

ORDER = 4
DISCOUNT = 0.75
_EMPTY = np.uint64(0)


class NgramModel(NamedTuple):
    """Counts of an n-gram model.

    Attributes:
        order: longest n-gram.
        unigrams: int64 [vocabulary], distinct left neighbours of each token.
        gram_keys, gram_counts: uint64, int32 [slots], n-grams of two tokens and more.
        context_keys, context_totals, context_types: uint64, int32, int32 [slots], what follows each context: how
            often, and how many different tokens.
    """

    order: int
    unigrams: NDArray[np.int64]
    gram_keys: NDArray[np.uint64]
    gram_counts: NDArray[np.int32]
    context_keys: NDArray[np.uint64]
    context_totals: NDArray[np.int32]
    context_types: NDArray[np.int32]


@nb.njit(nogil=True, cache=True)
def _mix(value: np.uint64) -> np.uint64:
    """SplitMix64's finaliser; never 0, which marks an empty slot."""
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    value ^= value >> np.uint64(31)
    return value if value != np.uint64(0) else np.uint64(1)


@nb.njit(nogil=True, cache=True)
def _extend(key: np.uint64, token: int) -> np.uint64:
    return _mix(key ^ (np.uint64(token + 1) * np.uint64(0x9E3779B97F4A7C15)))


@nb.njit(nogil=True, cache=True)
def _context_key(tokens: NDArray[np.int32], end: int, width: int) -> np.uint64:
    """Key of the `width` tokens before position `end`."""
    key = np.uint64(width)
    for place in range(end - width, end):
        key = _extend(key, tokens[place])
    return key


@nb.njit(nogil=True, cache=True)
def _find(keys: NDArray[np.uint64], key: np.uint64) -> int:
    """Slot of `key`, or the empty slot where it belongs."""
    mask = np.uint64(len(keys) - 1)
    slot = key & mask
    while keys[slot] != _EMPTY and keys[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return int(slot)


@nb.njit(nogil=True, cache=True)
def _count(
    tokens: NDArray[np.int32],
    copies: int,
    order: int,
    unigrams: NDArray[np.int64],
    gram_keys: NDArray[np.uint64],
    gram_counts: NDArray[np.int32],
    context_keys: NDArray[np.uint64],
    context_totals: NDArray[np.int32],
    context_types: NDArray[np.int32],
) -> None:
    """Count every n-gram that ends in `tokens[order - 1:]`, `copies` times."""
    for place in range(order - 1, len(tokens)):
        token, amount, width = tokens[place], copies, order
        while width > 1:
            context = _context_key(tokens, place, width - 1)
            gram = _extend(context, token)
            slot, home = _find(gram_keys, gram), _find(context_keys, context)
            context_keys[home] = context
            context_totals[home] += amount
            known = gram_keys[slot] == gram
            gram_counts[slot] += amount
            if known:
                break
            gram_keys[slot] = gram
            context_types[home] += 1
            # A new n-gram is one more distinct continuation of its own shorter form.
            amount = 1
            width -= 1
        if width == 1:
            unigrams[token] += 1


@nb.njit(nogil=True, cache=True)
def _probability(
    tokens: NDArray[np.int32],
    place: int,
    token: int,
    order: int,
    discount: float,
    unigram_total: float,
    unigram_types: float,
    unigrams: NDArray[np.int64],
    gram_keys: NDArray[np.uint64],
    gram_counts: NDArray[np.int32],
    context_keys: NDArray[np.uint64],
    context_totals: NDArray[np.int32],
    context_types: NDArray[np.int32],
) -> float:
    """Chance of `token` after the tokens before `place`."""
    chance = 1.0 / len(unigrams)
    if unigram_total > 0.0:
        chance = (max(unigrams[token] - discount, 0.0) + discount * unigram_types * chance) / unigram_total
    for width in range(1, order):
        context = _context_key(tokens, place, width)
        home = _find(context_keys, context)
        if context_keys[home] != context:
            break
        gram = _extend(context, token)
        slot = _find(gram_keys, gram)
        seen = float(gram_counts[slot]) if gram_keys[slot] == gram else 0.0
        chance = (max(seen - discount, 0.0) + discount * context_types[home] * chance) / context_totals[home]
    return chance


@nb.njit(nogil=True, cache=True)
def _bits(
    tokens: NDArray[np.int32],
    order: int,
    discount: float,
    unigrams: NDArray[np.int64],
    gram_keys: NDArray[np.uint64],
    gram_counts: NDArray[np.int32],
    context_keys: NDArray[np.uint64],
    context_totals: NDArray[np.int32],
    context_types: NDArray[np.int32],
) -> float:
    total, types = 0.0, 0.0
    for count in unigrams:
        total += count
        types += 1.0 if count > 0 else 0.0
    bits = 0.0
    for place in range(order - 1, len(tokens)):
        bits -= np.log2(
            _probability(
                tokens,
                place,
                tokens[place],
                order,
                discount,
                total,
                types,
                unigrams,
                gram_keys,
                gram_counts,
                context_keys,
                context_totals,
                context_types,
            )
        )
    return bits


def _slots(entries: int) -> int:
    """A power of two that `entries` fill to at most four fifths."""
    return 1 << max(4, (entries * 5 // 4).bit_length())


def framed(stream: NDArray[np.integer], separator: int, order: int = ORDER) -> NDArray[np.int32]:
    """A stream [n] behind `order - 1` separators: int32 [order - 1 + n], the form that the kernels read."""
    return np.concatenate([np.full(order - 1, separator, np.int32), stream.astype(np.int32)])


def train_ngrams(
    streams: Sequence[tuple[NDArray[np.integer], int]], vocabulary: int, separator: int, order: int = ORDER
) -> NgramModel:
    """Train on `streams`: (tokens [n] each in 0 ... vocabulary - 1, how many times they are read).

    A stream does not see the end of the one before it.
    """
    tokens = sum(len(stream) for stream, copies in streams if copies)
    grams, contexts = _slots((order - 1) * tokens), _slots((order - 2) * tokens + min(tokens, vocabulary) + 1)
    model = NgramModel(
        order,
        np.zeros(vocabulary, np.int64),
        np.zeros(grams, np.uint64),
        np.zeros(grams, np.int32),
        np.zeros(contexts, np.uint64),
        np.zeros(contexts, np.int32),
        np.zeros(contexts, np.int32),
    )
    for stream, copies in streams:
        if copies:
            _count(framed(stream, separator, order), copies, *model)
    return model


def bits_of(model: NgramModel, stream: NDArray[np.integer], separator: int) -> float:
    """Bits that the model needs for a held-out stream [n]."""
    order, *counts = model
    return float(_bits(framed(stream, separator, order), order, DISCOUNT, *counts))


def distribution(model: NgramModel, context: Sequence[int], separator: int) -> NDArray[np.float64]:
    """Chance of every token [vocabulary] after `context`."""
    order, unigrams, *counts = model
    tokens = framed(np.array([*context, 0]), separator, order)
    facts = (order, DISCOUNT, float(unigrams.sum()), float(np.count_nonzero(unigrams)))
    return np.array(
        [
            _probability(tokens, len(tokens) - 1, token, *facts, unigrams, *counts)
            for token in range(len(unigrams))
        ]
    )


def plain_chance(
    streams: Sequence[tuple[Sequence[int], int]], vocabulary: int, separator: int, order: int = ORDER
) -> Callable[[Sequence[int], int], float]:
    """The model above with dictionaries of tuples: the reference that the kernels are tested against."""
    counts: dict[tuple[int, ...], int] = defaultdict(int)
    for stream, copies in streams:
        tokens = [separator] * (order - 1) + list(stream)
        for place in range(order - 1, len(tokens)):
            if copies:
                counts[tuple(tokens[place - order + 1 : place + 1])] += copies
    # Below the highest order a count is the number of distinct longer n-grams that end in this one.
    for width in range(order - 1, 0, -1):
        for gram in [gram for gram in counts if len(gram) == width + 1]:
            counts[gram[1:]] += 1
    after: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for gram, count in counts.items():
        after[gram[:-1]].append(count)

    def chance(context: Sequence[int], token: int) -> float:
        padded = [separator] * (order - 1) + list(context)
        result = 1.0 / vocabulary
        for width in range(order):
            history = tuple(padded[len(padded) - width :])
            if not after[history]:
                break
            rest = DISCOUNT * len(after[history]) * result
            result = (max(counts.get((*history, token), 0) - DISCOUNT, 0.0) + rest) / sum(after[history])
        return result

    return chance


def warm_up() -> Any:
    """Compile the kernels, so that a measurement does not measure the compiler."""
    return bits_of(train_ngrams([(np.zeros(4, np.int32), 1)], 2, 0), np.zeros(2, np.int32), 0)
