"""What the scan knows of HTML's elements, as tables that array code can index.

Comes in: `rules.yaml`. Goes out: an open-addressed hash table from a word's hash to its value, for tag names,
attribute names, words of class names and words of the text. Which elements are void, raw text or phrasing
content follows the HTML Living Standard, sections 13.1.2 and 3.2.5.2.5.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt
import yaml

Words = npt.NDArray[np.uint64]

_TABLE_BITS = 12
TABLE_SIZE = 1 << _TABLE_BITS

# Bits of a tag's properties.
VOID, RAW, INLINE, SKIP, CLOSES_P, SCOPE, TRANSPARENT, LINE = (1 << i for i in range(8))
# Numbers of the tags that the scan treats for themselves; 0 is every other tag.
NAMED = (
    "other", "a", "p", "li", "ul", "ol", "menu", "dt", "dd", "dl", "tr", "td", "th", "tbody", "thead", "tfoot", "table",
    "h1", "h2", "h3", "h4", "h5", "h6", "pre", "br", "hr", "img", "option", "blockquote", "div", "span", "section",
    "article", "main", "header", "footer", "aside", "figure", "figcaption", "form", "button", "label", "svg", "code",
    "textarea", "font", "strong", "b", "em", "caption", "center", "details", "summary", "meta", "link",
    "title", "script", "time", "html", "math",
)  # fmt: skip
TAG = {name: number for number, name in enumerate(NAMED)}
_PROPERTIES: dict[int, str] = {
    VOID: "area base br col embed hr img input link meta param source track wbr frame keygen bgsound",
    RAW: "script style textarea title xmp iframe noembed noframes",
    INLINE: "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark meter nobr output q "
    "rb rp rt rtc ruby s samp small span strike strong sub sup time tt u var wbr annotation "
    "semantics math mrow mi mo mn ms mtext mfrac msup msub msubsup msqrt mroot mover munder munderover mtable mtr mtd "
    "mstyle mpadded mphantom mspace menclose script style template noscript link meta",
    SKIP: "script style textarea title xmp iframe noembed noframes nav dialog template noscript select option datalist "
    "object svg canvas audio video map head",
    CLOSES_P: "address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer "
    "form h1 h2 h3 h4 h5 h6 header hgroup hr main menu nav ol p pre section table ul",
    SCOPE: "td th table caption template object marquee applet",
    TRANSPARENT: "html body head",
}
ATTRIBUTES = (
    "",
    "class",
    "id",
    "hidden",
    "style",
    "href",
    "role",
    "itemprop",
    "itemtype",
    "aria-hidden",
    "alt",
    "alttext",
    "type",
    "src",
)
ATTRIBUTE = {name: number for number, name in enumerate(ATTRIBUTES)}


class Vocabulary(NamedTuple):
    """Tables that the kernels read.

    Attributes:
        tag_keys, tag_values: tag name's hash -> tag number | properties << 8.
        attribute_keys, attribute_values: attribute name's hash -> its number in `ATTRIBUTES`.
        class_keys, class_values: hash of a word in class, id, role, itemprop -> bit mask of keyword groups; bit 62
            says that the word also counts as the beginning or end of a longer one.
        text_keys, text_values: hash of a word or of 2 to 4 Han characters in the text -> bit mask of phrase groups.
    """

    tag_keys: Words
    tag_values: npt.NDArray[np.int64]
    attribute_keys: Words
    attribute_values: npt.NDArray[np.int64]
    class_keys: Words
    class_values: npt.NDArray[np.int64]
    text_keys: Words
    text_values: npt.NDArray[np.int64]


FNV_START = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)
AFFIX = 1 << 62
_AFFIX_LETTERS = 4


def hash_word(word: bytes) -> int:
    """FNV-1a, 64 bits (draft-eastlake-fnv); 0 stands for an empty slot and is never a word's hash here."""
    value = int(FNV_START)
    for byte in word:
        value = ((value ^ byte) * int(FNV_PRIME)) & 0xFFFFFFFFFFFFFFFF
    return value


@nb.njit(cache=True, nogil=True, inline="always")
def look_up(keys: Words, values: npt.NDArray[np.int64], key: np.uint64) -> int:
    """Value of a hash, 0 when the table does not have it."""
    slot = (key ^ (key >> np.uint64(29))) & np.uint64(4095)
    while keys[slot] != np.uint64(0):
        if keys[slot] == key:
            return values[slot]
        slot = (slot + np.uint64(1)) & np.uint64(4095)
    return 0


def put(keys: Words, values: npt.NDArray[np.int64], key: int, value: int) -> None:
    """Add the bits of `value` to a hash's entry in a table."""
    slot = (key ^ (key >> 29)) & (TABLE_SIZE - 1)
    while keys[slot] and keys[slot] != key:
        slot = (slot + 1) & (TABLE_SIZE - 1)
    keys[slot] = key
    values[slot] |= value


def table(words: dict[str, int]) -> tuple[Words, npt.NDArray[np.int64]]:
    """Open-addressed table of words; at most half full, so that a miss is short."""
    if len(words) > TABLE_SIZE // 2:
        raise ValueError(f"{len(words)} words, the table has room for {TABLE_SIZE // 2}")
    keys, values = np.zeros(TABLE_SIZE, dtype=np.uint64), np.zeros(TABLE_SIZE, dtype=np.int64)
    for word, value in words.items():
        put(keys, values, hash_word(word.encode("utf-8")), value)
    return keys, values


@cache
def rules() -> dict[str, Any]:
    """The word lists beside this file."""
    data: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("rules.yaml").read_text(encoding="utf-8"))
    return data


def groups_of_words(lists: dict[str, str], affixes: bool) -> dict[str, int]:
    """Bit mask of the groups that each word is in; `affixes` marks those that count as part of a longer word."""
    words: dict[str, int] = {}
    for bit, (_, text) in enumerate(lists.items()):
        for word in text.split():
            words[word] = words.get(word, 0) | 1 << bit
            if affixes and len(word) >= _AFFIX_LETTERS:
                words[word] |= AFFIX
    return words


@cache
def tag_values() -> dict[str, int]:
    """Number of each known tag name | its properties << 8."""
    tags: dict[str, int] = {name: number for name, number in TAG.items() if number}
    for bit, names in _PROPERTIES.items():
        for name in names.split():
            tags[name] = tags.get(name, 0) | bit << 8
    return tags


@cache
def vocabulary() -> Vocabulary:
    """The tables, made once a process."""
    attributes = {name: number for name, number in ATTRIBUTE.items() if number}
    return Vocabulary(
        *table(tag_values()),
        *table(attributes),
        *table(groups_of_words(rules()["class_words"], affixes=True)),
        *table(groups_of_words(rules()["text_words"], affixes=False)),
    )
