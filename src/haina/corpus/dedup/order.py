"""The rank of every document: 0 for the best of all, by priority, then tie.

Comes in: sources. Goes out: for each partition the ranks of its rows. From here on a document is its rank, so
"the best of these" is the smallest number, and no result depends on the order of the input. Ranks come from a
distributed sort: facts are sampled for splitters, exchanged by range, sorted, numbered and sent back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.dedup.arrays import read_array
from haina.corpus.dedup.flow import Flow, Step
from haina.corpus.dedup.layout import Layout
from haina.corpus.dedup.sorting import (
    Words,
    number_type,
    pack_pairs,
    pair_width,
    read_rows,
    send_rows,
    sort_rows,
    unpack_pairs,
)
from haina.corpus.dedup.sources import Source
from haina.runtime.errors import HainaError
from haina.runtime.executor import Buckets, size

FACTS = 5  # words of a row of facts: priority, tie, two of the key, 1 where there is any token
_SAMPLES = 256  # a range partition, so that their sizes differ by about 6 %
_CHUNK = 1 << 16


def write_facts(task: tuple[tuple[Source, int], Layout], path: Path) -> None:
    """Task: what ordering and exact keys need of a partition: uint64 [rows, FACTS]."""
    (source, partition), layout = task
    count = 0
    with path.open("wb") as file:
        for block in source.blocks():
            rows = np.empty((len(block.sizes), FACTS), dtype="<u8")
            rows[:, 0], rows[:, 1] = block.priority, block.tie
            rows[:, 2:4] = np.ascontiguousarray(block.keys).view(np.uint8).view("<u8").reshape(-1, 2)
            rows[:, 4] = block.sizes > 0
            file.write(rows.tobytes())
            count += len(rows)
    if count != layout.documents[partition]:
        raise HainaError(
            f"partition {partition} of the documents has {count} rows in its blocks, not {layout.documents[partition]}",
            "its files changed or are damaged: make them again",
        )


def read_facts(path: Path) -> Words:
    """Facts of a partition."""
    return read_array(path, "<u8", FACTS)


def write_splitters(task: tuple[int, tuple[tuple[Path, ...], Layout]], path: Path) -> None:
    """Task: (priority, tie) at the borders of the range partitions: uint64 [partitions - 1, 2]."""
    _, (facts, layout) = task
    every = max(1, layout.total // (_SAMPLES * layout.partitions))
    samples = sort_rows(
        np.concatenate([np.ascontiguousarray(read_facts(file)[::every, :2]) for file in facts]),
        [(0, 64), (0, 64)],
    )
    chosen = np.arange(1, layout.partitions) * len(samples) // layout.partitions
    path.write_bytes(samples[chosen].tobytes() if len(samples) else b"")


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _range_of(rows: Words, splitters: Words) -> npt.NDArray[np.int64]:
    """How many splitters are at or before each row."""
    out = np.empty(len(rows), dtype=np.int64)
    for row in range(len(rows)):
        low, high = 0, len(splitters)
        while low < high:
            middle = (low + high) // 2
            before = splitters[middle, 0] < rows[row, 0] or (
                splitters[middle, 0] == rows[row, 0] and splitters[middle, 1] <= rows[row, 1]
            )
            if before:
                low = middle + 1
            else:
                high = middle
        out[row] = low
    return out


def send_by_range(task: tuple[tuple[int, Path], Path], buckets: Buckets) -> None:
    """Task: (priority, tie, partition and row) of each document to its range."""
    (partition, facts_path), splitters_path = task
    facts = read_facts(facts_path)
    splitters = read_array(splitters_path, "<u8", 2)
    for start in range(0, len(facts), _CHUNK):
        rows = np.empty((min(_CHUNK, len(facts) - start), 3), dtype=np.uint64)
        rows[:, :2] = facts[start : start + _CHUNK, :2]
        rows[:, 2] = np.arange(start, start + len(rows), dtype=np.uint64) | np.uint64(partition << 32)
        send_rows(buckets, rows, _range_of(rows, splitters))


def write_positions(task: tuple[int, tuple[Path, ...]], path: Path) -> None:
    """Task: a range in order, as partition << 32 | row: uint64 [documents]."""
    partition, files = task
    # The sort is stable and documents come in order: what is equal in both stays in order of position.
    rows = sort_rows(read_rows(files, partition, 3), [(0, 64), (0, 64)])
    path.write_bytes(np.ascontiguousarray(rows[:, 2]).tobytes())


def send_ranks(task: tuple[int, tuple[tuple[Path, ...], Layout]], buckets: Buckets) -> None:
    """Task: (row, rank) of each document of a range, to its partition."""
    partition, (files, layout) = task
    first = sum(size(file) or 0 for file in files[:partition]) // 8
    positions = read_array(files[partition], "<u8")
    ranks = np.arange(first, first + len(positions), dtype=np.uint64)
    rows = pack_pairs(positions & np.uint64(0xFFFFFFFF), ranks, layout.bits)
    send_rows(buckets, rows, (positions >> np.uint64(32)).astype(np.int64))


def write_ranks(task: tuple[int, tuple[tuple[Path, ...], Layout]], path: Path) -> None:
    """Task: the rank of each row of a partition: `number_type` [rows]."""
    partition, (files, layout) = task
    row, rank = unpack_pairs(read_rows(files, partition, pair_width(layout.bits)))
    out = np.empty(layout.documents[partition], dtype=number_type(layout.bits))
    out[row.astype(np.int64)] = rank
    path.write_bytes(out.tobytes())


def read_numbers(path: Path, layout: Layout) -> npt.NDArray[Any]:
    """Numbers of the rows of a partition, as `write_ranks` writes them."""
    return read_array(path, number_type(layout.bits))


def order_steps(flow: Flow, sources: list[Source], layout: Layout) -> tuple[Step, Step]:
    """Declare facts and ranks."""
    numbered = list(enumerate(sources))
    facts = flow.step("facts", write_facts, [(s, d) for d, s in numbered], shared=layout)
    splitters = flow.step("splitters", write_splitters, [0], shared=(facts.files, layout), needs=[facts])
    ranges = flow.step(
        "ranges", send_by_range, list(enumerate(facts.files)), shared=splitters.files[0],
        needs=[facts, splitters], partitions=layout.partitions,
    )  # fmt: skip
    positions = flow.step(
        "positions", write_positions, range(layout.partitions), shared=ranges.files, needs=[ranges]
    )
    returned = flow.step(
        "ranks by partition", send_ranks, range(layout.partitions), shared=(positions.files, layout),
        needs=[positions], partitions=len(sources),
    )  # fmt: skip
    ranks = flow.step(
        "ranks", write_ranks, range(len(sources)), shared=(returned.files, layout), needs=[returned]
    )
    return facts, ranks
