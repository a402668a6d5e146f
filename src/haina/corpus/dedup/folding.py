"""The key form of a character: what stays of it when two texts are compared.

Comes in: Unicode's data and OpenCC's character dictionaries. Goes out: a table from code point to its folded form
and class, as arrays that a kernel can index. Folding takes away what does not make a text different: compatibility
forms and composition (NFKD), case, traditional against simplified characters. The table is shipped
(`folding.npz`, made by `python -m haina.corpus.dedup.folding`), because Python versions come with different Unicode
versions and OpenCC's dictionaries change, while a token has to be the same everywhere.

Steps, for each character on its own: NFKD; case folding (the ypogegrammeni U+0345 stays a mark, so that NFC and NFD
agree); NFKD again; OpenCC's characters to simplified (`variants`); default ignorables (soft hyphen, joiners, variation
selectors) vanish.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from haina.corpus.characters import HAN_RANGES

# Classes of folded characters. MARK has a combining class (it is put in canonical order), CONTINUE is a mark
# without; both belong to the run they follow and are nothing elsewhere. SEQUENCE: folded form in `sequences`. APART:
# the same, but it holds a separator or Han character (`½`, `㈱`), and no run goes on into it or out of it: `2½` is
# three tokens. An entry of NOTHING is 0, and none is above HAN: the kernel for Han text counts on both.
NOTHING, IGNORED, MARK, CONTINUE, LETTER, SEQUENCE, APART, HAN = range(8)
# Above the last Han range are only variation selectors and tags (ignored), private use and unassigned planes.
TABLE_SIZE = 0x32400
IGNORED_PLANE = (0xE0000, 0xE1000)
CLASS_SHIFT = 29
PAYLOAD = (1 << CLASS_SHIFT) - 1
COMBINING_SHIFT = 21
CODE = (1 << COMBINING_SHIFT) - 1
SURROGATES = (0xD800, 0xE000)
LENGTH_BITS = 5
PATH = Path(__file__).with_name("folding.npz")

# What OpenCC's s2t exchanges inside words and its single characters do not give back, for all pairs of the 3,755 common
# characters of GB 2312: 了解 becomes 瞭解, 凭借 becomes 憑藉.
EXCHANGED = (
    ("复", "覆"), ("借", "藉"), ("背", "揹"), ("夫", "伕"), ("链", "炼"), ("熏", "薰"), ("了", "瞭"), ("宁", "甯"),
    ("苏", "甦"), ("浚", "濬"), ("穗", "𰬸"), ("澄", "澂"), ("仇", "雠"), ("呆", "待"), ("仿", "彷"), ("戚", "𬭭"),
    ("具", "俱"), ("拿", "拏"), ("象", "像"), ("坐", "座"),
)  # fmt: skip

_YPOGEGRAMMENI = "\u0345"
_IGNORABLE_RANGES = ((0x180B, 0x1810), (0xFE00, 0xFE10), IGNORED_PLANE)
_IGNORABLE = frozenset((0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0)).union(
    *(range(*bounds) for bounds in _IGNORABLE_RANGES)
)


class Folding(NamedTuple):
    """Folded form of every character.

    Attributes:
        table: uint32 [TABLE_SIZE], by code point: the class in the upper 3 bits; below it the combining class (8 bits)
            and the folded code point (21 bits), or for SEQUENCE and APART an index into `sequences` and the length
            (5 bits).
        sequences: uint32 [entries], as in `table`, without those two.
    """

    table: npt.NDArray[np.uint32]
    sequences: npt.NDArray[np.uint32]


def is_han(code: int) -> bool:
    """Whether a code point is a Han character (Unicode 15 ranges, assigned or not)."""
    return any(low <= code <= high for low, high in HAN_RANGES)


def class_of(character: str) -> int:
    """Class of a folded character; sequences have none."""
    code = ord(character)
    category = unicodedata.category(character)
    if code in _IGNORABLE or category == "Cf":
        return IGNORED
    if is_han(code):
        return HAN
    if category[0] == "M":
        return MARK if unicodedata.combining(character) else CONTINUE
    return LETTER if category[0] in "LN" else NOTHING


@cache
def variants() -> dict[int, int]:
    """Han code points that are written for another one, and that one: OpenCC's characters, one at a time.

    Traditional, Taiwan and Hong Kong forms go with the simplified one; a group goes by its lowest code point that is
    simplified.
    """
    from opencc import OpenCC

    codes = [code for low, high in HAN_RANGES for code in range(low, high + 1)]
    text = "\n".join(map(chr, codes))
    simplified = OpenCC("t2s").convert(text).split("\n")
    pairs = list(EXCHANGED)
    for found in (simplified, *(OpenCC(name).convert(text).split("\n") for name in ("tw2s", "hk2s"))):
        pairs += [
            (chr(code), target) for code, target in zip(codes, found, strict=True) if target != chr(code)
        ]
    stays = {chr(code) for code, target in zip(codes, simplified, strict=True) if target == chr(code)}
    groups: dict[str, set[str]] = {}
    for left, right in pairs:
        group = groups.get(left, {left}) | groups.get(right, {right})
        groups.update(dict.fromkeys(group, group))
    return {ord(member): ord(min(group & stays)) for member, group in groups.items()}


def fold_character(character: str) -> str:
    """Folded form of one character, by Unicode's data in this Python and the OpenCC that is installed."""
    decomposed = unicodedata.normalize("NFKD", character)
    lower = "".join(part if part == _YPOGEGRAMMENI else part.casefold() for part in decomposed)
    simple = unicodedata.normalize("NFKD", lower).translate(variants())
    return "".join(part for part in simple if class_of(part) != IGNORED)


