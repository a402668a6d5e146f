"""What kind of character a code point is, as tables that array code can index.

Comes in: nothing. Goes out: a table from code point to class, and from a text to its code points. Han ranges
are those of Unicode 15. Full-width digits are digits and full-width letters are letters, because Unicode says
so: tables made by hand have taken the full-width digit one for punctuation.
"""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

HAN, KANA, HANGUL, LATIN, LETTER, DIGIT, PUNCTUATION, SYMBOL, SPACE, OTHER = range(10)
CLASSES = 10

HAN_RANGES = (
    (0x3005, 0x3005),
    (0x3007, 0x3007),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)
# A character class for regular expressions; `\w` would join Han characters to the Latin word beside them.
HAN_CLASS = "".join(chr(low) if low == high else f"{chr(low)}-{chr(high)}" for low, high in HAN_RANGES)
_KANA_RANGES = (
    (0x3041, 0x3096),
    (0x309D, 0x309F),
    (0x30A1, 0x30FA),
    (0x30FC, 0x30FF),
    (0x31F0, 0x31FF),
    (0xFF66, 0xFF9F),
)
_HANGUL_RANGES = ((0x1100, 0x11FF), (0x3131, 0x318E), (0xA960, 0xA97C), (0xAC00, 0xD7FB))
_LATIN_RANGES = (
    (0x41, 0x5A),
    (0x61, 0x7A),
    (0xAA, 0xAA),
    (0xBA, 0xBA),
    (0xC0, 0xD6),
    (0xD8, 0xF6),
    (0xF8, 0x24F),
    (0x1E00, 0x1EFF),
    (0x2C60, 0x2C7F),
    (0xA720, 0xA7FF),
    (0xFF21, 0xFF3A),
    (0xFF41, 0xFF5A),
)
# Nothing above but private use and unassigned planes.
_TABLE_SIZE = 0x32400
_BY_CATEGORY = {"L": LETTER, "M": LETTER, "N": DIGIT, "P": PUNCTUATION, "S": SYMBOL, "Z": SPACE, "C": OTHER}


@cache
def class_table() -> npt.NDArray[np.uint8]:
    """Class of each code point below 0x32400: uint8 [0x32400]."""
    table = np.full(_TABLE_SIZE, OTHER, dtype=np.uint8)
    for code in range(0x20000):
        table[code] = _BY_CATEGORY[unicodedata.category(chr(code))[0]]
    table[[0x09, 0x0A, 0x0D]] = SPACE
    for kind, ranges in (
        (LATIN, _LATIN_RANGES),
        (KANA, _KANA_RANGES),
        (HANGUL, _HANGUL_RANGES),
        (HAN, HAN_RANGES),
    ):
        for low, high in ranges:
            table[low : high + 1] = kind
    table.setflags(write=False)
    return table


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """Code points of a text: uint32 [characters]."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)


def classes_of(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Class of each code point: uint8 [characters]."""
    table = class_table()
    return np.where(codes < _TABLE_SIZE, table[np.minimum(codes, _TABLE_SIZE - 1)], np.uint8(OTHER))
