"""From texts to the symbols that merges are learnt from.

In: texts by group. Out: one array with a symbol for every character, how far each is from its neighbour by the kinds of
the two (`joins.yaml`), and the pieces that spell each character in bytes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
import yaml
from numpy.typing import NDArray

from haina.runtime.errors import HainaError
from haina.tokenizer.merge_kernel import HOLE

CODE_POINTS = 0x110000
SEPARATOR = CODE_POINTS  # between texts
NEVER = 255
PASSAGE = 4096  # characters
BLOCK_CHARACTERS = 1 << 22
MOST_CHARACTERS = 2**31 - 1  # places are int32


@dataclass(frozen=True)
class Joins:
    """Which neighbours may share a piece.

    Attributes:
        names: kinds of characters.
        kinds: uint8 [CODE_POINTS + 1], the kind of each code point and of SEPARATOR.
        gaps: uint8 [kinds, kinds], distance of a character of the second kind from one of the first before it: 0 within
            a word, 1 within a run of words, NEVER.
    """

    names: tuple[str, ...]
    kinds: NDArray[np.uint8]
    gaps: NDArray[np.uint8]


def kind_of(character: str) -> str:
    """Name of the kind in `joins.yaml`: by Unicode's general category, its name for Han."""
    category = unicodedata.category(character)
    code = ord(character)
    # What is unassigned here may be a number in the Unicode version of another program, which would cut at it.
    if category[0] == "N" or category == "Cn":
        return "alone"
    if character in "\r\n":
        return "line_end"
    if character in ":：":
        return "colon"
    if category in ("Zs", "Zl", "Zp") or character in "\t\v\f\x1c\x1d\x1e\x1f\x85":
        return "space"
    if category[0] in "LM":
        is_han = (
            0x3400 <= code <= 0x9FFF
            or 0xF900 <= code <= 0xFAFF
            or 0x20000 <= code <= 0x3FFFF
            or code == 0x3005
        )
        return "han" if is_han else "letter"
    return (
        "han_mark"
        if 0x3000 <= code <= 0x303F or 0xFF00 <= code <= 0xFFEF or character in "·—…‘’“”"
        else "mark"
    )


@lru_cache(maxsize=1)
def joins() -> Joins:
    """`joins.yaml` as tables."""
    content = yaml.safe_load(files("haina.tokenizer").joinpath("joins.yaml").read_text(encoding="utf-8"))
    names = tuple(content["kinds"])
    number = {name: at for at, name in enumerate(names)}
    kinds = np.fromiter(
        (number[kind_of(chr(code))] for code in range(CODE_POINTS)), np.uint8, count=CODE_POINTS
    )
    kinds = np.append(kinds, np.uint8(len(names)))
    gaps = np.full((len(names) + 1, len(names) + 1), NEVER, np.uint8)
    for distance, table in enumerate(("words", "superwords")):
        for first, followers in content[table].items():
            for follower in followers:
                gaps[number[first], number[follower]] = distance
    return Joins(names, kinds, gaps)


@dataclass
class Symbols:
    """What `merge_kernel.learn` works on; shapes as there. Its texts are passages: a long text is several.

    Attributes:
        spellings: bytes of each base symbol: the 256 bytes, the beginnings of characters, the characters.
        merges: pairs of ids that spell beginnings and characters; merge i makes id 256 + i.
        counts: int64 [spellings], how much each character counts; 0 for what is none.
    """

    symbols: NDArray[np.int32]
    gaps: NDArray[np.uint8]
    borders: NDArray[np.int64]
    weights: NDArray[np.int64]
    spellings: list[bytes]
    merges: list[tuple[int, int]]
    counts: NDArray[np.int64]

    def frequent(self, least: int) -> NDArray[np.bool_]:
        """Which base symbols stay when characters that count less than `least` are written in bytes [spellings]: bytes,
        the other characters, and what these begin with."""
        keep = self.counts >= least
        keep[:256] = True
        # A character comes after all that it is made of.
        for number in range(len(self.merges) - 1, -1, -1):
            if keep[256 + number]:
                keep[self.merges[number][0]] = True
        return keep


def code_points(texts: Iterable[tuple[str, str]]) -> dict[str, NDArray[np.uint32]]:
    """All characters of the texts of each group, SEPARATOR after each text; input is (group, text)."""
    blocks: dict[str, list[NDArray[np.uint32]]] = {}
    waiting: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for group, text in texts:
        waiting.setdefault(group, []).append(text)
        sizes[group] = sizes.get(group, 0) + len(text)
        if sizes[group] > BLOCK_CHARACTERS:
            blocks.setdefault(group, []).append(_joined(waiting.pop(group)))
            sizes[group] = 0
    for group, rest in waiting.items():
        blocks.setdefault(group, []).append(_joined(rest))
    return {group: np.concatenate(blocks.pop(group)) for group in sorted(blocks)}


