"""A quality model: text in, the chance that it is good text out.

Three steps, each of which can be looked at. Heads: for each kind of fault a table of int8 weights over hashed n-grams
(haina.corpus.quality.features); a head gives the mean weight of a text beyond
its pivot, and its contrast, by how much real neighbours
outweigh the control pairs. Curves: each of these numbers and of the dense ones adds what its piecewise-linear curve
says, flat beyond its ends; the sum is a logit (a generalised additive model, Hastie and Tibshirani 1986). Calibration:
a monotone table from the logit to a probability. Means do not grow with length, so long and short texts compare.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.quality.features import (
    CHUNK,
    DENSE,
    IDS_PER_BYTE,
    PAIRS_PER_BYTE,
    begin,
    extract_features,
    fold_table,
    form,
    pack_clean,
    read_chunk,
    role_table,
    scratch,
)
from haina.runtime.errors import HainaError

FORMAT = 1
# A mean over few n-grams says little: this many that tell neither class are added to every text.
SHRINK = 300


def pack_weights(weights: npt.NDArray[np.int8]) -> npt.NDArray[np.uint32]:
    """Four heads in one word, each weight as a byte 128 above it: uint32 [ceil(heads / 4), buckets].

    One load then brings the weights of four heads, and two additions add them all.
    """
    buckets, heads = weights.shape
    packed = np.zeros((-(-heads // 4), buckets), dtype=np.uint32)
    for head in range(heads):
        shifted = (weights[:, head].astype(np.int16) + 128).astype(np.uint32)
        packed[head // 4] |= shifted << np.uint32(8 * (head % 4))
    return packed


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _add(
    packed: npt.NDArray[np.uint32], ids: npt.NDArray[np.int32], count: int, sums: npt.NDArray[np.int64]
) -> None:
    """Add the weights of all ids to the sums of four heads."""
    place = 0
    while place < count:
        # 256 bytes of at most 255 fit the 16 bits that each lane has.
        stop = min(place + 256, count)
        even, odd = np.uint32(0), np.uint32(0)
        for index in range(place, stop):
            word = packed[ids[index]]
            even += word & np.uint32(0x00FF00FF)
            odd += (word >> np.uint32(8)) & np.uint32(0x00FF00FF)
        bias = 128 * (stop - place)
        sums[0] += np.int64(even & np.uint32(0xFFFF)) - bias
        sums[1] += np.int64(odd & np.uint32(0xFFFF)) - bias
        sums[2] += np.int64(even >> np.uint32(16)) - bias
        sums[3] += np.int64(odd >> np.uint32(16)) - bias
        place = stop


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _add_pairs(
    packed: npt.NDArray[np.uint32], pairs: npt.NDArray[np.int32], count: int, sums: npt.NDArray[np.int64]
) -> None:
    """Add the weights of the first ids of all pairs, less those of the second, to the sums of four heads."""
    place = 0
    while place < count:
        stop = min(place + 256, count)
        even, odd, even_control, odd_control = np.uint32(0), np.uint32(0), np.uint32(0), np.uint32(0)
        for index in range(place, stop):
            word, control = packed[pairs[index, 0]], packed[pairs[index, 1]]
            even += word & np.uint32(0x00FF00FF)
            odd += (word >> np.uint32(8)) & np.uint32(0x00FF00FF)
            even_control += control & np.uint32(0x00FF00FF)
            odd_control += (control >> np.uint32(8)) & np.uint32(0x00FF00FF)
        sums[0] += np.int64(even & np.uint32(0xFFFF)) - np.int64(even_control & np.uint32(0xFFFF))
        sums[1] += np.int64(odd & np.uint32(0xFFFF)) - np.int64(odd_control & np.uint32(0xFFFF))
        sums[2] += np.int64(even >> np.uint32(16)) - np.int64(even_control >> np.uint32(16))
        sums[3] += np.int64(odd >> np.uint32(16)) - np.int64(odd_control >> np.uint32(16))
        place = stop


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _measure(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    packed: npt.NDArray[np.uint32],
    scales: npt.NDArray[np.float32],
    pivots: npt.NDArray[np.float32],
    bits: int,
    folds: npt.NDArray[np.uint32],
    roles: npt.NDArray[np.uint8],
    state: npt.NDArray[np.uint64],
    counters: npt.NDArray[np.int64],
    ring: npt.NDArray[np.uint64],
    seen: npt.NDArray[np.uint64],
    ids: npt.NDArray[np.int32],
    pairs: npt.NDArray[np.int32],
    columns: npt.NDArray[np.float32],
) -> None:
    """One row a document: the heads' means, their contrasts, the dense numbers."""
    heads = len(scales)
    sums = np.zeros(4 * packed.shape[0], dtype=np.int64)
    contrasts = np.zeros(4 * packed.shape[0], dtype=np.int64)
    for row in range(len(offsets) - 1):
        begin(state, counters)
        sums[:] = 0
        contrasts[:] = 0
        total, pair_total = 0, 0
        place, end = offsets[row], offsets[row + 1]
        while place < end:
            count, pair_count, place = read_chunk(
                data,
                place,
                min(place + CHUNK, end),
                end,
                folds,
                roles,
                bits,
                state,
                counters,
                ring,
                seen,
                ids,
                pairs,
            )
            for word in range(packed.shape[0]):
                _add(packed[word], ids, count, sums[4 * word : 4 * word + 4])
                _add_pairs(packed[word], pairs, pair_count, contrasts[4 * word : 4 * word + 4])
            total += count
            pair_total += pair_count
        for head in range(heads):
            columns[row, head] = (scales[head] * sums[head] - pivots[head] * total) / (total + SHRINK)
            columns[row, heads + head] = scales[head] * contrasts[head] / (pair_total + SHRINK)
        form(counters, columns[row, 2 * heads :])


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _logits(
    columns: npt.NDArray[np.float32],
    knots: npt.NDArray[np.float32],
    curves: npt.NDArray[np.float32],
    intercept: float,
    logits: npt.NDArray[np.float64],
) -> None:
    """Sum of the curves: linear between knots, flat beyond them."""
    last = knots.shape[1] - 1
    for row in range(columns.shape[0]):
        total = intercept
        for column in range(columns.shape[1]):
            value = columns[row, column]
            if value <= knots[column, 0]:
                total += curves[column, 0]
            elif value >= knots[column, last]:
                total += curves[column, last]
            else:
                right = 1
                while knots[column, right] < value:
                    right += 1
                left = right - 1
                share = (value - knots[column, left]) / (knots[column, right] - knots[column, left])
                total += curves[column, left] + share * (curves[column, right] - curves[column, left])
        logits[row] = total


