"""Where sentences begin and end, in Chinese, English and both mixed.

Comes in: text. Goes out: sentences as character and byte offsets; they do not overlap, never cross a line end,
and leave out nothing but white space. Chinese marks end a sentence by themselves, a full stop only
where neither number, name, abbreviation nor address goes on behind it (the ambiguity Palmer and Hearst 1997
describe); closing quotes and brackets belong to the sentence they close. The words that decide are in split.yaml. The
kernel is one pass over code points; `plain_sentences` says the same with strings, and tests hold both equal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt
import yaml

from haina.corpus.characters import DIGIT as DIGIT_CLASS
from haina.corpus.characters import HAN, KANA, LATIN, LETTER, SPACE, class_table
from haina.corpus.utf8 import decode, pack

# fmt: off
(PLAIN, BLANK, NEWLINE, STOP, ASK, EXCLAIM, DOT, ELLIPSIS, SEMICOLON, CLOSE_QUOTE, CLOSE_BRACKET, CLOSE_TITLE, QUOTE,
 APOSTROPHE, OPEN, JOIN, UPPER, LOWER, DIGIT, CJK) = range(20)
# fmt: on
_MARKS = {
    NEWLINE: "\n\r\v\f\x85\u2028\u2029",
    STOP: "。｡।۔",
    ASK: "！？؟",
    EXCLAIM: "!?‼⁇⁈⁉",
    DOT: ".．",
    ELLIPSIS: "…⋯",
    SEMICOLON: "；",
    CLOSE_QUOTE: "”’」』»›﹂﹄",
    CLOSE_BRACKET: ")）]】］〕}｝",
    CLOSE_TITLE: "》〉",
    QUOTE: '"＂',
    APOSTROPHE: "'＇",
    OPEN: "“‘「『«‹(（[【［〔{｛《〈﹁﹃",
    JOIN: "，、：,;:—–-·%/~～",
}
NEVER, NUMBERED, GENERAL, STARTER, SPEECH = 1, 2, 4, 8, 16
_LIMIT = 0x32400
_SLOTS = 4096  # word table: open addressing, a tenth full
_LONGEST_TOKEN = 32  # no abbreviation is longer; bounds how far back the kernel looks
_CLAUSE = 10  # characters of a Chinese clause that names the speaker: “……”他站起来大声说。
_PAUSE = 4  # fewer characters before …… are a stammer, not a sentence: 我……我不知道。


class Sentence(NamedTuple):
    """One sentence: characters `start` to `end` of the text, bytes `byte_start` to `byte_end` of its UTF-8."""

    start: int
    end: int
    byte_start: int
    byte_end: int


@dataclass(frozen=True)
class Rules:
    """The words of split.yaml, and as arrays for the kernel.

    Attributes:
        words: flags of each word, lower case.
        speech_zh, onward_zh, silent_zh: characters.
        keys: uint64 [4096], hashes of the words, 0 where a slot is empty.
        flags: uint8 [4096].
        kinds: uint8 [0x32400], what a code point is to the splitter.
        marks: uint8 [0x32400]; 1 for speech_zh, 2 for onward_zh, 4 for silent_zh.
    """

    words: dict[str, int]
    speech_zh: str
    onward_zh: str
    silent_zh: str
    keys: npt.NDArray[np.uint64]
    flags: npt.NDArray[np.uint8]
    kinds: npt.NDArray[np.uint8]
    marks: npt.NDArray[np.uint8]


def _kinds() -> npt.NDArray[np.uint8]:
    classes = class_table()
    kinds = np.full(_LIMIT, PLAIN, dtype=np.uint8)
    kinds[(classes == HAN) | (classes == KANA)] = CJK
    kinds[classes == SPACE] = BLANK
    kinds[(classes == LATIN) | (classes == LETTER)] = LOWER
    for code in np.flatnonzero(kinds == LOWER).tolist():
        if chr(code).isupper() or chr(code).istitle():
            kinds[code] = UPPER
    kinds[classes == DIGIT_CLASS] = PLAIN
    for zero in (0x30, 0xFF10):
        kinds[zero : zero + 10] = DIGIT
    for kind, characters in _MARKS.items():
        kinds[[ord(character) for character in characters]] = kind
    return kinds


def _hash(word: str) -> int:
    state = 0xCBF29CE484222325
    for character in word:
        state = ((state ^ ord(character)) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return state or 1


@cache
def rules() -> Rules:
    """The rules, read once."""
    data = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    words: dict[str, int] = {}
    for flag, name in (
        (NEVER, "never"),
        (NUMBERED, "numbered"),
        (GENERAL, "general"),
        (STARTER, "starters"),
        (SPEECH, "speech"),
    ):
        for word in data[name].split():
            words[word] = words.get(word, 0) | flag
    keys = np.zeros(_SLOTS, dtype=np.uint64)
    flags = np.zeros(_SLOTS, dtype=np.uint8)
    for word, value in words.items():
        key = _hash(word)
        slot = key % _SLOTS
        while keys[slot]:
            slot = (slot + 1) % _SLOTS
        keys[slot], flags[slot] = key, value
    marks = np.zeros(_LIMIT, dtype=np.uint8)
    marks[[ord(character) for character in data["speech_zh"]]] |= 1
    marks[[ord(character) for character in data["onward_zh"]]] |= 2
    marks[[ord(character) for character in data["silent_zh"]]] |= 4
    return Rules(words, data["speech_zh"], data["onward_zh"], data["silent_zh"], keys, flags, _kinds(), marks)


# --------------------------------------------------------------------------- kernel


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def kinds_of(codes: npt.NDArray[np.uint32], table: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """What each code point is to the splitter: uint8 [characters]."""
    kinds = np.empty(len(codes), dtype=np.uint8)
    for place in range(len(codes)):
        kinds[place] = table[codes[place]] if codes[place] < _LIMIT else PLAIN
    return kinds


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _ascii(code: np.uint32) -> np.uint64:
    """Lower case and half width, for Latin letters and the full stop."""
    if 0xFF01 <= code <= 0xFF5E:
        code -= np.uint32(0xFEE0)
    if 0x41 <= code <= 0x5A:
        code += np.uint32(32)
    return np.uint64(code)


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _flags_of(
    codes: npt.NDArray[np.uint32],
    low: int,
    high: int,
    keys: npt.NDArray[np.uint64],
    flags: npt.NDArray[np.uint8],
) -> int:
    state = np.uint64(0xCBF29CE484222325)
    for place in range(low, high):
        state = (state ^ _ascii(codes[place])) * np.uint64(0x100000001B3)
    if state == 0:
        state = np.uint64(1)
    slot = np.int64(state % np.uint64(_SLOTS))
    while keys[slot] != 0:
        if keys[slot] == state:
            return int(flags[slot])
        slot = (slot + 1) % _SLOTS
    return 0


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _word_end(kinds: npt.NDArray[np.uint8], place: int, high: int) -> int:
    stop = min(high, place + _LONGEST_TOKEN)
    while place < stop and (kinds[place] == UPPER or kinds[place] == LOWER):
        place += 1
    return place


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _starts_sentence(
    codes: npt.NDArray[np.uint32],
    kinds: npt.NDArray[np.uint8],
    place: int,
    high: int,
    keys: npt.NDArray[np.uint64],
    flags: npt.NDArray[np.uint8],
) -> bool:
    if kinds[place] == UPPER:
        return _flags_of(codes, place, _word_end(kinds, place, high), keys, flags) & STARTER != 0
    return kinds[place] != DIGIT and kinds[place] != CJK


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _said(
    codes: npt.NDArray[np.uint32],
    kinds: npt.NDArray[np.uint8],
    place: int,
    high: int,
    keys: npt.NDArray[np.uint64],
    flags: npt.NDArray[np.uint8],
) -> bool:
    """`John said`, `The old man asked`: a verb of speech as second, third or fourth word."""
    for word in range(4):
        end = _word_end(kinds, place, high)
        if end == place:
            return False
        if word > 0 and _flags_of(codes, place, end, keys, flags) & SPEECH:
            return True
        if end >= high or kinds[end] != BLANK:
            return False
        place = end + 1
    return False


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _said_zh(
    codes: npt.NDArray[np.uint32],
    kinds: npt.NDArray[np.uint8],
    place: int,
    high: int,
    marks: npt.NDArray[np.uint8],
) -> bool:
    """`他说，`, `小王大声问。`: a short clause that ends in a verb of speech and does not open another quotation."""
    end = place
    while end < high and end - place <= _CLAUSE and kinds[end] == CJK:
        end += 1
    if end == place or end - place > _CLAUSE or codes[end - 1] >= _LIMIT or not marks[codes[end - 1]] & 1:
        return False
    for index in range(place, end):
        if codes[index] < _LIMIT and marks[codes[index]] & 4:
            return False
    return end == high or kinds[end] in (STOP, ASK, EXCLAIM, DOT) or codes[end] in (0xFF0C, 0x2C)


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _goes_on_zh(
    codes: npt.NDArray[np.uint32],
    kinds: npt.NDArray[np.uint8],
    place: int,
    high: int,
    marks: npt.NDArray[np.uint8],
) -> bool:
    """After a quoted question: its sentence goes on with a particle or with its speaker."""
    if codes[place] < _LIMIT and marks[codes[place]] & 2:
        return True
    return _said_zh(codes, kinds, place, high, marks)


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _dot_ends(  # noqa: PLR0911, PLR0912
    codes: npt.NDArray[np.uint32],
    kinds: npt.NDArray[np.uint8],
    begin: int,
    dot: int,
    closed: bool,
    spaced: bool,
    after: int,
    high: int,
    keys: npt.NDArray[np.uint64],
    flags: npt.NDArray[np.uint8],
) -> bool:
    """Whether the single full stop at `dot` ends the sentence that began at `begin`; `after`: next non-blank."""
    if dot == begin:
        return False
    following = kinds[after]
    if spaced and following == LOWER:
        return False
    token = dot
    floor = max(begin, dot - _LONGEST_TOKEN)
    digits, letters, dots = 0, 0, 0
    while token > floor and (
        kinds[token - 1] == UPPER
        or kinds[token - 1] == LOWER
        or kinds[token - 1] == DIGIT
        or kinds[token - 1] == DOT
    ):
        token -= 1
        if kinds[token] == DIGIT:
            digits += 1
        elif kinds[token] == DOT:
            dots += 1
        else:
            letters += 1
    size = dot - token
    near = following in (CJK, OPEN, QUOTE)
    if size == 0:
        if kinds[dot - 1] == CJK:
            if dot - begin <= 3:
                listed = True
                for place in range(begin, dot):
                    listed = listed and codes[place] in _NUMERALS
                if listed:
                    return False
            return spaced or near or following == UPPER
        return spaced or near
    if not spaced and not near:
        return False
    first = token == begin and not closed
    if letters == 0:
        return not (first and dots == 0 and size <= 3)
    acronym = dots > 0 or size == 1
    if dots > 0:
        for place in range(token, dot):
            if (kinds[place] == DOT) != ((place - token) % 2 == 1):
                acronym = False
    known = _flags_of(codes, token, dot, keys, flags)
    if not spaced:
        return not (acronym or known & (NEVER | NUMBERED | GENERAL))
    if first and (size == 1 or (size <= 4 and _roman(codes, token, dot))):
        return False
    if known & NEVER:
        return False
    if known & NUMBERED:
        end = _word_end(kinds, after, high)
        if following == DIGIT or (end - after >= 2 and _roman(codes, after, end)):
            return False
        if not known & GENERAL:
            return True
    if size == 1:
        if kinds[token] == LOWER:
            return True
        if codes[token] == 0x49 and token - 2 >= begin and kinds[token - 2] == LOWER:
            return True
        return _starts_sentence(codes, kinds, after, high, keys, flags)
    if acronym or known & GENERAL:
        return _starts_sentence(codes, kinds, after, high, keys, flags)
    return True


_NUMERALS = tuple(ord(character) for character in "一二三四五六七八九十")


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _roman(codes: npt.NDArray[np.uint32], low: int, high: int) -> bool:
    for place in range(low, high):
        code = _ascii(codes[place])
        if code not in {105, 118, 120, 108, 99}:  # i v x l c
            return False
    return True


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def split_kernel(  # noqa: PLR0912, PLR0915
    codes: npt.NDArray[np.uint32],
    kinds: npt.NDArray[np.uint8],
    low: int,
    limit: int,
    semicolons: bool,
    keys: npt.NDArray[np.uint64],
    flags: npt.NDArray[np.uint8],
    marks: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int32],
) -> int:
    """Sentences of code points `low` to `limit`, written to `starts` and `ends` (int32, room for as many as there
    are code points); how many."""
    count = 0
    while low < limit:
        high = low
        while high < limit and kinds[high] != NEWLINE:
            high += 1
        line_end = high
        while high > low and kinds[high - 1] == BLANK:
            high -= 1
        begin = low
        while begin < high and kinds[begin] == BLANK:
            begin += 1
        quoted = False
        place = begin
        while place < high:
            kind = kinds[place]
            if kind == PLAIN or kind > OPEN:
                place += 1
                continue
            if kind == QUOTE:
                quoted = not quoted
            if not (STOP <= kind <= ELLIPSIS or (semicolons and kind == SEMICOLON)):
                place += 1
                continue
            run = place
            stops, asks, exclaims, dots, pauses = 0, 0, 0, 0, 0
            while place < high and (
                STOP <= kinds[place] <= ELLIPSIS or (semicolons and kinds[place] == SEMICOLON)
            ):
                if kinds[place] == STOP or kinds[place] == SEMICOLON:
                    stops += 1
                elif kinds[place] == ASK:
                    asks += 1
                elif kinds[place] == EXCLAIM:
                    exclaims += 1
                elif kinds[place] == DOT:
                    dots += 1
                else:
                    pauses += 1
                place += 1
            quote, bracket, title = False, False, False
            end = place
            while end < high:
                kind = kinds[end]
                if kind == CLOSE_QUOTE:
                    quote = True
                elif kind == CLOSE_BRACKET:
                    bracket = True
                elif kind == CLOSE_TITLE:
                    title = True
                elif kind == QUOTE and quoted:
                    quote = True
                    quoted = False
                elif kind == APOSTROPHE and (
                    end + 1 == high or kinds[end + 1] == BLANK or CLOSE_QUOTE <= kinds[end + 1] <= QUOTE
                ):
                    quote = True
                else:
                    break
                end += 1
            place = end
            if end == high:
                break
            after = end
            while kinds[after] == BLANK:
                after += 1
            spaced = after > end
            following = kinds[after]
            if not spaced and (
                STOP <= following <= SEMICOLON or following in (JOIN, CLOSE_QUOTE, CLOSE_BRACKET)
            ):
                continue
            inner = title or bracket  # a mark inside a title or a remark in brackets
            if stops:
                over = spaced or not (title or (quote and _said_zh(codes, kinds, after, high, marks)))
            elif asks:
                over = spaced or not (inner or (quote and _goes_on_zh(codes, kinds, after, high, marks)))
            elif exclaims or pauses or dots > 1:
                if spaced:
                    over = following != LOWER and not (
                        quote and following == UPPER and _said(codes, kinds, after, high, keys, flags)
                    )
                elif following == CJK:
                    over = not (inner or (quote and _goes_on_zh(codes, kinds, after, high, marks)))
                    if over and not exclaims and not quote:
                        before = run
                        while (
                            before > begin
                            and run - before < _PAUSE
                            and (kinds[before - 1] >= UPPER or kinds[before - 1] == PLAIN)
                        ):
                            before -= 1
                        onward = codes[after] < _LIMIT and marks[codes[after]] & 2
                        over = run - before >= _PAUSE and not onward
                else:
                    over = following in (OPEN, QUOTE)
            else:
                over = _dot_ends(codes, kinds, begin, run, end > run + 1, spaced, after, high, keys, flags)
            if over:
                starts[count], ends[count] = begin, end
                count += 1
                begin = place = after
        if begin < high:
            starts[count], ends[count] = begin, high
            count += 1
        low = line_end + 1
    return count


# --------------------------------------------------------------------------- public


def split_sentences(text: str, *, semicolons: bool = False) -> list[Sentence]:
    """Sentences of a text.

    Args:
        text: any text without lone surrogates.
        semicolons: the Chinese semicolon ；ends a sentence too.
    """
    data, _ = pack([text])
    codes, at = decode(data)
    found = rules()
    starts = np.empty(len(codes), dtype=np.int32)
    ends = np.empty(len(codes), dtype=np.int32)
    kinds = kinds_of(codes, found.kinds)
    count = split_kernel(
        codes, kinds, 0, len(codes), semicolons, found.keys, found.flags, found.marks, starts, ends
    )
    low, high = starts[:count], ends[:count]
    columns = (low.tolist(), high.tolist(), at[low].tolist(), at[high].tolist())
    return [Sentence(*row) for row in zip(*columns, strict=True)]


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _split_documents(
    codes: npt.NDArray[np.uint32],
    kinds: npt.NDArray[np.uint8],
    at: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    semicolons: bool,
    keys: npt.NDArray[np.uint64],
    flags: npt.NDArray[np.uint8],
    marks: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int32],
) -> npt.NDArray[np.int64]:
    bounds = np.zeros(len(offsets), dtype=np.int64)
    low, total = 0, 0
    for document in range(len(offsets) - 1):
        high = low
        while at[high] < offsets[document + 1] - offsets[0]:
            high += 1
        total += split_kernel(
            codes, kinds, low, high, semicolons, keys, flags, marks, starts[total:], ends[total:]
        )
        bounds[document + 1] = total
        low = high
    return bounds


def split_packed(
    data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], *, semicolons: bool = False
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sentences of many texts.

    Args:
        data: uint8 [bytes], UTF-8 of all texts one after the other (see `haina.corpus.utf8.pack`).
        offsets: int64 [texts + 1], where each begins in `data`, and the end of the last.
        semicolons: as for `split_sentences`.

    Returns:
        Byte offsets into `data` where sentences begin and end, int64 [sentences] each; and int64 [texts + 1]: text `i`
        has sentences `bounds[i]` to `bounds[i + 1]`.
    """
    codes, at = decode(data[offsets[0] : offsets[-1]])
    found = rules()
    starts = np.empty(len(codes), dtype=np.int32)
    ends = np.empty(len(codes), dtype=np.int32)
    kinds = kinds_of(codes, found.kinds)
    bounds = _split_documents(
        codes, kinds, at, offsets, semicolons, found.keys, found.flags, found.marks, starts, ends
    )
    places = at.astype(np.int64) + offsets[0]
    return places[starts[: bounds[-1]]], places[ends[: bounds[-1]]], bounds


