"""The pass over the code points of a document: its words, lines, sentences and paragraphs, and what stands in them.

Comes in: code points and the tables. Goes out: counts in `tally`, and one row a word, sentence, line and paragraph in
the scratch arrays. Later steps (`grams.py`, `rows.py`) never look at characters again. What each number means is
said by `names.py`, and in plain Python by `reference.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.signals.character_model import DIGIT_SYMBOL, SPACE_SYMBOL, CharacterModel, cost_of
from haina.corpus.signals.tables import (
    ALPHA,
    BULLET,
    CLOSER,
    HARD_END,
    IS_DIGIT,
    IS_HAN,
    IS_PUNCTUATION,
    IS_SPACE,
    IS_SYMBOL,
    LAST,
    MULTIPLIER,
    QUOTES,
    SEED,
    SOFT_END,
    SPECIAL,
    STRIPPED,
    WORD,
)

# Places in `tally`.
(
    WORDS, SENTENCES, LINES, PARAGRAPHS, LETTER_WORDS, MARKS, ELLIPSES, NEWLINES, URLS, EMAILS, DISTINCT, MODELLED,
    HAN_CHARACTERS,
) = range(13)  # fmt: skip
TALLY = 13
# What is known of a line, as bits.
ENDS_IN_ELLIPSIS, STARTS_WITH_BULLET, IS_TERMINAL, IS_SHORT, IS_CLOSED, HAS_POLICY = (
    1 << bit for bit in range(6)
)
SHORT_LINE = 30
LONGEST_HOST_LABEL = 63

_QUOTES = np.array(sorted(map(ord, QUOTES)), dtype=np.uint32)
_MARK = IS_PUNCTUATION | IS_SYMBOL
_ELLIPSIS, _FULL_STOP, _DOT = 0x2026, 0x3002, 0x2E


class Scratch(NamedTuple):
    """Arrays that one document after the other is taken apart into; as long as the longest document.

    `counts` is int32 [0x110000] and all zero between documents; `present` are the code points that occur.
    """

    codes: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]
    present: npt.NDArray[np.uint32]
    tally: npt.NDArray[np.int64]
    word_hash: npt.NDArray[np.uint64]
    word_length: npt.NDArray[np.int32]
    word_line: npt.NDArray[np.int32]
    sentence_words: npt.NDArray[np.int32]
    line_length: npt.NDArray[np.int32]
    line_hash: npt.NDArray[np.uint64]
    line_words: npt.NDArray[np.int32]
    line_sentences: npt.NDArray[np.int32]
    line_flags: npt.NDArray[np.uint8]
    paragraph_words: npt.NDArray[np.int32]
    paragraph_length: npt.NDArray[np.int32]
    paragraph_hash: npt.NDArray[np.uint64]


def new_scratch(longest: int) -> Scratch:
    """Scratch for documents of up to `longest` bytes. Memory that no document reaches is never touched."""
    room = longest + 1

    def empty(dtype: Any) -> Any:
        return np.empty(room, dtype=dtype)

    return Scratch(
        empty(np.uint32), empty(np.int32), np.zeros(0x110000, dtype=np.int32), empty(np.uint32),
        np.zeros(TALLY, dtype=np.int64),
        empty(np.uint64), empty(np.int32), empty(np.int32), empty(np.int32),
        empty(np.int32), empty(np.uint64), empty(np.int32), empty(np.int32), empty(np.uint8),
        empty(np.int32), empty(np.int32), empty(np.uint64),
    )  # fmt: skip


@nb.njit(cache=True, nogil=True)
def mix(state: np.uint64, value: np.uint64) -> np.uint64:
    """One step of a 64-bit hash; `tables.step` in plain Python."""
    state = (state ^ value) * np.uint64(MULTIPLIER)
    return state ^ (state >> np.uint64(32))


@nb.njit(cache=True, nogil=True)
def _is_ascii_letter(code: np.uint32) -> bool:
    return bool(0x61 <= code | 0x20 <= 0x7A)


@nb.njit(cache=True, nogil=True)
def _is_ascii_alnum(code: np.uint32) -> bool:
    return bool(0x61 <= code | 0x20 <= 0x7A or 0x30 <= code <= 0x39)


@nb.njit(cache=True, nogil=True)
def is_email(codes: npt.NDArray[np.uint32], count: int, at: int) -> bool:
    """Whether the `@` at `at` joins an address: `[A-Za-z0-9._%+-]@[A-Za-z0-9-]{1,63}\\.[A-Za-z]`."""
    if at == 0:
        return False
    before = codes[at - 1]
    if not (_is_ascii_alnum(before) or before in (0x2E, 0x5F, 0x25, 0x2B, 0x2D)):
        return False
    place = at + 1
    while (
        place < count
        and place - at <= LONGEST_HOST_LABEL
        and (_is_ascii_alnum(codes[place]) or codes[place] == 0x2D)
    ):
        place += 1
    return (
        place > at + 1 and place + 1 < count and codes[place] == 0x2E and _is_ascii_letter(codes[place + 1])
    )


@nb.njit(cache=True, nogil=True)
def is_www(codes: npt.NDArray[np.uint32], dot: int) -> bool:
    """Whether `www` stands before the dot at `dot`, and neither `/` nor an ASCII letter or digit before it."""
    if dot < 3:
        return False
    for place in range(dot - 3, dot):
        if codes[place] | 0x20 != 0x77:
            return False
    return dot == 3 or not (codes[dot - 4] == 0x2F or _is_ascii_alnum(codes[dot - 4]))


@nb.njit(cache=True, nogil=True)
def _close_line(
    table: npt.NDArray[np.uint64], scratch: Scratch, line: int, first: int, last: int, han: int, bullet: bool
) -> None:
    """The row of a line that spans `first` to `last`, both visible."""
    codes = scratch.codes
    length = last - first + 1
    state = np.uint64(SEED)
    place = first
    while place < last:
        state = mix(state, np.uint64(codes[place]) << np.uint64(32) | np.uint64(codes[place + 1]))
        place += 2
    if place == last:
        state = mix(state, np.uint64(codes[place]))
    scratch.line_hash[line] = state
    scratch.line_length[line] = length
    final = codes[last]
    ellipsis = final == _ELLIPSIS or (
        final in (_DOT, _FULL_STOP) and length >= 3 and codes[last - 1] == final and codes[last - 2] == final
    )
    place = last
    while place > first and np.int64(table[min(codes[place], LAST)]) & CLOSER:
        place -= 1
    terminal = np.int64(table[min(codes[place], LAST)]) & (HARD_END | SOFT_END) != 0
    closed = terminal
    for quote in _QUOTES:
        closed = closed or final == quote
    flags = 0
    if ellipsis:
        flags |= ENDS_IN_ELLIPSIS
    if bullet:
        flags |= STARTS_WITH_BULLET
    if terminal:
        flags |= IS_TERMINAL
    if closed:
        flags |= IS_CLOSED
    if length + han < SHORT_LINE:
        flags |= IS_SHORT
    scratch.line_flags[line] = flags


@nb.njit(cache=True, nogil=True)
def scan(  # noqa: PLR0912, PLR0915 - one pass is the point of it
    table: npt.NDArray[np.uint64],
    model: CharacterModel,
    scratch: Scratch,
    count: int,
) -> int:
    """Take `scratch.codes[:count]` apart; the steps that the character model spends on it."""
    codes, counts, present, tally = scratch.codes, scratch.counts, scratch.present, scratch.tally
    # Locals, because a field of a tuple costs a count of references each time.
    singles, pairs, triples = model.singles, model.pairs, model.triples
    word_hash, word_length, word_line = scratch.word_hash, scratch.word_length, scratch.word_line
    sentence_words = scratch.sentence_words
    words = sentences = lines = paragraphs = distinct = 0
    letter_words = marks = ellipses = newlines = urls = emails = modelled = 0
    steps = weight = np.int64(0)
    older = before = np.uint64(SPACE_SYMBOL)
    # The open word, sentence, line and paragraph.
    state = np.uint64(SEED)
    length, letters = 0, np.int64(0)
    sentence_start = line_start = paragraph_start = 0
    line_sentences = 0
    first, last, han, bullet = -1, -1, 0, False
    paragraph_lines, paragraph_length, paragraph_state = 0, 0, np.uint64(SEED)
    previous = np.int64(0)
    entry = table[min(codes[0], LAST)] if count else np.uint64(0)
    following = np.int64(entry & np.uint64(0xFFFFFFFF))
    for index in range(count):
        code = codes[index]
        flags = following
        folded = entry >> np.uint64(32)
        if index + 1 < count:
            entry = table[min(codes[index + 1], LAST)]
            following = np.int64(entry & np.uint64(0xFFFFFFFF))
        else:
            following = np.int64(STRIPPED)
        seen = counts[code]
        counts[code] = seen + 1
        if seen == 0:
            present[distinct] = code
            distinct += 1

        if flags & WORD:
            state = mix(state, folded)
            length += 1
            letters |= flags & ALPHA
        else:
            if length:
                word_hash[words], word_length[words], word_line[words] = state, length, lines
                words += 1
                letter_words += letters != 0
                state, length, letters = np.uint64(SEED), 0, np.int64(0)
            if flags & IS_HAN:
                word_hash[words], word_length[words], word_line[words] = mix(state, folded), 1, lines
                words += 1
                letter_words += 1
                han += 1
            elif flags & _MARK:
                if not (previous & WORD and following & WORD):
                    marks += 1
                if flags & SPECIAL:
                    if code == _DOT:
                        if index >= 2 and codes[index - 1] == _DOT and codes[index - 2] == _DOT:
                            ellipses += index == 2 or codes[index - 3] != _DOT
                        urls += is_www(codes, index)
                    elif code == _ELLIPSIS:
                        ellipses += index == 0 or codes[index - 1] != _ELLIPSIS
                    elif code == 0x3A:
                        urls += (
                            0 < index < count - 2
                            and codes[index + 1] == 0x2F
                            and codes[index + 2] == 0x2F
                            and _is_ascii_letter(codes[index - 1])
                        )
                    else:
                        emails += is_email(codes, count, index)
                if (
                    flags & HARD_END
                    or (flags & SOFT_END and following & (STRIPPED | CLOSER | HARD_END | SOFT_END | IS_HAN))
                ) and words > sentence_start:
                    sentence_words[sentences] = words - sentence_start
                    sentences += 1
                    line_sentences += 1
                    sentence_start = words

        if not flags & STRIPPED:
            if first < 0:
                first, bullet = index, flags & BULLET != 0
            last = index
        if code == 0x0A or index == count - 1:
            newlines += code == 0x0A
            if length and index == count - 1:
                word_hash[words], word_length[words], word_line[words] = state, length, lines
                words += 1
                letter_words += letters != 0
            if words > sentence_start:
                sentence_words[sentences] = words - sentence_start
                sentences += 1
                line_sentences += 1
                sentence_start = words
            if first >= 0:
                _close_line(table, scratch, lines, first, last, han, bullet)
                scratch.line_words[lines] = words - line_start
                scratch.line_sentences[lines] = line_sentences
                paragraph_state = mix(paragraph_state, scratch.line_hash[lines])
                paragraph_length += scratch.line_length[lines]
                paragraph_lines += 1
                lines += 1
            if paragraph_lines and (first < 0 or index == count - 1):
                scratch.paragraph_words[paragraphs] = words - paragraph_start
                scratch.paragraph_length[paragraphs] = paragraph_length
                scratch.paragraph_hash[paragraphs] = paragraph_state
                paragraphs += 1
                paragraph_lines, paragraph_length, paragraph_state = 0, 0, np.uint64(SEED)
                paragraph_start = words
            line_start, line_sentences = words, 0
            first, last, han, bullet = -1, -1, 0, False

        if flags & IS_SPACE:
            folded = np.uint64(SPACE_SYMBOL)
        elif flags & IS_DIGIT:
            folded = np.uint64(DIGIT_SYMBOL)
        if folded != SPACE_SYMBOL or before != SPACE_SYMBOL:
            cost, weight = cost_of(singles, pairs, triples, older, before, folded, weight)
            steps += cost
            modelled += 1
            older, before = before, folded
        previous = flags
    tally[WORDS], tally[SENTENCES], tally[LINES], tally[PARAGRAPHS] = words, sentences, lines, paragraphs
    tally[LETTER_WORDS], tally[MARKS], tally[ELLIPSES], tally[NEWLINES] = (
        letter_words,
        marks,
        ellipses,
        newlines,
    )
    tally[URLS], tally[EMAILS], tally[DISTINCT], tally[MODELLED] = urls, emails, distinct, modelled
    return int(steps)
