"""Ranks: a distributed sort against `sorted`."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from haina.corpus.dedup.flow import Flow
from haina.corpus.dedup.layout import Layout, default_partitions, layout_of
from haina.corpus.dedup.order import order_steps, read_numbers
from haina.corpus.dedup.sources import MemoryBlock, MemorySource, Source
from haina.runtime.errors import HainaError
from haina.runtime.executor import LocalExecutor

Order = list[tuple[int, int]]


def source(order: Order) -> MemorySource:
    count = len(order)
    priority, tie = np.array(order, dtype=np.uint64).reshape(-1, 2).T.copy()
    block = MemoryBlock(
        np.zeros((count, 64), dtype=np.uint32), np.ones(count, dtype=np.int64),
        np.zeros((count, 16), dtype=np.uint8), priority, tie,
    )  # fmt: skip
    return MemorySource(
        block, pa.array([""] * count), np.empty(0, dtype=np.uint64), np.zeros(1, dtype=np.int64)
    )


def ranks(tmp_path: Path, parts: list[Order], layout: Layout) -> list[list[int]]:
    flow = Flow(LocalExecutor(1), tmp_path)
    sources: list[Source] = [source(part) for part in parts]
    _, step = order_steps(flow, sources, layout)
    flow.make(step)
    return [read_numbers(file, layout).tolist() for file in step.files]


@pytest.mark.parametrize(("partitions", "bits"), [(1, 32), (5, 32), (5, 40)])
@pytest.mark.parametrize("hostile", [False, True])
def test_ranks_are_places_in_the_sorted_order(
    tmp_path: Path, partitions: int, bits: int, hostile: bool
) -> None:
    rng = random.Random(partitions)
    # Hostile: few values, all ties; documents that are equal in both keep the order of the input.
    high = 3 if hostile else 2**64 - 1
    parts = [[(rng.randint(0, high), rng.randint(0, high)) for _ in range(size)] for size in (70, 0, 1, 130)]
    layout = Layout(tuple(map(len, parts)), partitions, bits)
    found = ranks(tmp_path, parts, layout)
    flat = [document for part in parts for document in part]
    places = sorted(range(len(flat)), key=lambda k: (*flat[k], k))
    assert np.argsort(np.concatenate(found)).tolist() == places


def test_a_partition_with_other_rows_than_it_said_is_named(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match="partition 0 of the documents has 2 rows"):
        ranks(tmp_path, [[(1, 1), (2, 2)]], Layout((3,), 1, 32))


def test_partitions_follow_the_documents_and_what_is_compared() -> None:
    assert [default_partitions(count, exact=False) for count in (0, 400_000, 400_001, 10**8)] == [
        1,
        1,
        2,
        250,
    ]
    assert [default_partitions(count, exact=True) for count in (0, 50_000, 50_001, 10**8)] == [1, 1, 2, 2000]


def test_numbers_grow_beyond_32_bits_with_the_documents() -> None:
    assert layout_of((2**31, 2**31 - 2), 1).bits == 32
    assert layout_of((2**31, 2**31), 1).bits == 40
