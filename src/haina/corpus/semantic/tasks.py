"""The steps of semantic clustering as tasks over parts.

    encode       a part of the input              -> its vectors and what ranking needs (Arrow, in scratch)
    train        all of those, sampled            -> centroids
    spread       a part's vectors                 -> an exchange by cluster
    judge        all documents of some clusters   -> density and duplicates
    send back    those                            -> an exchange by part
    write        a part                           -> `clusters/part-NNNNN.parquet`
    export       a part's vectors                 -> `embeddings/part-NNNNN.npy`

A sample is the documents with the smallest hashes of their ids, so it depends neither on the parts nor on their order.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from haina.corpus.semantic.encoder import load_encoder
from haina.corpus.semantic.kmeans import Centroids, Floats, assign, train_two_levels, unit
from haina.corpus.semantic.near import judge
from haina.corpus.semantic.tables import APART, CLUSTERS_SCHEMA, id_hash, read_rows, stands_apart
from haina.corpus.semantic.terms import is_chinese
from haina.runtime.executor import Buckets, iter_exchange

SAMPLE_DOCUMENTS = 131_072
_POINTS_PER_CLUSTER = 64
_TOPICS_AT_MOST = 128
_CLUSTER_DOCUMENTS = 256
_CLUSTERS_AT_MOST = 32
_SPREAD_ROWS = 16_384
_LANGUAGE_CHARACTERS = 2000

_FACTS = [
    pa.field("id", pa.string()),
    pa.field("hash", pa.uint64()),
    pa.field("bytes", pa.int64()),
    pa.field("quality", pa.float32()),
    pa.field("group", pa.int8()),
]
_PLACE = [
    pa.field("part", pa.int32()),
    pa.field("row", pa.int64()),
    pa.field("topic", pa.int32()),
    pa.field("cluster", pa.int32()),
    pa.field("distance", pa.float32()),
]
_VERDICTS = pa.schema(
    [*_PLACE, *(CLUSTERS_SCHEMA.field(name) for name in ("density", "duplicate_of", "similarity"))]
)


def _encoded_schema(dimensions: int) -> pa.Schema:
    return pa.schema([*_FACTS, pa.field("apart", pa.bool_()), pa.field("vector", pa.binary(2 * dimensions))])


def _vectors(column: pa.Array) -> npt.NDArray[np.float16]:
    """float16 [n, d] of a column of fixed-size byte strings, without a copy."""
    width = column.type.byte_width
    data = np.frombuffer(
        column.buffers()[1], dtype=np.uint8, count=len(column) * width, offset=column.offset * width
    )
    return data.view(np.float16).reshape(len(column), width // 2)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The record batches of an Arrow file, mapped into memory."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
        for number in range(file.num_record_batches):
            yield file.get_batch(number)


@dataclass(frozen=True)
class Encoding:
    """A part of the input and the encoder's name."""

    part: Path
    encoder: str


