"""Text as hashed n-grams and a few dense measurements, straight from packed UTF-8.

Comes in: documents as UTF-8 bytes with offsets (haina.corpus.utf8.pack). Goes out: for each document the buckets of
its n-grams, pairs of buckets that tell order from chance, and `DENSE` numbers about its form. The linear model
adds weights over the first, so that text is read once and nothing is stored.

A text is a run of units: a Han, kana or Hangul character, a word of letters and digits, a punctuation mark, a line
end, a space between Han characters. Characters are folded before: width and case, traditional to simplified (OpenCC),
every digit to 0. N-grams are those of units (one, two, three; in the three a long word counts by its last two letters,
which stand for its part of speech) and of letters within words (three, four, with the word's ends).

Order has a control group: beside each pair of neighbours stands the pair of the same unit and the one eight before.
Shuffled text scores the same on both, whatever its subject; written text does not.

Hashing trick: Weinberger et al. 2009; hashed n-grams of words with a linear model: Joulin et al. 2016 (fastText).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.characters import (
    CLASSES,
    DIGIT,
    HAN,
    HANGUL,
    KANA,
    LATIN,
    LETTER,
    OTHER,
    PUNCTUATION,
    SPACE,
    SYMBOL,
    class_table,
)
from haina.corpus.records import clean_text
from haina.corpus.utf8 import pack

DENSE = (
    "punctuation",  # share of visible characters
    "digits",
    "symbols",
    "unreadable",  # U+FFFD, private use, unassigned
    "latin",  # Latin letters among letters
    "upper",  # upper case among Latin letters
    "han_spaces",  # spaces between Han characters, by Han characters
    "emphasis",  # ! and ? by units
    "marks",  # link and layout marks / | > @ # _ = * + ~ by units
    "sentence",  # log of units by sentence end
    "sentence_spread",  # standard deviation of sentence lengths by their mean
    "line",  # log of units by line
    "line_ends",  # lines that end in a sentence mark
    "repeated_3",  # runs of three units seen shortly before
    "repeated_6",  # runs of six
    "repeated_1",  # units seen among the 64 before
    "word",  # mean letters of a word
)
CHUNK = 4096
# A unit can give four n-grams and each of its letters two more; the end of a word gives two and its unit.
IDS_PER_BYTE = 6
PAIRS_PER_BYTE = 2
# The control of a pair is taken so many units before: a power of two.
CONTROL_DISTANCE = 8

_TABLE_SIZE = 0x32400
_CLASS_SHIFT = 24
_CODE_MASK = 0xFFFFFF
_MASK64 = (1 << 64) - 1
K1 = 0x9E3779B97F4A7C15
K2 = 0xC2B2AE3D27D4EB4F
K3 = 0x165667B19E3779F9
TAG_PAIR, TAG_TRIPLE, TAG_CLASS, TAG_LETTERS3, TAG_LETTERS4 = 1, 2, 3, 4, 5
_WORD_START, _WORD_END = 1, 2
_NEWLINE, _SPACE_CODE = 0x0A, 0x20
SHORT_WORD = 4

_SENTENCE_ENDS = "。.!?…;"
_MARKS = "/|>@#_=*+~<\\^`»•·►■"
_CLOSING = ")]}】》〉」』〕"
IS_END, IS_MARK, IS_CLOSING, IS_EMPHASIS = 1, 2, 4, 8

# Counters of one document, and what the reader carries over from chunk to chunk.
(
    _UNITS,
    _N_UPPER,
    _N_HAN_SPACES,
    _N_EMPHASIS,
    _N_MARKS,
    _N_ENDS,
    _SENTENCE_UNITS,
    _N_SENTENCES,
    _SENTENCE_SQUARES,
    _N_LINES,
    _N_LINE_ENDS,
    _LINE_UNITS,
    _REPEATED_1,
    _REPEATED_3,
    _REPEATED_6,
    _N_WORDS,
    _LAST_END,
    _KINDS,  # one for each class of character from here on
) = range(18)
_COUNTERS = _KINDS + CLASSES
(
    _U1,
    _U2,
    _C1,
    _C2,
    _WORD,
    _COARSE,
    _LETTERS,
    _L1,
    _L2,
    _L3,
    _PENDING_SPACE,
    _LAST_HAN,
    _POSITION,
    _FIRST,
    _P1,
    _P2,
    _P3,
    _P4,
    _STATES,
) = range(19)
SEEN_BITS = 12
NEAR = 64
_LOW = 0xFFFFFFFF


def _fold_code(code: int, simplified: dict[int, int]) -> int:
    """One character folded: width, case, variant, digit; the character itself when that gives several."""
    character = chr(code)
    if character in "‘’":
        return 0x27
    if character in "“”„":
        return 0x22
    folded = unicodedata.normalize("NFKC", character)
    if len(folded) == 1:
        character = folded
    lower = character.lower()
    if len(lower) == 1:
        character = lower
    if unicodedata.category(character) == "Nd":
        character = "0"
    return simplified.get(ord(character), ord(character))


@cache
def fold_table() -> npt.NDArray[np.uint32]:
    """For each code point below 0x32400 the folded one, with its class in the upper byte: uint32 [0x32400]."""
    from opencc import OpenCC

    codes = [*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000), *range(0x20000, 0x31350)]
    targets = OpenCC("t2s").convert("\n".join(map(chr, codes))).split("\n")
    simplified = {code: ord(target) for code, target in zip(codes, targets, strict=True) if len(target) == 1}
    classes = class_table()
    table = np.arange(_TABLE_SIZE, dtype=np.uint32)
    for code in range(0x20000):
        if not 0xD800 <= code < 0xE000:
            table[code] = _fold_code(code, simplified)
    for code in range(0x20000, 0x31350):
        table[code] = simplified.get(code, code)
    kinds = classes[table].astype(np.uint32)
    kinds[0xFFFD] = OTHER
    table |= kinds << np.uint32(_CLASS_SHIFT)
    table.setflags(write=False)
    return table


@cache
def role_table() -> npt.NDArray[np.uint8]:
    """Bits for folded characters that end a sentence, lay out a page, close a bracket, or shout: uint8
    [0x10000]."""
    table = np.zeros(0x10000, dtype=np.uint8)
    for characters, bit in (
        (_SENTENCE_ENDS, IS_END),
        (_MARKS, IS_MARK),
        (_CLOSING, IS_CLOSING),
        ("!?", IS_EMPHASIS),
    ):
        for character in characters:
            table[ord(character)] |= bit
    table.setflags(write=False)
    return table


@nb.njit(nogil=True, inline="always")  # pragma: no cover - compiled
def _bucket(value: np.uint64, bits: int) -> np.int32:
    """The upper bits of a product: Dietzfelbinger's multiply-shift."""
    value = (value ^ (value >> np.uint64(29))) * np.uint64(K2)
    return np.int32(value >> np.uint64(64 - bits))


