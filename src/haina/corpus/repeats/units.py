"""Lines, paragraphs and sentences of many texts, as byte spans.

Comes in: UTF-8 of texts, one after the other. Goes out: where each unit starts and ends, white space at both ends
left out. A line ends where a text editor ends it. A paragraph is the lines between two blank lines; in a text without
any blank line, as extraction and Chinese writing leave it, every line is one. Sentences are those of
`haina.corpus.sentences.split`. Kernels work on bytes; `plain_units` says the same with strings.
"""

from __future__ import annotations

import re
from typing import Literal

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.sentences.split import plain_sentences, split_packed
from haina.corpus.utf8 import pack

Unit = Literal["line", "paragraph", "sentence"]
UNITS: tuple[Unit, ...] = ("line", "paragraph", "sentence")

NEWLINES = "\n\r\v\f\x85\u2028\u2029"
BLANKS = " \t\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u202f\u205f\u3000\ufeff"

Spans = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _blank(data: npt.NDArray[np.uint8], place: int, limit: int) -> int:
    """Bytes of the blank at `place`, 0 where there is none."""
    first = data[place]
    if first in (0x20, 0x09):
        return 1
    if first == 0xC2:
        return 2 if place + 1 < limit and data[place + 1] == 0xA0 else 0
    if ((first < 0xE1 or first > 0xE3) and first != 0xEF) or place + 2 >= limit:
        return 0
    second, third = data[place + 1], data[place + 2]
    found = (
        (first == 0xE2 and second == 0x80 and (0x80 <= third <= 0x8B or third == 0xAF))
        or (first == 0xE3 and second == 0x80 and third == 0x80)
        or (first == 0xE2 and second == 0x81 and third == 0x9F)
        or (first == 0xE1 and second == 0x9A and third == 0x80)
        or (first == 0xEF and second == 0xBB and third == 0xBF)
    )
    return 3 if found else 0


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _line_end(data: npt.NDArray[np.uint8], place: int, limit: int) -> int:
    """Bytes of the line end at `place`, 0 where there is none."""
    first = data[place]
    if 0x0A <= first <= 0x0D:
        return 2 if first == 0x0D and place + 1 < limit and data[place + 1] == 0x0A else 1
    if first == 0xC2:
        return 2 if place + 1 < limit and data[place + 1] == 0x85 else 0
    third = data[place + 2] if first == 0xE2 and place + 2 < limit and data[place + 1] == 0x80 else 0
    return 3 if 0xA8 <= third <= 0xA9 else 0


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _trim(data: npt.NDArray[np.uint8], begin: int, end: int) -> tuple[int, int]:
    """A line without the blanks at its ends."""
    while begin < end:
        size = _blank(data, begin, end)
        if not size:
            break
        begin += size
    while begin < end:
        size = 0
        for width in range(1, min(4, end - begin + 1)):
            if _blank(data, end - width, end) == width:
                size = width
        if not size:
            break
        end -= size
    return begin, end


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _lines(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    gaps: npt.NDArray[np.int64],
    bounds: npt.NDArray[np.int64],
) -> int:
    """Lines that hold anything, into `starts` and `ends`; `gaps`: line ends between a line and the one before it.

    Returns:
        How many lines there are; where that is more than there is room for, the rest was only counted.
    """
    count, room = 0, len(starts)
    for document in range(len(offsets) - 1):
        place, limit = offsets[document], offsets[document + 1]
        low, gap = place, 0
        while low < limit:
            # The first bytes of all line ends; text has none of them but C2 and E2.
            while place < limit and not (
                0x0A <= data[place] <= 0x0D or data[place] == 0xC2 or data[place] == 0xE2
            ):
                place += 1
            size = _line_end(data, place, limit) if place < limit else 1
            if not size:
                place += 1
                continue
            begin, end = _trim(data, low, place)
            if begin < end:
                if count < room:
                    starts[count], ends[count], gaps[count] = begin, end, gap
                count += 1
                gap = 0
            gap += 1
            place += size
            low = place
        bounds[document + 1] = count
    return count


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _join_lines(
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    gaps: npt.NDArray[np.int64],
    bounds: npt.NDArray[np.int64],
) -> int:
    """Lines joined to paragraphs in place; how many there are."""
    count, low = 0, 0
    for document in range(len(bounds) - 1):
        high = bounds[document + 1]
        blank = False
        for line in range(low + 1, high):
            if gaps[line] > 1:
                blank = True
                break
        for line in range(low, high):
            if line == low or not blank or gaps[line] > 1:
                starts[count] = starts[line]
                count += 1
            ends[count - 1] = ends[line]
        low = high
        bounds[document + 1] = count
    return count


def units_batch(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], level: Unit) -> Spans:
    """Units of many texts.

    Args:
        data: uint8 [bytes], UTF-8 of all texts one after the other (see `haina.corpus.utf8.pack`).
        offsets: int64 [texts + 1], where each begins in `data`, and the end of the last.
        level: `line`, `paragraph` or `sentence`.

    Returns:
        Byte offsets into `data` where units begin and end, int64 [units] each; and int64 [texts + 1]: text `i` has
        units `bounds[i]` to `bounds[i + 1]`.
    """
    if level == "sentence":
        return split_packed(data, offsets)
    bounds = np.zeros(len(offsets), dtype=np.int64)
    room = int(offsets[-1] - offsets[0]) // 16 + len(offsets)
    while True:
        starts, ends, gaps = (np.empty(room, dtype=np.int64) for _ in range(3))
        count = _lines(data, offsets, starts, ends, gaps, bounds)
        if count <= room:
            break
        room = count
    if level == "paragraph":
        count = _join_lines(starts[:count], ends[:count], gaps[:count], bounds)
    return starts[:count], ends[:count], bounds


def units(text: str, level: Unit) -> list[tuple[int, int]]:
    """UTF-8 byte spans of the units of one text."""
    starts, ends, _ = units_batch(*pack([text]), level)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def plain_units(text: str, level: Unit) -> list[tuple[int, int]]:
    """`units` with strings."""
    found: list[tuple[int, int]] = []
    if level == "sentence":
        found = plain_sentences(text)
    else:
        place, gap, spans = 0, 0, []
        for match in re.finditer(f"\r\n|[{NEWLINES}]|$", text, re.DOTALL):
            if match.start() < place:
                continue
            line = text[place : match.start()]
            if line.strip(BLANKS):
                begin = place + len(line) - len(line.lstrip(BLANKS))
                spans.append((begin, place + len(line.rstrip(BLANKS)), gap))
                gap = 0
            gap += 1
            place = match.end()
        blank = any(gap > 1 for _, _, gap in spans[1:])
        for begin, end, gap in spans:
            if found and level == "paragraph" and blank and gap < 2:
                found[-1] = (found[-1][0], end)
            else:
                found.append((begin, end))
    return [(len(text[:begin].encode()), len(text[:end].encode())) for begin, end in found]
