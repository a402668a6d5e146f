"""Fit a quality model: good texts against bad ones, in passes over batches.

Comes in: batches of labelled texts, which may be read again from disk on every pass. Goes out: a `LinearModel`.

1. Split by key: a calibration share that nothing is fitted on. Texts of one key (a document and what was made from it)
   stay together.
2. Heads: for each kind of fault, logistic regression of the good texts against those with that fault, over the mean of
   n-gram weights, by stochastic gradient descent with AdaGrad steps (Duchi et al. 2011), L2 and n-gram dropout.
3. Curves: what the heads and the dense numbers say is put together by a logistic regression on piecewise-linear curves.
   They are fitted on scores of heads that never saw the text's key, nor, unless it is a large part of the data, its
   domain: so they learn how far a head can be trusted abroad (stacking on out-of-fold scores, Wolpert 1992).
4. Weights are rounded to int8; the calibration share gives the probability table.

Domains count equally for the curves, and so do the two classes. The same batches and options give the same model.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.quality.calibration import auc, calibration_table
from haina.corpus.quality.features import (
    DENSE,
    IDS_PER_BYTE,
    PAIRS_PER_BYTE,
    begin,
    fold_table,
    pack_clean,
    read_chunk,
    role_table,
    scratch,
)
from haina.corpus.quality.model import LinearModel, measure, pack_weights
from haina.runtime.errors import HainaError

__all__ = ["Batch", "FitOptions", "LinearModel", "fit", "fit_batches"]

DEFAULT_HEAD = "quality"
_WEIGHT_CAP = 6.0
# Keeps the steps of the shortest texts small.
_FIT_SHRINK = 16
_KEPT_BYTES = 1 << 28


@dataclass(frozen=True)
class FitOptions:
    """How to fit.

    Attributes:
        bits: log2 of the buckets.
        epochs: passes over the texts for the heads.
        learning_rate: AdaGrad's.
        temperature: what a mean weight is multiplied by to give a head's logit.
        caution: AdaGrad's initial sum of squares: the larger, the less a rare n-gram moves.
        l2: pull of the weights towards 0.
        dropout: share of n-grams left out of each visit to a text.
        max_bytes: a text is read up to here while fitting.
        folds: parts for out-of-fold scores.
        whole_share: a domain smaller than this share of the texts is in one fold as a whole.
        knots: points of a curve.
        balance: how far small domains are lifted for the heads: 0 not at all, 1 to the size of the largest (but for
            a cap).
        smoothness: penalty on the bends and steps of the curves.
        form_penalty: how many times more the dense numbers are held back than the heads.
        calibrate: share of keys kept for calibration.
        seed: of the order of texts and the dropout.
    """

    bits: int = 18
    epochs: int = 4
    learning_rate: float = 0.3
    temperature: float = 30.0
    caution: float = 0.02
    l2: float = 1e-4
    dropout: float = 0.15
    max_bytes: int = 8192
    folds: int = 2
    whole_share: float = 0.2
    knots: int = 7
    balance: float = 0.5
    smoothness: float = 10.0
    form_penalty: float = 5.0
    calibrate: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """Labelled texts, some thousands at most.

    Attributes:
        texts: the texts.
        labels: 1 good, 0 bad.
        domains: where the good text comes from; a bad text has the domain of what it was made from.
        keys: texts that share a key stay on one side of every split.
        heads: kind of fault of a bad text, ignored for a good one.
    """

    texts: Sequence[str]
    labels: Sequence[int]
    domains: Sequence[str] = field(default_factory=tuple)
    keys: Sequence[str] = field(default_factory=tuple)
    heads: Sequence[str] = field(default_factory=tuple)

    def filled(self) -> Batch:
        """With one domain, one head and each text its own key where these are not given."""
        count = len(self.texts)
        if len(self.labels) != count:
            raise HainaError(f"quality: {count} texts with {len(self.labels)} labels", "give one a text")
        return Batch(
            self.texts,
            self.labels,
            self.domains or ("all",) * count,
            self.keys or tuple(self.texts),
            self.heads or (DEFAULT_HEAD,) * count,
        )


Batches = Callable[[], Iterable[Batch]]


@nb.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def _descend(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int8],
    heads: npt.NDArray[np.int8],
    sample: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
    table: npt.NDArray[np.float32],
    squares: npt.NDArray[np.float32],
    biases: npt.NDArray[np.float64],
    folds: npt.NDArray[np.uint32],
    roles: npt.NDArray[np.uint8],
    state: npt.NDArray[np.uint64],
    counters: npt.NDArray[np.int64],
    ring: npt.NDArray[np.uint64],
    seen: npt.NDArray[np.uint64],
    bits: int,
    max_bytes: int,
    learning_rate: float,
    temperature: float,
    l2: float,
    dropout: float,
    seed: int,
) -> None:
    """One pass of stochastic gradient descent over a batch, `table` and `biases` in place.

    `sample` is float32 [texts, heads]: the weight of a text for each head, 0 where it does not count.
    """
    ids = np.empty(IDS_PER_BYTE * (max_bytes + 8), dtype=np.int32)
    pairs = np.empty((PAIRS_PER_BYTE * (max_bytes + 8), 2), dtype=np.int32)
    keep = np.uint64((1.0 - dropout) * 2.0**32)
    random = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    for row in order:
        start, end = offsets[row], offsets[row + 1]
        begin(state, counters)
        count, _, _ = read_chunk(
            data,
            start,
            min(end, start + max_bytes),
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
        kept = 0
        for index in range(count):
            # xorshift64 (Marsaglia 2003)
            random ^= random << np.uint64(13)
            random ^= random >> np.uint64(7)
            random ^= random << np.uint64(17)
            if (random >> np.uint64(32)) < keep:
                ids[kept] = ids[index]
                kept += 1
        value = temperature / (kept + _FIT_SHRINK)
        for head in range(table.shape[1]):
            weight = sample[row, head]
            if weight == 0.0:
                continue
            total = 0.0
            for index in range(kept):
                total += table[ids[index], head]
            logit = biases[head] + value * total
            slope = weight * (1.0 / (1.0 + np.exp(-logit)) - labels[row])
            biases[head] -= 0.02 * slope
            step = slope * value
            for index in range(kept):
                place = ids[index]
                gradient = step + l2 * table[place, head]
                squares[place, head] += gradient * gradient
                table[place, head] -= learning_rate * gradient / np.sqrt(squares[place, head])


@dataclass
class _Packed:
    """A batch as arrays: bytes and offsets, labels int8, head index int8, domain index int64, fold int8 (-1 for the
    calibration share)."""

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int8]
    heads: npt.NDArray[np.int8]
    domains: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int8]


class _Census:
    """What a first pass over the batches counts: names of domains and heads, and how many texts of each."""

    def __init__(self, batches: Batches, options: FitOptions) -> None:
        self.options = options
        counts: Counter[tuple[int, str, str]] = Counter()
        self.bytes = 0
        self.kept: list[_Packed] = []
        for raw in batches():
            batch = raw.filled()
            for text, label, domain, head in zip(
                batch.texts, batch.labels, batch.domains, batch.heads, strict=True
            ):
                counts[int(label), domain, "" if label else head] += 1
                self.bytes += len(text.encode("utf-8", "replace"))
        if not counts:
            raise HainaError("quality: no texts to learn from", "name files with a column `text`")
        for label, name in ((1, "positive"), (0, "negative")):
            if not any(key[0] == label for key in counts):
                raise HainaError(
                    f"quality: no {name} texts; one class alone cannot be learnt",
                    "give both --positive and --negative",
                )
        self.domains = sorted({domain for _, domain, _ in counts})
        self.heads = sorted({head for label, _, head in counts if not label})
        self.counts = counts
        # A domain that is much of the data is split by key: heads that never saw it would have learnt from too little.
        sizes = Counter[str]()
        for (_, domain, _), count in counts.items():
            sizes[domain] += count
        self.whole = np.array(
            [sizes[domain] < options.whole_share * sum(sizes.values()) for domain in self.domains]
        )
        positives = np.array([counts[1, domain, ""] for domain in self.domains], dtype=np.float64)
        negatives = np.array(
            [[counts[0, domain, head] for head in self.heads] for domain in self.domains], dtype=np.float64
        )
        self.positive_weights = self._balanced(positives)
        self.negative_weights = np.stack(
            [self._balanced(negatives[:, head]) for head in range(len(self.heads))], axis=1
        )

    def _balanced(self, counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Weight of one text of each domain; the mean over texts is 1."""
        present = counts > 0
        if not present.any():
            return np.zeros(len(counts))
        weights = np.zeros(len(counts))
        weights[present] = (counts[present].max() / counts[present]) ** self.options.balance
        weights = np.minimum(weights, _WEIGHT_CAP)
        return weights * (counts.sum() / (weights * counts).sum())

    def packed(self, batches: Batches) -> Iterable[_Packed]:
        """The batches as arrays; kept while they are small, made anew on every pass when they are not."""
        if self.bytes > _KEPT_BYTES:
            return map(self.pack, batches())
        if not self.kept:
            self.kept = [self.pack(batch) for batch in batches()]
        return self.kept

    def pack(self, raw: Batch) -> _Packed:
        batch = raw.filled()
        data, offsets = pack_clean(batch.texts)
        domains = np.array([self.domains.index(name) for name in batch.domains], dtype=np.int64)
        return _Packed(
            data,
            offsets,
            np.array(batch.labels, dtype=np.int8),
            np.array(
                [
                    -1 if label else self.heads.index(head)
                    for label, head in zip(batch.labels, batch.heads, strict=True)
                ],
                dtype=np.int8,
            ),
            domains,
            self._folds(batch.keys, domains),
        )

    def _folds(self, keys: Sequence[str], domains: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
        options = self.options
        hashed = np.array([zlib.crc32(key.encode("utf-8", "replace")) for key in keys], dtype=np.int64)
        folds = (hashed // 1000) % options.folds
        folds = np.where(self.whole[domains], domains % options.folds, folds)
        held_out = hashed % 1000 < 1000 * options.calibrate
        return np.where(held_out, -1, folds).astype(np.int8)

    def sample_weights(self, packed: _Packed, used: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """float32 [texts, heads]: a good text counts for every head, a bad one for that of its fault."""
        weights = np.zeros((len(packed.labels), len(self.heads)), dtype=np.float32)
        good = packed.labels == 1
        weights[good] = self.positive_weights[packed.domains[good], None]
        total_positive = sum(count for (label, _, _), count in self.counts.items() if label)
        for index, head in enumerate(self.heads):
            own = packed.heads == index
            total = sum(
                count for (label, _, name), count in self.counts.items() if not label and name == head
            )
            balance = total_positive / total
            # Both classes weigh the same; the heavier one is brought down rather than the lighter up.
            weights[own, index] = self.negative_weights[packed.domains[own], index] * min(
                balance, _WEIGHT_CAP
            )
        weights[~used] = 0.0
        return weights


class _Heads(NamedTuple):
    """int8 [buckets, heads], float32 [heads], float32 [heads]: as in `LinearModel`."""

    weights: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    pivots: npt.NDArray[np.float32]


def _fit_heads(batches: Batches, census: _Census, options: FitOptions, without: int) -> _Heads:
    """Tables of all heads, fitted without one fold (-2 for all)."""
    shape = (1 << options.bits, len(census.heads))
    table = np.zeros(shape, dtype=np.float32)
    mean = np.zeros(shape, dtype=np.float32)
    squares = np.full(shape, options.caution, dtype=np.float32)
    biases = np.zeros(len(census.heads), dtype=np.float64)
    averaged = 0
    for epoch in range(options.epochs):
        for number, packed in enumerate(census.packed(batches)):
            used = (packed.folds >= 0) & (packed.folds != without)
            generator = np.random.default_rng([options.seed, epoch, number])
            order = generator.permutation(np.flatnonzero(used))
            _descend(
                packed.data,
                packed.offsets,
                packed.labels,
                packed.heads,
                census.sample_weights(packed, used),
                order,
                table,
                squares,
                biases,
                fold_table(),
                role_table(),
                *scratch(),
                options.bits,
                options.max_bytes,
                options.learning_rate / (1 + epoch),
                options.temperature,
                options.l2,
                options.dropout,
                options.seed * 1_000_003 + epoch * 10_007 + number,
            )
        if epoch >= options.epochs // 2:
            mean += table
            averaged += 1
    mean /= averaged
    # The few weights beyond the last ten-thousandth are cut so that the rest keep their steps.
    limits = np.maximum(np.quantile(np.abs(mean), 0.9999, axis=0), 1e-6)
    scales = (limits / 127).astype(np.float32)
    weights = np.clip(np.rint(mean / scales), -127, 127).astype(np.int8)
    # Where a head's logit is 0.
    return _Heads(weights, scales * np.float32(options.temperature), (-biases).astype(np.float32))


def _hats(columns: npt.NDArray[np.float32], knots: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Each value as shares of the two knots around it: float64 [rows, columns x knots]."""
    rows, count = columns.shape
    width = knots.shape[1]
    design = np.zeros((rows, count, width))
    for column in range(count):
        grid = knots[column].astype(np.float64)
        values = np.clip(columns[:, column], grid[0], grid[-1])
        right = np.clip(np.searchsorted(grid, values), 1, width - 1)
        share = (values - grid[right - 1]) / (grid[right] - grid[right - 1])
        design[np.arange(rows), column, right] = share
        design[np.arange(rows), column, right - 1] = 1 - share
    return design.reshape(rows, count * width)


def _knots(columns: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """Increasing knots of each column, half by its quantiles, half even over its range: float32 [columns, count].

    By quantiles alone a share that is mostly 0 would have all its knots there, and its curve a cliff.
    """
    steps = np.linspace(0.0, 1.0, count)
    quantiles = np.quantile(columns, 0.01 + 0.98 * steps, axis=0).T.astype(np.float64)
    low, high = quantiles[:, :1], np.maximum(quantiles[:, -1:], quantiles[:, :1] + 1e-2)
    quantiles = np.minimum(quantiles, high)
    return (0.5 * quantiles + 0.5 * (low + (high - low) * steps)).astype(np.float32)


def _fit_curves(
    columns: npt.NDArray[np.float32],
    labels: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    options: FitOptions,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], float]:
    """Knots, curves and intercept by penalised logistic regression (iteratively reweighted least squares)."""
    knots = _knots(columns, options.knots)
    count, width = knots.shape
    design = np.concatenate([_hats(columns, knots), np.ones((len(columns), 1))], axis=1)
    steps = np.diff(np.eye(width), axis=0)
    bends = np.diff(np.eye(width), 2, axis=0)
    block = options.smoothness * (steps.T @ steps + bends.T @ bends + 0.1 * np.eye(width))
    penalty = np.zeros((count * width + 1, count * width + 1))
    for column in range(count):
        part = slice(column * width, (column + 1) * width)
        # What a page looks like changes more from site to site than how its words go together.
        penalty[part, part] = block * (options.form_penalty if column >= count - len(DENSE) else 1.0)
    penalty[-1, -1] = 1e-6
    solution = np.zeros(count * width + 1)
    for _ in range(30):
        chance = 1 / (1 + np.exp(-np.clip(design @ solution, -30, 30)))
        slope = design.T @ (weights * (chance - labels)) + penalty @ solution
        curvature = (design * (weights * np.maximum(chance * (1 - chance), 1e-5))[:, None]).T @ design
        move = np.linalg.solve(curvature + penalty, slope)
        solution -= move
        if np.abs(move).max() < 1e-4:
            break
    curves = solution[:-1].reshape(count, width)
    # A constant can sit in any curve: keep it in the intercept, so that a curve says what it adds to the average.
    means = (design[:, :-1] * weights[:, None]).sum(axis=0).reshape(count, width) / weights.sum()
    centres = (means * curves).sum(axis=1)
    return knots, (curves - centres[:, None]).astype(np.float32), float(solution[-1] + centres.sum())


@dataclass
class _Rows:
    """Measured texts of a pass: columns, labels, weights, domains, heads."""

    columns: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float64]
    domains: npt.NDArray[np.int64]
    heads: npt.NDArray[np.int8]


def _measured(
    batches: Batches,
    census: _Census,
    fold: int,
    heads: _Heads,
) -> Iterator[_Rows]:
    words = pack_weights(heads.weights)
    for packed in census.packed(batches):
        rows = packed.folds == fold
        if rows.any():
            columns = measure(packed.data, packed.offsets, words, heads.scales, heads.pivots)[rows]
            yield _Rows(
                columns, packed.labels[rows].astype(np.float64), packed.domains[rows], packed.heads[rows]
            )


def _joined(parts: Sequence[_Rows]) -> _Rows:
    return _Rows(
        np.concatenate([part.columns for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.domains for part in parts]),
        np.concatenate([part.heads for part in parts]),
    )


def _row_weights(rows: _Rows) -> npt.NDArray[np.float64]:
    """Domains equal within a class, faults equal within the bad, both classes equal; mean 1."""
    weights = np.zeros(len(rows.labels))
    cells = Counter(zip(rows.labels.tolist(), rows.domains.tolist(), rows.heads.tolist(), strict=True))
    sizes = Counter(label for label, _, _ in cells)
    for index, cell in enumerate(
        zip(rows.labels.tolist(), rows.domains.tolist(), rows.heads.tolist(), strict=True)
    ):
        weights[index] = 1.0 / (cells[cell] * sizes[cell[0]])
    weights = np.minimum(weights, _WEIGHT_CAP * np.median(weights))
    for label in (0.0, 1.0):
        own = rows.labels == label
        weights[own] *= 0.5 * len(weights) / max(weights[own].sum(), 1e-12)
    return weights


def _check_split(rows: _Rows | None, what: str) -> _Rows:
    if rows is None or len(set(rows.labels.tolist())) < 2:
        raise HainaError(
            f"quality: the {what} share has texts of one class only",
            "give more texts of both classes, or a larger --calibrate",
        )
    return rows


def _auc_by(
    names: Sequence[str],
    groups: npt.NDArray[np.integer[Any]],
    always: npt.NDArray[Any],
    logits: npt.NDArray[np.float64],
    labels: npt.NDArray[np.float64],
) -> dict[str, float]:
    """AUC within each group, with the rows marked `always` in all; groups of one class are left out."""
    found = {}
    for index, name in enumerate(names):
        own = groups == index
        if len(always):
            own = own | always
        if 0 < labels[own].sum() < own.sum():
            found[name] = auc(logits[own], labels[own])
    return found


def fit_batches(
    batches: Batches,
    options: FitOptions = FitOptions(),
    provenance: dict[str, Any] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> LinearModel:
    """Fit from batches that are read again on every pass; memory is that of a batch, the tables and the columns.

    Args:
        batches: gives the batches afresh at each call, in the same order.
        options: how to fit.
        provenance: what to note in the model beside the counts and the figures.
        say: called with a line now and then.

    Raises:
        HainaError: no texts, one class only, or too few texts for the splits.
    """
    census = _Census(batches, options)
    parts: list[_Rows] = []
    for fold in range(options.folds):
        say(f"heads without fold {fold + 1} of {options.folds}")
        parts.extend(_measured(batches, census, fold, _fit_heads(batches, census, options, without=fold)))
    rows = _check_split(_joined(parts) if parts else None, "fitting")
    knots, curves, intercept = _fit_curves(rows.columns, rows.labels, _row_weights(rows), options)
    say("heads on all folds")
    heads = _fit_heads(batches, census, options, without=-2)
    held = list(_measured(batches, census, -1, heads))
    rows = _check_split(_joined(held) if held else None, "calibration")
    identity = np.array([[0.0, 1.0], [0.0, 1.0]], dtype=np.float32)
    model = LinearModel(
        tuple(census.heads), *heads, knots, curves, intercept, identity, dict(provenance or {})
    )
    logits = model.logit_columns(rows.columns)
    table = calibration_table(logits, rows.labels, _row_weights(rows))
    report = {
        "held_out_auc": auc(logits, rows.labels),
        "held_out_texts": len(rows.labels),
        "held_out_auc_by_domain": _auc_by(census.domains, rows.domains, np.zeros(0), logits, rows.labels),
        "held_out_auc_by_head": _auc_by(census.heads, rows.heads, rows.labels == 1, logits, rows.labels),
        "texts": {
            "positive": sum(count for (label, _, _), count in census.counts.items() if label),
            "negative": sum(count for (label, _, _), count in census.counts.items() if not label),
            "bytes": census.bytes,
        },
        "options": asdict(options),
    }
    return replace(model, calibration=np.stack(table), provenance={**(provenance or {}), **report})


def fit(
    texts: Sequence[str],
    labels: npt.ArrayLike,
    *,
    options: FitOptions = FitOptions(),
    domains: Sequence[str] = (),
    keys: Sequence[str] = (),
    heads: Sequence[str] = (),
) -> LinearModel:
    """Fit from texts in memory.

    Args:
        texts: the texts.
        labels: 1 good, 0 bad, one a text.
        options: how to fit.
        domains: where each text comes from; with two or more the curves are fitted across domains.
        keys: texts that share a key are never split.
        heads: kind of fault of each bad text; one head a kind.

    Raises:
        HainaError: as `fit_batches`.
    """
    truth = [int(label) for label in np.asarray(labels)]
    size = 4096
    whole = Batch(texts, truth, domains, keys, heads).filled()
    # Strided, so that sorted input still gives mixed batches.
    strides = max(1, -(-len(texts) // size))
    parts = [
        Batch(
            whole.texts[start::strides],
            whole.labels[start::strides],
            whole.domains[start::strides],
            whole.keys[start::strides],
            whole.heads[start::strides],
        )
        for start in range(strides)
        if len(texts)
    ]
    return fit_batches(lambda: parts, options)