@nb.njit(nogil=True, inline="always")  # pragma: no cover - compiled
def _join(left: np.uint64, right: np.uint64, tag: int) -> np.uint64:
    return (left * np.uint64(K1)) ^ (right * np.uint64(K3) + np.uint64(tag))


@nb.njit(nogil=True, inline="always")  # pragma: no cover - compiled
def _unit(  # noqa: PLR0915 - one step of the reader
    unit: np.uint64,
    coarse: np.uint64,
    bits: int,
    state: npt.NDArray[np.uint64],
    counters: npt.NDArray[np.int64],
    ring: npt.NDArray[np.uint64],
    seen: npt.NDArray[np.uint64],
    ids: npt.NDArray[np.int32],
    count: int,
    pairs: npt.NDArray[np.int32],
    pair_count: int,
) -> tuple[int, int]:
    """Write the n-grams that end in a unit; the new counts."""
    position = state[_POSITION]
    u1, c1 = state[_U1], state[_C1]
    pair = _join(u1, unit, TAG_PAIR)
    pair_bucket = _bucket(pair, bits)
    class_pair = _join(c1, coarse, TAG_CLASS)
    triple = _join(_join(state[_C2], c1, TAG_TRIPLE), coarse, TAG_TRIPLE)
    ids[count] = _bucket(unit, bits)
    ids[count + 1] = pair_bucket
    triple_bucket = _bucket(triple, bits)
    ids[count + 2] = triple_bucket
    count += 3
    if coarse != unit or c1 != u1:
        ids[count] = _bucket(class_pair, bits)
        count += 1
    slot = np.int64(position & np.uint64(CONTROL_DISTANCE - 1))
    since = position - state[_FIRST]
    if since >= np.uint64(CONTROL_DISTANCE):
        pairs[pair_count, 0] = pair_bucket
        pairs[pair_count, 1] = _bucket(_join(ring[0, slot], unit, TAG_PAIR), bits)
        pairs[pair_count + 1, 0] = triple_bucket
        pairs[pair_count + 1, 1] = _bucket(_join(ring[1, slot], coarse, TAG_TRIPLE), bits)
        pair_count += 2
    ring[0, slot] = unit
    ring[1, slot] = _join(c1, coarse, TAG_TRIPLE)
    # A slot remembers 32 bits of what was last there, and where: an entry from before this document does not count.
    first = state[_FIRST]
    six = _join(_join(state[_P4], state[_P2], TAG_TRIPLE), pair, TAG_TRIPLE)
    three = _join(state[_P1], pair, TAG_TRIPLE)
    now = (position + np.uint64(1)) & np.uint64(_LOW)
    product = unit * np.uint64(K2)
    place = np.int64(product >> np.uint64(64 - SEEN_BITS))
    entry = seen[0, place]
    last = entry & np.uint64(_LOW)
    if entry >> np.uint64(32) == product & np.uint64(_LOW) and last > first and now <= last + np.uint64(NEAR):
        counters[_REPEATED_1] += 1
    seen[0, place] = (product << np.uint64(32)) | now
    if since >= np.uint64(2):
        product = three * np.uint64(K2)
        place = np.int64(product >> np.uint64(64 - SEEN_BITS))
        entry = seen[1, place]
        if entry >> np.uint64(32) == product & np.uint64(_LOW) and entry & np.uint64(_LOW) > first:
            counters[_REPEATED_3] += 1
        seen[1, place] = (product << np.uint64(32)) | now
    if since >= np.uint64(5):
        product = six * np.uint64(K2)
        place = np.int64(product >> np.uint64(64 - SEEN_BITS))
        entry = seen[2, place]
        if entry >> np.uint64(32) == product & np.uint64(_LOW) and entry & np.uint64(_LOW) > first:
            counters[_REPEATED_6] += 1
        seen[2, place] = (product << np.uint64(32)) | now
    state[_P4], state[_P3], state[_P2], state[_P1] = state[_P3], state[_P2], state[_P1], pair
    state[_U1], state[_C2], state[_C1] = unit, c1, coarse
    state[_POSITION] = position + np.uint64(1)
    counters[_UNITS] += 1
    counters[_SENTENCE_UNITS] += 1
    counters[_LINE_UNITS] += 1
    return count, pair_count


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _end_letters(
    bits: int,
    state: npt.NDArray[np.uint64],
    counters: npt.NDArray[np.int64],
    ids: npt.NDArray[np.int32],
    count: int,
) -> int:
    """Close the word that is open: the n-grams of its last letters, and what it counts as in runs of units."""
    l1, l2, l3 = state[_L1], state[_L2], state[_L3]
    three = (l2 << np.uint64(21)) | l1
    ids[count] = _bucket(_join(three, np.uint64(_WORD_END), TAG_LETTERS3), bits)
    ids[count + 1] = _bucket(_join((l3 << np.uint64(42)) | three, np.uint64(_WORD_END), TAG_LETTERS4), bits)
    long = state[_LETTERS] > np.uint64(SHORT_WORD)
    state[_COARSE] = _join(l2, l1, TAG_CLASS) if long else state[_WORD]
    counters[_N_WORDS] += 1
    state[_LETTERS] = np.uint64(0)
    return count + 2


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _end_sentence(counters: npt.NDArray[np.int64]) -> None:
    units = counters[_SENTENCE_UNITS]
    if units > 0:
        counters[_N_SENTENCES] += 1
        counters[_SENTENCE_SQUARES] += units * units
        counters[_SENTENCE_UNITS] = 0


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _end_line(counters: npt.NDArray[np.int64]) -> None:
    if counters[_LINE_UNITS] > 0:
        counters[_N_LINES] += 1
        counters[_N_LINE_ENDS] += counters[_LAST_END]
        counters[_LINE_UNITS] = 0


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def read_chunk(  # noqa: PLR0912, PLR0915 - one loop over the bytes
    data: npt.NDArray[np.uint8],
    start: int,
    stop: int,
    end: int,
    folds: npt.NDArray[np.uint32],
    roles: npt.NDArray[np.uint8],
    bits: int,
    state: npt.NDArray[np.uint64],
    counters: npt.NDArray[np.int64],
    ring: npt.NDArray[np.uint64],
    seen: npt.NDArray[np.uint64],
    ids: npt.NDArray[np.int32],
    pairs: npt.NDArray[np.int32],
) -> tuple[int, int, int]:
    """Read one chunk of a document that ends at `end`.

    Reads from `start` up to the first character border at or after `stop`; closes the document when that is `end`.
    Gives how many ids and pairs were written, and where the next chunk starts.
    """
    count, pair_count, place = 0, 0, start
    while place < stop:
        raw = np.uint32(data[place])
        if raw < 0x80:
            place += 1
        elif raw < 0xE0:
            raw = ((raw & 0x1F) << 6) | (np.uint32(data[place + 1]) & 0x3F)
            place += 2
        elif raw < 0xF0:
            raw = (
                ((raw & 0x0F) << 12)
                | ((np.uint32(data[place + 1]) & 0x3F) << 6)
                | (np.uint32(data[place + 2]) & 0x3F)
            )
            place += 3
        else:
            raw = (
                ((raw & 0x07) << 18)
                | ((np.uint32(data[place + 1]) & 0x3F) << 12)
                | ((np.uint32(data[place + 2]) & 0x3F) << 6)
                | (np.uint32(data[place + 3]) & 0x3F)
            )
            place += 4
        entry = folds[raw] if raw < _TABLE_SIZE else (raw | np.uint32(OTHER << _CLASS_SHIFT))
        code = np.uint64(entry & np.uint32(_CODE_MASK))
        kind = np.int64(entry >> np.uint32(_CLASS_SHIFT))
        if LATIN <= kind <= DIGIT:
            # The letters of a word one after the other, in registers.
            l1, l2, l3 = state[_L1], state[_L2], state[_L3]
            letters, word = state[_LETTERS], state[_WORD]
            if letters == np.uint64(0):
                word = np.uint64(K3)
                l1 = l2 = l3 = np.uint64(_WORD_START)
            while True:
                counters[_KINDS + kind] += 1
                if raw != code and raw < 0x5B and kind == LATIN:
                    counters[_N_UPPER] += 1
                if letters > np.uint64(0):
                    three = (l2 << np.uint64(21)) | l1
                    ids[count] = _bucket(_join(three, code, TAG_LETTERS3), bits)
                    count += 1
                    if letters > np.uint64(1):
                        four = (l3 << np.uint64(42)) | three
                        ids[count] = _bucket(_join(four, code, TAG_LETTERS4), bits)
                        count += 1
                l3, l2, l1 = l2, l1, code
                word = (word ^ code) * np.uint64(K1)
                word ^= word >> np.uint64(32)
                letters += np.uint64(1)
                if place >= stop or data[place] >= 0x80:
                    break
                raw = np.uint32(data[place])
                entry = folds[raw]
                kind = np.int64(entry >> np.uint32(_CLASS_SHIFT))
                if not LATIN <= kind <= DIGIT:
                    break
                code = np.uint64(entry & np.uint32(_CODE_MASK))
                place += 1
            state[_L3], state[_L2], state[_L1] = l3, l2, l1
            state[_WORD], state[_LETTERS] = word, letters
            counters[_LAST_END] = 0
            state[_LAST_HAN] = np.uint64(0)
            state[_PENDING_SPACE] = np.uint64(0)
            continue
        ended = state[_LETTERS] > np.uint64(0)
        if ended:
            count = _end_letters(bits, state, counters, ids, count)
        newline = kind == SPACE and code == _NEWLINE
        han = kind <= HANGUL
        role = np.uint8(0)
        if kind != SPACE:
            counters[_KINDS + kind] += 1
            role = roles[code] if code < 0x10000 else np.uint8(0)
        # At most three units are due: the word that ended, a space between Han characters, the character itself.
        for step in range(3):
            if step == 0:
                if not ended:
                    continue
                unit, coarse = state[_WORD], state[_COARSE]
            elif step == 1:
                if not han or state[_PENDING_SPACE] == np.uint64(0):
                    continue
                counters[_N_HAN_SPACES] += 1
                unit = coarse = np.uint64(_SPACE_CODE)
            else:
                if kind == SPACE and (not newline or state[_U1] == np.uint64(_NEWLINE)):
                    continue
                unit = coarse = code
                if newline:
                    counters[_LINE_UNITS] -= 1
                    counters[_SENTENCE_UNITS] -= 1
            count, pair_count = _unit(
                unit, coarse, bits, state, counters, ring, seen, ids, count, pairs, pair_count
            )
        if kind == SPACE:
            if newline:
                _end_sentence(counters)
                _end_line(counters)
                state[_LAST_HAN] = np.uint64(0)
            else:
                state[_PENDING_SPACE] = state[_LAST_HAN]
            continue
        state[_PENDING_SPACE] = np.uint64(0)
        state[_LAST_HAN] = np.uint64(han)
        if han:
            counters[_LAST_END] = 0
            continue
        if role & IS_EMPHASIS:
            counters[_N_EMPHASIS] += 1
        if role & IS_MARK:
            counters[_N_MARKS] += 1
        if not role & IS_CLOSING and code not in (0x22, 0x27):
            # A closing quote or bracket after the end of a sentence leaves it ended.
            counters[_LAST_END] = 1 if role & IS_END else 0
        if role & IS_END:
            counters[_N_ENDS] += 1
            _end_sentence(counters)
    if place >= end:
        if state[_LETTERS] > np.uint64(0):
            count = _end_letters(bits, state, counters, ids, count)
            unit, coarse = state[_WORD], state[_COARSE]
            count, pair_count = _unit(
                unit, coarse, bits, state, counters, ring, seen, ids, count, pairs, pair_count
            )
        _end_sentence(counters)
        _end_line(counters)
    return count, pair_count, place


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def begin(state: npt.NDArray[np.uint64], counters: npt.NDArray[np.int64]) -> None:
    """Make the reader ready for a new document; positions go on, so that what was seen before counts as old."""
    position = state[_POSITION]
    state[:] = 0
    state[_POSITION] = position
    state[_FIRST] = position
    # What stands before a text is a line end, as before any other line.
    state[_U1] = state[_C1] = state[_C2] = np.uint64(_NEWLINE)
    counters[:] = 0


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def form(counters: npt.NDArray[np.int64], dense: npt.NDArray[np.float32]) -> None:
    """The `DENSE` numbers of a document from its counters, in their order."""
    units = float(counters[_UNITS])
    han = float(counters[_KINDS + HAN] + counters[_KINDS + KANA] + counters[_KINDS + HANGUL])
    latin = float(counters[_KINDS + LATIN])
    visible = max(1.0, float(counters[_KINDS : _KINDS + CLASSES].sum()))
    some = max(1.0, units)
    letters = max(1.0, han + latin + counters[_KINDS + LETTER])
    sentences = float(max(1, counters[_N_SENTENCES]))
    lines = float(max(1, counters[_N_LINES]))
    mean = some / sentences
    variance = max(0.0, counters[_SENTENCE_SQUARES] / sentences - mean * mean)
    dense[0] = counters[_KINDS + PUNCTUATION] / visible
    dense[1] = counters[_KINDS + DIGIT] / visible
    dense[2] = counters[_KINDS + SYMBOL] / visible
    dense[3] = counters[_KINDS + OTHER] / visible
    dense[4] = latin / letters
    dense[5] = counters[_N_UPPER] / max(1.0, latin)
    dense[6] = counters[_N_HAN_SPACES] / max(1.0, han)
    dense[7] = counters[_N_EMPHASIS] / some
    dense[8] = counters[_N_MARKS] / some
    dense[9] = np.log(1.0 + units / (1.0 + counters[_N_ENDS]))
    dense[10] = np.sqrt(variance) / mean
    dense[11] = np.log(1.0 + units / lines)
    dense[12] = counters[_N_LINE_ENDS] / lines
    dense[13] = counters[_REPEATED_3] / some
    dense[14] = counters[_REPEATED_6] / some
    dense[15] = counters[_REPEATED_1] / some
    dense[16] = (latin + 1.0) / (counters[_N_WORDS] + 1.0)


