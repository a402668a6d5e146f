"""Places in a text that are worth a look, found in one scan over its bytes.

Comes in: UTF-8. Goes out: byte spans with the group of rules that may apply. Ordinary text has many digits and few
numbers that could be a phone or a card; the scan drops years, dates and short numbers before anything slow sees them.

A *cluster* is a run of digits with at most three of the marks ` ( ) . + -` between two. It is a candidate when it has
four groups of one to three digits joined by single dots (an address), or at least seven digits and is neither a date
nor a row of years nor a decimal. `@` between two characters of an address, `(at)`, a run of hexadecimal digits with
colons, and the character of a province before a capital letter are the others. Full-width forms count as plain ones.
`reference_candidates` says the same with regular expressions.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import yaml

from haina.corpus.privacy.folding import FOREIGN, fold, fold_at

NUMBER, EMAIL, ADDRESS, PLATE = range(4)
MIN_DIGITS = 7
MAX_GAP = 3
LONGEST_ADDRESS = 160  # bytes of hexadecimal digits and colons
# Bytes that may start a candidate: 1 a digit, 2 an @, 3 a colon, 4 a bracket, 5 a full-width form, 6 a province.
_NONE, _DIGIT, _AT, _COLON, _BRACKET, _WIDE, _PROVINCE = range(7)


@cache
def rules() -> Any:
    """The data of `rules.yaml`."""
    return yaml.safe_load(Path(__file__).with_name("rules.yaml").read_text(encoding="utf-8"))


@cache
def _provinces() -> npt.NDArray[np.bool_]:
    table = np.zeros(0x10000, dtype=np.bool_)
    table[[ord(character) for character in rules()["plate_provinces"]]] = True
    return table


@cache
def _hot() -> npt.NDArray[np.uint8]:
    table = np.zeros(256, dtype=np.uint8)
    table[0x30:0x3A] = _DIGIT
    table[ord("@")] = _AT
    table[ord(":")] = _COLON
    table[[ord("("), ord("[")]] = _BRACKET
    table[0xEF] = _WIDE
    table[np.unique([character.encode()[0] for character in rules()["plate_provinces"]])] = _PROVINCE
    return table


@nb.njit(cache=True, nogil=True, inline="always")
def _is_gap(code: int) -> bool:
    return code in (0x20, 0x28, 0x29, 0x2E, 0x2B, 0x2D)


@nb.njit(cache=True, nogil=True, inline="always")
def _is_address(code: int) -> bool:
    """Letters, digits and . _ % + - of an e-mail address."""
    return (
        0x30 <= code <= 0x39
        or 0x41 <= code <= 0x5A
        or 0x61 <= code <= 0x7A
        or code in (0x2E, 0x5F, 0x25, 0x2B, 0x2D)
    )


@nb.njit(cache=True, nogil=True, inline="always")
def _is_hex(code: int) -> bool:
    return 0x30 <= code <= 0x39 or 0x41 <= code <= 0x46 or 0x61 <= code <= 0x66


@nb.njit(cache=True, nogil=True)
def _before(data: npt.NDArray[np.uint8], place: int) -> int:
    """The character that ends at `place`, folded; 0 at the start."""
    if place == 0:
        return 0
    start = place - 1
    while start > 0 and start > place - 4 and data[start] & 0xC0 == 0x80:
        start -= 1
    return fold_at(data, start)[0]


@nb.njit(cache=True, nogil=True)
def _cluster(data: npt.NDArray[np.uint8], place: int) -> tuple[int, bool]:
    """(end, whether it is a candidate) of the cluster of digits that starts at `place`."""
    size = len(data)
    digits, groups, dots = 0, 0, 0
    group, value = 0, 0  # length and value of the group being read
    first, longest_rest = 0, 0  # length of the first group, of the longest after it
    years, quad = True, True
    gap, gap_code = 0, 0
    end = place
    while place <= size:
        code, width = fold_at(data, place) if place < size else (0, 1)
        if 0x30 <= code <= 0x39:
            if group == 0:
                groups += 1
                if groups > 1:
                    single = gap == 1 and gap_code == 0x2E
                    dots += single
                    quad = quad and single
                gap = 0
            group += 1
            value = value * 10 + code - 0x30 if group <= 4 else 9999
            digits += 1
            place += width
            end = place
            continue
        if group:
            if groups == 1:
                first = group
            elif group > longest_rest:
                longest_rest = group
            years = years and group == 4 and 1000 <= value < 2100
            quad = quad and group <= 3
            group, value = 0, 0
        if not _is_gap(code):
            break
        gap += 1
        gap_code = code
        if gap > MAX_GAP:
            break
        place += width
    if groups == 4 and quad:
        return end, True
    date = first == 4 and groups <= 3 and longest_rest <= 2
    decimal = groups == 2 and dots == 1
    return end, digits >= MIN_DIGITS and not (years or date or decimal)


@nb.njit(cache=True, nogil=True)
def scan(  # noqa: PLR0912, PLR0915 - one pass
    data: npt.NDArray[np.uint8],
    hot: npt.NDArray[np.uint8],
    provinces: npt.NDArray[np.bool_],
    spans: npt.NDArray[np.int64],
) -> int:
    """Candidates of one text into `spans`, int64 [room, 3]: start, end, group. How many there are, also without
    room."""
    size, room = len(data), len(spans)
    count = 0
    place = 0
    address_end = 0
    while place < size:
        kind = hot[data[place]]
        if kind == _NONE:
            place += 1
            continue
        # Every third byte of Chinese text may be a province: look at the next character before anything else.
        if kind == _PROVINCE and (
            place + 3 >= size or not (0x41 <= data[place + 3] <= 0x5A or data[place + 3] == 0xEF)
        ):
            place += 3
            continue
        code, width = fold_at(data, place)
        if kind == _WIDE:
            if code == FOREIGN:
                place += width
                continue
            kind = hot[code]
        start, end, group = place, place + width, -1
        step = width
        if kind == _DIGIT:
            end, found = _cluster(data, place)
            step = end - place
            if found:
                group = NUMBER
            # A colon within reach of the digits is found by itself.
        elif kind == _AT:
            if end < size and _is_address(_before(data, place)) and _is_address(fold_at(data, end)[0]):
                group = EMAIL
        elif kind == _BRACKET:
            closing = 0x29 if code == 0x28 else 0x5D
            letters, ahead = 0, end
            while ahead < size and letters < 3:
                letter, wide = fold_at(data, ahead)
                if (letters == 0 and letter | 0x20 != 0x61) or (letters == 1 and letter | 0x20 != 0x74):
                    break
                if letters == 2 and letter != closing:
                    break
                letters += 1
                ahead += wide
            if letters == 3:
                end, group = ahead, EMAIL
        elif kind == _COLON and place >= address_end:
            colons, double, previous = 0, False, 0
            while start > 0:
                code = _before(data, start)
                if not (_is_hex(code) or code == 0x3A):
                    break
                start -= 1
                while data[start] & 0xC0 == 0x80:
                    start -= 1
                if place - start > LONGEST_ADDRESS:
                    break
            ahead = start
            while ahead < size:
                code, wide = fold_at(data, ahead)
                if not (_is_hex(code) or code in (0x3A, 0x2E)):
                    break
                colons += code == 0x3A
                double = double or (code == 0x3A and previous == 0x3A)
                previous = code
                ahead += wide
            end = ahead
            address_end = ahead
            if 6 <= end - start <= LONGEST_ADDRESS and (colons >= 7 or double):
                group = ADDRESS
        elif kind == _PROVINCE:
            letter = fold_at(data, place + 3)[0]
            if 0x41 <= letter <= 0x5A:
                high = (int(data[place]) & 0x0F) << 12
                if provinces[high | (int(data[place + 1]) & 0x3F) << 6 | (int(data[place + 2]) & 0x3F)]:
                    group = PLATE
        if group >= 0:
            if count < room:
                spans[count, 0], spans[count, 1], spans[count, 2] = start, end, group
            count += 1
        place += step
    return count


@nb.njit(cache=True, nogil=True)
def _scan_packed(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    hot: npt.NDArray[np.uint8],
    provinces: npt.NDArray[np.bool_],
    found: npt.NDArray[np.int64],
) -> int:
    """Candidates of many texts into `found`, int64 [room, 4]: text, start, end, group."""
    count = 0
    for text in range(len(offsets) - 1):
        own = scan(
            data[offsets[text] : offsets[text + 1]], hot, provinces, found[min(count, len(found)) :, 1:]
        )
        found[count : min(count + own, len(found)), 0] = text
        count += own
    return count


def candidates_packed(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Candidates of many texts, `offsets` int64 [texts + 1] into `data`: int64 [candidates, 4] of text, byte start
    and end within it, and group, in order."""
    room = 64 + len(data) // 128
    while True:
        found = np.empty((room, 4), dtype=np.int64)
        count = _scan_packed(data, offsets, _hot(), _provinces(), found)
        if count <= room:
            return found[:count]
        room = count


