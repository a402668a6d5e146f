"""What has to be compared, brought together: documents, their copies and their pairs, by component.

Comes in: sources, ranks, copies, labels, pairs. Goes out: exchanges by component. A document in a component, or with
copies, moves once, with its payload (its signature cut to 8 bits a value, or its shingle set) and its id, as a record
of 64-bit words:

    rank, component, partition, payload words << 32 | id bytes, payload ..., id ...

Copies do not move: each partition sends one record a key, (rank of the best, component, partition, copies).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from haina.corpus.dedup.candidates import read_pairs
from haina.corpus.dedup.components import read_labels
from haina.corpus.dedup.flow import Flow, Step
from haina.corpus.dedup.layout import ClusterConfig, Layout
from haina.corpus.dedup.minhash import truncate8
from haina.corpus.dedup.order import read_numbers
from haina.corpus.dedup.sorting import Words, mix, pack_pairs, send_rows, share_of
from haina.corpus.dedup.sources import Source
from haina.runtime.executor import Buckets

HEADER = 4
_SHINGLES_AT_ONCE = 1 << 22
_PAIRS_AT_ONCE = 1 << 20


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def share_of_components(components: npt.NDArray[Any], partitions: int) -> npt.NDArray[np.int64]:
    """Partition of each component."""
    out = np.empty(len(components), dtype=np.int64)
    for index in range(len(components)):
        out[index] = share_of(mix(np.uint64(components[index])), partitions)
    return out


class Ids(NamedTuple):
    """Strings in one buffer: string k is `data[offsets[k]:offsets[k + 1]]`, UTF-8."""

    data: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]


def ids_of(array: Any) -> Ids:
    """Ids of a pyarrow array of strings."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # what combines to nothing stays chunked
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.large_string())
    array = array.cast(pa.large_string())
    _, offsets, data = array.buffers()
    if not len(array):
        return Ids(np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64))
    inside = np.frombuffer(offsets, dtype="<i8")[array.offset : array.offset + len(array) + 1]
    return Ids(np.frombuffer(data, dtype=np.uint8) if data else np.empty(0, dtype=np.uint8), inside)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def pack_records(
    order: npt.NDArray[np.int64],
    heads: Words,
    payload: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    id_data: npt.NDArray[np.uint8],
    id_offsets: npt.NDArray[np.int64],
    id_rows: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Records one after the other, in `order`: their bytes, and where each begins, and the end.

    Args:
        heads: words before the lengths: uint64 [documents, words].
        payload, starts: bytes of each document and where they begin, and the end: whole words.
        id_data, id_offsets, id_rows: ids, and which of them each document has.
    """
    before = heads.shape[1]
    places = np.zeros(len(order) + 1, dtype=np.int64)
    for position in range(len(order)):
        document = order[position]
        row = id_rows[document]
        words = before + 1 + (starts[document + 1] - starts[document]) // 8
        words += (id_offsets[row + 1] - id_offsets[row] + 7) // 8
        places[position + 1] = places[position] + 8 * words
    out = np.zeros(places[-1], dtype=np.uint8)
    words_out = out.view(np.uint64)
    for position in range(len(order)):
        document = order[position]
        row = id_rows[document]
        place = places[position] // 8
        for word in range(before):
            words_out[place + word] = heads[document, word]
        size = starts[document + 1] - starts[document]
        length = id_offsets[row + 1] - id_offsets[row]
        words_out[place + before] = (np.uint64(size // 8) << np.uint64(32)) | np.uint64(length)
        target = places[position] + 8 * (before + 1)
        out[target : target + size] = payload[starts[document] : starts[document + 1]]
        target += size
        out[target : target + length] = id_data[id_offsets[row] : id_offsets[row + 1]]
    return out, places


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def record_places(words: Words, before: int) -> npt.NDArray[np.int64]:
    """Where each record of `pack_records` begins, in words, and the end."""
    count, place = 0, np.int64(0)
    while place < len(words):
        lengths = words[place + before]
        place += before + 1 + np.int64(lengths >> np.uint64(32))
        place += (np.int64(lengths & np.uint64(0xFFFFFFFF)) + 7) // 8
        count += 1
    out = np.zeros(count + 1, dtype=np.int64)
    for index in range(count):
        lengths = words[out[index] + before]
        out[index + 1] = out[index] + before + 1 + np.int64(lengths >> np.uint64(32))
        out[index + 1] += (np.int64(lengths & np.uint64(0xFFFFFFFF)) + 7) // 8
    return out


def send_records(
    buckets: Buckets,
    partition: npt.NDArray[np.int64],
    heads: Words,
    payload: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    ids: Ids,
    id_rows: npt.NDArray[np.int64],
) -> None:
    """Pack documents and add each to its partition."""
    order = np.argsort(partition, kind="stable")
    out, places = pack_records(order, heads, payload, starts, ids.data, ids.offsets, id_rows)
    cuts = np.searchsorted(partition[order], np.arange(partition.max(initial=-1) + 2))
    for number in np.flatnonzero(np.diff(cuts)).tolist():
        buckets.add(number, out[places[cuts[number]] : places[cuts[number + 1]]])


def component_of(ranks: npt.NDArray[Any], labels: npt.NDArray[Any], none: int) -> npt.NDArray[Any]:
    """Label of each rank; what is in no pair is a component of its own."""
    found = labels[ranks]
    return np.where(found == none, ranks, found)


def send_members(
    task: tuple[tuple[int, Source, Path, Path], tuple[Path, Layout, ClusterConfig]], buckets: Buckets
) -> None:
    """Task: documents to the partition of their component, and how many copies there are, `partitions` further."""
    (partition, source, ranks_path, copies_path), (labels_path, layout, config) = task
    ranks, copies = read_numbers(ranks_path, layout), read_numbers(copies_path, layout)
    labels = read_labels(labels_path, layout)
    is_copy = (copies != layout.none) & (copies != ranks)
    best, counts = np.unique(copies[is_copy], return_counts=True)
    rows = np.empty((len(best), HEADER), dtype=np.uint64)
    rows[:, 0], rows[:, 1] = best, component_of(best, labels, layout.none)
    rows[:, 2], rows[:, 3] = partition, counts
    send_rows(buckets, rows, share_of_components(rows[:, 1], layout.partitions), layout.partitions)

    moved = np.flatnonzero(((labels[ranks] != layout.none) | (copies == ranks)) & ~is_copy)
    ids = ids_of(source.ids())
    for chosen, payload, starts in _payloads(source, moved, config):
        heads = np.empty((len(chosen), HEADER - 1), dtype=np.uint64)
        heads[:, 0], heads[:, 1] = ranks[chosen], component_of(ranks[chosen], labels, layout.none)
        heads[:, 2] = partition
        share = share_of_components(heads[:, 1], layout.partitions)
        send_records(buckets, share, heads, payload, starts, ids, chosen)


def _payloads(source: Source, moved: npt.NDArray[np.int64], config: ClusterConfig) -> Any:
    """Rows with their payload bytes and where they begin, some tens of megabytes at a time."""
    if config.exact:
        # Pages have a thousand shingles, books a million: the next piece is cut by the size of the last.
        count = 64
        while len(moved):
            chosen, moved = moved[:count], moved[count:]
            shingles, starts = source.shingle_sets(chosen)
            flat = np.ascontiguousarray(shingles, dtype="<u8").view(np.uint8)
            yield chosen, flat, np.asarray(starts, dtype=np.int64) * 8
            count = max(1, min(2 * count, count * _SHINGLES_AT_ONCE // max(1, len(shingles))))
        return
    start = 0
    for block in source.blocks():
        end = start + len(block.sizes)
        chosen = moved[np.searchsorted(moved, start) : np.searchsorted(moved, end)]
        if len(chosen):
            payload = truncate8(np.ascontiguousarray(block.signatures[chosen - start]))
            width = -(-payload.shape[1] // 8) * 8
            padded = np.zeros((len(chosen), width), dtype=np.uint8)
            padded[:, : payload.shape[1]] = payload
            yield chosen, padded.ravel(), np.arange(len(chosen) + 1, dtype=np.int64) * width
        start = end


def send_pairs(task: tuple[Path, tuple[Path, Layout]], buckets: Buckets) -> None:
    """Task: pairs to the partition of their component."""
    pairs_path, (labels_path, layout) = task
    left, right = read_pairs(pairs_path, layout)
    labels = read_labels(labels_path, layout)
    for start in range(0, len(left), _PAIRS_AT_ONCE):
        a, b = left[start : start + _PAIRS_AT_ONCE], right[start : start + _PAIRS_AT_ONCE]
        send_rows(buckets, pack_pairs(a, b, layout.bits), share_of_components(labels[a], layout.partitions))


def gather_steps(
    flow: Flow, sources: list[Source], ranks: Step, copies: Step, pairs: Step, labels: Step, layout: Layout,
    config: ClusterConfig,
) -> tuple[Step, Step]:  # fmt: skip
    """Declare the exchanges of documents and of pairs."""
    items = [(d, *item) for d, item in enumerate(zip(sources, ranks.files, copies.files, strict=True))]
    table = labels.files[0]
    members = flow.step(
        "members", send_members, items, shared=(table, layout, config), needs=[ranks, copies, labels],
        partitions=2 * layout.partitions,
    )  # fmt: skip
    together = flow.step(
        "pairs by component", send_pairs, pairs.files, shared=(table, layout), needs=[pairs, labels],
        partitions=layout.partitions,
    )  # fmt: skip
    return members, together
