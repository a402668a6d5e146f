"""Blocks of text and what can be counted of each.

Comes in: elements and runs of text (`scan`). Goes out: blocks - the runs between two block-level borders, what
a reader sees as a paragraph, a cell, an item of a list - with counts of their characters, in one pass over the
text. A token is a Han or kana character, elsewhere a run of letters or digits.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.characters import DIGIT, HAN, KANA, PUNCTUATION, class_table
from haina.corpus.extract.scan import (
    BREAK,
    EMPTY_LINE,
    HIDDEN,
    IN_LINK,
    OWN_HIDDEN,
    PHRASING,
    PREFORMATTED,
    Bytes,
    Elements,
    Runs,
)  # fmt: skip
from haina.corpus.extract.tags import (
    FNV_PRIME,
    FNV_START,
    TABLE_SIZE,
    Words,
    hash_word,
    look_up,
    put,
    vocabulary,
)
from haina.corpus.extract.tokens import tokens

_SPACE, _OTHER_CLASS = 8, 9
_TABLE_SIZE = 0x32400
# Phrases are looked for at the beginning of a block only: in running prose they are words like others.
_PHRASE_TOKENS = 48


class Blocks(NamedTuple):
    """Blocks in document order.

    Attributes:
        first, last: int32 [blocks] first run and one past the last.
        element: int32 [blocks] the nearest element of block level.
        inner: int32 [blocks] the element that holds the first run.
        tokens, linked: float32 [blocks] tokens, and those inside links.
        characters, linked_characters: float32 [blocks] visible characters without spaces.
        han, digits, upper, clauses, sentences, breaks, colons: float32 [blocks] counts.
        phrases: float32 [blocks, 4] words of each phrase group.
        key: uint64 [blocks] hash of the text.
        closed: float32 [blocks] 1 when the last visible character ends a sentence.
        in_title: float32 [blocks] share of its tokens that stand in the page's title.
        in_description: float32 [blocks] share of the description's pairs of tokens that it has.
        first_kind: float32 [blocks] class of the first character.
        flags: uint8 [blocks] flags of the first run's element.
    """

    first: npt.NDArray[np.int32]
    last: npt.NDArray[np.int32]
    element: npt.NDArray[np.int32]
    inner: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.float32]
    linked: npt.NDArray[np.float32]
    characters: npt.NDArray[np.float32]
    linked_characters: npt.NDArray[np.float32]
    han: npt.NDArray[np.float32]
    digits: npt.NDArray[np.float32]
    upper: npt.NDArray[np.float32]
    clauses: npt.NDArray[np.float32]
    sentences: npt.NDArray[np.float32]
    breaks: npt.NDArray[np.float32]
    colons: npt.NDArray[np.float32]
    phrases: npt.NDArray[np.float32]
    key: npt.NDArray[np.uint64]
    closed: npt.NDArray[np.float32]
    in_title: npt.NDArray[np.float32]
    in_description: npt.NDArray[np.float32]
    first_kind: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]


@nb.njit(cache=True, nogil=True)
def show_alternatives(elements: Elements, runs: Runs) -> None:
    """Settle which elements the `hidden` attribute hides: sets `HIDDEN` in the flags.

    Manuals carry a text per platform, all hidden, and let a script show one. Where an element holds hidden elements
    only, more than one, the last is shown: it is the default by custom. Without it sentences lose their object.
    """
    count = len(elements.tag)
    children = np.zeros(count, np.int32)
    hidden = np.zeros(count, np.int32)
    last = np.zeros(count, np.int32)
    for e in range(1, count):
        parent = elements.parent[e]
        children[parent] += 1
        last[parent] = e
        if elements.flags[e] & OWN_HIDDEN:
            hidden[parent] += 1
    for r in range(len(runs.start)):
        children[runs.parent[r]] += 2
    for e in range(1, count):
        parent = elements.parent[e]
        shown = (
            children[parent] > 1
            and hidden[parent] == children[parent]
            and last[parent] == e
            and (elements.flags[e] & PHRASING)
        )
        if (elements.flags[e] & OWN_HIDDEN and not shown) or elements.flags[parent] & HIDDEN:
            elements.flags[e] |= HIDDEN


@nb.njit(cache=True, nogil=True)
def block_into(  # noqa: PLR0912, PLR0915 - one pass over the text is the point of it
    data: Bytes,
    elements: Elements,
    runs: Runs,
    table: npt.NDArray[np.uint8],
    text_keys: npt.NDArray[np.uint64],
    text_values: npt.NDArray[np.int64],
    word_keys: npt.NDArray[np.uint64],
    word_values: npt.NDArray[np.int64],
    described: int,
    blocks: Blocks,
) -> int:
    """Fill `blocks`; how many there are. A run takes over border and white space of hidden runs before it."""
    holder = np.zeros(len(elements.tag), np.int32)
    for e in range(1, len(elements.tag)):
        holder[e] = holder[elements.parent[e]] if elements.flags[e] & PHRASING else e
    current = -1
    pending = 0
    spaced = False
    # State of the token that is being read; it may go on over a run's end (`mis<b>nested</b>`).
    word = 0
    key = FNV_START
    previous = np.zeros(1, np.uint64)
    matched = np.zeros(2, np.float64)
    for r in range(len(runs.start)):
        parent = runs.parent[r]
        flags = elements.flags[parent]
        pending = max(pending, runs.border[r])
        spaced |= runs.spaced[r]
        if flags & HIDDEN:
            continue
        border = pending
        pending = 0
        preformatted = flags & PREFORMATTED
        if current < 0 or border >= EMPTY_LINE:
            if current >= 0:
                if word:
                    if word == 1:
                        _word_seen(blocks, current, key, text_keys, text_values)
                    _token_seen(word_keys, word_values, key, previous, matched)
                _close(blocks, current, matched, described)
                if blocks.characters[current] == 0:
                    current -= 1
            current += 1
            word = 0
            matched[:] = 0
            previous[0] = 0
            blocks.first[current] = r
            blocks.element[current] = holder[parent]
            blocks.inner[current] = parent
            blocks.tokens[current] = 0
            blocks.linked[current] = 0
            blocks.characters[current] = 0
            blocks.linked_characters[current] = 0
            blocks.han[current] = 0
            blocks.digits[current] = 0
            blocks.upper[current] = 0
            blocks.clauses[current] = 0
            blocks.sentences[current] = 0
            blocks.breaks[current] = 0
            blocks.colons[current] = 0
            for g in range(4):
                blocks.phrases[current, g] = 0
            blocks.key[current] = FNV_START
            blocks.closed[current] = 0
            blocks.first_kind[current] = 0
            blocks.flags[current] = flags
        elif border == BREAK:
            blocks.breaks[current] += 1
        if (border > 0 or spaced) and word:
            if word == 1:
                _word_seen(blocks, current, key, text_keys, text_values)
            _token_seen(word_keys, word_values, key, previous, matched)
            word = 0
        spaced = False
        blocks.last[current] = r + 1
        linked = flags & IN_LINK
        place, end = runs.start[r], runs.end[r]
        before = blocks.tokens[current]
        before_characters = blocks.characters[current]
        text_key = blocks.key[current]
        while place < end:
            first = data[place]
            code = np.uint32(first)
            length = 1
            if first == 38:
                # A character reference: read as a space, or a number's character.
                semicolon = place + 1
                while (
                    semicolon < end
                    and semicolon - place < 12
                    and data[semicolon] != 59
                    and data[semicolon] > 34
                ):
                    semicolon += 1
                if semicolon < end and data[semicolon] == 59:
                    length = semicolon + 1 - place
                    code = np.uint32(32)
                    if data[place + 1] == 35:
                        number = 0
                        if data[place + 2] == 120 or data[place + 2] == 88:
                            for i in range(place + 3, semicolon):
                                digit = data[i] | 32
                                number = number * 16 + (digit - 87 if digit >= 97 else digit - 16 - 32)
                        else:
                            for i in range(place + 2, semicolon):
                                number = number * 10 + data[i] - 48
                        if 0 < number < 0x110000:
                            code = np.uint32(number)
                    elif data[place + 1] != 110 and length > 3:
                        code = np.uint32(39) if data[place + 1] in (39, 97, 114, 108, 113) else np.uint32(32)
            elif first >= 0xF0:
                code = np.uint32(
                    ((first & 7) << 18)
                    | ((data[place + 1] & 63) << 12)
                    | ((data[place + 2] & 63) << 6)
                    | (data[place + 3] & 63)
                )
                length = 4
            elif first >= 0xE0:
                code = np.uint32(
                    ((first & 15) << 12) | ((data[place + 1] & 63) << 6) | (data[place + 2] & 63)
                )
                length = 3
            elif first >= 0xC0:
                code = np.uint32(((first & 31) << 6) | (data[place + 1] & 63))
                length = 2
            place += length
            kind = table[code] if code < _TABLE_SIZE else _OTHER_CLASS
            if kind == _SPACE:
                if preformatted and code == 10:
                    blocks.breaks[current] += 1
                if word:
                    if word == 1:
                        _word_seen(blocks, current, key, text_keys, text_values)
                    _token_seen(word_keys, word_values, key, previous, matched)
                    word = 0
                continue
            if kind == _OTHER_CLASS:
                continue
            blocks.characters[current] += 1
            if blocks.characters[current] == 1:
                blocks.first_kind[current] = kind
            text_key = (text_key ^ np.uint64(code)) * FNV_PRIME
            if kind <= DIGIT:
                blocks.closed[current] = 0
                if kind in (HAN, KANA):
                    if word:
                        if word == 1:
                            _word_seen(blocks, current, key, text_keys, text_values)
                        _token_seen(word_keys, word_values, key, previous, matched)
                        word = 0
                    blocks.tokens[current] += 1
                    blocks.han[current] += 1
                    key = FNV_START
                    for i in range(place - length, place):
                        key = (key ^ np.uint64(data[i])) * FNV_PRIME
                    _token_seen(word_keys, word_values, key, previous, matched)
                    if blocks.tokens[current] <= _PHRASE_TOKENS and length == 3:
                        # Phrases of two to four characters that end here.
                        for characters in range(2, 5):
                            begin = place - 3 * characters
                            if begin < runs.start[r]:
                                break
                            phrase = FNV_START
                            for i in range(begin, place):
                                phrase = (phrase ^ np.uint64(data[i])) * FNV_PRIME
                            _phrase_seen(blocks, current, phrase, text_keys, text_values)
                else:
                    if kind == DIGIT:
                        blocks.digits[current] += 1
                    elif 65 <= code <= 90:
                        blocks.upper[current] += 1
                    if not word:
                        blocks.tokens[current] += 1
                        word = 1 if blocks.tokens[current] <= _PHRASE_TOKENS else 2
                        key = FNV_START
                    small = code + 32 if 65 <= code <= 90 else code
                    if small < 128:
                        key = (key ^ np.uint64(small)) * FNV_PRIME
                    else:
                        for i in range(place - length, place):
                            key = (key ^ np.uint64(data[i])) * FNV_PRIME
                continue
            if word:
                if word == 1:
                    _word_seen(blocks, current, key, text_keys, text_values)
                _token_seen(word_keys, word_values, key, previous, matched)
                word = 0
            if code in (46, 33, 63, 12290, 65281, 65311) or (code in (8230, 1748, 2404)):
                if code != 46 or place >= end or data[place] <= 32 or data[place] == 34 or data[place] == 38:
                    blocks.sentences[current] += 1
                    blocks.closed[current] = 1
            elif code in (44, 65292, 12289, 59, 65307, 1548):
                blocks.clauses[current] += 1
                blocks.closed[current] = 0
            elif code in (58, 65306):
                blocks.colons[current] += 1
                blocks.closed[current] = 0.5
            elif code == 0xA9:
                blocks.phrases[current, 0] += 2
            elif kind != PUNCTUATION:
                blocks.closed[current] = 0
        blocks.key[current] = text_key
        if linked:
            blocks.linked[current] += blocks.tokens[current] - before
            blocks.linked_characters[current] += blocks.characters[current] - before_characters
    if current >= 0:
        if word:
            if word == 1:
                _word_seen(blocks, current, key, text_keys, text_values)
            _token_seen(word_keys, word_values, key, previous, matched)
        _close(blocks, current, matched, described)
        if blocks.characters[current] == 0:
            current -= 1
    return current + 1


@nb.njit(cache=True, nogil=True)
def _token_seen(
    keys: npt.NDArray[np.uint64],
    values: npt.NDArray[np.int64],
    key: np.uint64,
    previous: npt.NDArray[np.uint64],
    matched: npt.NDArray[np.float64],
) -> None:
    """Count a token that the title has, and a pair of tokens that the description has."""
    if look_up(keys, values, key) & 1:
        matched[0] += 1
    if look_up(keys, values, (previous[0] * FNV_PRIME) ^ key) & 2:
        matched[1] += 1
    previous[0] = key


@nb.njit(cache=True, nogil=True)
def _close(blocks: Blocks, block: int, matched: npt.NDArray[np.float64], described: int) -> None:
    blocks.in_title[block] = matched[0] / max(blocks.tokens[block], 1.0)
    blocks.in_description[block] = matched[1] / max(described, 8)


@nb.njit(cache=True, nogil=True)
def _phrase_seen(
    blocks: Blocks, block: int, key: np.uint64, keys: npt.NDArray[np.uint64], values: npt.NDArray[np.int64]
) -> None:
    found = look_up(keys, values, key)
    if found:
        for g in range(4):
            if found >> g & 1:
                blocks.phrases[block, g] += 1


@nb.njit(cache=True, nogil=True)
def _word_seen(
    blocks: Blocks, block: int, key: np.uint64, keys: npt.NDArray[np.uint64], values: npt.NDArray[np.int64]
) -> None:
    _phrase_seen(blocks, block, key, keys, values)


def empty_blocks(room: int) -> Blocks:
    """Arrays for as many blocks."""
    wide = {"phrases": (room, 4)}
    kinds = {
        "first": np.int32,
        "last": np.int32,
        "element": np.int32,
        "inner": np.int32,
        "key": np.uint64,
        "flags": np.uint8,
    }
    return Blocks._make(np.zeros(wide.get(n, (room,)), kinds.get(n, np.float32)) for n in Blocks._fields)


def head_words(title: str, description: str) -> tuple[Words, npt.NDArray[np.int64], int]:
    """Table of the title's tokens (bit 0) and the description's pairs of tokens (bit 1), and the number of pairs."""
    keys, values = np.zeros(TABLE_SIZE, np.uint64), np.zeros(TABLE_SIZE, np.int64)
    for token in tokens(title)[:64]:
        put(keys, values, hash_word(token.encode()), 1)
    described = [hash_word(token.encode()) for token in tokens(description)[:200]]
    pairs = {(a * int(FNV_PRIME) ^ b) & 0xFFFFFFFFFFFFFFFF for a, b in pairwise(described)}
    for pair in sorted(pairs):
        put(keys, values, pair, 2)
    return keys, values, len(pairs)


def find_blocks(data: Bytes, elements: Elements, runs: Runs, title: str, description: str) -> Blocks:
    """The blocks of a page; title and description are what its head says."""
    known = vocabulary()
    show_alternatives(elements, runs)
    blocks = empty_blocks(len(runs.start) + 1)
    count = block_into(
        data,
        elements,
        runs,
        class_table(),
        known.text_keys,
        known.text_values,
        *head_words(title, description),
        blocks,
    )
    return Blocks._make(array[:count] for array in blocks)