def candidates(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Candidates of one text: int64 [candidates, 3] of byte start, byte end and group, in order."""
    return candidates_packed(data, np.array([0, len(data)], dtype=np.int64))[:, 1:]


_CLUSTER = re.compile(r"[0-9](?:[ ().+-]{0,3}[0-9])*")
_AT_SIGN = re.compile(r"(?<=[A-Za-z0-9._%+-])@(?=[A-Za-z0-9._%+-])")
_AT_WORD = re.compile(r"\([aA][tT]\)|\[[aA][tT]\]")
_COLONS = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*")


def _is_number(cluster: str) -> bool:
    groups = re.findall(r"[0-9]+", cluster)
    if re.fullmatch(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", cluster):
        return True
    if len("".join(groups)) < MIN_DIGITS:
        return False
    years = all(len(group) == 4 and 1000 <= int(group) < 2100 for group in groups)
    date = len(groups[0]) == 4 and len(groups) <= 3 and max(map(len, groups[1:]), default=0) <= 2
    decimal = re.fullmatch(r"[0-9]+\.[0-9]+", cluster) is not None
    return not (years or date or decimal)


def reference_candidates(text: str) -> list[tuple[int, int, int]]:
    """(start, end, group) of the candidates of a text, in characters, the plain way."""
    plain = fold(text)
    found = [(*match.span(), NUMBER) for match in _CLUSTER.finditer(plain) if _is_number(match.group())]
    found += [(*match.span(), EMAIL) for pattern in (_AT_SIGN, _AT_WORD) for match in pattern.finditer(plain)]
    for match in _COLONS.finditer(plain):
        run = match.group()
        size = len(text[match.start() : match.end()].encode("utf-8"))
        if 6 <= size <= LONGEST_ADDRESS and (run.count(":") >= 7 or "::" in run):
            found.append((*match.span(), ADDRESS))
    provinces = "".join(rules()["plate_provinces"])
    found += [(*match.span(), PLATE) for match in re.finditer(f"[{provinces}](?=[A-Z])", plain)]
    return sorted(found)
