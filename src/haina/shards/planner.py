"""Makes packing plans: lengths of documents in, a plan folder out, in memory that the number of documents does not
decide.

Best-fit: documents are taken in groups of `GROUP` in a fixed, scattered order. One that is longer than a row gives
whole rows and a rest; rests and short documents of a domain are packed by best-fit decreasing. A document of n tokens
takes n - 1 places, its inputs; its targets are the same tokens one to the right, so every token but the first is
predicted once. Rows of a group that stay too empty are opened again and packed with the next group, so that small
domains are packed as tightly as large ones.

Concatenation: `stream.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haina.runtime.files import write_json
from haina.shards.packing import best_fit, group_by_row
from haina.shards.permutation import permute_range
from haina.shards.plan import PACKS_FILE, PIECES_FILE, PLAN_FILE, describe_array
from haina.shards.plan_writer import DomainWriter, join_domains, pieces_of
from haina.shards.shard_set import ShardSet
from haina.shards.stream import cut_stream

GROUP = 1 << 18
# A row may stay open for the next group when more than this share of it is free.
OPEN_SHARE = 1 / 128
# The order in which documents meet. It is not the order in which rows are read, so the seed of a run does not enter.
SCATTER = np.uint64(0x6861696E61)


def write_plan(
    folder: Path,
    shards: ShardSet,
    domains: NDArray[np.integer] | None,
    names: Sequence[str],
    identity: dict[str, Any],
    group: int = GROUP,
) -> None:
    """Make the plan that `identity` describes in the empty `folder`.

    Args:
        shards: the documents.
        domains: int [documents], place of each document's domain in `names`, -1 to leave it out; None: all are of the
            only domain.
        names: of the domains.
        identity: `packing` and `sequence_length` say what to make.
        group: documents that are packed together.
    """
    length = int(identity["sequence_length"])
    best = identity["packing"] == "best_fit"
    made = [
        DomainWriter(name, folder / f"{number}.pieces", folder / f"{number}.sizes")
        for number, name in enumerate(names)
    ]
    cut = empty = 0
    for documents, last in _groups(len(shards), group, scattered=best):
        sizes = np.asarray(shards.lengths[documents]).astype(np.int64)
        positions = token_positions(shards, documents)
        of = np.zeros(len(documents), np.int64) if domains is None else domains[documents]
        for number, domain in enumerate(made):
            chosen = np.flatnonzero(of == number)
            mine = (documents[chosen], positions[chosen], sizes[chosen])
            empty += int((mine[2] < 2).sum())
            cut += int((mine[2] - 1 > length).sum())
            domain.documents += len(chosen)
            if best:
                _pack(domain, *mine, length, group, last)
            else:
                cut_stream(domain, *mine, length)
    description = {
        "identity": identity,
        "domains": join_domains(folder, made, None if best else length),
        "cut": cut,
        "empty": empty,
        "arrays": {name: describe_array(folder / name) for name in (PIECES_FILE, PACKS_FILE)},
    }
    write_json(folder / PLAN_FILE, description)


def _groups(count: int, group: int, scattered: bool) -> Iterator[tuple[NDArray[np.int64], bool]]:
    """Numbers of documents, group by group, and whether the group is the last."""
    for start in range(0, max(count, 1), group):
        stop = min(count, start + group)
        if scattered and count:
            yield permute_range(start, stop, count, SCATTER), stop == count
        else:
            yield np.arange(start, stop, dtype=np.int64), stop == count


def token_positions(shards: ShardSet, documents: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of the first token of each document [n] among all tokens of the split."""
    order = np.argsort(documents, kind="stable")
    ordered = documents[order]
    found = np.empty(len(documents), np.int64)
    borders = np.searchsorted(ordered, shards.first)
    for number, shard in enumerate(shards.shards):
        part = ordered[borders[number] : borders[number + 1]]
        if len(part):
            offsets = shard.pointers[part - shards.first[number]] // shards.dtype.itemsize
            found[borders[number] : borders[number + 1]] = offsets + shards.first_token[number]
    result = np.empty_like(found)
    result[order] = found
    return result


def _pack(
    domain: DomainWriter,
    documents: NDArray[np.int64],
    positions: NDArray[np.int64],
    sizes: NDArray[np.int64],
    length: int,
    group: int,
    last: bool,
) -> None:
    """Pack a group's documents of a domain with those that wait; write the rows that are full enough."""
    places = np.maximum(sizes - 1, 0)
    whole, rest = np.divmod(places, length)
    domain.targets += int(places.sum())
    rows = np.repeat(np.arange(len(documents)), whole)
    first = (np.arange(len(rows)) - np.repeat(np.cumsum(whole) - whole, whole)) * length
    domain.write(
        pieces_of(documents[rows], positions[rows], first, np.full(len(rows), length)),
        np.ones(len(rows), np.int64),
    )
    rests = np.flatnonzero(rest)
    new = pieces_of(documents[rests], positions[rests], (whole * length)[rests], rest[rests])
    pool = np.concatenate([domain.waiting, new])
    row_of, left = best_fit(pool["length"].astype(np.int32), length)
    closed = np.ones(len(left), np.bool_) if last else _closed(row_of, left, length, group)
    number = np.where(closed, np.cumsum(closed) - 1, -1).astype(np.int32)
    items, counts = group_by_row(row_of, number, int(closed.sum()))
    domain.write(pool[items], counts)
    domain.waiting = pool[~closed[row_of]]


def _closed(row_of: NDArray[np.int32], left: NDArray[np.int32], length: int, group: int) -> NDArray[np.bool_]:
    """Which rows are written now: the nearly full ones, and more from the fullest on until at most half a group of
    documents waits.
    """
    closed: NDArray[np.bool_] = left <= length * OPEN_SHARE
    items = np.bincount(row_of, minlength=len(left))
    waiting = int(items[~closed].sum())
    if waiting > group // 2:
        order = np.argsort(left, kind="stable")
        remaining = items.sum() - np.cumsum(items[order])
        closed[order[: int(np.searchsorted(-remaining, -(group // 2))) + 1]] = True
    return closed