# --------------------------------------------------------------------------- plain reference


def _kind(character: str) -> int:
    return int(rules().kinds[ord(character)]) if ord(character) < _LIMIT else PLAIN


def _plain_word(line: str, place: int) -> str:
    end = place
    while end < min(len(line), place + _LONGEST_TOKEN) and _kind(line[end]) in (UPPER, LOWER):
        end += 1
    return line[place:end]


def _folded(word: str) -> str:
    return "".join(
        chr(ord(c) - 0xFEE0 + 32 * (0xFF21 <= ord(c) <= 0xFF3A))
        if 0xFF01 <= ord(c) <= 0xFF5E
        else c.lower()
        if "A" <= c <= "Z"
        else c
        for c in word
    )


def _plain_flags(word: str) -> int:
    return rules().words.get(_folded(word), 0)


def _plain_starts(line: str, after: int) -> bool:
    kind = _kind(line[after])
    if kind == UPPER:
        return bool(_plain_flags(_plain_word(line, after)) & STARTER)
    return kind not in (DIGIT, CJK)


def _plain_said(line: str, place: int) -> bool:
    for number in range(4):
        word = _plain_word(line, place)
        if not word:
            return False
        if number and _plain_flags(word) & SPEECH:
            return True
        place += len(word)
        if place >= len(line) or _kind(line[place]) != BLANK:
            return False
        place += 1
    return False


