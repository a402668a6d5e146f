"""The encoder over whole texts: every piece with what it adds in an average context.

Up to the mean over a text the network treats pieces one by one, but for the n-grams around each. Here the neighbours
in an n-gram are replaced by their average over the language, so a piece always adds the same row: computed once, on
first use, and kept as 16-bit integers. A text is then a sum of rows, exact in integers whatever their order, and the
dense layers at the end see it as the trained network would. The noise of the missing contexts averages out over a
text, and nothing of it stays unread.

Traditional characters are read as simplified ones, so that a text and its copy in the other script have one vector: the
trained network puts 電腦 and 电脑 well apart.

The square root of the number of pieces, by which the mean is multiplied, is held at that of a long sentence: beyond
what the network was trained on, its last layer saturates.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.semantic.encoder import clean
from haina.corpus.semantic.pieces import BEGIN, END, pieces_of_texts, read_piece_model
from haina.corpus.semantic.weights import (
    CHANNELS,
    DIMENSIONS,
    FEATURES,
    ORDERS,
    Floats,
    in_blocks,
    layer_norm,
    load_weights,
    resources,
)
from haina.corpus.utf8 import pack

_CONTEXT_PIECES = 4096  # the likeliest pieces, of which the average context is made
_FRACTION_BITS = 12  # of a row's numbers; they lie within -8 and 8
_SENTENCE_PIECES = 64
_FIRST_HAN, _LAST_HAN = 0x3400, 0x9FFF
_MOST_PIECES = 65_536  # so many rows cannot overflow 32 bits


class WholeEncoder:
    """Sums of pieces in average context."""

    name = "use-multilingual-v3-whole"
    dimensions = DIMENSIONS

    def __init__(self) -> None:
        self._model = read_piece_model(resources() / "sp.model")
        self._weights = load_weights()
        self._first, self._second = self._average_context()
        self._rows = np.zeros((len(self._model.scores), DIMENSIONS), dtype=np.int16)
        self._simplified = simplified_characters()
        self._known = np.zeros(len(self._rows), dtype=np.bool_)

    def encode(self, texts: Sequence[str]) -> Floats:
        """See `Encoder`."""
        data, offsets = pack([clean(text) for text in texts])
        data = data.copy()
        _simplify(data, self._simplified)
        pieces, starts = pieces_of_texts(data, offsets, self._model)
        self._learn(pieces)
        sums, counts = _sums(pieces, starts, self._rows)
        mean = sums.astype(np.float32) / (counts[:, None] << _FRACTION_BITS).astype(np.float32)
        return self._weights.sentence(mean, counts, _SENTENCE_PIECES)

    def rows(self, pieces: npt.NDArray[np.int64]) -> Floats:
        """What each piece adds to the mean of the projected features: float32 [n, 512]."""
        return in_blocks(self._row_block, self._weights.embeddings(pieces))

    def _learn(self, pieces: npt.NDArray[np.int32]) -> None:
        """Compute the rows of pieces that were not met before."""
        met = np.zeros(len(self._rows), dtype=np.bool_)
        met[pieces] = True
        met[[BEGIN, END]] = True
        new = np.flatnonzero(met & ~self._known)
        for start in range(0, len(new), _CONTEXT_PIECES):
            some = new[start : start + _CONTEXT_PIECES]
            scaled = np.rint(self.rows(some) * np.float32(1 << _FRACTION_BITS))
            self._rows[some] = np.clip(scaled, -32768, 32767).astype(np.int16)
        self._known[new] = True

    def _row_block(self, embeddings: Floats) -> Floats:
        weights = self._weights
        features = np.empty((len(embeddings), FEATURES), dtype=np.float32)
        features[:, :DIMENSIONS] = embeddings
        projected = weights.projected(embeddings)
        for number, (_, before) in enumerate(ORDERS):
            own = projected[:, number * CHANNELS : (number + 1) * CHANNELS]
            hidden = (
                np.maximum(own @ weights.taps(weights.first, number)[before] + self._first[number], 0) + own
            )
            out = hidden @ weights.taps(weights.second, number)[before] + self._second[number]
            column = DIMENSIONS + number * CHANNELS
            features[:, column : column + CHANNELS] = np.maximum(out, 0) + hidden
        return layer_norm(features, weights.gain, weights.shift, weights.epsilon) @ weights.features

    def _average_context(self) -> tuple[list[Floats], list[Floats]]:
        """For each order what average neighbours add to the first and to the second convolution: [256], bias included.

        The average is over the likeliest pieces, weighted by their probability in the piece model.
        """
        weights = self._weights
        scores = self._model.scores.copy()
        scores[: END + 1] = -np.inf
        likeliest = np.sort(np.argsort(-scores, kind="stable")[:_CONTEXT_PIECES])
        share = np.exp(scores[likeliest])
        share /= share.sum()
        projected = in_blocks(weights.projected, weights.embeddings(likeliest))
        first, second = [], []
        for number, (order, before) in enumerate(ORDERS):
            others = [tap for tap in range(order) if tap != before]
            own = projected[:, number * CHANNELS : (number + 1) * CHANNELS]
            taps = weights.taps(weights.first, number)
            average = (share @ own).astype(np.float32)
            first.append(weights.first[number][1] + sum(average @ taps[tap] for tap in others))
            hidden = np.maximum(in_blocks(lambda x, tap=taps[before]: x @ tap, own) + first[-1], 0) + own
            taps = weights.taps(weights.second, number)
            average = (share @ hidden).astype(np.float32)
            second.append(weights.second[number][1] + sum(average @ taps[tap] for tap in others))
        return first, second


@lru_cache(maxsize=1)
def simplified_characters() -> npt.NDArray[np.uint16]:
    """uint16 [65536]: the simplified form of each character (OpenCC's table), most of them their own."""
    from opencc import OpenCC

    table = np.arange(1 << 16, dtype=np.uint16)
    codes = range(_FIRST_HAN, _LAST_HAN + 1)
    found = OpenCC("t2s").convert("\n".join(map(chr, codes))).split("\n")
    for code, character in zip(codes, found, strict=True):
        if len(character) == 1 and _FIRST_HAN <= ord(character) <= _LAST_HAN:
            table[code] = ord(character)
    return table


@nb.njit(cache=True, nogil=True)
def _simplify(data: npt.NDArray[np.uint8], table: npt.NDArray[np.uint16]) -> None:
    """Replace traditional characters in UTF-8, in place: both forms have three bytes."""
    place = 0
    while place + 2 < len(data):
        first = data[place]
        if 0xE3 <= first <= 0xE9:
            code = (
                (np.int64(first & 0x0F) << 12)
                | (np.int64(data[place + 1] & 0x3F) << 6)
                | np.int64(data[place + 2] & 0x3F)
            )
            other = np.int64(table[code])
            if other != code:
                data[place] = 0xE0 | (other >> 12)
                data[place + 1] = 0x80 | ((other >> 6) & 0x3F)
                data[place + 2] = 0x80 | (other & 0x3F)
            place += 3
        elif first < 0x80:
            place += 1
        else:
            place += 2 if first < 0xE0 else (3 if first < 0xF0 else 4)


@nb.njit(cache=True, nogil=True)
def _sums(
    pieces: npt.NDArray[np.int32], starts: npt.NDArray[np.int64], rows: npt.NDArray[np.int16]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Sums of the rows of each text with the marks of begin and end, int32 [texts, 512]; how many, int64 [texts]."""
    texts = len(starts) - 1
    out = np.zeros((texts, rows.shape[1]), dtype=np.int32)
    counts = np.empty(texts, dtype=np.int64)
    for text in range(texts):
        end = min(starts[text + 1], starts[text] + _MOST_PIECES)
        counts[text] = end - starts[text] + 2
        row = out[text]
        for mark in (BEGIN, END):
            for column in range(len(row)):
                row[column] += rows[mark, column]
        for place in range(starts[text], end):
            source = rows[pieces[place]]
            for column in range(len(row)):
                row[column] += source[column]
    return out, counts
