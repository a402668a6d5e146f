"""Clusters around representatives: kernel against dictionaries, and what must hold for any pairs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.dedup.assign import assign_clusters, assign_plain


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int]], list[float]]:
    count = draw(st.integers(1, 14))
    rank = draw(st.permutations(range(count)))
    every = [(i, j) for i in range(count) for j in range(i)]
    pairs = draw(st.lists(st.sampled_from(every), unique=True)) if every else []
    # Few distinct values, so that ties happen; 0 is no duplicate.
    similarity = [draw(st.sampled_from([0.0, 0.75, 0.875, 1.0])) for _ in pairs]
    return list(rank), pairs, similarity


def run(rank: list[int], pairs: list[tuple[int, int]], similarity: list[float]) -> list[tuple[int, float]]:
    found = assign_clusters(
        np.array(rank), np.array(pairs, dtype=np.int64).reshape(-1, 2), np.array(similarity, dtype=np.float32)
    )
    return list(zip(found.representative.tolist(), found.similarity.tolist(), strict=True))


@given(graphs())
def test_kernel_is_the_plain_rule(graph: tuple[list[int], list[tuple[int, int]], list[float]]) -> None:
    assert run(*graph) == assign_plain(*graph)


@given(graphs())
def test_every_member_has_a_verified_pair_with_what_stays(
    graph: tuple[list[int], list[tuple[int, int]], list[float]],
) -> None:
    _, pairs, similarity = graph
    verified = {frozenset(pair): value for pair, value in zip(pairs, similarity, strict=True) if value > 0}
    found = run(*graph)
    for document, (representative, value) in enumerate(found):
        assert found[representative][0] == representative
        if document == representative:
            assert value == 1.0
        else:
            assert verified[frozenset((document, representative))] == value


@given(graphs(), st.randoms())
def test_the_order_of_documents_does_not_matter(
    graph: tuple[list[int], list[tuple[int, int]], list[float]], rng: object
) -> None:
    rank, pairs, similarity = graph
    new = list(range(len(rank)))
    rng.shuffle(new)  # type: ignore[attr-defined]
    shuffled_rank = [0] * len(rank)
    for old, place in enumerate(new):
        shuffled_rank[place] = rank[old]
    edges = [(new[j], new[i]) for i, j in pairs]
    mixed = list(range(len(edges)))
    rng.shuffle(mixed)  # type: ignore[attr-defined]
    found = run(shuffled_rank, [edges[i] for i in mixed], [similarity[i] for i in mixed])
    expected = run(rank, pairs, similarity)
    assert [found[new[old]] for old in range(len(rank))] == [(new[r], s) for r, s in expected]


def test_a_star_keeps_its_centre_and_a_clique_its_best() -> None:
    # 1 is like 0 and 2, which are not like each other; 0 is best by rank.
    assert run([0, 1, 2], [(1, 0), (2, 1)], [0.8, 0.9]) == [
        (1, np.float32(0.8)),
        (1, 1.0),
        (1, np.float32(0.9)),
    ]
    assert [r for r, _ in run([2, 0, 1], [(1, 0), (2, 1), (2, 0)], [0.8, 0.9, 0.8])] == [1, 1, 1]


def test_a_long_chain_is_not_one_cluster() -> None:
    count = 300
    pairs = [(i + 1, i) for i in range(count - 1)]
    found = run(list(range(count)), pairs, [0.75] * len(pairs))
    assert all(abs(representative - document) <= 1 for document, (representative, _) in enumerate(found))
    assert len({representative for representative, _ in found}) >= count // 3