def _entry(character: str) -> int:
    kind = class_of(character)
    combining = unicodedata.combining(character) if kind == MARK else 0
    return kind << CLASS_SHIFT | combining << COMBINING_SHIFT | ord(character)


def _class_of_sequence(folded: str) -> int:
    kinds = {class_of(part) for part in folded}
    if not kinds & {NOTHING, HAN}:
        return SEQUENCE
    return APART if kinds & {LETTER, HAN} else NOTHING


def build() -> Folding:
    """The table, from Unicode's data in this Python and the OpenCC that is installed."""
    table = np.zeros(TABLE_SIZE, dtype=np.uint32)
    sequences: list[int] = []
    known: dict[str, int] = {}
    for code in range(TABLE_SIZE):
        if SURROGATES[0] <= code < SURROGATES[1]:
            continue
        folded = fold_character(chr(code))
        if not folded:
            table[code] = IGNORED << CLASS_SHIFT
        elif len(folded) == 1:
            table[code] = _entry(folded)
        elif (kind := _class_of_sequence(folded)) != NOTHING:
            if folded not in known:
                known[folded] = len(sequences)
                sequences.extend(_entry(part) for part in folded)
            table[code] = kind << CLASS_SHIFT | known[folded] << LENGTH_BITS | len(folded)
    # What separates needs no folded form.
    table[table >> CLASS_SHIFT == NOTHING] = NOTHING << CLASS_SHIFT
    return Folding(table, np.array(sequences, dtype=np.uint32))


def save_folding(path: Path = PATH) -> None:
    """Build the table and write it, with what it was built from: bounds of the ranges that Unicode had assigned."""
    folding = build()
    assigned = np.array([unicodedata.category(chr(code)) != "Cn" for code in range(TABLE_SIZE)])
    np.savez_compressed(
        path,
        # Most characters fold to themselves: differences are small and pack well.
        table=np.diff(folding.table, prepend=np.uint32(0)),
        sequences=folding.sequences,
        assigned=np.flatnonzero(np.diff(assigned, prepend=False)).astype(np.int32),
        versions=np.array([unicodedata.unidata_version, version("opencc")]),
    )


@cache
def load_folding() -> Folding:
    """The shipped table."""
    with np.load(PATH) as stored:
        folding = Folding(np.cumsum(stored["table"], dtype=np.uint32), stored["sequences"])
    for array in folding:
        array.setflags(write=False)
    return folding


def folded_form(character: str) -> list[tuple[int, int, str]]:
    """(class, combining class, folded character) of one character, by the shipped table, as the kernel reads it."""
    code = ord(character)
    if code >= TABLE_SIZE:
        ignored = IGNORED_PLANE[0] <= code < IGNORED_PLANE[1]
        return [] if ignored else [(NOTHING, 0, "")]
    folding = load_folding()
    entry = int(folding.table[code])
    entries, kind = [entry], entry >> CLASS_SHIFT
    if kind in (SEQUENCE, APART):
        start = (entry & PAYLOAD) >> LENGTH_BITS
        entries = folding.sequences[start : start + (entry & ((1 << LENGTH_BITS) - 1))].tolist()
    parts = [(part >> CLASS_SHIFT, (part >> COMBINING_SHIFT) & 0xFF, chr(part & CODE)) for part in entries]
    parts = [part for part in parts if part[0] != IGNORED]
    return [(NOTHING, 0, ""), *parts, (NOTHING, 0, "")] if kind == APART else parts


if __name__ == "__main__":
    save_folding()
