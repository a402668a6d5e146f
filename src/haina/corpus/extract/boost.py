"""How boosted trees are fitted: `fit` of `trees.Trees`.

Comes in: features, soft targets, weights. Goes out: `Trees`. Friedman 2001, with the second-order leaf values
and gains of Chen and Guestrin 2016 (XGBoost, equations 5 to 7), on histograms of quantiles. NumPy and numba
only, so that a reader can repeat it; the result depends on the data and the seed alone.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.extract.trees import Floats, Trees

_BINS = 64


@nb.njit(cache=True, nogil=True)
def _grow(
    binned: npt.NDArray[np.uint8],
    gradient: npt.NDArray[np.float64],
    hessian: npt.NDArray[np.float64],
    used: npt.NDArray[np.int64],
    depth: int,
    ridge: float,
    least: float,
    feature: npt.NDArray[np.int16],
    cut: npt.NDArray[np.int16],
    leaf: npt.NDArray[np.float32],
    node_of: npt.NDArray[np.int32],
) -> None:
    """One tree, level by level; `node_of` ends as each row's leaf. Rows without weight only follow."""
    n = len(binned)
    node_of[:] = 0
    for level in range(depth):
        first, width = 2**level - 1, 2**level
        g = np.zeros((width, len(used), 64))
        h = np.zeros((width, len(used), 64))
        for r in range(n):
            if hessian[r] == 0.0:
                continue
            node = node_of[r] - first
            for j in range(len(used)):
                b = binned[r, used[j]]
                g[node, j, b] += gradient[r]
                h[node, j, b] += hessian[r]
        for node in range(width):
            all_g, all_h = g[node, 0].sum(), h[node, 0].sum()
            best, best_j, best_cut = 1e-4, -1, 0
            for j in range(len(used)):
                left_g = left_h = 0.0
                for b in range(63):
                    left_g += g[node, j, b]
                    left_h += h[node, j, b]
                    if left_h < least or all_h - left_h < least:
                        continue
                    right_g, right_h = all_g - left_g, all_h - left_h
                    gain = (
                        left_g * left_g / (left_h + ridge)
                        + right_g * right_g / (right_h + ridge)
                        - (all_g * all_g / (all_h + ridge))
                    )
                    if gain > best:
                        best, best_j, best_cut = gain, j, b
            feature[first + node] = used[best_j] if best_j >= 0 else -1
            cut[first + node] = best_cut
        for r in range(n):
            node = node_of[r]
            f = feature[node]
            node_of[r] = 2 * node + 1 + (1 if f >= 0 and binned[r, f] > cut[node] else 0)
    first = 2**depth - 1
    sum_g = np.zeros(2**depth)
    sum_h = np.zeros(2**depth)
    for r in range(n):
        sum_g[node_of[r] - first] += gradient[r]
        sum_h[node_of[r] - first] += hessian[r]
    for i in range(2**depth):
        leaf[i] = -sum_g[i] / (sum_h[i] + ridge)


def fit_trees(
    rows: Floats,
    targets: Floats,
    weights: Floats,
    pages: npt.NDArray[np.int64],
    *,
    trees: int = 120,
    depth: int = 5,
    rate: float = 0.08,
    ridge: float = 2.0,
    least: float = 1.0,
    columns: float = 0.4,
    share: float = 0.7,
    seed: int = 0,
) -> Trees:
    """Fit by gradient boosting on the weighted log loss.

    Args:
        rows: float32 [rows, features].
        targets: float32 [rows] share of the row that is positive, 0 to 1.
        weights: float32 [rows].
        pages: int64 [rows] the page of each row: every tree sees a share of the pages, not of the rows.
        trees, depth, rate, ridge, least: number, levels, shrinkage, L2 on leaves, least hessian of a leaf.
        columns, share: share of the features and of the pages that a tree sees.
    """
    random = np.random.default_rng(seed)
    edges = []
    binned = np.empty(rows.shape, np.uint8)
    for f in range(rows.shape[1]):
        quantiles = np.unique(np.quantile(rows[:, f], np.linspace(0, 1, _BINS + 1)[1:-1], method="lower"))
        edges.append(quantiles.astype(np.float32))
        binned[:, f] = np.searchsorted(edges[f], rows[:, f], side="left")
    mean = float(np.average(targets, weights=weights))
    base = float(np.log(mean / (1 - mean)))
    score = np.full(len(rows), base)
    inner = 2**depth - 1
    model = Trees(
        np.full((trees, inner), -1, np.int16),
        np.zeros((trees, inner), np.float32),
        np.zeros((trees, inner + 1), np.float32),
        base,
    )
    node_of = np.zeros(len(rows), np.int32)
    distinct = np.unique(pages)
    for t in range(trees):
        probability = 1 / (1 + np.exp(-score))
        seen = random.random(len(distinct)) < share
        weight = weights * seen[np.searchsorted(distinct, pages)]
        used = np.sort(random.choice(rows.shape[1], max(1, int(columns * rows.shape[1])), replace=False))
        cut = np.zeros(inner, np.int16)
        _grow(
            binned,
            weight * (probability - targets),
            weight * np.maximum(probability * (1 - probability), 1e-6),
            used,
            depth,
            ridge,
            least,
            model.feature[t],
            cut,
            model.leaf[t],
            node_of,
        )
        model.leaf[t] *= rate
        for i in range(inner):
            f = model.feature[t, i]
            if f >= 0:
                model.threshold[t, i] = edges[f][min(cut[i], len(edges[f]) - 1)]
        score += model.leaf[t][node_of - inner]
    return model