def encode_part(item: Encoding, output: Path) -> None:
    """Task: vectors of a part's documents, in float16, with what ranks and samples them."""
    encoder = load_encoder(item.encoder)
    schema = _encoded_schema(encoder.dimensions)
    with pa.OSFile(str(output), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for rows in read_rows(item.part):
            texts = rows["text"]
            apart = np.array([stands_apart(text) for text in texts], dtype=np.bool_)
            vectors = encoder.encode(texts).astype(np.float16)
            vectors[apart] = 0
            columns = [
                pa.array(rows["id"], pa.string()),
                pa.array([id_hash(name) for name in rows["id"]], pa.uint64()),
                pa.array(rows["bytes"], pa.int64()),
                pa.array(rows["quality"], pa.float32()),
                pa.array([is_chinese(text[:_LANGUAGE_CHARACTERS]) for text in texts]).cast(pa.int8()),
                pa.array(apart),
                pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(2 * encoder.dimensions), len(texts), [None, pa.py_buffer(vectors.tobytes())]
                ),
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def export_part(encoded: Path, output: Path) -> None:
    """Task: the vectors of a part as a NumPy file."""
    with pa.memory_map(str(encoded)) as source, pa.ipc.open_file(source) as file:
        rows = sum(file.get_batch(number).num_rows for number in range(file.num_record_batches))
        width = file.schema.field("vector").type.byte_width
    with output.open("wb") as sink:
        header = {"descr": "<f2", "fortran_order": False, "shape": (rows, width // 2)}
        np.lib.format.write_array_header_1_0(sink, header)
        for batch in _batches(encoded):
            sink.write(_vectors(batch.column("vector")).tobytes())


@dataclass(frozen=True)
class Training:
    """Encoded parts and the wanted shape.

    Attributes:
        topics, clusters_per_topic: None chooses by the number of documents.
    """

    encoded: tuple[Path, ...]
    topics: int | None
    clusters_per_topic: int | None
    seed: int


def train_centroids(item: Training, output: Path) -> None:
    """Task: centroids of two levels from a sample of all parts."""
    hashes, parts, documents = _sample(item.encoded)
    topics = item.topics or int(np.clip(np.sqrt(documents / 64), 2, _TOPICS_AT_MOST))
    per_topic = item.clusters_per_topic or int(
        np.clip(documents / topics / _CLUSTER_DOCUMENTS, 1, _CLUSTERS_AT_MOST)
    )
    wanted = min(len(hashes), max(_POINTS_PER_CLUSTER * topics * per_topic, SAMPLE_DOCUMENTS // 4))
    chosen = np.lexsort((parts[:, 1], parts[:, 0], hashes))[:wanted]
    sample = _gather(item.encoded, parts[chosen])
    centroids = train_two_levels(sample, topics, per_topic, item.seed)
    with output.open("wb") as sink:
        np.savez(sink, **vars(centroids))


def _sample(encoded: tuple[Path, ...]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], int]:
    """Hashes and (part, row) of the documents with the smallest hashes, and how many documents there are."""
    hashes = np.empty(0, dtype=np.uint64)
    places = np.empty((0, 2), dtype=np.int64)
    documents = 0
    for number, path in enumerate(encoded):
        first = 0
        for batch in _batches(path):
            rows = np.flatnonzero(~batch.column("apart").to_numpy(zero_copy_only=False))
            documents += len(rows)
            hashes = np.concatenate([hashes, batch.column("hash").to_numpy()[rows]])
            places = np.concatenate([places, np.stack([np.full(len(rows), number), first + rows], axis=1)])
            first += batch.num_rows
            if len(hashes) > 2 * SAMPLE_DOCUMENTS:
                kept = np.lexsort((places[:, 1], places[:, 0], hashes))[:SAMPLE_DOCUMENTS]
                hashes, places = hashes[kept], places[kept]
    kept = np.lexsort((places[:, 1], places[:, 0], hashes))[:SAMPLE_DOCUMENTS]
    return hashes[kept], places[kept], documents


def _gather(encoded: tuple[Path, ...], places: npt.NDArray[np.int64]) -> Floats:
    """Unit vectors of (part, row), float32 [n, d], in their order."""
    with pa.memory_map(str(encoded[0])) as source, pa.ipc.open_file(source) as file:
        dimensions = file.schema.field("vector").type.byte_width // 2
    out = np.empty((len(places), dimensions), dtype=np.float32)
    for number, path in enumerate(encoded):
        mine = np.flatnonzero(places[:, 0] == number)
        mine = mine[np.argsort(places[mine, 1], kind="stable")]
        rows = places[mine, 1]
        first = 0
        for batch in _batches(path):
            low, high = np.searchsorted(rows, [first, first + batch.num_rows])
            out[mine[low:high]] = _vectors(batch.column("vector"))[rows[low:high] - first]
            first += batch.num_rows
    return unit(out)


def load_centroids(path: Path) -> Centroids:
    """What `train_centroids` wrote."""
    with np.load(path) as file:
        return Centroids(file["centre"], file["topics"], file["clusters"], file["starts"], file["spreads"])


@dataclass(frozen=True)
class Spreading:
    """An encoded part, its number, and the centroids."""

    encoded: Path
    number: int
    centroids: Path


def spread_by_cluster(item: Spreading, buckets: Buckets) -> None:
    """Task: every document to the partition of its cluster."""
    centroids = load_centroids(item.centroids)
    first = 0
    held: list[pa.RecordBatch] = []
    for batch in _batches(item.encoded):
        rows = np.flatnonzero(~batch.column("apart").to_numpy(zero_copy_only=False))
        held.append(_placed(batch, rows, item.number, first, centroids))
        first += batch.num_rows
        if sum(part.num_rows for part in held) >= _SPREAD_ROWS:
            _spread(held, "cluster", buckets)
            held = []
    _spread(held, "cluster", buckets)


def _placed(
    batch: pa.RecordBatch, rows: npt.NDArray[np.int64], part: int, first: int, centroids: Centroids
) -> pa.RecordBatch:
    living = batch.take(pa.array(rows))
    topic, cluster, cosine = assign(unit(_vectors(living.column("vector"))), centroids)
    placed = [np.full(len(rows), part), rows + first, topic, cluster, 1 - cosine]
    names = [field.name for field in _FACTS] + ["vector"]
    return pa.RecordBatch.from_arrays(
        [pa.array(values, field.type) for values, field in zip(placed, _PLACE, strict=True)]
        + [living.column(name) for name in names],
        schema=pa.schema([*_PLACE, *_FACTS, batch.schema.field("vector")]),
    )


def _spread(batches: list[pa.RecordBatch], key: str, buckets: Buckets) -> None:
    """Add rows to the partition that `key` modulo the number of partitions names, one Arrow stream a partition."""
    if not batches:
        return
    table = pa.Table.from_batches(batches)
    partition = table.column(key).to_numpy() % buckets.partitions
    order = np.argsort(partition, kind="stable")
    cuts = np.flatnonzero(np.diff(partition[order])) + 1
    for rows in np.split(order, cuts):
        if len(rows):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table.take(pa.array(rows)).combine_chunks())
            buckets.add(int(partition[rows[0]]), sink.getvalue())


def _received(files: tuple[Path, ...], partition: int) -> Iterator[pa.Table]:
    for piece in iter_exchange(files, partition):
        with pa.ipc.open_stream(pa.py_buffer(bytes(piece))) as stream:
            yield stream.read_all()


@dataclass(frozen=True)
class Judging:
    """Least similarity of a duplicate, and the centroids."""

    threshold: float
    centroids: Path


def judge_clusters(item: tuple[int, tuple[Path, ...], Judging], output: Path) -> None:
    """Task: density and duplicates of the documents of some clusters. Vectors wait in a file, not in memory."""
    partition, files, judging = item
    spreads = load_centroids(judging.centroids).spreads
    facts: list[pa.Table] = []
    with tempfile.TemporaryFile(dir=output.parent) as spill:
        width = 0
        for table in _received(files, partition):
            column = table.column("vector").combine_chunks()
            width = column.type.byte_width // 2
            spill.write(_vectors(column).tobytes())
            facts.append(table.drop_columns(["vector"]))
        if not facts:
            verdicts = _VERDICTS.empty_table()
        else:
            spill.flush()
            table = pa.concat_tables(facts).combine_chunks()
            vectors = np.memmap(spill, dtype=np.float16, mode="r", shape=(table.num_rows, width))
            verdicts = _judge(table, vectors, judging.threshold, spreads)
    with pa.OSFile(str(output), "wb") as sink, pa.ipc.new_file(sink, _VERDICTS) as writer:
        writer.write_table(verdicts)


def _judge(table: pa.Table, vectors: npt.NDArray[np.float16], threshold: float, spreads: Floats) -> pa.Table:
    """Verdicts on all rows, sorted by part and row."""
    column = {
        name: table.column(name).to_numpy()
        for name in ("part", "row", "topic", "cluster", "bytes", "hash", "group")
    }
    quality = pc.fill_null(table.column("quality"), -np.inf).to_numpy()
    # Best first: quality, then length, then a hash that no order of the input can change.
    order = np.lexsort(
        (column["row"], column["part"], column["hash"], -column["bytes"], -quality, column["cluster"])
    )
    density = np.zeros(len(order), dtype=np.float32)
    similarity = np.zeros(len(order), dtype=np.float32)
    kept_for = np.full(len(order), -1, dtype=np.int64)
    for rows in np.split(order, np.flatnonzero(np.diff(column["cluster"][order])) + 1):
        spread = float(spreads[column["topic"][rows[0]]])
        found = judge(np.asarray(vectors[rows]), column["group"][rows], threshold, spread)
        density[rows], similarity[rows] = found.density, found.similarity
        removed = found.representative >= 0
        kept_for[rows[removed]] = rows[found.representative[removed]]
    names = table.column("id").take(pa.array(kept_for, mask=kept_for < 0))
    table = table.select([field.name for field in _PLACE])
    for field, values in zip(_VERDICTS.names[len(_PLACE) :], (density, names, similarity), strict=True):
        table = table.append_column(
            _VERDICTS.field(field), pa.chunked_array(values) if field == "duplicate_of" else pa.array(values)
        )
    return table.take(pa.array(np.lexsort((column["row"], column["part"])))).cast(_VERDICTS)


def send_back(verdicts: Path, buckets: Buckets) -> None:
    """Task: verdicts to the parts that they are about."""
    for batch in _batches(verdicts):
        _spread([batch], "part", buckets)


def write_part(item: tuple[int, tuple[Path, ...], tuple[Path, ...]], output: Path) -> None:
    """Task: the verdicts on a part in the order of its rows, those that stand apart among them."""
    number, files, encoded = item
    batches = [batch.select(["id", "apart"]) for batch in _batches(encoded[number])]
    ids = pa.chunked_array([batch.column("id") for batch in batches], pa.string())
    found = pa.concat_tables([_VERDICTS.empty_table(), *_received(files, number)])
    found = found.sort_by("row").combine_chunks()
    place = np.full(len(ids), -1, dtype=np.int64)
    place[found.column("row").to_numpy()] = np.arange(found.num_rows)
    rows = found.take(pa.array(place, mask=place < 0))
    columns = [ids.combine_chunks()]
    for field in list(CLUSTERS_SCHEMA)[1:]:
        column = rows.column(field.name)
        if field.name != "duplicate_of":
            column = pc.fill_null(column, APART if field.name in {"topic", "cluster"} else 0)
        columns.append(column.cast(field.type))
    pq.write_table(pa.table(columns, schema=CLUSTERS_SCHEMA), output, compression="zstd")
