"""Bands: the choice of them, and that a bucket is where all rows of a band agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haina.corpus.dedup.bands import Banding, band_groups, band_records, choose_banding
from haina.runtime.errors import HainaError


@pytest.mark.parametrize(
    ("threshold", "recall", "permutations", "expected"),
    [
        (0.7, 0.995, 128, (20, 4)),
        (0.8, 0.995, 128, (18, 6)),
        (1.0, 0.9, 64, (1, 64)),
        (0.5, 0.995, 128, (40, 3)),
    ],
)
def test_choice(threshold: float, recall: float, permutations: int, expected: tuple[int, int]) -> None:
    assert choose_banding(threshold, recall, permutations) == expected


@given(st.floats(0.4, 0.99), st.floats(0.5, 0.999), st.integers(64, 256))
def test_the_choice_reaches_its_recall_with_no_band_too_many(
    threshold: float, recall: float, permutations: int
) -> None:
    try:
        found = choose_banding(threshold, recall, permutations)
    except HainaError:
        assert Banding(permutations, 1).meets(threshold) < recall
        return
    assert found.bands * found.rows <= permutations
    assert found.meets(threshold) >= recall - 1e-9
    assert found.bands == 1 or Banding(found.bands - 1, found.rows).meets(threshold) < recall


def test_a_recall_out_of_reach_is_said() -> None:
    with pytest.raises(HainaError, match="64 signature values are too few"):
        choose_banding(0.02, 0.999, 64)


def test_the_curve_is_what_random_signatures_do() -> None:
    rng = np.random.default_rng(5)
    banding = Banding(20, 4)
    for similarity in (0.4, 0.6, 0.7):
        alike = rng.random((20_000, 20, 4)) < similarity
        assert alike.all(2).any(1).mean() == pytest.approx(banding.meets(similarity), abs=0.01)


@pytest.mark.parametrize("bits", [32, 40])
def test_documents_share_a_record_key_where_a_band_agrees(bits: int) -> None:
    rng = np.random.default_rng(2)
    bands, rows, partitions = 6, 3, 5
    signatures = rng.integers(0, 2, (40, bands * rows)).astype(np.uint32)
    sketches = rng.integers(0, 2**63, 40).astype(np.uint64)
    ranks = rng.permutation(40).astype(np.uint64)
    records = np.empty((40 * 4, 2), dtype=np.uint64)
    partition = np.empty(len(records), dtype=np.int64)
    band_records(signatures, sketches, ranks, 1, 5, rows, bits, partitions, records, partition)
    assert set(partition.tolist()) <= set(range(partitions))
    assert (records[:, 0] & np.uint64(2**bits - 1)).tolist() == np.repeat(ranks, 4).tolist()
    assert records[:, 1].tolist() == np.repeat(sketches, 4).tolist()
    keys = [(p, int(k) >> bits) for p, k in zip(partition.tolist(), records[:, 0], strict=True)]
    content = [
        (band, *signatures[d, band * rows : (band + 1) * rows].tolist())
        for d in range(40)
        for band in range(1, 5)
    ]
    for i in range(len(keys)):
        for j in range(i):
            assert (keys[i] == keys[j]) == (content[i] == content[j])


@given(st.integers(1, 60), st.integers(1, 10**9), st.integers(1, 2**40))
def test_groups_hold_all_bands_within_the_limit(bands: int, documents: int, limit: int) -> None:
    groups = band_groups(bands, documents, limit)
    assert [band for first, last in groups for band in range(first, last)] == list(range(bands))
    assert all(last - first == 1 or (last - first) * documents * 16 <= limit for first, last in groups)
