"""The external sort against `sorted` and `heapq.merge`, on random and hostile keys and any budget."""

from __future__ import annotations

import errno
import heapq
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haina.runtime.errors import HainaError
from haina.runtime.executor import external_sort
from haina.runtime.executor.external_sort import (
    merge_sorted,
    radix_order,
    sort_keys,
    sort_records,
    sorted_records,
)

DTYPE = np.dtype([("a", "<u8"), ("b", "<i4"), ("c", "<f8"), ("s", "S3"), ("place", "<u4")])
EDGES = [0, 1, 2047, 2048, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
ROW = st.tuples(
    st.sampled_from(EDGES) | st.integers(0, 3),
    st.sampled_from([-(1 << 31), -1, 0, 1, (1 << 31) - 1]),
    st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 1e-300, 2.0, np.inf]),
    st.sampled_from([b"", b"a", b"a\0b", b"\xe6\xb5\xb7", b"zz"]),
)
ROWS = st.lists(ROW, max_size=60)
KEYS = st.permutations(["a", "b", "c", "s"]).flatmap(lambda keys: st.integers(1, 4).map(lambda n: keys[:n]))


def records_of(rows: list[tuple[Any, ...]]) -> np.ndarray:
    return np.array([(*row, place) for place, row in enumerate(rows)], DTYPE)


def plain(records: np.ndarray, keys: list[str]) -> list[Any]:
    return sorted(records.tolist(), key=lambda row: [row[DTYPE.names.index(key)] for key in keys])


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, keys=KEYS)
def test_sorted_records_are_sorted_and_stable(rows: list[tuple[Any, ...]], keys: list[str]) -> None:
    records = records_of(rows)
    assert sorted_records(records, keys).tolist() == plain(records, keys)
    columns = sort_keys(records, keys)
    assert radix_order(columns).tolist() == np.lexsort(columns.T[::-1]).tolist()


@settings(max_examples=100, deadline=None)
@given(runs=st.lists(ROWS, max_size=6), keys=KEYS, block=st.integers(1, 9))
def test_merging_is_heapq_merge(runs: list[list[tuple[Any, ...]]], keys: list[str], block: int) -> None:
    arrays = [sorted_records(records_of(rows), keys) for rows in runs]
    blocks = [[array[start : start + block] for start in range(0, len(array), block)] for array in arrays]
    merged = [row for part in merge_sorted(blocks, keys) for row in part.tolist()]
    columns = [DTYPE.names.index(key) for key in keys]
    expected = heapq.merge(
        *(array.tolist() for array in arrays), key=lambda row: [row[column] for column in columns]
    )
    assert merged == list(expected)


@pytest.mark.parametrize("memory", [1, 400_000, 1 << 30])
def test_any_budget_gives_the_same(tmp_path: Path, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_sort, "_FAN_IN", 4)
    rng = np.random.default_rng(5)
    records = np.zeros(20_000, DTYPE)
    records["a"] = rng.integers(0, 50, len(records))
    records["b"] = rng.integers(-5, 5, len(records))
    records["place"] = np.arange(len(records))
    blocks = [records[start : start + 777].tobytes() for start in range(0, len(records), 777)]
    parts = list(sort_records(blocks, DTYPE, ["a", "b"], folder=tmp_path, memory=memory))
    assert np.concatenate(parts).tobytes() == records[np.lexsort([records["b"], records["a"]])].tobytes()
    assert not list(tmp_path.iterdir())
    if memory < 1 << 30:
        assert max(part.nbytes for part in parts) < 2 << 20


def test_nothing_is_sorted_to_nothing(tmp_path: Path) -> None:
    assert list(sort_records([], DTYPE, ["a"], folder=tmp_path)) == []
    assert list(merge_sorted([], ["a"])) == []


def test_keys_that_have_no_order_are_refused() -> None:
    with pytest.raises(TypeError, match="text"):
        sort_keys(np.zeros(1, np.dtype([("text", "U4")])), ["text"])


def test_a_full_disk_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, records: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(external_sort._RunFile, "write", full)
    records = np.zeros(5_000, DTYPE)
    with pytest.raises(HainaError, match=f"{tmp_path}: no space left"):
        list(sort_records([records], DTYPE, ["a"], folder=tmp_path, memory=1))