def scratch() -> tuple[
    npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.uint64]
]:
    """State, counters, ring and memory of one reader, fresh; positions start at 1 so that nothing was seen at 0."""
    state = np.zeros(_STATES, dtype=np.uint64)
    state[_POSITION] = 1
    return (
        state,
        np.zeros(_COUNTERS, dtype=np.int64),
        np.zeros((2, CONTROL_DISTANCE), dtype=np.uint64),
        np.zeros((3, 1 << SEEN_BITS), dtype=np.uint64),
    )


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _extract(
    data: npt.NDArray[np.uint8],
    folds: npt.NDArray[np.uint32],
    roles: npt.NDArray[np.uint8],
    bits: int,
    state: npt.NDArray[np.uint64],
    counters: npt.NDArray[np.int64],
    ring: npt.NDArray[np.uint64],
    seen: npt.NDArray[np.uint64],
    ids: npt.NDArray[np.int32],
    pairs: npt.NDArray[np.int32],
    dense: npt.NDArray[np.float32],
) -> tuple[int, int]:
    begin(state, counters)
    count, pair_count, _ = read_chunk(
        data, 0, len(data), len(data), folds, roles, bits, state, counters, ring, seen, ids, pairs
    )
    form(counters, dense)
    return count, pair_count


def extract_features(
    text: str, bits: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """All features of one text, for tests and for a look inside.

    Returns:
        int32 [n-grams] buckets, int32 [pairs, 2] buckets of neighbours and of their control, float32 [DENSE].
    """
    data, _ = pack_clean([text])
    ids = np.empty(IDS_PER_BYTE * (len(data) + 1), dtype=np.int32)
    pairs = np.empty((PAIRS_PER_BYTE * (len(data) + 1), 2), dtype=np.int32)
    dense = np.zeros(len(DENSE), dtype=np.float32)
    count, pair_count = _extract(data, fold_table(), role_table(), bits, *scratch(), ids, pairs, dense)
    return ids[:count], pairs[:pair_count], dense


def pack_clean(texts: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """`pack`; a text with a lone surrogate, which UTF-8 cannot hold, is cleaned first."""
    try:
        return pack(texts)
    except UnicodeEncodeError:
        return pack([clean_text(text) for text in texts])