def _joined(texts: list[str]) -> NDArray[np.uint32]:
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    points = np.frombuffer("".join(texts).encode("utf-32-le"), "<u4")
    return np.insert(points, ends, SEPARATOR)


def covered(counts: NDArray[np.int64], coverage: float, room: int) -> list[int]:
    """Code points that get a piece of their own, most frequent first: as many as make up `coverage` of all characters,
    but no more than need `room` pieces, those that characters begin with included.
    """
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    total = np.cumsum(counts[order])
    if not len(order):
        return []
    chosen = order[: int(np.searchsorted(total, coverage * total[-1], side="left")) + 1].tolist()
    known: set[bytes] = set()
    for number, code in enumerate(chosen):
        data = chr(code).encode("utf-8")
        known.update(data[:size] for size in range(2, len(data) + 1))
        if len(known) > room:
            return chosen[:number]
    return chosen


def spelt(characters: Iterable[int]) -> tuple[list[bytes], list[tuple[int, int]], dict[int, int]]:
    """Spellings, merges (see `Symbols`) and the id of each character: first the beginnings, shortest first, then the
    characters, so that every character is whole before it meets another.
    """
    wanted = [chr(code).encode("utf-8") for code in characters]
    beginnings = sorted(
        {data[:size] for data in wanted for size in range(2, len(data))}, key=lambda data: (len(data), data)
    )
    spellings = [bytes([byte]) for byte in range(256)]
    number = {data: at for at, data in enumerate(spellings)}
    merges = []
    for data in [*beginnings, *(data for data in wanted if len(data) > 1)]:
        merges.append((number[data[:-1]], data[-1]))
        number[data] = len(spellings)
        spellings.append(data)
    return spellings, merges, {code: number[chr(code).encode("utf-8")] for code in characters}


def prepare(
    texts: Iterable[tuple[str, str]], weights: Mapping[str, int], coverage: float, room: int
) -> Symbols:
    """Symbols of all texts, in the order of the groups' names.

    Args:
        texts: (group, text).
        weights: how often each group counts.
        coverage: share of the characters, so weighted, that get a piece.
        room: pieces that characters may take at most, bytes not counted.

    Raises:
        HainaError: more than MOST_CHARACTERS characters.
    """
    table = joins()
    points_of = code_points(texts)
    names = list(points_of)
    counts = np.zeros(CODE_POINTS + 1, np.int64)
    for name, points in points_of.items():
        counts += weights[name] * np.bincount(points, minlength=CODE_POINTS + 1)
    counts[SEPARATOR] = 0
    spellings, merges, ids = spelt(covered(counts, coverage, room))
    mapping = np.full(CODE_POINTS + 1, HOLE, np.int32)
    mapping[list(ids)] = list(ids.values())
    counts_of_ids = np.zeros(len(spellings), np.int64)
    counts_of_ids[list(ids.values())] = counts[list(ids)]
    borders = np.cumsum([0, *(len(points) for points in points_of.values())], dtype=np.int64)
    if borders[-1] > MOST_CHARACTERS:
        raise HainaError(
            f"tokenizer: {int(borders[-1]):,} characters to learn from, {MOST_CHARACTERS:,} is the limit",
            "lower tokenizer.sample_bytes",
        )
    symbols = np.empty(int(borders[-1]), np.int32)
    gaps = np.empty(len(symbols), np.uint8)
    starts: list[NDArray[np.int64]] = []
    counted: list[NDArray[np.int64]] = []
    for name, first in zip(names, borders[:-1].tolist(), strict=True):
        points = points_of.pop(name)
        symbols[first : first + len(points)] = mapping[points]
        ends = np.flatnonzero(points == SEPARATOR)
        begins = np.union1d(np.append(0, ends[:-1] + 1), np.arange(0, len(points), PASSAGE))
        starts.append(first + begins)
        counted.append(np.full(len(begins), weights[name], np.int64))
        kinds = table.kinds[points]
        gaps[first] = NEVER
        gaps[first + 1 : first + len(points)] = table.gaps[kinds[:-1], kinds[1:]]
    passages = np.concatenate([*starts, [len(symbols)]]).astype(np.int64)
    of_texts = np.concatenate([*counted, np.empty(0, np.int64)])
    return Symbols(symbols, gaps, passages, of_texts, spellings, merges, counts_of_ids)
