"""Candidate pairs: small buckets against all pairs, large ones within bounds and without losing duplicates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from haina.corpus.dedup import candidates
from haina.corpus.dedup.candidates import (
    ALL,
    IDLE,
    LEADERS,
    NEIGHBOURS,
    ORDERS,
    SMALL,
    distances,
    pair_buckets,
    small_bucket_plain,
)
from haina.corpus.dedup.sorting import sort_rows, unpack_pairs

FAR, SURE = distances(0.7)
Words = npt.NDArray[np.uint64]


def pairs_of(records: Words, bits: int = 32) -> list[tuple[int, int]]:
    """Pairs of unsorted records (key << bits | rank, sketch), repeats and all."""
    records = sort_rows(records.copy(), [(bits, 64)])
    found: list[tuple[int, int]] = []
    for rows in pair_buckets(records, bits, FAR, SURE):
        found += zip(*(part.tolist() for part in unpack_pairs(rows)), strict=True)
    return found


def test_distances_follow_the_threshold() -> None:
    assert distances(0.7) == (19, 6)
    assert distances(1.0) == (9, 0)
    assert distances(0.2) == (32, 22)


SKETCHES = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 2**20 - 1), st.integers(0, 255))


@pytest.mark.parametrize("bits", [32, 40])
@given(data=st.data())
def test_small_buckets_give_the_pairs_of_the_plain_rule(bits: int, data: st.DataObject) -> None:
    rank = st.integers(0, 2**bits - 1)
    records = data.draw(
        st.lists(
            st.tuples(st.integers(0, 2), rank, SKETCHES), max_size=SMALL, unique_by=lambda record: record[1]
        )
    )
    words = np.array([((key << bits) | rank, sketch) for key, rank, sketch in records], dtype=np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_FLUSH", data.draw(st.sampled_from([2048, 2100, 1 << 20])))
        found = pairs_of(words.reshape(-1, 2), bits)
    assert len(found) == len(set(found))
    assert set(found) == set().union(
        *(small_bucket_plain([(r, s) for k, r, s in records if k == key], FAR, SURE) for key in range(3))
    )


def test_all_pairs_of_few_and_leaders_of_more() -> None:
    rng = np.random.default_rng(0)
    for count, expected in ((ALL, ALL * (ALL - 1) // 2), (ALL + 1, ALL), (SMALL, SMALL - 1)):
        records, _ = bucket(np.full(count, 12345, dtype=np.uint64), rng)
        assert len(pairs_of(records)) == expected


@given(st.integers(SMALL + 1, SMALL + 40), st.integers(1, 12), st.integers(0, 2**32))
def test_a_bucket_that_leaders_clear_gives_their_pairs_and_all_of_the_rest(
    count: int, centres: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    sketches = rng.integers(0, 2**64, centres, dtype=np.uint64)[rng.integers(0, centres, count)]
    records, _ = bucket(flip(sketches, 0.04, rng), rng)
    left = [
        (int(rank & np.uint64(0xFFFFFFFF)), int(sketch))
        for rank, sketch in records[np.argsort(records[:, 0])]
    ]
    expected: set[tuple[int, int]] = set()
    idle = 0
    while len(left) > SMALL and idle < IDLE:
        (leader, own), *others = left
        expected |= {(leader, rank) for rank, sketch in others if (own ^ sketch).bit_count() <= FAR}
        stay = [(rank, sketch) for rank, sketch in others if (own ^ sketch).bit_count() > SURE]
        idle = 0 if (len(left) - len(stay)) * 16 >= len(left) else idle + 1
        left = stay
    assume(len(left) <= SMALL)
    expected |= small_bucket_plain(left, FAR, SURE)
    assert set(pairs_of(records)) == expected


def flip(sketches: Words, share: float, rng: np.random.Generator) -> Words:
    """Each bit of each sketch turned with a probability."""
    bits = rng.random((len(sketches), 64)) < share
    return sketches ^ np.packbits(bits, axis=1, bitorder="little").view(np.uint64).ravel()


def bucket(sketches: Words, rng: np.random.Generator) -> tuple[Words, npt.NDArray[np.int64]]:
    """Records of one key, in any order, and the rank of each sketch."""
    ranks = rng.permutation(len(sketches))
    records = np.column_stack([ranks.astype(np.uint64) | np.uint64(7 << 32), sketches])
    return records[rng.permutation(len(records))], ranks


@pytest.mark.parametrize("differ", [0.0, 0.02, 0.06, 0.1])
def test_a_bucket_of_near_duplicates_costs_pairs_in_proportion(differ: float) -> None:
    rng = np.random.default_rng(4)
    count = 100_000
    centre = np.full(count, 0x0123456789ABCDEF, dtype=np.uint64)
    records, _ = bucket(flip(centre, differ, rng), rng)
    found = pairs_of(records)
    assert len(found) <= 16 * count
    # Everybody is paired with somebody better, and nearly everybody with the best of all.
    paired = {right for _, right in found}
    assert len(paired) >= 0.999 * (count - 1)
    assert sum(left == 0 for left, _ in found) >= 0.95 * count


def test_hostile_buckets_stay_within_bounds() -> None:
    rng = np.random.default_rng(6)
    count = 20_000
    for sketches in (
        np.zeros(count, dtype=np.uint64),  # all alike
        rng.integers(0, 2**64, count, dtype=np.uint64),  # nothing alike
        np.repeat(rng.integers(0, 2**64, count // 100, dtype=np.uint64), 100),  # many clusters
        flip(np.zeros(count, dtype=np.uint64), 0.2, rng),  # one template, leaders take nobody along
    ):
        found = pairs_of(bucket(sketches, rng)[0])
        assert len(found) <= count * (LEADERS + len(ORDERS) * NEIGHBOURS)
        assert all(left < right for left, right in found[:1000])


def test_duplicates_are_found_among_pages_of_one_template() -> None:
    """A bucket of 40,000 pages at J = 0.5, in which 2,000 have a duplicate at about 0.85."""
    rng = np.random.default_rng(8)
    template = np.full(40_000, 0xFEDCBA9876543210, dtype=np.uint64)
    # Two rows of J = 0.5 agree in a bit with 0.75: each turns it with 0.146.
    pages = flip(template, 0.146, rng)
    copies = flip(pages[:2000], 0.075, rng)
    records, ranks = bucket(np.concatenate([pages, copies]), rng)
    found = set(pairs_of(records))
    planted = {(int(min(a, b)), int(max(a, b))) for a, b in zip(ranks[:2000], ranks[40_000:], strict=True)}
    # One bucket of twenty in which a pair may meet: the others find what this one does not.
    assert len(found & planted) >= 0.75 * len(planted)
    assert len(found) <= 200 * len(records)


def test_clusters_in_one_crowded_bucket_are_found() -> None:
    rng = np.random.default_rng(9)
    centres = rng.integers(0, 2**64, 3000, dtype=np.uint64)
    records, ranks = bucket(flip(np.repeat(centres, 5), 0.05, rng), rng)
    found = set(pairs_of(records))
    groups = np.sort(ranks.reshape(-1, 5), axis=1)
    planted = {(int(group[0]), int(other)) for group in groups for other in group[1:]}
    assert len(found & planted) >= 0.9 * len(planted)
