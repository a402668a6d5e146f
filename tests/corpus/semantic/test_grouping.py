"""k-means and near-duplicates against plain code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.corpus.semantic import near
from haina.corpus.semantic.kmeans import Centroids, assign, load_faiss, nearest, train, train_two_levels, unit
from haina.corpus.semantic.near import NEIGHBOURS, judge


def _blobs(
    centres: int, each: int, seed: int = 0, width: int = 32, noise: float = 0.1
) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(centres, width))
    return unit(
        np.repeat(middle, each, axis=0) / np.linalg.norm(middle, axis=1).mean()
        + noise * rng.normal(size=(centres * each, width)) / width**0.5
    )


def test_blobs_are_found_and_numbered_by_size() -> None:
    points = np.concatenate([_blobs(3, 40, seed=1), _blobs(1, 90, seed=2)])
    centroids, label = train(points, 4, seed=0)
    assert np.bincount(label).tolist() == [90, 40, 40, 40]
    assert len(set(label[:40].tolist())) == 1
    assert np.allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)


def test_threads_change_no_bit() -> None:
    faiss = load_faiss()
    points, found = _blobs(12, 200, noise=0.8), []
    for threads in (1, 2):
        faiss.omp_set_num_threads(threads)
        found.append(train(points, 16, seed=3)[0].tobytes())
        assert faiss.omp_get_max_threads() == threads
    assert found[0] == found[1]


def test_fewer_points_than_centroids() -> None:
    points = unit(np.eye(3, 8)[[0, 1, 1, 2, 1]])
    centroids, label = train(points, 7, seed=0)
    assert len(centroids) == 3
    assert np.array_equal(centroids[label], points)
    assert label[1] == label[2] == label[4] == 0
    empty = train_two_levels(np.empty((0, 8), np.float32), 3, 2, 0)
    assert empty.topics.shape == empty.clusters.shape == (0, 8)


@given(seed=st.integers(0, 50), rows=st.integers(1, 600))
@settings(max_examples=20)
def test_assignment_against_plain_code(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    points = unit(rng.normal(size=(rows, 16)))
    centroids = Centroids(
        rng.normal(size=16).astype(np.float32) / 8,
        unit(rng.normal(size=(3, 16))),
        unit(rng.normal(size=(7, 16))),
        np.array([0, 2, 3, 7]),
        np.ones(3, np.float32),
    )
    topic, cluster, cosine = assign(points, centroids)
    shifted = unit(points - centroids.centre)
    for row in range(rows):
        coarse = centroids.topics @ shifted[row]
        assert coarse[topic[row]] == pytest.approx(coarse.max(), abs=1e-6)
        first, end = centroids.starts[topic[row]], centroids.starts[topic[row] + 1]
        fine = centroids.clusters[first:end] @ points[row]
        assert first <= cluster[row] < end
        assert cosine[row] == pytest.approx(fine.max(), abs=1e-6)
    again = nearest(shifted[::-1].copy(), centroids.topics)[0][::-1]
    assert np.array_equal(again, topic)


def _plain(
    vectors: npt.NDArray[np.float32], group: list[int], threshold: float, spread: float
) -> list[tuple[int, float, float]]:
    """(representative, similarity, density) of each document, best first: every pair, in Python."""
    kept: list[int] = []
    out = []
    for row in range(len(vectors)):
        best, similarity = -1, 0.0
        for other in kept:
            found = 1 - (1 - float(vectors[row] @ vectors[other])) / spread
            if (
                group[other] == group[row]
                and found >= threshold - 1e-6
                and (best < 0 or found > similarity + 1e-6)
            ):
                best, similarity = other, found
        if best < 0:
            kept.append(row)
        others = sorted(
            (float(vectors[row] @ vectors[other]) for other in range(len(vectors)) if other != row),
            reverse=True,
        )
        nearest_ones = others[:NEIGHBOURS]
        out.append((best, similarity, sum(nearest_ones) / len(nearest_ones) if nearest_ones else 0.0))
    return out


@given(
    picks=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 1)), min_size=1, max_size=40),
    threshold=st.sampled_from([0.5, 0.8, 0.95, 1.0]),
    spread=st.sampled_from([0.3, 1.0]),
)
def test_duplicates_against_plain_code(picks: list[tuple[int, int]], threshold: float, spread: float) -> None:
    """Random clusters with exact copies, in two languages."""
    pool = _blobs(3, 4, seed=5, noise=0.5).astype(np.float16)
    vectors = pool[[pick for pick, _ in picks]]
    group = np.array([language for _, language in picks], dtype=np.int8)
    found = judge(vectors, group, threshold, spread)
    expected = _plain(unit(vectors), group.tolist(), threshold, spread)
    assert found.representative.tolist() == [row[0] for row in expected]
    assert np.allclose(found.similarity, [row[1] for row in expected], atol=1e-4)
    assert np.allclose(found.density, [row[2] for row in expected], atol=1e-4)


def test_representatives_stay_themselves() -> None:
    """No chains: along a bent line each document is near its neighbour, and the ends stay apart."""
    angles = np.arange(60) * 0.1
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    found = judge(vectors, np.zeros(60, np.int8), 0.98)
    removed = found.representative >= 0
    assert 0 < removed.sum() < 59
    assert (found.representative[found.representative[removed]] == -1).all()
    assert (found.similarity[removed] >= 0.98 - 1e-6).all()


def test_copies_cost_nothing_and_large_clusters_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand copies are one point; a cluster beyond the limit still finds its near pairs."""
    vectors = np.repeat(_blobs(2, 1), [100_000, 3], axis=0).astype(np.float16)
    found = judge(vectors, np.zeros(len(vectors), np.int8), 0.99)
    assert (found.representative >= 0).sum() == 100_001
    assert found.density[0] == pytest.approx(1, abs=1e-6)
    monkeypatch.setattr(near, "MOST_POINTS", 128)
    points = _blobs(40, 10, width=64, noise=0.02).astype(np.float16)
    found = judge(points, np.zeros(len(points), np.int8), 0.95)
    assert (found.representative < 0).sum() == 40