def _plain_said_zh(line: str, place: int) -> bool:
    end = place
    while end < len(line) and _kind(line[end]) == CJK:
        end += 1
    if not 0 < end - place <= _CLAUSE or line[end - 1] not in rules().speech_zh:
        return False
    if set(line[place:end]) & set(rules().silent_zh):
        return False
    return end == len(line) or _kind(line[end]) in (STOP, ASK, EXCLAIM, DOT) or line[end] in "，,"


def _plain_dot(line: str, begin: int, dot: int, closed: bool, spaced: bool, after: int) -> bool:  # noqa: PLR0911, PLR0912
    if dot == begin:
        return False
    following = _kind(line[after])
    if spaced and following == LOWER:
        return False
    near = following in (CJK, OPEN, QUOTE)
    token = dot
    while token > max(begin, dot - _LONGEST_TOKEN) and _kind(line[token - 1]) in (UPPER, LOWER, DIGIT, DOT):
        token -= 1
    word = line[token:dot]
    if not word:
        if _kind(line[dot - 1]) != CJK:
            return spaced or near
        if re.fullmatch("[一二三四五六七八九十]{1,3}", line[begin:dot]):
            return False
        return spaced or near or following == UPPER
    if not spaced and not near:
        return False
    first = token == begin and not closed
    shape = [_kind(character) for character in word]
    if not {UPPER, LOWER} & set(shape):
        return not (first and DOT not in shape and len(word) <= 3)
    acronym = len(word) == 1 or (
        DOT in shape and all((kind == DOT) == bool(place % 2) for place, kind in enumerate(shape))
    )
    known = _plain_flags(word)
    if not spaced:
        return not (acronym or known & (NEVER | NUMBERED | GENERAL))
    roman = re.compile("[ivxlc]+")
    if first and (len(word) == 1 or (len(word) <= 4 and roman.fullmatch(_folded(word)))):
        return False
    if known & NEVER:
        return False
    if known & NUMBERED:
        number = _folded(_plain_word(line, after))
        if following == DIGIT or (len(number) >= 2 and roman.fullmatch(number)):
            return False
        if not known & GENERAL:
            return True
    if len(word) == 1:
        if shape[0] == LOWER or (word == "I" and token - 2 >= begin and _kind(line[token - 2]) == LOWER):
            return True
        return _plain_starts(line, after)
    return _plain_starts(line, after) if acronym or known & GENERAL else True


