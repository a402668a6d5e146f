"""Who stays for whom: components compared and clustered, and the verdicts brought back to the rows.

Comes in: documents and pairs by component. Goes out: one Arrow file a partition of the input, a row a document:

    representative  id of the document that stays for it; null for documents that stay
    similarity      to the representative; null for documents that stay
    method          "exact" where the keys agree, else "near"; null for documents that stay
    cluster_size    documents in its cluster, copies counted; 1 for those alone

A verdict travels once a document and once a partition that holds copies of it, with the id of the representative; the
copies in a partition take the verdict of the best of their key.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from haina.corpus.dedup.assign import assign_clusters
from haina.corpus.dedup.flow import Flow, Step
from haina.corpus.dedup.gather import HEADER, Ids, record_places, send_records
from haina.corpus.dedup.layout import ClusterConfig, Layout
from haina.corpus.dedup.order import read_numbers
from haina.corpus.dedup.sorting import Index, Words, pair_width, read_rows, sort_rows, unpack_pairs
from haina.corpus.dedup.verify import estimate_pairs, verify_pairs
from haina.runtime.errors import HainaError
from haina.runtime.executor import Buckets, iter_blocks, local_path

METHODS = ("exact", "near")
VERDICTS_SCHEMA = pa.schema(
    [
        pa.field("representative", pa.large_string()),
        pa.field("similarity", pa.float32()),
        pa.field("method", pa.dictionary(pa.int8(), pa.string())),
        pa.field("cluster_size", pa.int64()),
    ]
)
# What is larger is kept in an unnamed file and mapped, so that one component of millions does not fill the memory.
_IN_MEMORY = 256 << 20


def _read_words(files: Iterable[Path], partition: int, folder: Path | None) -> Words:
    """All records of a partition, one after the other."""
    held = bytearray()
    blocks = iter_blocks(files, partition)
    for block in blocks:
        held += block
        if len(held) > _IN_MEMORY:
            break
    else:
        return np.frombuffer(held, dtype="<u8")
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(held)
        del held
        file.writelines(blocks)
        file.flush()
        return np.memmap(file, dtype="<u8", mode="r+")


def _new(shape: Any, kind: Any, folder: Path | None) -> npt.NDArray[Any]:
    """An array to fill, mapped where it is large."""
    if int(np.prod(shape)) * np.dtype(kind).itemsize <= _IN_MEMORY:
        return np.empty(shape, dtype=kind)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype=kind, mode="w+", shape=shape)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _copy_payloads(
    words: Words, begin: npt.NDArray[np.int64], size: npt.NDArray[np.int64], out: Words
) -> None:
    place = 0
    for index in range(len(begin)):
        out[place : place + size[index]] = words[begin[index] : begin[index] + size[index]]
        place += size[index]


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _as_pairs(rows: Words, bits: np.uint64, out: npt.NDArray[np.int64]) -> None:
    for row in range(len(rows)):
        out[row, 0] = np.int64(rows[row, 0] >> bits)
        out[row, 1] = np.int64(rows[row, 0] & ((np.uint64(1) << bits) - np.uint64(1)))


def send_verdicts(
    task: tuple[int, tuple[tuple[Path, ...], tuple[Path, ...], Layout, ClusterConfig]], buckets: Buckets
) -> None:
    """Task: compare and cluster the components of a partition; verdicts to the partitions of their documents."""
    partition, (members, together, layout, config) = task
    # Beside the other files where those lie on this machine; else where temporary files go.
    folder = local_path(members[0].parent)
    words = _read_words(members, partition, folder)
    places = record_places(words, HEADER - 1)
    begin = places[:-1]
    # By component, best first; the position keeps the rows in hand.
    keys = np.column_stack([words[begin + 1], words[begin], np.arange(len(begin), dtype=np.uint64)])
    order = sort_rows(np.ascontiguousarray(keys), [(0, layout.bits), (0, layout.bits)])[:, 2].astype(np.int64)
    begin = begin[order]
    ranks, components, home = (
        words[begin],
        words[begin + 1].astype(np.int64),
        words[begin + 2].astype(np.int64),
    )
    lengths = words[begin + 3]
    sizes, id_bytes = (
        (lengths >> np.uint64(32)).astype(np.int64),
        (lengths & np.uint64(0xFFFFFFFF)).astype(np.int64),
    )
    index = Index(ranks)

    pairs, similarity = _compare(
        partition, words, begin, sizes, components, index, together, folder, layout, config
    )
    found = assign_clusters(ranks, pairs, similarity)
    del pairs, similarity
    kept = found.representative

    holders = read_rows(members, layout.partitions + partition, HEADER)
    held = _positions(index, holders[:, 0])
    weight = np.ones(len(ranks), dtype=np.int64)
    np.add.at(weight, held, holders[:, 3].astype(np.int64))
    cluster = np.zeros(len(ranks), dtype=np.int64)
    np.add.at(cluster, kept, weight)

    # One verdict for each document in a cluster of several, one for each other partition with copies of it.
    own = np.flatnonzero(cluster[kept] > 1)
    away = holders[:, 2].astype(np.int64) != home[held]
    subject = np.concatenate([own, held[away]])
    target = np.concatenate([home[own], holders[away, 2].astype(np.int64)])
    heads = np.empty((len(subject), 4), dtype=np.uint64)
    heads[:, 0] = ranks[subject]
    heads[:, 1] = kept[subject] == subject
    heads[:, 2] = found.similarity[subject].astype("<f4").view("<u4")
    heads[:, 3] = cluster[kept[subject]]
    # Ids lie in the records, behind the payload.
    id_starts = (begin + HEADER + sizes) * 8
    ids, id_rows = _ids(words.view(np.uint8), id_starts, id_bytes, kept[subject])
    nothing = np.zeros(len(subject) + 1, dtype=np.int64)
    send_records(buckets, target, heads, np.empty(0, dtype=np.uint8), nothing, ids, id_rows)


def _ids(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.int64],
) -> tuple[Ids, npt.NDArray[np.int64]]:  # fmt: skip
    """The wanted ids in one buffer, each once, and which of them stands where."""
    chosen, place = np.unique(wanted, return_inverse=True)
    offsets = np.concatenate([[0], np.cumsum(sizes[chosen])]).astype(np.int64)
    out = np.empty(offsets[-1], dtype=np.uint8)
    _copy_bytes(data, starts[chosen], offsets, out)
    return Ids(out, offsets), place.astype(np.int64)


@njit(nogil=True, cache=True)  # pragma: no cover - compiled
def _copy_bytes(
    data: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    out: npt.NDArray[np.uint8],
) -> None:
    for index in range(len(starts)):
        size = offsets[index + 1] - offsets[index]
        out[offsets[index] : offsets[index + 1]] = data[starts[index] : starts[index] + size]


def _positions(index: Index, ranks: Words) -> npt.NDArray[np.int64]:
    """Where documents of some ranks stand among those that moved."""
    found = index.find(ranks)
    if (found < 0).any():
        raise HainaError(
            "a document that has to be compared did not move to its component",
            "a source gives other documents each time it is read: its files changed during the job; run it again",
        )
    return found


def _compare(
    partition: int,
    words: Words,
    begin: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    components: npt.NDArray[np.int64],
    index: Index,
    together: tuple[Path, ...],
    folder: Path | None,
    layout: Layout,
    config: ClusterConfig,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Pairs of a partition as positions of documents, and their similarity."""
    left, right = unpack_pairs(read_rows(together, partition, pair_width(layout.bits)))
    # Positions fit 32 bits: a partition holds fewer documents than that.
    a, b = _positions(index, left), _positions(index, right)
    rows = (a.astype(np.uint64) << np.uint64(32)) | b.astype(np.uint64)
    del left, right, a, b
    rows = sort_rows(rows.reshape(-1, 1), [(0, 64)])
    pairs = _new((len(rows), 2), np.int64, folder)
    _as_pairs(rows, np.uint64(32), pairs)
    del rows
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    payload = _new(int(starts[-1]), np.uint64, folder)
    _copy_payloads(words, begin + HEADER, sizes, payload)
    if config.exact:
        return pairs, verify_pairs(
            payload, starts, components, pairs, config.threshold, containment=config.containment
        )
    width = -(-config.permutations // 8) * 8
    signatures = payload.view(np.uint8).reshape(-1, width)[:, : config.permutations]
    return pairs, estimate_pairs(signatures, pairs, config.threshold)


def write_verdicts(task: tuple[tuple[int, Path, Path], tuple[tuple[Path, ...], Layout]], path: Path) -> None:
    """Task: the table of a partition of the input."""
    (partition, ranks_path, copies_path), (files, layout) = task
    ranks, copies = read_numbers(ranks_path, layout), read_numbers(copies_path, layout)
    words = read_rows(files, partition, 1).ravel()
    begin = record_places(words, 4)[:-1]
    is_copy = (copies != layout.none) & (copies != ranks)
    found = Index(words[begin]).find(np.where(is_copy, copies, ranks))
    alone = found < 0
    # Rows without a verdict take any; they are masked.
    at = begin[np.maximum(found, 0)] if len(begin) else np.zeros(len(found), dtype=np.int64)
    if not len(words):
        words = np.zeros(5, dtype=np.uint64)
    kept = words[at + 1] > 0
    stays = alone | (kept & ~is_copy)
    sizes = np.where(stays, 0, words[at + 4] & np.uint64(0xFFFFFFFF)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    data = np.empty(offsets[-1], dtype=np.uint8)
    _copy_bytes(words.view(np.uint8), (at + 5) * 8, offsets, data)
    mask = pa.py_buffer(np.packbits(~stays, bitorder="little"))
    similarity = words[at + 2].astype("<u4").view("<f4")
    codes = np.where(kept, METHODS.index("exact"), METHODS.index("near")).astype(np.int8)
    cluster = np.where(alone, 1, words[at + 3]).astype(np.int64)
    count = len(ranks)
    code_array = pa.Array.from_buffers(pa.int8(), count, [mask, pa.py_buffer(codes)])
    columns = [
        pa.Array.from_buffers(pa.large_string(), count, [mask, pa.py_buffer(offsets), pa.py_buffer(data)]),
        pa.Array.from_buffers(
            pa.float32(), count, [mask, pa.py_buffer(np.where(stays, 0, similarity).astype("<f4"))]
        ),
        pa.DictionaryArray.from_arrays(code_array, pa.array(METHODS)),
        pa.array(cluster),
    ]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, VERDICTS_SCHEMA) as writer:
        writer.write_table(pa.table(columns, schema=VERDICTS_SCHEMA), max_chunksize=1 << 16)


def verdict_step(
    flow: Flow,
    ranks: Step,
    copies: Step,
    members: Step,
    together: Step,
    layout: Layout,
    config: ClusterConfig,
) -> Step:
    """Declare the comparison and the tables."""
    found = flow.step(
        "clusters", send_verdicts, range(layout.partitions),
        shared=(members.files, together.files, layout, config), needs=[members, together],
        partitions=len(layout.documents),
    )  # fmt: skip
    items = [(d, *files) for d, files in enumerate(zip(ranks.files, copies.files, strict=True))]
    return flow.step(
        "verdicts",
        write_verdicts,
        items,
        shared=(found.files, layout),
        needs=[ranks, copies, found],
        kept=True,
    )
