"""Near-duplicates by meaning inside one cluster, and how dense it is around each document.

SemDeDup (Abbas et al. 2023, arXiv:2303.09540) without its chains: documents are taken best first, and one is removed
when it is near enough to a document that stays, which its record names. Copies of one vector are one point with a
weight, and a cluster of very many points is split once more, so that no cluster costs the square of its size.

How near is near depends on the subject. Two chapters of different histories have a cosine of 0.95, two articles of an
encyclopaedia 0.65. So distances are measured against the spread of the topic: similarity is 1 - (1 - cosine) / spread,
which is 1 for the same vector and about 0 for two documents of the topic taken at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

from haina.corpus.semantic.kmeans import Floats, nearest, train, unit

NEIGHBOURS = 8
MOST_POINTS = 4096
LEAST_SPREAD = 0.1
_TILE = 256
_POINTS_PER_CENTROID = 64


@dataclass(frozen=True)
class Judged:
    """Attributes:
    density: mean cosine to the `NEIGHBOURS` nearest other documents, fewer where there are fewer; 0 when alone.
    representative: row of the document that stays for this one, -1 where it stays itself: int64 [n].
    similarity: to it, 0 where it stays itself.
    """

    density: Floats
    representative: npt.NDArray[np.int64]
    similarity: Floats


def judge(
    vectors: npt.NDArray[np.float16] | Floats,
    group: npt.NDArray[np.int8],
    threshold: float,
    spread: float = 1.0,
    seed: int = 0,
) -> Judged:
    """Judge the documents of a cluster.

    Args:
        vectors: [n, d], best document first.
        group: int8 [n]; documents of two groups (languages) are never each other's duplicates.
        threshold: least similarity of a duplicate.
        spread: variance of the topic's vectors; less than `LEAST_SPREAD` counts as that.
        seed: of the split of a large cluster.
    """
    keyed = np.concatenate(
        [vectors.view(np.uint8).reshape(len(vectors), -1), group[:, None].view(np.uint8)], 1
    )
    _, first, point_of, weight = np.unique(
        keyed.view([("", f"V{keyed.shape[1]}")]).ravel(),
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    # Points in the order of their best documents.
    order = np.argsort(first, kind="stable")
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    point_of, first, weight = number[point_of.ravel()], first[order], weight[order]

    spread = max(spread, LEAST_SPREAD)
    least_cosine = 1 - (1 - threshold) * spread
    count = len(first)
    density = np.zeros(count, dtype=np.float32)
    kept_for = np.full(count, -1, dtype=np.int64)
    similarity = np.zeros(count, dtype=np.float32)
    for part in _parts(vectors, first, seed):
        found = _judge_points(unit(vectors[first[part]]), weight[part], group[first[part]], least_cosine)
        density[part] = found.density
        has = found.representative >= 0
        similarity[part[has]] = 1 - (1 - found.similarity[has]) / np.float32(spread)
        kept_for[part[has]] = part[found.representative[has]]

    representative = np.full(len(vectors), -1, dtype=np.int64)
    removed = kept_for[point_of] >= 0
    representative[removed] = first[kept_for[point_of[removed]]]
    out = similarity[point_of]
    copies = ~removed & (first[point_of] != np.arange(len(vectors)))
    representative[copies] = first[point_of[copies]]
    out[copies] = 1
    return Judged(density[point_of], representative, out)


def _parts(
    vectors: npt.NDArray[np.float16] | Floats, first: npt.NDArray[np.int64], seed: int
) -> list[npt.NDArray[np.int64]]:
    """The points in sets of at most `MOST_POINTS`, near ones together, each ascending."""
    if len(first) <= MOST_POINTS:
        return [np.arange(len(first))]
    wanted = -(-len(first) * 2 // MOST_POINTS)
    step = max(1, len(first) // (wanted * _POINTS_PER_CENTROID))
    centroids, _ = train(unit(vectors[first[::step]]), wanted, seed, starts=1)
    label = np.concatenate(
        [
            nearest(unit(vectors[first[start : start + MOST_POINTS]]), centroids)[0]
            for start in range(0, len(first), MOST_POINTS)
        ]
    )
    order = np.argsort(label, kind="stable")
    cuts = np.flatnonzero(np.diff(label[order])) + 1
    return [
        part[start : start + MOST_POINTS]
        for part in np.split(order, cuts)
        for start in range(0, len(part), MOST_POINTS)
    ]


def _judge_points(
    vectors: Floats, weight: npt.NDArray[np.int64], group: npt.NDArray[np.int8], threshold: float
) -> Judged:
    """`judge` of different points by their cosines, all against all, a tile of rows at a time."""
    count = len(vectors)
    density = np.zeros(count, dtype=np.float32)
    representative = np.full(count, -1, dtype=np.int64)
    similarity = np.zeros(count, dtype=np.float32)
    for start in range(0, count, _TILE):
        cosines = vectors[start : start + _TILE] @ vectors.T
        _densities(cosines, start, weight, density)
        _resolve(cosines, start, group, np.float32(threshold), representative, similarity)
    return Judged(density, representative, similarity)


@nb.njit(cache=True, nogil=True)
def _densities(cosines: Floats, start: int, weight: npt.NDArray[np.int64], out: Floats) -> None:
    """Mean cosine to the nearest others for rows `start`.. of a cluster; a point of weight w is w documents."""
    best = np.empty(NEIGHBOURS, dtype=np.float32)
    for row in range(len(cosines)):
        held = 0
        for column in range(cosines.shape[1]):
            own = column == start + row
            copies = weight[column] - 1 if own else weight[column]
            cosine = np.float32(1) if own else min(cosines[row, column], np.float32(1))
            while copies > 0:
                if held == NEIGHBOURS and cosine <= best[held - 1]:
                    break
                if held < NEIGHBOURS:
                    held += 1
                place = held - 1
                while place > 0 and best[place - 1] < cosine:
                    best[place] = best[place - 1]
                    place -= 1
                best[place] = cosine
                copies -= 1
        total = 0.0
        for place in range(held):
            total += best[place]
        out[start + row] = total / held if held else 0.0


@nb.njit(cache=True, nogil=True)
def _resolve(
    cosines: Floats,
    start: int,
    group: npt.NDArray[np.int8],
    threshold: np.float32,
    representative: npt.NDArray[np.int64],
    similarity: Floats,
) -> None:
    """Rows `start`.. in order: the nearest earlier point that stays, where it is near enough."""
    for row in range(len(cosines)):
        own = start + row
        best, where = threshold, -1
        for column in range(own):
            near = cosines[row, column] >= best if where < 0 else cosines[row, column] > best
            if near and representative[column] < 0 and group[column] == group[own]:
                best, where = cosines[row, column], column
        representative[own] = where
        similarity[own] = min(best, np.float32(1)) if where >= 0 else np.float32(0)
