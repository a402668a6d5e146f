"""The kernels of `pieces` and `shapes` again, plainly and slowly.

Comes in: text. Goes out: what the kernels give for its code points. The tests hold the two together.
"""

from __future__ import annotations

import re

from haina.corpus.characters import (
    DIGIT,
    HAN,
    HANGUL,
    KANA,
    LATIN,
    LETTER,
    OTHER,
    PUNCTUATION,
    SPACE,
    class_table,
)
from haina.corpus.language import pieces as P
from haina.corpus.language import shapes as S
from haina.corpus.language.tables import TABLE_SIZE, tables, word_key

_FAMILY = {HAN: "d", KANA: "d", HANGUL: "d", LATIN: "s", LETTER: "f"}
_OPENING = '(["“「『《〈（'


def kinds_of(text: str) -> list[int]:
    """The class of each character."""
    table = class_table()
    return [int(table[ord(character)]) if ord(character) < TABLE_SIZE else OTHER for character in text]


def cut(text: str) -> list[int]:
    """Where pieces start, and the length of the text."""
    kinds = kinds_of(text)
    families = "".join(
        "\n" if c == "\n" else _FAMILY.get(kind, ".") for c, kind in zip(text, kinds, strict=True)
    )
    starts: list[int] = []
    first, family, long, settled = 0, "", False, 0
    for place, character in enumerate(text):
        own = families[place]
        if own in "dsf" and own != family and place >= settled:
            run = re.match(f"[{own}.]*", families[place : place + P.LONGEST])
            assert run is not None
            settled = place + run.end()
            letters, spaces = run.group().count(own), text[place:settled].count(" ")
            if own == "d":
                runs = letters >= P.RUN_DENSE
            elif place > first and text[place - 1] in _OPENING:
                runs = letters >= P.RUN_QUOTED
            else:
                runs = letters >= P.RUN_LATIN and spaces >= P.RUN_SPACES
            if runs and family and (long or family == "d"):
                starts.append(first)
                first, long = place, False
            if runs or not family:
                family, long = own, long or runs
        size, after = place + 1 - first, text[place + 1 : place + 2]
        ends = character in "\n。！？．；"
        if character in ".!?":
            ends = after in (" ", "\n") if after else False
        elif not ends and size >= P.LONGEST:
            ends = kinds[place] == SPACE or size >= 2 * P.LONGEST
        if ends:
            starts.append(first)
            first, family, long, settled = place + 1, "", False, 0
    return [*starts, first, len(text)] if first < len(text) else [*starts, len(text)]


def count(piece: str) -> list[int]:
    """The counts of one piece."""
    known, kinds = tables(), kinds_of(piece)
    row = [0] * P.COLUMNS
    for column, kind in (
        (P.HANS, HAN),
        (P.HANGULS, HANGUL),
        (P.LATINS, LATIN),
        (P.LETTERS, LETTER),
        (P.DIGITS, DIGIT),
    ):
        row[column] = kinds.count(kind)
    row[P.VISIBLE] = len(kinds) - kinds.count(SPACE)
    for character, kind in zip(piece, kinds, strict=True):
        if kind == KANA:
            row[P.HIRAGANA if ord(character) < 0x30A0 else P.KATAKANA] += 1
    latin = "".join(c if kind == LATIN else " " for c, kind in zip(piece, kinds, strict=True)).split(" ")
    words = [word for word in latin if word]
    row[P.WORDS] = len(words)
    keys = [word_key(word.lower()) for word in words if re.fullmatch(r"[A-Za-z]{1,12}", word)]
    row[P.ENGLISH] = sum(key in known.english_words for key in keys)
    row[P.ENGLISH_CORE] = sum(key in known.english_core and key in known.english_words for key in keys)
    for place, (character, kind) in enumerate(zip(piece, kinds, strict=True)):
        if kind != HAN:
            continue
        code = ord(character)
        row[P.SCRIPT] += int(known.scripts[code])
        row[P.SCRIPT_MARKS] += abs(int(known.scripts[code]))
        row[P.JAPANESE] += int(known.japanese[code] > 0)
        row[P.NOT_JAPANESE] += int(known.japanese[code] < 0)
        row[P.CANTONESE] += int(known.cantonese[code] > 0)
        row[P.MANDARIN] += int(known.cantonese[code] < 0)
        if place and kinds[place - 1] == HAN:
            row[P.CANTONESE] += int((ord(piece[place - 1]) << 21 | code) in known.cantonese_words)
    return row


def _word(word: str) -> tuple[int, str]:
    """(kind, the word where it is a feature) of a run of Latin letters, digits and underscores."""
    digits = sum(kind == DIGIT for kind in kinds_of(word))
    capitals = len(re.findall("[A-Z]", word))
    if "_" in word:
        return S.UNDERSCORED, ""
    if digits == len(word):
        return (S.ONE_DIGIT if digits == 1 else S.NUMBER), ""
    if digits:
        return S.WITH_DIGIT, ""
    if not capitals:
        sizes = ((1, S.ONE_SMALL), (3, S.SHORT_SMALL), (7, S.SMALL))
        shape = next((kind for size, kind in sizes if len(word) <= size), S.LONG_SMALL)
        return shape, word if len(word) <= 12 else ""
    if capitals == len(word):
        return (S.ONE_CAPITAL if len(word) == 1 else S.CAPITALS), ""
    return (S.CAMEL if re.search("[A-Z]", word[1:]) else S.CAPITAL), ""


def tokens(text: str) -> list[tuple[int, int, str]]:
    """(kind, start, the word where it is a feature) of the tokens of a text."""
    marks = {
        HAN: "d",
        KANA: "d",
        HANGUL: "d",
        LATIN: "w",
        DIGIT: "w",
        LETTER: "f",
        SPACE: "s",
        PUNCTUATION: "p",
    }
    map_ = "".join(
        "w" if c == "_" else "n" if c == "\n" else "b" if c in " \t" else marks.get(kind, "o")
        for c, kind in zip(text, kinds_of(text), strict=True)
    )
    found = []
    for match in re.finditer(r"nb*|[bs]+|d+|f+|w+|[po]", map_):
        token = text[match.start() : match.end()]
        word, mark = "", match.group()[0]
        if mark == "n":
            deep = sum(4 if c == "\t" else 1 for c in token[1:])
            kind = S.LINE if not deep else S.LINE_INDENTED if deep < 4 else S.LINE_DEEP
        elif mark in "bs":
            kind = S.BLANK if len(token) == 1 else S.BLANKS
        elif mark == "d":
            kind = S.DENSE_RUN
        elif mark == "f":
            kind = S.FOREIGN_RUN
        elif mark == "w":
            kind, word = _word(token)
        elif ord(token) < 0x7F:
            kind = ord(token)
        else:
            kind = S.WIDE_MARK if mark == "p" else S.SIGN
        found.append((kind, match.start(), word))
    return found


def features(text: str) -> list[tuple[int, int]]:
    """(bucket, start of the token) of the features of a text."""

    def bucket(value: int) -> int:
        return (value * 2654435761) % 2**32 >> (32 - S.BITS)

    found = []
    before = last = S.START
    for kind, start, word in tokens(text):
        values = [kind + 1, last * 257 + kind + 1001, (before * 257 + last) * 257 + kind + 500_009]
        if word:
            hashed = 0
            for letter in word:
                hashed = (hashed * 31 + ord(letter)) % 2**24
            values.append(hashed + 1 + 40_000_003)
        found += [(bucket(value), start) for value in values]
        before, last = last, kind
    return found
