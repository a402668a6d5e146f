"""Private data of a text as spans, and the text without it.

Comes in: text, or many as packed UTF-8. Goes out: spans in characters and in bytes, or the text with a placeholder for
each: `<EMAIL>`, `<PHONE>`, ... It depends on the kind alone, so that neither the order of documents nor their number
changes a byte; with `numbered`, equal values of one text get equal numbers (`<PHONE_2>`), counted within that text.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from haina.corpus.privacy.candidates import candidates, candidates_packed
from haina.corpus.privacy.folding import fold
from haina.corpus.privacy.judge import KINDS, REACH_AFTER, REACH_BEFORE, judge

__all__ = ["KINDS", "PrivateSpan", "PrivateSpans", "find_private", "find_private_packed", "replace_private"]


@dataclass(frozen=True)
class PrivateSpan:
    """Characters `start` to `end` of a text, bytes `byte_start` to `byte_end` of its UTF-8, and what it is (of
    `KINDS`)."""

    start: int
    end: int
    byte_start: int
    byte_end: int
    kind: str


class PrivateSpans(NamedTuple):
    """Spans of many texts, in order.

    Attributes:
        document: int64 [spans], which text.
        start: int64 [spans], first byte within that text.
        end: int64 [spans], byte after the last.
        kind: int8 [spans], index into `KINDS`.
    """

    document: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int8]


def _window(data: bytes, start: int, end: int) -> tuple[str, int, int]:
    """(folded text around bytes `start` to `end`, its first byte, characters before `start`)."""
    low, high = max(0, start - 4 * REACH_BEFORE), min(len(data), end + 4 * REACH_AFTER)
    while low > 0 and data[low] & 0xC0 == 0x80:
        low -= 1
    while high < len(data) and data[high] & 0xC0 == 0x80:
        high += 1
    before = data[low:start].decode("utf-8")
    cut = max(0, len(before) - REACH_BEFORE)
    low += len(before[:cut].encode("utf-8"))
    before = before[cut:]
    middle = data[start:end].decode("utf-8")
    after = data[end:high].decode("utf-8")[:REACH_AFTER]
    return before + middle + after, low, len(before)


def _spans(data: bytes, places: list[list[int]]) -> list[tuple[int, int, int]]:
    """(byte start, byte end, index of the kind) of a text's private data, in order and apart, from its candidates."""
    found: list[tuple[int, int, int]] = []
    done = 0
    for start, end, group in places:
        if end <= done:
            continue
        window, low, offset = _window(data, start, end)
        size = len(data[start:end].decode("utf-8"))
        for first, last, kind in judge(fold(window), offset, offset + size, group):
            byte_start = low + len(window[:first].encode("utf-8"))
            byte_end = byte_start + len(window[first:last].encode("utf-8"))
            if byte_start >= done:
                found.append((byte_start, byte_end, KINDS.index(kind)))
                done = byte_end
    return found


def find_private(text: str) -> list[PrivateSpan]:
    """The private data of a text, in order and apart from one another.

    Raises:
        UnicodeEncodeError: the text holds a lone surrogate.
    """
    data = text.encode("utf-8")
    found = []
    character, byte = 0, 0
    for start, end, kind in _spans(data, candidates(np.frombuffer(data, dtype=np.uint8)).tolist()):
        first = character + len(data[byte:start].decode("utf-8"))
        character, byte = first + len(data[start:end].decode("utf-8")), end
        found.append(PrivateSpan(first, character, start, end, KINDS[kind]))
    return found


def find_private_packed(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> PrivateSpans:
    """The private data of many texts: `data` uint8 [bytes] is their UTF-8, `offsets` int64 [texts + 1] where each
    starts."""
    places = candidates_packed(data, offsets)
    borders = np.flatnonzero(np.diff(places[:, 0], prepend=-1, append=len(offsets)))
    rows: list[tuple[int, int, int, int]] = []
    for low, high in pairwise(borders.tolist()):
        number = int(places[low, 0])
        text = data[offsets[number] : offsets[number + 1]].tobytes()
        rows += [(number, *span) for span in _spans(text, places[low:high, 1:].tolist())]
    table = np.array(rows, dtype=np.int64).reshape(len(rows), 4)
    return PrivateSpans(table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(np.int8))


def replace_private(text: str, numbered: bool = False) -> tuple[str, list[PrivateSpan]]:
    """The text with a placeholder for each span, and the spans, which are those of the text before."""
    spans = find_private(text)
    pieces, place = [], 0
    numbers: dict[str, dict[str, int]] = {}
    for span in spans:
        label = span.kind.upper()
        if numbered:
            known = numbers.setdefault(span.kind, {})
            value = "".join(filter(str.isalnum, fold(text[span.start : span.end]).casefold()))
            label += f"_{known.setdefault(value, len(known) + 1)}"
        pieces += [text[place : span.start], f"<{label}>"]
        place = span.end
    return "".join([*pieces, text[place:]]), spans
