"""How much a text looks like code, by the shape of its tokens.

Comes in: code points and pieces of them. Goes out: a sum of weights and a number of tokens a piece; a document's
log-odds of being code are the mean weight, scaled. A token is a word by its shape (small, Capital, CAPITALS, camelCase,
with_underscore, a run of Han, ...), a number, a mark, or white space with its indentation. Features are runs of one to
three tokens and the small English words themselves, hashed into 2^13 buckets. So a language the model has never seen
still looks like code, and comments in Chinese do not hide it. Weights: `code.npz`, logistic regression, made by
`benchmarks/language.py --fit`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.characters import DIGIT, HAN, HANGUL, KANA, LATIN, LETTER, PUNCTUATION, SPACE
from haina.corpus.language.pieces import kind_of

BITS = 13
BUCKETS = 1 << BITS

# Token kinds; ASCII marks stand for themselves, 33 to 126.
START, DENSE_RUN, FOREIGN_RUN, ONE_DIGIT, NUMBER = 0, 1, 2, 3, 4
ONE_SMALL, SHORT_SMALL, SMALL, LONG_SMALL = 5, 6, 7, 8
ONE_CAPITAL, CAPITAL, CAPITALS, CAMEL, WITH_DIGIT, UNDERSCORED = 9, 10, 11, 12, 13, 14
LINE, LINE_INDENTED, LINE_DEEP, BLANK, BLANKS, WIDE_MARK, SIGN = 15, 16, 17, 18, 19, 20, 21


@nb.njit(cache=True, nogil=True, inline="always")
def _bucket(value: int) -> int:
    return ((value * 2654435761) & 0xFFFFFFFF) >> (32 - BITS)


@nb.njit(cache=True, nogil=True)
def _next_token(  # noqa: PLR0911, PLR0912 - one end a kind
    codes: npt.NDArray[np.uint32], classes: npt.NDArray[np.uint8], place: int
) -> tuple[int, int, int]:
    """(kind, end, hash of the word or 0) of the token at `place`."""
    size = len(codes)
    code = codes[place]
    kind = kind_of(classes, code)
    end = place + 1
    if code == 0x0A:
        deep = 0
        while end < size and codes[end] in (0x20, 0x09):
            deep += 4 if codes[end] == 0x09 else 1
            end += 1
        return (LINE if deep == 0 else LINE_INDENTED if deep < 4 else LINE_DEEP), end, 0
    if kind == SPACE:
        while end < size and codes[end] != 0x0A and kind_of(classes, codes[end]) == SPACE:
            end += 1
        return (BLANK if end == place + 1 else BLANKS), end, 0
    if kind in (HAN, KANA, HANGUL):
        while end < size and kind_of(classes, codes[end]) in (HAN, KANA, HANGUL):
            end += 1
        return DENSE_RUN, end, 0
    if kind == LETTER:
        while end < size and kind_of(classes, codes[end]) == LETTER:
            end += 1
        return FOREIGN_RUN, end, 0
    if kind in (LATIN, DIGIT) or code == 0x5F:
        small, capital, digits, underscores, later_capital = 0, 0, 0, 0, 0
        word = 0
        end = place
        while end < size:
            code = codes[end]
            kind = kind_of(classes, code)
            if code == 0x5F:
                underscores += 1
            elif kind == DIGIT:
                digits += 1
            elif kind == LATIN:
                if 0x41 <= code <= 0x5A:
                    capital += 1
                    later_capital += end > place
                else:
                    small += 1
                    word = (word * 31 + int(code)) & 0xFFFFFF
            else:
                break
            end += 1
        length = end - place
        if underscores:
            return UNDERSCORED, end, 0
        if digits:
            if small + capital:
                return WITH_DIGIT, end, 0
            return (ONE_DIGIT if length == 1 else NUMBER), end, 0
        if not capital:
            shape = (
                ONE_SMALL
                if length == 1
                else SHORT_SMALL
                if length < 4
                else SMALL
                if length < 8
                else LONG_SMALL
            )
            return shape, end, (word + 1 if length <= 12 else 0)
        if not small:
            return (ONE_CAPITAL if length == 1 else CAPITALS), end, 0
        return (CAMEL if later_capital else CAPITAL), end, 0
    if code < 0x7F:
        return int(code), end, 0
    return (WIDE_MARK if kind == PUNCTUATION else SIGN), end, 0


@nb.njit(cache=True, nogil=True)
def features(
    codes: npt.NDArray[np.uint32],
    classes: npt.NDArray[np.uint8],
    buckets: npt.NDArray[np.int32],
    places: npt.NDArray[np.int64],
) -> int:
    """Buckets of a text's features and where the token of each starts; room for 4 a character. How many there are."""
    found = 0
    place = 0
    before, last = START, START
    while place < len(codes):
        kind, end, word = _next_token(codes, classes, place)
        buckets[found] = _bucket(kind + 1)
        buckets[found + 1] = _bucket(last * 257 + kind + 1001)
        buckets[found + 2] = _bucket((before * 257 + last) * 257 + kind + 500_009)
        places[found : found + 3] = place
        found += 3
        if word:
            buckets[found] = _bucket(word + 40_000_003)
            places[found] = place
            found += 1
        before, last = last, kind
        place = end
    return found


@nb.njit(cache=True, nogil=True)
def score(
    codes: npt.NDArray[np.uint32],
    classes: npt.NDArray[np.uint8],
    weights: npt.NDArray[np.float32],
    starts: npt.NDArray[np.int64],
    sums: npt.NDArray[np.float32],
    tokens: npt.NDArray[np.int32],
) -> None:
    """Add the weights of the features of each piece to `sums` and their number to `tokens`, both [pieces].

    Features run over the borders of pieces and belong to the piece in which their last token starts.
    """
    piece = 0
    place = 0
    before, last = START, START
    while place < len(codes):
        while place >= starts[piece + 1]:
            piece += 1
        kind, end, word = _next_token(codes, classes, place)
        total = weights[_bucket(kind + 1)]
        total += weights[_bucket(last * 257 + kind + 1001)]
        total += weights[_bucket((before * 257 + last) * 257 + kind + 500_009)]
        tokens[piece] += 3
        if word:
            total += weights[_bucket(word + 40_000_003)]
            tokens[piece] += 1
        sums[piece] += total
        before, last = last, kind
        place = end


@cache
def code_weights() -> tuple[npt.NDArray[np.float32], float]:
    """The weights of the buckets: float32 [BUCKETS], and the bias of the log-odds."""
    with np.load(Path(__file__).with_name("code.npz")) as data:
        return data["weights"].astype(np.float32) * np.float32(data["scale"]), float(data["bias"])