def _plain_over(line: str, begin: int, run: int, place: int, end: int, marks: set[int]) -> bool:  # noqa: PLR0911
    """Whether the marks at `run` to `place`, closed until `end`, end the sentence."""
    closers = {_kind(character) for character in line[place:end]}
    quote = bool(closers & {CLOSE_QUOTE, QUOTE, APOSTROPHE})
    inner = bool(closers & {CLOSE_TITLE, CLOSE_BRACKET})
    after = end
    while _kind(line[after]) == BLANK:
        after += 1
    spaced, following = after > end, _kind(line[after])
    if not spaced and (STOP <= following <= SEMICOLON or following in (JOIN, CLOSE_QUOTE, CLOSE_BRACKET)):
        return False
    goes_on = quote and (line[after] in rules().onward_zh or _plain_said_zh(line, after))
    if marks & {STOP, SEMICOLON}:
        return spaced or not (CLOSE_TITLE in closers or (quote and _plain_said_zh(line, after)))
    if ASK in marks:
        return spaced or not (inner or goes_on)
    if EXCLAIM not in marks and ELLIPSIS not in marks and place - run == 1:
        return _plain_dot(line, begin, run, end > place, spaced, after)
    if spaced:
        return following != LOWER and not (quote and following == UPPER and _plain_said(line, after))
    if following != CJK:
        return following in (OPEN, QUOTE)
    if inner or goes_on:
        return False
    if EXCLAIM in marks or quote:
        return True
    last = line[max(begin, run - _PAUSE) : run]
    words = all(_kind(character) >= UPPER or _kind(character) == PLAIN for character in last)
    return len(last) == _PAUSE and words and line[after] not in rules().onward_zh


