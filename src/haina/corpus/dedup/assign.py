"""Clusters of near-duplicates around representatives, from verified pairs.

Comes in: the rank of each document and the pairs that are duplicates, with their similarity. Goes out: for each
document its representative, itself for those that stay. A member always has a verified pair with its
representative, so chains of likeness (A like B, B like C) cannot swallow a corpus, as connected components do.

Centres are taken by number of duplicates, ties by rank: of A like B like C, B is the centre and both pairs are found.
Each other document joins the most similar centre. What stays of a cluster is the best by rank among the members
that are duplicates of all others in it; in the usual cluster, where all are alike, that is the best of all. The order
of the input does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit


@dataclass(frozen=True)
class Assignment:
    """Clusters of documents.

    Attributes:
        representative: index of the document that stays for each, its own for those that stay: int64 [documents].
        similarity: to the representative; 1 for representatives: float32 [documents].
    """

    representative: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _assign(  # noqa: PLR0912 - three passes over the edges
    order: npt.NDArray[np.int64],
    place: npt.NDArray[np.int64],
    rank_place: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    neighbours: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float32],
    representative: npt.NDArray[np.int64],
    similarity: npt.NDArray[np.float32],
) -> None:
    """Fill the last two; `place` is each document's position in `order`, `rank_place` that by rank."""
    count = len(order)
    centre = np.full(count, -1, dtype=np.int64)
    covered = np.zeros(count, dtype=np.bool_)
    for document in order:
        if covered[document]:
            continue
        centre[document] = document
        for edge in range(starts[document], starts[document + 1]):
            covered[neighbours[edge]] = True
    for document in range(count):
        if centre[document] == document:
            continue
        best = np.float32(-1.0)
        for edge in range(starts[document], starts[document + 1]):
            other = neighbours[edge]
            if centre[other] != other:
                continue
            joined = centre[document]
            if weights[edge] > best or (weights[edge] == best and place[other] < place[joined]):
                best = weights[edge]
                centre[document] = other
    size = np.zeros(count, dtype=np.int64)
    for document in range(count):
        size[centre[document]] += 1
    # Who is a duplicate of all others in its cluster; the best of them stays.
    kept = np.full(count, -1, dtype=np.int64)
    for document in range(count):
        own = centre[document]
        mates = 0
        for edge in range(starts[document], starts[document + 1]):
            mates += centre[neighbours[edge]] == own
        if mates == size[own] - 1 and (kept[own] < 0 or rank_place[document] < rank_place[kept[own]]):
            kept[own] = document
    for document in range(count):
        target = kept[centre[document]]
        representative[document] = target
        similarity[document] = np.float32(1.0)
        if target != document:
            for edge in range(starts[document], starts[document + 1]):
                if neighbours[edge] == target:
                    similarity[document] = weights[edge]


def assign_clusters(
    rank: npt.NDArray[Any], pairs: npt.NDArray[np.int64], similarity: npt.NDArray[np.float32]
) -> Assignment:
    """Clusters from verified pairs.

    Args:
        rank: smaller is better, no two equal: integer [documents].
        pairs: each two documents once, in either order: int64 [pairs, 2].
        similarity: of each pair, 0 or less for those that are no duplicates: float32 [pairs].
    """
    count = len(rank)
    chosen = similarity > 0
    left, right = pairs[chosen, 0], pairs[chosen, 1]
    weights = similarity[chosen].astype(np.float32)
    source, target = np.concatenate([left, right]), np.concatenate([right, left])
    by_source = np.argsort(source, kind="stable")
    degree = np.bincount(source, minlength=count)
    starts = np.concatenate([[0], np.cumsum(degree)]).astype(np.int64)
    by_rank = np.argsort(rank, kind="stable")
    order = by_rank[np.argsort(-degree[by_rank], kind="stable")]
    place, rank_place = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    place[order] = rank_place[by_rank] = np.arange(count)
    result = Assignment(np.empty(count, dtype=np.int64), np.empty(count, dtype=np.float32))
    _assign(
        order.astype(np.int64), place, rank_place, starts, target[by_source].astype(np.int64),
        np.concatenate([weights, weights])[by_source], result.representative, result.similarity,
    )  # fmt: skip
    return result


def assign_plain(
    rank: Sequence[int], pairs: Sequence[tuple[int, int]], similarity: Sequence[float]
) -> list[tuple[int, float]]:
    """`assign_clusters` with dictionaries: (representative, similarity) of each document."""
    alike: dict[int, dict[int, float]] = {document: {} for document in range(len(rank))}
    for (left, right), value in zip(pairs, similarity, strict=True):
        if value > 0:
            alike[left][right] = alike[right][left] = value

    def order(document: int) -> tuple[int, int]:
        return -len(alike[document]), rank[document]

    centres: list[int] = []
    for document in sorted(alike, key=order):
        if not any(other in centres for other in alike[document]):
            centres.append(document)
    clusters: dict[int, list[int]] = {centre: [centre] for centre in centres}
    for document, others in alike.items():
        if document not in clusters:
            found = [other for other in others if other in clusters]
            clusters[min(found, key=lambda other: (-others[other], order(other)))].append(document)
    out = [(document, 1.0) for document in range(len(rank))]
    for members in clusters.values():
        universal = [m for m in members if all(o == m or o in alike[m] for o in members)]
        kept = min(universal, key=lambda member: rank[member])
        for member in members:
            if member != kept:
                out[member] = (kept, alike[member][kept])
    return out
