"""Which documents say the same, and which of them stays.

Comes in: exact keys, signatures and shingle sets of all documents. Goes out: for each the document it
duplicates, with the similarity, and its loose cluster. Clusters stand around representatives: documents are
taken longest first (ties by id), and each joins the most similar representative already there or becomes one
itself. So every removal is a direct comparison with the document that stays, and chains of pairwise likeness
cannot swallow a corpus, as connected components do. The order of the input does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.minhash import buckets, estimate
from haina.corpus.shingles import jaccard_kernel

# An estimate from 128 values errs by 0.035 to 0.045 (one sigma); candidates this far below the threshold are
# still compared exactly. Short texts fill fewer bins and err more, but cost least to compare.
ESTIMATE_MARGIN = 0.2
_SLICE = 65536


@dataclass(frozen=True)
class Clusters:
    """Assignment of documents to representatives.

    Attributes:
        representative: index of the representative of each document, its own for representatives: int64
            [documents].
        similarity: to the representative; 1 for representatives themselves: float64 [documents].
    """

    representative: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float64]


def best_first(lengths: npt.NDArray[np.int64], ids: list[str]) -> npt.NDArray[np.int64]:
    """Indices of the documents, longest first, ties by id."""
    by_id = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
    return by_id[np.argsort(-lengths[by_id], kind="stable")]


def exact_duplicates(keys: list[bytes], order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Index of the best document of the same key, for each: int64 [documents]."""
    first: dict[bytes, int] = {}
    out = np.empty(len(keys), dtype=np.int64)
    for document in order.tolist():
        out[document] = first.setdefault(keys[document], document)
    return out


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _assign(
    order: npt.NDArray[np.int64],
    bucket: npt.NDArray[np.int32],
    head: npt.NDArray[np.int32],
    following: npt.NDArray[np.int32],
    seen: npt.NDArray[np.int64],
    signatures: npt.NDArray[np.uint32],
    shingles: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    threshold: float,
    margin: float,
    exact: bool,
    rank: npt.NDArray[np.int64],
    representative: npt.NDArray[np.int64],
    similarity: npt.NDArray[np.float64],
) -> None:
    """Assign one slice of `order`; the arrays of state carry over to the next slice.

    `head[band, bucket]` is the last representative put in a bucket and `following[band, document]` the one
    before it.
    """
    for document in order:
        size = sizes[document]
        best = -1
        best_similarity = -1.0
        for band in range(bucket.shape[0]):
            place = bucket[band, document]
            if place < 0:
                continue
            candidate = head[band, place]
            while candidate >= 0:
                if seen[candidate] != document:
                    seen[candidate] = document
                    small, large = min(size, sizes[candidate]), max(size, sizes[candidate])
                    # Jaccard cannot exceed the ratio of the sizes; the empty set is like nothing.
                    if small > 0 and small >= threshold * large:
                        value = estimate(signatures[document], signatures[candidate])
                        if exact and value >= threshold - margin:
                            value = jaccard_kernel(
                                shingles[starts[document] : starts[document] + size],
                                shingles[starts[candidate] : starts[candidate] + sizes[candidate]],
                            )
                        if value >= threshold and (
                            value > best_similarity
                            or (value == best_similarity and rank[candidate] < rank[best])
                        ):
                            best = candidate
                            best_similarity = value
                candidate = following[band, candidate]
        if best >= 0:
            representative[document] = best
            similarity[document] = best_similarity
            continue
        representative[document] = document
        similarity[document] = 1.0
        for band in range(bucket.shape[0]):
            place = bucket[band, document]
            if place >= 0:
                following[band, document] = head[band, place]
                head[band, place] = document


def cluster(
    order: npt.NDArray[np.int64],
    signatures: npt.NDArray[np.uint32],
    shingles: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    threshold: float,
    rows: int,
    *,
    exact: bool,
    advance: Callable[[int], None] | None = None,
) -> Clusters:
    """Clusters around representatives at a Jaccard similarity of at least `threshold`.

    Args:
        order: every document, best first: int64 [documents].
        signatures: uint32 [documents, permutations].
        shingles: sorted sets of documents, one after the other: uint64 [all shingles]; may be a memory map.
        starts, sizes: where in `shingles` each set begins and how many it holds: int64 [documents].
        threshold: smallest similarity within a cluster, between member and representative.
        rows: signature values in a band.
        exact: compare shingle sets; otherwise the estimate from signatures decides.
        advance: told how many more documents are done.
    """
    count = len(order)
    bucket = buckets(signatures, rows)
    places = int(bucket.max(initial=-1)) + 1
    head = np.full((bucket.shape[0], max(1, places)), -1, dtype=np.int32)
    following = np.full((bucket.shape[0], max(1, count)), -1, dtype=np.int32)
    seen = np.full(count, -1, dtype=np.int64)
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(count)
    result = Clusters(np.arange(count, dtype=np.int64), np.ones(count, dtype=np.float64))
    for start in range(0, count, _SLICE):
        part = order[start : start + _SLICE]
        _assign(
            part, bucket, head, following, seen, signatures, shingles, starts, sizes, threshold,
            ESTIMATE_MARGIN, exact, rank, result.representative, result.similarity,
        )  # fmt: skip
        if advance is not None:
            advance(len(part))
    return result


def cluster_plain(
    order: list[int], sets: list[set[int]], candidates: Callable[[int, int], bool], threshold: float
) -> list[tuple[int, float]]:
    """`cluster(exact=True)` with Python sets: (representative, similarity) of each document.

    `candidates(a, b)` says whether two documents share a bucket and look alike enough to be compared.
    """
    representatives: list[int] = []
    out = [(document, 1.0) for document in range(len(sets))]
    for document in order:
        best: tuple[float, int] | None = None
        for other in representatives:
            union = len(sets[document] | sets[other])
            similarity = len(sets[document] & sets[other]) / union if union else 0.0
            if (
                candidates(document, other)
                and similarity >= threshold
                and (best is None or similarity > best[0])
            ):
                best = (similarity, other)
        if best is None:
            representatives.append(document)
        else:
            out[document] = (best[1], best[0])
    return out
