"""The writing system of characters and of vocabulary pieces, by the Unicode Character Database.

In: code points, or the bytes of pieces. Out: small numbers, indices into `CLASSES`. A letter's script is the first word
of its Unicode name, which Python's own tables hold; Han includes the iteration mark and the ideographic zero.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from haina.tokenizer.vocabularies.vocabulary import PieceKind

CLASSES = (
    "Han",
    "Latin",
    "kana",
    "Hangul",
    "Cyrillic",
    "Greek",
    "Arabic",
    "other letters",
    "several scripts",
    "numbers",
    "punctuation and symbols",
    "spaces and line ends",
    "control and unassigned",
    "bytes and parts of characters",
    "special and unknown",
)
NUMBER_OF = {name: number for number, name in enumerate(CLASSES)}
HAN, LATIN = NUMBER_OF["Han"], NUMBER_OF["Latin"]
LAST_LETTERS = NUMBER_OF["other letters"]
NOT_LOOKED_UP = 255
BY_FIRST_WORD = {
    "CJK": "Han",
    "KANGXI": "Han",
    "LATIN": "Latin",
    "HIRAGANA": "kana",
    "KATAKANA": "kana",
    "KATAKANA-HIRAGANA": "kana",
    "HANGUL": "Hangul",
    "CYRILLIC": "Cyrillic",
    "GREEK": "Greek",
    "ARABIC": "Arabic",
}
HAN_BY_ITSELF = "々〇〻"
BY_CATEGORY = {"N": "numbers", "P": "punctuation and symbols", "S": "punctuation and symbols"}
BY_CATEGORY |= {"Z": "spaces and line ends", "C": "control and unassigned"}
_table: NDArray[np.uint8] = np.full(0x110000, NOT_LOOKED_UP, np.uint8)


def class_of(character: str) -> int:
    """The class of one character."""
    if character in HAN_BY_ITSELF:
        return HAN
    category = unicodedata.category(character)[0]
    if category in "LM":
        words = unicodedata.name(character, "").split(" ")
        if words[0] in {"FULLWIDTH", "HALFWIDTH", "MODIFIER", "MATHEMATICAL"} and len(words) > 1:
            words = words[1:]
        return NUMBER_OF[BY_FIRST_WORD.get(words[0], "other letters")]
    if character in "\t\n\v\f\r\x85":
        return NUMBER_OF["spaces and line ends"]
    return NUMBER_OF[BY_CATEGORY[category]]


def classes_of(points: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The classes of code points: uint8 of the same shape."""
    found = _table[points]
    if (found == NOT_LOOKED_UP).any():
        for point in np.unique(points[found == NOT_LOOKED_UP]).tolist():
            _table[point] = class_of(chr(point))
        found = _table[points]
    return found


def class_of_piece(piece: bytes) -> int:
    """The class of a piece: the script of its letters, whatever marks stand beside them; else the most telling of the
    rest, numbers before punctuation before spaces."""
    try:
        text = piece.decode("utf-8")
    except UnicodeDecodeError:
        return NUMBER_OF["bytes and parts of characters"]
    points = np.array([ord(character) for character in text], np.uint32)
    found = set(classes_of(points).tolist())
    letters = {number for number in found if number <= LAST_LETTERS}
    if len(letters) > 1:
        return NUMBER_OF["several scripts"]
    return min(letters or found, default=NUMBER_OF["control and unassigned"])


def classes_of_pieces(pieces: Sequence[bytes], kinds: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The class of every id: uint8 [ids]."""
    found = np.empty(len(pieces), np.uint8)
    for number, (piece, kind) in enumerate(zip(pieces, kinds.tolist(), strict=True)):
        if kind in (PieceKind.SPECIAL, PieceKind.UNKNOWN):
            found[number] = NUMBER_OF["special and unknown"]
        elif kind == PieceKind.BYTE:
            found[number] = NUMBER_OF["bytes and parts of characters"]
        else:
            found[number] = class_of_piece(piece)
    return found
