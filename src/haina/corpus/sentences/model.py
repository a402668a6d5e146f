"""How likely a sentence does not belong: a linear model over its units, corrected by what stands around it.

Comes in: packed texts. Goes out: for every sentence its place, a score 0 to 1, and the reason that fits it
best. Two steps:

1. Softmax over six classes (good, and five reasons) of the mean-free sum of feature weights, divided by the
   square root of their number; the same for each line as a whole.
2. Logistic regression over the margins of the sentence, its neighbours, its line and the lines around it, and
   over where it stands: `context_features` lists them.

Weights are in weights.npz (int8, trained by fit.py); nothing else of the model is hidden in code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.sentences.split import NEWLINE, SEMICOLON, STOP, kinds_of, rules, split_kernel
from haina.corpus.sentences.units import LIMIT, MOST_FEATURES, R_HAN, R_OTHER, fold_tables, sentence_features
from haina.corpus.utf8 import decode
from haina.runtime.errors import HainaError

REASONS = ("boilerplate", "navigation", "advertisement", "spam", "garbled")
CLASSES = 1 + len(REASONS)
WIDTH = 8  # classes, padded so that a bucket lies in one cache line
_SPREAD = 6.0  # margins beyond this say no more
CONTEXT = (
    "sentence", "line", "before", "behind", "line_before", "line_behind", "alone", "alone_margin", "open", "short",
    "long", "head", "tail", "tail_margin", "document", "document_margin", "han", "line_open", "around", "strong",
)  # fmt: skip


@dataclass(frozen=True)
class Sentences:
    """Scored sentences of many texts.

    Attributes:
        starts, ends: int32 [sentences], code points of the batch.
        lines: int32 [sentences], number of the line, counted through the batch.
        bounds: int64 [texts + 1], text `i` has sentences `bounds[i]` to `bounds[i + 1]`.
        margins: float32 [sentences], log odds of the sentence alone.
        classes: int8 [sentences], index into REASONS of the likeliest.
        context: float32 [sentences, len(CONTEXT)].
        hashes: uint64 [sentences], equal for equal sentences.
        units: int32 [sentences].
        at: int32 [code points + 1], byte offsets.
    """

    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    lines: npt.NDArray[np.int32]
    bounds: npt.NDArray[np.int64]
    margins: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int8]
    context: npt.NDArray[np.float32]
    hashes: npt.NDArray[np.uint64]
    units: npt.NDArray[np.int32]
    at: npt.NDArray[np.int32]


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _fold(
    codes: npt.NDArray[np.uint32],
    table: npt.NDArray[np.uint32],
    role_table: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
    folded = np.empty(len(codes), dtype=np.uint32)
    roles = np.empty(len(codes), dtype=np.uint8)
    for place in range(len(codes)):
        code = codes[place]
        if code < LIMIT:
            folded[place] = table[code]
            roles[place] = role_table[code]
        else:
            folded[place] = 0xFFFD
            roles[place] = R_OTHER
    return folded, roles


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _margin(logits: npt.NDArray[np.float64]) -> tuple[float, int]:
    """Log odds of bad against good, and the likeliest reason."""
    best = 1
    for index in range(2, CLASSES):
        if logits[index] > logits[best]:
            best = index
    total = 0.0
    for index in range(1, CLASSES):
        total += np.exp(logits[index] - logits[best])
    return logits[best] + np.log(total) - logits[0], best - 1


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _score(  # noqa: PLR0912
    codes: npt.NDArray[np.uint32],
    kinds: npt.NDArray[np.uint8],
    folded: npt.NDArray[np.uint32],
    roles: npt.NDArray[np.uint8],
    at: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint64],
    flags: npt.NDArray[np.uint8],
    marks: npt.NDArray[np.uint8],
    weights: npt.NDArray[np.int8],
    scales: npt.NDArray[np.float64],
    biases: npt.NDArray[np.float64],
    starts: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int32],
    lines: npt.NDArray[np.int32],
    bounds: npt.NDArray[np.int64],
    margins: npt.NDArray[np.float32],
    line_margins: npt.NDArray[np.float32],
    classes: npt.NDArray[np.int8],
    hashes: npt.NDArray[np.uint64],
    units: npt.NDArray[np.int32],
) -> int:
    """Sentences of all texts with their margins; how many."""
    features = np.empty(MOST_FEATURES, dtype=np.int32)
    about = np.zeros(2, dtype=np.uint64)
    sums = np.zeros(WIDTH, dtype=np.int64)
    line_sums = np.zeros(WIDTH, dtype=np.int64)
    logits = np.zeros(CLASSES)
    total, low, line = 0, 0, -1
    for document in range(len(offsets) - 1):
        high = low
        while at[high] < offsets[document + 1] - offsets[0]:
            high += 1
        found = split_kernel(codes, kinds, low, high, False, keys, flags, marks, starts[total:], ends[total:])
        line += 1
        line_first, line_count = total, 0
        for index in range(total, total + found):
            if index > total:
                broken = False
                for place in range(ends[index - 1], starts[index]):
                    broken = broken or kinds[place] == NEWLINE
                if broken:
                    line += 1
                    line_first, line_count = index, 0
            if index == line_first:
                line_sums[:] = 0
            lines[index] = line
            count = sentence_features(folded, roles, starts[index], ends[index], features, about)
            hashes[index] = about[0]
            units[index] = about[1]
            sums[:] = 0
            for place in range(count):
                for column in range(CLASSES):
                    sums[column] += weights[features[place], column]
            root = 1.0 / np.sqrt(count)
            for column in range(CLASSES):
                logits[column] = biases[column] + scales[column] * sums[column] * root
            margins[index], classes[index] = _margin(logits)
            line_count += count
            root = 1.0 / np.sqrt(line_count)
            for column in range(CLASSES):
                line_sums[column] += sums[column]
                logits[column] = biases[column] + scales[column] * line_sums[column] * root
            line_margins[line_first], _ = _margin(logits)
        # The margin of a line stands at its first sentence once its last is read; hand it to the others.
        for index in range(total + 1, total + found):
            if lines[index] == lines[index - 1]:
                line_margins[index] = line_margins[index - 1]
        total += found
        bounds[document + 1] = total
        low = high
    return total


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _squash(margin: float) -> float:
    return max(-_SPREAD, min(_SPREAD, margin))


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _context(  # noqa: PLR0915
    kinds: npt.NDArray[np.uint8],
    roles: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int32],
    lines: npt.NDArray[np.int32],
    bounds: npt.NDArray[np.int64],
    margins: npt.NDArray[np.float32],
    line_margins: npt.NDArray[np.float32],
    units: npt.NDArray[np.int32],
    rows: npt.NDArray[np.float32],
) -> None:
    """Fill `rows` with what CONTEXT names, one row a sentence."""
    for document in range(len(bounds) - 1):
        low, high = bounds[document], bounds[document + 1]
        if low == high:
            continue
        mean, weight = 0.0, 0.0
        for index in range(low, high):
            mean += _squash(margins[index]) * units[index]
            weight += units[index]
        mean /= max(weight, 1.0)
        first_line, last_line = lines[low], lines[high - 1]
        several = last_line - first_line >= 5  # in shorter documents everything is near an end
        for index in range(low, high):
            margin = _squash(margins[index])
            alone = (index == low or lines[index - 1] != lines[index]) and (
                index + 1 == high or lines[index + 1] != lines[index]
            )
            row = rows[index]
            row[0] = margin
            row[1] = _squash(line_margins[index])
            before, behind = -1.0, -1.0
            if index > low and lines[index - 1] == lines[index]:
                before = _squash(margins[index - 1])
            if index + 1 < high and lines[index + 1] == lines[index]:
                behind = _squash(margins[index + 1])
            row[2] = before
            row[3] = behind
            line_before, line_behind = -1.0, -1.0
            place = index
            while place > low and lines[place] == lines[index] and index - place < 64:
                place -= 1
            if lines[place] != lines[index]:
                line_before = _squash(line_margins[place])
            place = index
            while place + 1 < high and lines[place] == lines[index] and place - index < 64:
                place += 1
            if lines[place] != lines[index]:
                line_behind = _squash(line_margins[place])
            row[4] = line_before
            row[5] = line_behind
            row[6] = 1.0 if alone else 0.0
            row[7] = margin if alone else 0.0
            last = ends[index] - 1
            while last > starts[index] and (kinds[last] > SEMICOLON and kinds[last] < 15):
                last -= 1
            closed = STOP <= kinds[last] <= SEMICOLON
            row[8] = 0.0 if closed else 1.0
            row[9] = 1.0 if units[index] <= 4 else 0.0
            row[10] = 1.0 if units[index] > 40 else 0.0
            row[11] = 1.0 if several and lines[index] - first_line < 2 else 0.0
            row[12] = 1.0 if several and last_line - lines[index] < 3 else 0.0
            row[13] = margin * row[12]
            # The rest of the document, without this sentence.
            others = max(weight - units[index], 0.0)
            rest = (mean * max(weight, 1.0) - margin * units[index]) / others if others > 0 else 0.0
            row[14] = rest
            row[15] = margin * rest / _SPREAD
            row[16] = 1.0 if roles[starts[index]] == R_HAN else 0.0
            row[17] = 1.0 if alone and not closed else 0.0
            row[18] = max(before, behind, line_before, line_behind)
            row[19] = max(margin - 3.0, 0.0)


@dataclass(frozen=True)
class SentenceModel:
    """Weights of both steps.

    Attributes:
        weights: int8 [buckets, 8]; column 0 good, then REASONS, the rest 0.
        scales: float64 [6], what a step of int8 is worth.
        biases: float64 [6].
        context: float64 [len(CONTEXT) + 1], of the logistic regression, the intercept last.
        threshold: score from which a sentence is taken out.
    """

    weights: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float64]
    biases: npt.NDArray[np.float64]
    context: npt.NDArray[np.float64]
    threshold: float

    @classmethod
    def load(cls, path: Path) -> SentenceModel:
        """Read weights.

        Raises:
            HainaError: no such file.
        """
        if not path.is_file():
            raise HainaError(f"{path}: the weights of the sentence model are missing", "install haina again")
        with np.load(path, allow_pickle=False) as file:
            narrow = file["weights"]
            weights = np.zeros((len(narrow), WIDTH), dtype=np.int8)
            weights[:, :CLASSES] = narrow
            return cls(weights, file["scales"], file["biases"], file["context"], float(file["threshold"]))

    def save(self, path: Path) -> None:
        """Write weights."""
        np.savez_compressed(
            path,
            weights=self.weights[:, :CLASSES],
            scales=self.scales,
            biases=self.biases,
            context=self.context,
            threshold=np.float64(self.threshold),
        )

    def measure(self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Sentences:
        """Sentences of packed texts with their margins and context.

        Args:
            data: uint8 [bytes], valid UTF-8.
            offsets: int64 [texts + 1].
        """
        codes, at = decode(data[offsets[0] : offsets[-1]])
        words = rules()
        kinds = kinds_of(codes, words.kinds)
        folded, roles = _fold(codes, *fold_tables())
        size = len(codes)
        starts, ends, lines, units = (np.empty(size, dtype=np.int32) for _ in range(4))
        margins, line_margins = (np.empty(size, dtype=np.float32) for _ in range(2))
        classes, hashes = np.empty(size, dtype=np.int8), np.empty(size, dtype=np.uint64)
        bounds = np.zeros(len(offsets), dtype=np.int64)
        count = _score(
            codes, kinds, folded, roles, at, offsets, words.keys, words.flags, words.marks, self.weights,
            self.scales, self.biases, starts, ends, lines, bounds, margins, line_margins, classes, hashes, units,
        )  # fmt: skip
        rows = np.zeros((count, len(CONTEXT)), dtype=np.float32)
        _context(
            kinds, roles, starts[:count], ends[:count], lines[:count], bounds, margins[:count],
            line_margins[:count], units[:count], rows,
        )  # fmt: skip
        return Sentences(
            starts[:count].copy(), ends[:count].copy(), lines[:count].copy(), bounds, margins[:count].copy(),
            classes[:count].copy(), rows, hashes[:count].copy(), units[:count].copy(), at,
        )  # fmt: skip

    def score(self, measured: Sentences) -> npt.NDArray[np.float32]:
        """Probability that each sentence does not belong: float32 [sentences]."""
        logits = measured.context @ self.context[:-1] + self.context[-1]
        return (1.0 / (1.0 + np.exp(-np.clip(logits, -50, 50)))).astype(np.float32)


@cache
def shipped() -> SentenceModel:
    """The model that comes with haina, read once."""
    return SentenceModel.load(Path(__file__).with_name("weights.npz"))
