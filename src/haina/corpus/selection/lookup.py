"""What needs more than one document to know: ids that stand twice, copies in the input, clusters by meaning.

Comes in: the measures of all blocks, and the tables of `haina cluster`. Goes out: arrays with an entry a
document, mapped into memory. Keys are looked up a range at a time, each range taken from the sorted keys of
every block, so that memory is bounded by `RANGE_ROWS` however many documents there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.selection.measure import NO_CLUSTER, Measures, key_of
from haina.runtime.errors import HainaError

RANGE_ROWS = 1 << 22
NO_TOPIC = -1
NOT_IN_TABLE = -1
TABLE_COLUMNS = ("id", "topic", "cluster", "duplicate_of", "similarity")


@dataclass(frozen=True)
class SemanticTable:
    """The tables of `haina cluster`, without their strings.

    Attributes:
        files: in order.
        firsts: number of the first row of each among all.
        keys: of every row, file by file, ascending within a file; rows: where in its file each stands.
        topics: names of topics; codes: topic of every row of every file, as an index into `topics`.
        duplicates: rows that are near-duplicates of another.
    """

    files: list[Path]
    firsts: list[int]
    keys: list[npt.NDArray[np.uint64]]
    rows: list[npt.NDArray[np.uint32]]
    topics: list[str]
    codes: list[npt.NDArray[np.int32]]
    duplicates: list[npt.NDArray[np.bool_]]


def _read_table(path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if "id" not in names or not {"topic", "cluster"} & set(names):
                raise HainaError(
                    f"{path}: no columns `id` and `topic` (it has {', '.join(names)})",
                    "name the folder that `haina cluster` wrote",
                )
            return file.read(columns=[name for name in TABLE_COLUMNS if name in names])
    except (pa.ArrowException, OSError) as error:
        message = str(error).splitlines()[0]
        raise HainaError(f"{path}: not readable as Parquet ({message})", "make the clusters again") from error


def read_semantic(folder: Path) -> SemanticTable:
    """Read the tables of a folder, or of `clusters/` in it.

    Raises:
        HainaError: no tables there, or tables of another kind.
    """
    inside = folder / "clusters" if (folder / "clusters").is_dir() else folder
    files = sorted(inside.glob("part-*.parquet"))
    if not files:
        raise HainaError(f"{folder}: no part-*.parquet in it", "name the folder that `haina cluster` wrote")
    table = SemanticTable(files, [], [], [], [], [], [])
    numbers: dict[str, int] = {}
    first = 0
    for path in files:
        read = _read_table(path)
        keys = np.array([key_of(str(name)) for name in read.column("id").to_pylist()], np.uint64)
        order = np.argsort(keys, kind="stable")
        names = read.column("topic" if "topic" in read.column_names else "cluster").to_pylist()
        codes = np.full(len(keys), NO_TOPIC, np.int32)
        for row, name in enumerate(names):
            if name is not None and str(name) != str(NO_TOPIC):
                codes[row] = numbers.setdefault(str(name), len(numbers))
        duplicate = np.zeros(len(keys), np.bool_)
        if "duplicate_of" in read.column_names:
            ids, targets = read.column("id").to_pylist(), read.column("duplicate_of").to_pylist()
            duplicate[:] = [target not in (None, "", own) for own, target in zip(ids, targets, strict=True)]
        table.firsts.append(first)
        table.keys.append(keys[order])
        table.rows.append(order.astype(np.uint32))
        table.codes.append(codes)
        table.duplicates.append(duplicate)
        first += len(keys)
    table.topics.extend(numbers)
    return table


def _ranges(total: int) -> Iterator[tuple[int, int]]:
    """Ranges of 64-bit keys of about `RANGE_ROWS` documents each, as (first, last)."""
    count = max(1, -(-total // RANGE_ROWS))
    edges = [(number << 64) // count for number in range(count + 1)]
    for low, high in pairwise(edges):
        yield low, high - 1


def _slice(keys: npt.NDArray[np.uint64], low: int, high: int) -> slice:
    begin = int(np.searchsorted(keys, np.uint64(low), "left"))
    return slice(begin, int(np.searchsorted(keys, np.uint64(high), "right")))


def _gather(
    measures: Sequence[Measures], name: str, low: int, high: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Keys in a range and the numbers of their documents, in the order of the documents' blocks."""
    keys, documents = [], []
    for part in measures:
        ordered = part[f"sorted_{name}"]
        chosen = _slice(ordered, low, high)
        keys.append(ordered[chosen])
        documents.append(part[f"{name}_row"][chosen].astype(np.int64) + part.first)
    return np.concatenate(keys), np.concatenate(documents)


def count_copies(measures: Sequence[Measures], copies: npt.NDArray[np.int32]) -> bool:
    """Fill in how many documents of the input each one's near-duplicate cluster has, 1 for those in none.

    Returns:
        Whether any document names a cluster.
    """
    copies[:] = 1
    named = False
    for low, high in _ranges(len(copies)):
        keys, documents = _gather(measures, "cluster", max(low, NO_CLUSTER + 1), high)
        if len(keys):
            named = True
            _, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
            copies[documents] = np.minimum(counts, np.iinfo(np.int32).max).astype(np.int32)[group]
    return named


def find_repeated_key(measures: Sequence[Measures], total: int) -> tuple[int, int] | None:
    """The first two documents with one key, None when all differ."""
    for low, high in _ranges(total):
        keys, documents = _gather(measures, "key", low, high)
        order = np.lexsort((documents, keys))
        same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
        if len(same):
            return int(documents[order[same[0]]]), int(documents[order[same[0] + 1]])
    return None


def join_semantic(
    measures: Sequence[Measures],
    table: SemanticTable,
    topic: npt.NDArray[np.int32],
    place: npt.NDArray[np.int64],
    duplicate: npt.NDArray[np.bool_],
) -> int:
    """Fill in each document's topic, its row among all of the tables, and whether it is a near-duplicate by meaning.

    Returns:
        Documents that the tables do not name.
    """
    topic[:], place[:], duplicate[:] = NO_TOPIC, NOT_IN_TABLE, False
    for low, high in _ranges(len(topic)):
        keys, documents = _gather(measures, "key", low, high)
        for number, ordered in enumerate(table.keys):
            chosen = ordered[_slice(ordered, low, high)]
            rows = table.rows[number][_slice(ordered, low, high)]
            at = np.searchsorted(chosen, keys)
            found = at < len(chosen)
            found[found] = chosen[at[found]] == keys[found]
            row, document = rows[at[found]], documents[found]
            topic[document] = table.codes[number][row]
            place[document] = table.firsts[number] + row.astype(np.int64)
            duplicate[document] = table.duplicates[number][row]
    return int((place == NOT_IN_TABLE).sum())


def flush(array: npt.NDArray[Any]) -> None:
    """Write what was changed in an array of `new_array` to its file, for other processes to read."""
    assert isinstance(array, np.memmap)
    array.flush()


def new_array(path: Path, kind: Any, count: int) -> npt.NDArray[Any]:
    """An array of `count` entries in a file, mapped into memory."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(count,))