def plain_sentences(text: str, *, semicolons: bool = False) -> list[tuple[int, int]]:
    """Character offsets of sentences, said plainly: what the kernel is tested against."""
    ending = {STOP, ASK, EXCLAIM, DOT, ELLIPSIS} | ({SEMICOLON} if semicolons else set())
    found = []
    for match in re.finditer(f"[^{_MARKS[NEWLINE]}]+", text):
        size = len(match[0])
        while size and _kind(match[0][size - 1]) == BLANK:
            size -= 1
        line = match[0][:size]
        begin = 0
        while begin < size and _kind(line[begin]) == BLANK:
            begin += 1
        place, quoted = begin, False
        while place < size:
            kind = _kind(line[place])
            quoted ^= kind == QUOTE
            if kind not in ending:
                place += 1
                continue
            run, marks = place, set()
            while place < size and _kind(line[place]) in ending:
                marks.add(_kind(line[place]))
                place += 1
            end = place
            while end < size:
                kind = _kind(line[end])
                after = _kind(line[end + 1]) if end + 1 < size else BLANK
                if kind == QUOTE and quoted:
                    quoted = False
                elif not (
                    kind in (CLOSE_QUOTE, CLOSE_BRACKET, CLOSE_TITLE)
                    or (kind == APOSTROPHE and (after == BLANK or CLOSE_QUOTE <= after <= QUOTE))
                ):
                    break
                end += 1
            if end < size and _plain_over(line, begin, run, place, end, marks):
                found.append((match.start() + begin, match.start() + end))
                while _kind(line[end]) == BLANK:
                    end += 1
                begin = end
            place = end
        if begin < size:
            found.append((match.start() + begin, match.start() + size))
    return found
