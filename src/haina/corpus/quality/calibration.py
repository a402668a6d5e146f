"""Scores as probabilities, and how well scores rank.

Comes in: scores with labels. Goes out: a monotone piecewise-linear table from score to probability (isotonic
regression by pool-adjacent-violators, Barlow et al. 1972; Zadrozny and Elkan 2002), and the area under the ROC curve.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_TAIL = 8.0
_POINTS = 64


def auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Chance that a positive scores above a negative, ties half; NaN when a class is missing (Mann-Whitney)."""
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels).astype(bool)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    total = float(ranks[inverse][truth].sum())
    return (total - positives * (positives + 1) / 2) / (positives * negatives)


def isotonic(
    scores: npt.NDArray[np.float64], labels: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Blocks of equal fitted probability: their mean score and that probability, both increasing.

    Args:
        scores: float64 [n].
        labels: 0 or 1, float64 [n].
        weights: above 0, float64 [n].
    """
    order = np.argsort(scores, kind="stable")
    blocks: list[list[float]] = []  # weight, weight x label, weight x score
    for index in order:
        weight = float(weights[index])
        blocks.append([weight, weight * float(labels[index]), weight * float(scores[index])])
        while len(blocks) > 1 and blocks[-2][1] * blocks[-1][0] >= blocks[-1][1] * blocks[-2][0]:
            last = blocks.pop()
            blocks[-1] = [left + right for left, right in zip(blocks[-1], last, strict=True)]
    table = np.array([[block[2] / block[0], block[1] / block[0]] for block in blocks])
    return table[:, 0], table[:, 1]


def calibration_table(
    scores: npt.NDArray[np.float64], labels: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Knots of the map from score to probability: float32 [points] scores and probabilities.

    Strictly increasing, so that it never merges what the scores tell apart: beyond the blocks it goes on to 0 and 1.
    """
    places, chances = isotonic(scores, labels, weights)
    if len(places) > _POINTS:
        kept = np.unique(np.linspace(0, len(places) - 1, _POINTS).round().astype(int))
        places, chances = places[kept], chances[kept]
    # The least a share of n labels can be told from 0 is one in n.
    edge = 1.0 / (len(scores) + 2)
    chances = np.clip(chances, edge, 1 - edge)
    places = np.concatenate([[scores.min() - _TAIL], places, [scores.max() + _TAIL]])
    chances = np.concatenate([[0.0], chances, [1.0]])
    tilt = np.linspace(0.0, 1.0, len(places))
    return places.astype(np.float32), (0.999 * chances + 0.001 * tilt).astype(np.float32)
