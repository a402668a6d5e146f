"""Boosted decision trees of one depth.

Comes in: features. Goes out: probabilities. A tree is complete, so it is three arrays and no pointers: node `i`
has the children `2i + 1` and `2i + 2`; a row goes right when its feature is greater than the node's threshold.
`boost` fits it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Trees:
    """A fitted model.

    Attributes:
        feature: int16 [trees, 2**depth - 1] feature of each inner node, -1 where a node does not split: all go left.
        threshold: float32 [trees, 2**depth - 1].
        leaf: float32 [trees, 2**depth] what each leaf adds to the log odds.
        base: log odds before the first tree.
    """

    feature: npt.NDArray[np.int16]
    threshold: Floats
    leaf: Floats
    base: float

    def predict(self, rows: Floats) -> Floats:
        """Probability of each row of float32 [rows, features]."""
        out = np.full(len(rows), self.base, np.float32)
        predict_into(self.feature, self.threshold, self.leaf, rows, out)
        return out


@nb.njit(cache=True, nogil=True)
def predict_into(
    feature: npt.NDArray[np.int16], threshold: Floats, leaf: Floats, rows: Floats, out: Floats
) -> None:
    """Add the log odds of all trees to `out` float32 [rows], then turn them into probabilities."""
    inner = feature.shape[1]
    for r in range(len(rows)):
        total = out[r]
        for t in range(len(feature)):
            node = 0
            while node < inner:
                f = feature[t, node]
                node = 2 * node + 1 + (1 if f >= 0 and rows[r, f] > threshold[t, node] else 0)
            total += leaf[t, node - inner]
        out[r] = 1.0 / (1.0 + np.exp(-total))


def plain_predict(trees: Trees, rows: Floats) -> Floats:
    """`predict` as one would write it first: the reference for the kernel."""
    out = []
    for row in rows:
        total = np.float32(trees.base)
        for feature, threshold, leaf in zip(trees.feature, trees.threshold, trees.leaf, strict=True):
            node = 0
            while node < len(feature):
                right = feature[node] >= 0 and row[feature[node]] > threshold[node]
                node = 2 * node + 1 + int(right)
            total = np.float32(total + leaf[node - len(feature)])
        out.append(1 / (1 + np.exp(-total)))
    return np.array(out, dtype=np.float32)
