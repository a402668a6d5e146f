"""Two levels of k-means: topics, and clusters within each.

Comes in: unit vectors of a sample. Goes out: centroids of unit length. Faiss trains (spherical k-means, k-means++
starts, Arthur and Vassilvitskii 2007), on one thread: sums of floats in another order are other centroids. Numbers are
given by size in the sample, the largest first, clusters of one topic standing together. Topics are sought among
vectors less their mean: what all texts have in common is no topic, and with it k-means loses one to an unlucky start
more often.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from haina.corpus.semantic.weights import BLOCK_ROWS
from haina.runtime.errors import HainaError

Floats = npt.NDArray[np.float32]

_ROUNDS = 25
_CLUSTER_STARTS = 3
_TOPIC_STARTS = 20
_TOPIC_WORK = 20 << 20  # points times centroids, over all starts: a few seconds


def load_faiss() -> Any:
    """The module.

    Raises:
        HainaError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise HainaError("faiss is not installed", "pip install faiss-cpu") from error
    return faiss


@contextmanager
def one_thread() -> Iterator[Any]:
    """Faiss on one thread."""
    faiss = load_faiss()
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(threads)


@dataclass(frozen=True)
class Centroids:
    """Attributes:
    centre: float32 [d], the mean of the sample.
    topics: float32 [topics, d], of vectors less `centre`. clusters: float32 [clusters, d].
    starts: int64 [topics + 1], the clusters of topic t are `starts[t]` to `starts[t + 1]`.
    spreads: float32 [topics], the variance of a topic's vectors: 1 less the squared length of their mean.
    """

    centre: Floats
    topics: Floats
    clusters: Floats
    starts: npt.NDArray[np.int64]
    spreads: Floats


def unit(vectors: npt.NDArray[Any]) -> Floats:
    """Rows of length 1, float32; rows of zeros stay."""
    rows = np.asarray(vectors, dtype=np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return np.asarray(rows / np.where(norms > 0, norms, 1)[:, None], dtype=np.float32)


def train(
    sample: Floats, count: int, seed: int, starts: int = _CLUSTER_STARTS
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """At most `count` centroids float32 [k, d] of unit length, the largest first, and the sample's labels int64 [n].

    A sample of no more different points than `count` gets one centroid a point. Of all `starts` the one with
    the smallest sum of squares counts.
    """
    points, label_of_row = np.unique(sample, axis=0, return_inverse=True)
    if len(points) <= count:
        centroids = points
    else:
        with one_thread() as faiss:
            means = faiss.Kmeans(
                sample.shape[1],
                count,
                niter=_ROUNDS,
                nredo=starts,
                seed=seed,
                spherical=True,
                min_points_per_centroid=1,
                max_points_per_centroid=1 << 30,
                init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
            )
            means.train(np.ascontiguousarray(sample))
        centroids = unit(means.centroids)
        label_of_row, _ = nearest(sample, centroids)
    sizes = np.bincount(label_of_row.ravel(), minlength=len(centroids))
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0]
    number = np.full(len(centroids), -1, dtype=np.int64)
    number[order] = np.arange(len(order))
    return np.ascontiguousarray(centroids[order]), number[label_of_row.ravel()]


def train_two_levels(sample: Floats, topics: int, clusters_per_topic: int, seed: int) -> Centroids:
    """Topics of the sample float32 [n, d], then clusters of each topic's points."""
    # With few topics, one that was lost to an unlucky start is seen by every reader.
    starts_of_topics = int(np.clip(_TOPIC_WORK // max(len(sample) * topics, 1), 1, _TOPIC_STARTS))
    centre = (sample.sum(axis=0, dtype=np.float64) / max(len(sample), 1)).astype(np.float32)
    coarse, labels = train(unit(sample - centre), topics, seed, starts_of_topics)
    fine, spreads = [], np.empty(len(coarse), dtype=np.float32)
    for topic in range(len(coarse)):
        mine = sample[labels == topic]
        fine.append(train(mine, clusters_per_topic, seed + 1 + topic)[0])
        mean = mine.mean(axis=0, dtype=np.float64)
        spreads[topic] = max(1 - mean @ mean, 0)
    starts = np.zeros(len(fine) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in fine], out=starts[1:])
    return Centroids(centre, coarse, np.concatenate([*fine, coarse[:0]]), starts, spreads)


def nearest(vectors: Floats, centroids: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """The centroid of largest cosine, int64 [n], of equal ones the first; and that cosine, float32 [n]."""
    label = np.empty(len(vectors), dtype=np.int64)
    cosine = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = vectors[start : start + BLOCK_ROWS]
        rows = len(block)
        if rows < BLOCK_ROWS:
            block = np.concatenate([block, np.zeros((BLOCK_ROWS - rows, block.shape[1]), np.float32)])
        products = block @ centroids.T
        best = products.argmax(axis=1)
        label[start : start + rows] = best[:rows]
        cosine[start : start + rows] = products[np.arange(BLOCK_ROWS), best][:rows]
    return label, cosine


def assign(
    vectors: Floats, centroids: Centroids
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """Topic int64 [n], cluster within it int64 [n] (numbered over all topics), cosine to the cluster float32 [n]."""
    topic, _ = nearest(unit(vectors - centroids.centre), centroids.topics)
    cluster = np.empty(len(vectors), dtype=np.int64)
    cosine = np.empty(len(vectors), dtype=np.float32)
    for number in np.unique(topic).tolist():
        rows = np.flatnonzero(topic == number)
        first, end = centroids.starts[number], centroids.starts[number + 1]
        found, cosine[rows] = nearest(vectors[rows], centroids.clusters[first:end])
        cluster[rows] = found + first
    return topic, cluster, np.clip(cosine, -1, 1)
