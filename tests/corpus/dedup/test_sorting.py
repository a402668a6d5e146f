"""Rows of words: sort, split, numbers in them, look-up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.dedup.sorting import (
    Index,
    none_of,
    number_type,
    pack_pairs,
    pair_bits,
    pair_width,
    send_rows,
    sort_rows,
    unpack_pairs,
)

WORDS = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 3), st.sampled_from([2**32, 2**63, 2**40 - 1]))


@given(st.lists(st.tuples(WORDS, WORDS), max_size=60))
def test_rows_are_sorted_by_all_their_words(rows: list[tuple[int, int]]) -> None:
    found = sort_rows(np.array(rows, dtype=np.uint64).reshape(-1, 2), [(0, 64), (0, 64)])
    assert [tuple(row) for row in found.tolist()] == sorted(rows)


@given(st.lists(st.tuples(WORDS, WORDS), max_size=60), st.integers(0, 40))
def test_bits_that_do_not_count_keep_their_order(rows: list[tuple[int, int]], low: int) -> None:
    found = sort_rows(np.array(rows, dtype=np.uint64).reshape(-1, 2), [(low, 64)])
    assert [tuple(row) for row in found.tolist()] == sorted(rows, key=lambda row: row[0] >> low)


class Kept:
    """Buckets in memory."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.data = [bytearray() for _ in range(partitions)]

    def add(self, partition: int, data: object) -> None:
        self.data[partition] += memoryview(data).cast("B")  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.integers(0, 4), WORDS), max_size=40))
def test_rows_reach_their_partition_in_order(rows: list[tuple[int, int]]) -> None:
    buckets = Kept(7)
    words = np.array([word for _, word in rows], dtype=np.uint64).reshape(-1, 1)
    send_rows(buckets, words, np.array([number for number, _ in rows], dtype=np.int64), 2)
    for number in range(7):
        found = np.frombuffer(buckets.data[number], dtype=np.uint64).tolist()
        assert found == [word for place, word in rows if place + 2 == number]


@pytest.mark.parametrize("bits", [32, 40])
def test_pairs_come_back_and_sort_by_left_then_right(bits: int) -> None:
    rng = np.random.default_rng(1)
    left, right = (rng.integers(0, 2**bits, 500, dtype=np.uint64) for _ in range(2))
    left[100:300] = left[7]
    rows = pack_pairs(left, right, bits)
    assert rows.shape == (500, pair_width(bits))
    assert [part.tolist() for part in unpack_pairs(rows)] == [left.tolist(), right.tolist()]
    found = unpack_pairs(sort_rows(rows, pair_bits(bits)))
    assert list(zip(*(part.tolist() for part in found), strict=True)) == sorted(
        zip(left.tolist(), right.tolist(), strict=True)
    )
    assert none_of(bits) == np.iinfo(number_type(bits)).max > 2**bits - 2


@given(st.lists(WORDS, max_size=50), st.lists(WORDS, max_size=50))
def test_index_finds_the_first_position(keys: list[int], wanted: list[int]) -> None:
    found = Index(np.array(keys, dtype=np.uint64)).find(np.array(wanted + keys, dtype=np.uint64)).tolist()
    assert found == [keys.index(number) if number in keys else -1 for number in wanted + keys]
