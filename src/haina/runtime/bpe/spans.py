"""Where text is cut before BPE: around number characters, around runs of line ends, around bytes that are no UTF-8.

Comes in: UTF-8 bytes. Goes out: span after span. PATTERN says the first two; `\\p{N}` is asked of the regular
expression engine that Hugging Face tokenizers uses, because Python's own Unicode tables are of another version. A byte
that is no part of a character (Unicode 16, table 3-7) is a span of its own and becomes its byte piece, so any byte
string can be encoded and comes back.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.runtime.bpe.memory import eight_bytes, u8

OTHER, NUMBER, LINE_END, INVALID = 0, 1, 2, 3
# What a first byte says by itself: the three classes above for ASCII, a CJK ideograph (U+4000 to U+9FFF, no number
# among them), or that the character has to be decoded.
IDEOGRAPH, DECODE = 4, 5
NUMBERS_END = 0x20000  # Unicode has no number characters above
_HIGH, _FROM_10, _FROM_30, _FROM_3A = (
    np.uint64(byte * 0x0101010101010101) for byte in (0x80, 0x70, 0x50, 0x46)
)


@lru_cache(maxsize=1)
def number_characters() -> frozenset[str]:
    """All characters that `\\p{N}` matches in the engine of the installed tokenizers, 0.1 s."""
    from tokenizers import Regex, pre_tokenizers

    keep_numbers = pre_tokenizers.Split(Regex(r"[^\p{N}]+"), behavior="removed")
    codes = [code for code in range(NUMBERS_END) if not 0xD800 <= code < 0xE000]
    runs = keep_numbers.pre_tokenize_str("".join(map(chr, codes)))
    return frozenset(character for run, _ in runs for character in run)


@lru_cache(maxsize=2)
def classes(cuts: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """For `span_end`: uint8 [256] what a first byte says, uint8 [0x20000] 1 for number characters.

    Without `cuts` there are neither numbers nor line ends, only characters and bytes that are none.
    """
    first = np.zeros(256, np.uint8)
    first[0x80:] = DECODE
    first[0xE4:0xEA] = IDEOGRAPH
    numbers = np.zeros(NUMBERS_END, np.uint8)
    if cuts:
        numbers[[ord(character) for character in number_characters()]] = 1
        first[:0x80][numbers[:0x80] == 1] = NUMBER
        first[[0x0A, 0x0D]] = LINE_END
    return first, numbers


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _decoded(data: int, place: int, end: int, numbers: int) -> tuple[int, int]:
    """Bytes and kind of the character at `place`, whose first byte is not ASCII."""
    first, left = u8(data, place), end - place
    if first < 0xC2 or first > 0xF4 or left < 2:
        return 1, INVALID
    second = u8(data, place + 1)
    if (second & 0xC0) != 0x80:
        return 1, INVALID
    code = second & 0x3F
    if first < 0xE0:
        size = 2
        code |= (first & 0x1F) << 6
    else:
        # Overlong forms, surrogates and what lies above U+10FFFF show in the second byte.
        if (
            (first == 0xE0 and second < 0xA0)
            or (first == 0xED and second > 0x9F)
            or (first == 0xF0 and second < 0x90)
            or (first == 0xF4 and second > 0x8F)
            or left < 3
            or (u8(data, place + 2) & 0xC0) != 0x80
        ):
            return 1, INVALID
        code = (code << 6) | (u8(data, place + 2) & 0x3F)
        if first < 0xF0:
            size = 3
            code |= (first & 0x0F) << 12
        else:
            if left < 4 or (u8(data, place + 3) & 0xC0) != 0x80:
                return 1, INVALID
            size = 4
            code = (code << 6) | (u8(data, place + 3) & 0x3F)
            code |= (first & 0x07) << 18
    if code < NUMBERS_END and u8(numbers, code):
        return size, NUMBER
    return size, OTHER


@njit(nogil=True, cache=True, forceinline=True)  # pragma: no cover - compiled
def _character(data: int, place: int, end: int, first: int, numbers: int) -> tuple[int, int]:
    """Bytes and kind of the character at `place`; 1 and INVALID for a byte that is part of none."""
    kind = u8(first, u8(data, place))
    if kind < IDEOGRAPH:
        return 1, kind
    if (
        kind == IDEOGRAPH
        and place + 2 < end
        and (u8(data, place + 1) & 0xC0) == 0x80
        and (u8(data, place + 2) & 0xC0) == 0x80
    ):
        return 3, OTHER
    return _decoded(data, place, end, numbers)


@njit(nogil=True, cache=True, forceinline=True)  # pragma: no cover - compiled
def _all_letters(word: np.uint64) -> bool:
    """Whether eight bytes are all ASCII, no digits and no line ends; may say no where they are.

    In each byte, the high bit of the sum tells on which side of a limit it lies.
    """
    if word & _HIGH:
        return False
    digits = (word + _FROM_30) & ~(word + _FROM_3A)
    return not ((digits | ~(word + _FROM_10)) & _HIGH)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def span_end(data: int, place: int, end: int, first: int, numbers: int) -> tuple[int, int]:
    """End and kind of the span that begins at `place` < `end`.

    Args:
        data: address of UTF-8 bytes.
        first, numbers: addresses of the tables of `classes`.
    """
    size, kind = _character(data, place, end, first, numbers)
    place += size
    if kind in (NUMBER, INVALID):
        return place, kind
    while place < end:
        if kind == OTHER:
            while place + 8 <= end and _all_letters(eight_bytes(data, place)):
                place += 8
            if place == end:
                break
        size, next_kind = _character(data, place, end, first, numbers)
        if next_kind != kind:
            break
        place += size
    return place, kind