def logits_plain(
    columns: npt.NDArray[np.float32],
    knots: npt.NDArray[np.float32],
    curves: npt.NDArray[np.float32],
    intercept: float,
) -> npt.NDArray[np.float64]:
    """`_logits` by np.interp: float64 [rows]."""
    total = np.full(len(columns), intercept, dtype=np.float64)
    for column in range(columns.shape[1]):
        total += np.interp(columns[:, column], knots[column], curves[column])
    return total


def measure(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    packed: npt.NDArray[np.uint32],
    scales: npt.NDArray[np.float32],
    pivots: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """What the curves read: float32 [documents, 2 x heads + DENSE].

    Args:
        data: uint8 [bytes], valid UTF-8.
        offsets: int64 [documents + 1].
        packed: uint32 [words, buckets] of `pack_weights`; buckets are a power of two.
        scales: float32 [heads], what one step of int8 is worth.
        pivots: float32 [heads], the mean that tells neither class.
    """
    heads = len(scales)
    bits = int(packed.shape[1]).bit_length() - 1
    columns = np.zeros((len(offsets) - 1, 2 * heads + len(DENSE)), dtype=np.float32)
    ids = np.empty(IDS_PER_BYTE * (CHUNK + 8), dtype=np.int32)
    pairs = np.empty((PAIRS_PER_BYTE * (CHUNK + 8), 2), dtype=np.int32)
    _measure(
        data,
        offsets,
        packed,
        scales,
        pivots,
        bits,
        fold_table(),
        role_table(),
        *scratch(),
        ids,
        pairs,
        columns,
    )
    return columns


def measure_plain(
    text: str,
    weights: npt.NDArray[np.int8],
    scales: npt.NDArray[np.float32],
    pivots: npt.NDArray[np.float32],
) -> npt.NDArray[np.float64]:
    """`measure` for one text, from the n-grams listed: float64 [2 x heads + DENSE]."""
    ids, pairs, dense = extract_features(text, int(weights.shape[0]).bit_length() - 1)
    table = weights.astype(np.float64) * scales
    means = (table[ids] - pivots).sum(axis=0) / (len(ids) + SHRINK)
    contrasts = (table[pairs[:, 0]] - table[pairs[:, 1]]).sum(axis=0) / (len(pairs) + SHRINK)
    return np.concatenate([means, contrasts, dense])


@dataclass(frozen=True)
class LinearModel:
    """A fitted quality model.

    Attributes:
        heads: names of the kinds of fault, in the order of the columns of `weights`.
        weights: int8 [buckets, heads].
        scales: float32 [heads].
        pivots: float32 [heads], the mean weight at which a head tells neither class.
        knots: float32 [columns, knots], increasing along a row; columns as `column_names`.
        curves: float32 [columns, knots], what a column adds to the logit at each knot.
        intercept: added to every logit.
        calibration: float32 [2, points], logits and probabilities, both increasing.
        provenance: what it was trained on and with, and what was measured; JSON.
    """

    heads: tuple[str, ...]
    weights: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    pivots: npt.NDArray[np.float32]
    knots: npt.NDArray[np.float32]
    curves: npt.NDArray[np.float32]
    intercept: float
    calibration: npt.NDArray[np.float32]
    provenance: dict[str, Any]

    @cached_property
    def _packed(self) -> npt.NDArray[np.uint32]:
        return pack_weights(self.weights)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of what the curves read."""
        return (*self.heads, *(f"{head}_contrast" for head in self.heads), *DENSE)

    def logit_packed(
        self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Uncalibrated score of each packed document: float64 [documents]."""
        return self.logit_columns(measure(data, offsets, self._packed, self.scales, self.pivots))

    def logit_columns(self, columns: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Uncalibrated score of measured documents (`measure`): float64 [documents]."""
        logits = np.empty(len(columns), dtype=np.float64)
        _logits(columns, self.knots, self.curves, self.intercept, logits)
        return logits

    def score_packed(
        self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Probability that each packed document is good text: float32 [documents]; 0 for one without a character.

        Args:
            data: uint8 [bytes], valid UTF-8.
            offsets: int64 [documents + 1].
        """
        logits = self.logit_packed(data, offsets)
        scores = np.interp(logits, self.calibration[0], self.calibration[1]).astype(np.float32)
        scores[np.diff(offsets) == 0] = 0.0
        return scores

    def score(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Probability that each text is good: float32 [texts]."""
        return self.score_packed(*pack_clean(texts))

    def explain(self, text: str) -> dict[str, float]:
        """What each column adds to the logit of a text, the largest in size first."""
        columns = measure(*pack_clean([text]), self._packed, self.scales, self.pivots)[0]
        parts = {
            name: float(np.interp(columns[index], self.knots[index], self.curves[index]))
            for index, name in enumerate(self.column_names)
        }
        return dict(sorted(parts.items(), key=lambda item: (-abs(item[1]), item[0])))

    def save(self, path: Path) -> None:
        """Write one .npz; the same model gives the same bytes."""
        header = {
            "format": FORMAT,
            "heads": self.heads,
            "buckets": int(self.weights.shape[0]),
            "ngrams": {"units": [1, 2, 3], "letters": [3, 4]},
            "dense": DENSE,
            "shrink": SHRINK,
            "intercept": self.intercept,
            "provenance": self.provenance,
        }
        encoded = json.dumps(header, ensure_ascii=False, sort_keys=True).encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                np.savez_compressed(
                    file,
                    header=np.frombuffer(encoded, dtype=np.uint8),
                    weights=self.weights,
                    scales=self.scales,
                    pivots=self.pivots,
                    knots=self.knots,
                    curves=self.curves,
                    calibration=self.calibration,
                )
        except OSError as error:
            raise HainaError(
                f"{path}: cannot be written ({error.strerror})", "check the folder and the disk"
            ) from error

    @classmethod
    def load(cls, path: Path) -> LinearModel:
        """Read a model.

        Raises:
            HainaError: no such file, not a model, damaged, or of another format.
        """
        hint = "name a file written by `haina quality train`"
        if not path.is_file():
            raise HainaError(f"{path}: no such file", hint)
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(file["header"].tobytes())
                names = ("weights", "scales", "pivots", "knots", "curves", "calibration")
                arrays = {name: np.ascontiguousarray(file[name]) for name in names}
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise HainaError(f"{path}: not a quality model, or a damaged one ({error})", hint) from error
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            found = header.get("format") if isinstance(header, dict) else None
            raise HainaError(
                f"{path}: quality model of format {found}, this version reads {FORMAT}", "train it again"
            )
        model = cls(
            heads=tuple(header["heads"]),
            intercept=float(header["intercept"]),
            provenance=header["provenance"],
            **arrays,
        )
        model._check(path, header)
        return model

    def _check(self, path: Path, header: dict[str, Any]) -> None:
        heads, columns = len(self.heads), len(self.column_names)
        buckets = self.weights.shape[0]
        fits = (
            tuple(header["dense"]) == DENSE
            and header["shrink"] == SHRINK
            and self.weights.dtype == np.int8
            and self.weights.shape == (header["buckets"], heads)
            and buckets > 0
            and buckets & (buckets - 1) == 0
            and self.scales.shape == (heads,)
            and self.pivots.shape == (heads,)
            and self.knots.shape == self.curves.shape
            and self.knots.shape[0] == columns
            and self.calibration.shape[0] == 2
        )
        if not fits:
            raise HainaError(f"{path}: the parts of this quality model do not fit together", "train it again")
