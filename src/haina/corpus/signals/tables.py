"""What the pass over a document looks up: one entry a code point, and the terms of the lexicons as a trie.

Comes in: Unicode's character data, OpenCC's variant tables, `stop_words.yaml` and `lexicon.yaml`. Goes out: arrays
that kernels index, and the same facts as plain Python for the reference. Built once a process.

An entry of `code_table()` holds flags in its low 32 bits and the folded code point in its high 32 bits. Folding is
for comparison only: width (NFKC), lower case and simplified form, where each gives one character.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from haina.corpus.characters import DIGIT, HAN, LATIN, PUNCTUATION, SPACE, SYMBOL, class_table
from haina.corpus.signals.names import TERM_SIGNALS

UInt64 = npt.NDArray[np.uint64]

# Flags of a code point. WORD excludes Han characters: a run of WORD is one word, a Han character is one by itself.
(
    WORD, ALPHA, IS_HAN, IS_LATIN, IS_DIGIT, IS_SYMBOL, IS_PUNCTUATION, IS_SPACE, STRIPPED, UPPER, FULL_WIDTH,
    CONTROL, REPLACEMENT, TRADITIONAL, SIMPLIFIED, BULLET, CLOSER, HARD_END, SOFT_END, SPECIAL,
) = (1 << bit for bit in range(20))  # fmt: skip

# Code points from here on (tags, variation selectors, private planes) share the last entry: no word, no mark.
LAST = 0x32400
UNKNOWN = 0xFFFD

# Sentence ends wherever they stand, and those that need something else than a letter or digit after them.
HARD_ENDS = frozenset("。！？｡…‼⁇⁈⁉")
SOFT_ENDS = frozenset(".!?．")
BULLETS = frozenset("-•*·●○■□▪▫◆◇‣⁃►▶▸◦∙")
CLOSERS = frozenset("\"'”’»)]}）］｝」』】〉》〕〗＂＇")
# C4 takes a line that ends in a quote for a closed one, whatever stands before it.
QUOTES = frozenset("\"'”’」』")

# Flags of a word of the lexicon.
STOP_ZH, STOP_EN, GOPHER = 1, 2, 4
_LISTS = {"stop_words": {"zh": STOP_ZH, "en": STOP_EN}, "gopher_words": {"zh": GOPHER, "en": GOPHER}}
POLICY_LINES, LOREM_IPSUM = len(TERM_SIGNALS), len(TERM_SIGNALS) + 1
_CATEGORIES = (*TERM_SIGNALS, "policy_lines", "lorem_ipsum")

SEED = 0x9E3779B97F4A7C15
MULTIPLIER = 0xD6E8FEB86659FD93
_MASK = (1 << 64) - 1


def _yaml(name: str) -> dict[str, dict[str, str]]:
    data: dict[str, dict[str, str]] = yaml.safe_load(
        Path(__file__).with_name(name).read_text(encoding="utf-8")
    )
    return data


@cache
def variants() -> tuple[dict[str, str], frozenset[str], frozenset[str]]:
    """(traditional to simplified, traditional only, simplified only) single characters, from OpenCC.

    A character that OpenCC changes on the way to simplified and leaves alone on the way to traditional is a
    traditional one, and the other way round. Those changed both ways (干, 后, 里) tell nothing.
    """
    from opencc import OpenCC

    characters = [
        chr(code) for code in (*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000), *range(0x20000, 0x31350))
    ]
    joined = "\n".join(characters)
    rows = list(
        zip(
            characters,
            OpenCC("t2s").convert(joined).split("\n"),
            OpenCC("s2t").convert(joined).split("\n"),
            strict=True,
        )
    )
    return (
        {it: simplified for it, simplified, _ in rows if simplified != it and len(simplified) == 1},
        frozenset(it for it, simplified, traditional in rows if simplified != it and traditional == it),
        frozenset(it for it, simplified, traditional in rows if simplified == it and traditional != it),
    )


@cache
def fold_character(character: str) -> str:
    """The form in which a character is compared: `Ａ` -> `a`, `電` -> `电`; itself where folding gives several."""
    for form in (unicodedata.normalize("NFKC", character), character):
        lower = form.lower()
        if len(lower) == 1:
            return variants()[0].get(lower, lower)
    return character


def _flags(code: int, kind: int) -> int:
    character = chr(code)
    flags = {
        HAN: IS_HAN, LATIN: IS_LATIN, DIGIT: IS_DIGIT, SYMBOL: IS_SYMBOL, PUNCTUATION: IS_PUNCTUATION, SPACE: IS_SPACE,
    }.get(kind, 0)  # fmt: skip
    if kind != HAN and character.isalnum():
        flags |= WORD | (ALPHA if character.isalpha() else 0)
    for flag, holds in (
        (STRIPPED, character.isspace()),
        (UPPER, kind == LATIN and character.isupper()),
        (FULL_WIDTH, 0xFF01 <= code <= 0xFF5E or 0xFFE0 <= code <= 0xFFE6),
        (CONTROL, unicodedata.category(character) == "Cc" and character not in "\t\n\r"),
        (REPLACEMENT, code == UNKNOWN or 0xE000 <= code <= 0xF8FF),
        (TRADITIONAL, character in variants()[1]),
        (SIMPLIFIED, character in variants()[2]),
        (BULLET, character in BULLETS),
        (CLOSER, character in CLOSERS),
        (HARD_END, character in HARD_ENDS),
        (SOFT_END, character in SOFT_ENDS),
        (SPECIAL, character in ".…:@"),
    ):
        if holds:
            flags |= flag
    return flags


@cache
def code_table() -> UInt64:
    """Flags and folded form of each code point: uint64 [LAST + 1]."""
    table = np.arange(LAST + 1, dtype=np.uint64) << np.uint64(32) | np.uint64(IS_HAN)
    # Most Han characters are their own folded form and neither variant, which saves asking for each.
    simplified, traditional_only, simplified_only = variants()
    plain_han = class_table() == HAN
    plain_han[[ord(it) for it in {*simplified, *traditional_only, *simplified_only}]] = False
    plain_han[0xF900:0xFB00] = False
    for code in np.flatnonzero(~plain_han).tolist():
        kind = int(class_table()[code])
        folded = UNKNOWN if 0xD800 <= code < 0xE000 else ord(fold_character(chr(code)))
        table[code] = folded << 32 | _flags(code, kind)
    table[LAST] = UNKNOWN << 32
    table.setflags(write=False)
    return table


def step(state: int, code: int) -> int:
    """One step of the hash of a word, as the kernel takes it."""
    state = (state ^ code) * MULTIPLIER & _MASK
    return state ^ state >> 32


def word_hash(word: str) -> int:
    """64-bit hash of a folded word."""
    state = SEED
    for character in word:
        state = step(state, ord(character))
    return state


class LexiconArrays(NamedTuple):
    """The lexicon for kernels.

    Attributes:
        flags: of each word: uint32 [words + 1].
        roots: node of the trie after each word, 0 where no term starts with it: int32 [words + 1].
        hashes, numbers: open-addressing table from the hash of a word to its number: uint64 and int32 [2^k].
        edges, targets: the trie as an open-addressing table from (node << 20 | word number) to node; node 0 is the
            root: int64 and int32 [2^m].
        ends: categories that end in a node, as bits: uint32 [nodes].
    """

    flags: npt.NDArray[np.uint32]
    roots: npt.NDArray[np.int32]
    hashes: UInt64
    numbers: npt.NDArray[np.int32]
    edges: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int32]
    ends: npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Lexicon:
    """Every term of the lexicons and every stop word, by folded words.

    Attributes:
        flags: word -> its flags.
        terms: words of a term -> bits of its categories.
        arrays: the same for kernels.
    """

    flags: dict[str, int]
    terms: dict[tuple[str, ...], int]
    arrays: LexiconArrays


def plain_words(text: str) -> list[str]:
    """Folded words of a text, in order."""
    words: list[str] = []
    inside = False
    for character in text:
        flags = int(code_table()[min(ord(character), LAST)])
        if flags & WORD and inside:
            words[-1] += fold_character(character)
        elif flags & (WORD | IS_HAN):
            words.append(fold_character(character))
        inside = bool(flags & WORD)
    return words


def edge_slot(edge: int, size: int) -> int:
    """Where the search for an edge of the trie begins."""
    return (edge * MULTIPLIER & _MASK) >> 40 & (size - 1)


@cache
def lexicon() -> Lexicon:
    """`lexicon.yaml` and `stop_words.yaml`, ready to look up."""
    terms: dict[tuple[str, ...], int] = {}
    for category, lists in _yaml("lexicon.yaml").items():
        bit = 1 << _CATEGORIES.index(category)
        for term in (*lists["zh"].split(), *lists["en"].splitlines()):
            key = tuple(plain_words(term))
            terms[key] = terms.get(key, 0) | bit
    flags: dict[str, int] = {}
    for name, members in _yaml("stop_words.yaml").items():
        for group, flag in _LISTS[name].items():
            for word in members[group].split():
                folded = plain_words(word)[0]
                flags[folded] = flags.get(folded, 0) | flag
    words = {
        word: number
        for number, word in enumerate(sorted({*flags, *(word for term in terms for word in term)}), 1)
    }
    word_flags = np.zeros(len(words) + 1, dtype=np.uint32)
    for word, flag in flags.items():
        word_flags[words[word]] = flag
    hashes, numbers = _word_table(words)
    edges, targets, ends = _trie(terms, words)
    roots = np.zeros(len(words) + 1, dtype=np.int32)
    for edge, target in zip(edges.tolist(), targets.tolist(), strict=True):
        if 0 <= edge < 1 << 20:
            roots[edge] = target
    return Lexicon(flags, terms, LexiconArrays(word_flags, roots, hashes, numbers, edges, targets, ends))


def _word_table(words: dict[str, int]) -> tuple[UInt64, npt.NDArray[np.int32]]:
    hashes = np.zeros(1 << (4 * len(words)).bit_length(), dtype=np.uint64)
    numbers = np.zeros(len(hashes), dtype=np.int32)
    for word, number in words.items():
        slot = word_hash(word) & (len(hashes) - 1)
        while numbers[slot]:
            slot = (slot + 1) & (len(hashes) - 1)
        hashes[slot], numbers[slot] = word_hash(word), number
    return hashes, numbers


def _trie(
    terms: dict[tuple[str, ...], int], words: dict[str, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.uint32]]:
    nodes: dict[tuple[str, ...], int] = {(): 0}
    for term in terms:
        for length in range(1, len(term) + 1):
            nodes.setdefault(term[:length], len(nodes))
    edges = np.full(1 << (4 * len(nodes)).bit_length(), -1, dtype=np.int64)
    targets = np.zeros(len(edges), dtype=np.int32)
    ends = np.zeros(len(nodes), dtype=np.uint32)
    for prefix, node in nodes.items():
        ends[node] = terms.get(prefix, 0)
        if prefix:
            edge = nodes[prefix[:-1]] << 20 | words[prefix[-1]]
            slot = edge_slot(edge, len(edges))
            while edges[slot] >= 0:
                slot = (slot + 1) & (len(edges) - 1)
            edges[slot], targets[slot] = edge, node
    return edges, targets, ends
