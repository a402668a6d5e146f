"""Documents whose exact keys agree: the best by rank stays for all of them.

Comes in: facts and ranks. Goes out: for each partition, for each row, the rank of the best document of the same key
when there are several, else none. Each partition first settles its own copies and sends one record a key, so ten
million copies of a page cost one record a partition. Documents without tokens are copies of nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from haina.corpus.dedup.flow import Flow, Step
from haina.corpus.dedup.layout import Layout
from haina.corpus.dedup.order import read_facts, read_numbers
from haina.corpus.dedup.sorting import (
    Words,
    mix,
    number_type,
    pack_pairs,
    pair_width,
    read_rows,
    send_rows,
    share_of,
    unpack_pairs,
)
from haina.runtime.executor import Buckets


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _best(
    keys: Words, ranks: Words, living: npt.NDArray[np.bool_], table: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    mask = np.int64(len(table) - 1)
    out = np.full(len(keys), -1, dtype=np.int64)
    for row in range(len(keys)):
        if not living[row]:
            continue
        slot = np.int64(mix(keys[row, 0]) & np.uint64(mask))
        while table[slot] >= 0 and (
            keys[table[slot], 0] != keys[row, 0] or keys[table[slot], 1] != keys[row, 1]
        ):
            slot = (slot + 1) & mask
        out[row] = slot
        if table[slot] < 0 or ranks[row] < ranks[table[slot]]:
            table[slot] = row
    for row in range(len(keys)):
        if out[row] >= 0:
            out[row] = table[out[row]]
    return out


def best_of_key(keys: Words, ranks: npt.NDArray[Any], living: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Index of the best document of the same key, -1 for those that do not live: int64 [documents].

    Args:
        keys: uint64 [documents, 2]. ranks: smaller is better. living: False for documents without tokens.
    """
    table = np.full(1 << max(3, (len(keys) * 3 // 2).bit_length()), -1, dtype=np.int64)
    return _best(np.ascontiguousarray(keys), ranks.astype(np.uint64), living, table)


def best_of_key_plain(keys: list[bytes], ranks: list[int], living: list[bool]) -> list[int]:
    """`best_of_key` with a dictionary."""
    best: dict[bytes, int] = {}
    for row in sorted(range(len(keys)), key=ranks.__getitem__):
        if living[row]:
            best.setdefault(keys[row], row)
    return [best[key] if alive else -1 for key, alive in zip(keys, living, strict=True)]


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _share_of_keys(keys: Words, partitions: int) -> npt.NDArray[np.int64]:
    out = np.empty(len(keys), dtype=np.int64)
    for row in range(len(keys)):
        # Other bits than those that place a key in a hash table.
        out[row] = share_of(mix(keys[row, 0] ^ np.uint64(0x9E3779B97F4A7C15)), partitions)
    return out


def _own_best(facts: Words, ranks: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    return best_of_key(facts[:, 2:4], ranks, facts[:, 4] > 0)


def send_keys(task: tuple[tuple[Path, Path], Layout], buckets: Buckets) -> None:
    """Task: (key, rank, row) of the best document of each key of a partition, to the partition of the key."""
    (facts_path, ranks_path), layout = task
    facts, ranks = read_facts(facts_path), read_numbers(ranks_path, layout)
    chosen = np.flatnonzero(_own_best(facts, ranks) == np.arange(len(facts)))
    rows = np.empty((len(chosen), 4), dtype=np.uint64)
    rows[:, :2] = facts[chosen, 2:4]
    rows[:, 2], rows[:, 3] = ranks[chosen], chosen
    send_rows(buckets, rows, _share_of_keys(rows[:, :2], layout.partitions))


def send_copies(task: tuple[int, tuple[tuple[Path, ...], Layout]], buckets: Buckets) -> None:
    """Task: for keys that several partitions have, (row, rank of the best) to each of them."""
    partition, (files, layout) = task
    parts = [read_rows([file], partition, 4) for file in files]
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    rows = np.concatenate(parts)
    del parts
    best = best_of_key(rows[:, :2], rows[:, 2], np.ones(len(rows), dtype=np.bool_))
    chosen = np.flatnonzero(np.bincount(best, minlength=len(rows))[best] > 1)
    send_rows(buckets, pack_pairs(rows[chosen, 3], rows[best[chosen], 2], layout.bits), owner[chosen])


def write_best(task: tuple[tuple[int, Path, Path], tuple[tuple[Path, ...], Layout]], path: Path) -> None:
    """Task: for each row the rank of the best of its key, its own for the best, none where there is no copy."""
    (partition, facts_path, ranks_path), (files, layout) = task
    facts, ranks = read_facts(facts_path), read_numbers(ranks_path, layout)
    own = _own_best(facts, ranks)
    living = own >= 0
    out = np.full(len(ranks), layout.none, dtype=number_type(layout.bits))
    several = np.flatnonzero(living)[np.bincount(own[living], minlength=len(own))[own[living]] > 1]
    out[several] = ranks[own[several]]
    row, best = unpack_pairs(read_rows(files, partition, pair_width(layout.bits)))
    elsewhere = np.full(len(ranks), layout.none, dtype=out.dtype)
    elsewhere[row.astype(np.int64)] = best
    found = np.flatnonzero(living)
    found = found[elsewhere[own[found]] != layout.none]
    out[found] = elsewhere[own[found]]
    path.write_bytes(out.tobytes())


def exact_step(flow: Flow, facts: Step, ranks: Step, layout: Layout) -> Step:
    """Declare the search for copies."""
    both = list(zip(facts.files, ranks.files, strict=True))
    keys = flow.step(
        "keys", send_keys, both, shared=layout, needs=[facts, ranks], partitions=layout.partitions
    )
    copies = flow.step(
        "copies by partition", send_copies, range(layout.partitions), shared=(keys.files, layout),
        needs=[keys], partitions=len(both),
    )  # fmt: skip
    return flow.step(
        "copies", write_best, [(d, *files) for d, files in enumerate(both)], shared=(copies.files, layout),
        needs=[facts, ranks, copies],
    )  # fmt: skip
