"""Semantic clustering of Parquet files, start to end.

Comes in: Parquet with `text`. Goes out: the folder that `tables` describes. Finished pieces of a killed run are kept
below `OUT/scratch` and not made again; the folder goes when everything is written.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from haina.corpus.semantic.encoder import load_encoder
from haina.corpus.semantic.kmeans import load_faiss
from haina.corpus.semantic.names import Counting, count_sizes, count_terms, describe
from haina.corpus.semantic.tables import input_parts
from haina.corpus.semantic.tasks import (
    Encoding,
    Judging,
    Spreading,
    Training,
    encode_part,
    export_part,
    judge_clusters,
    load_centroids,
    send_back,
    spread_by_cluster,
    train_centroids,
    write_part,
)
from haina.runtime.errors import HainaError
from haina.runtime.executor import Executor, broadcast
from haina.runtime.files import remove, write_bytes, write_json

_PARTITION_DOCUMENTS = 32_768


@dataclass(frozen=True)
class ClusterOptions:
    """What can be chosen.

    Attributes:
        topics, clusters_per_topic: how many; None chooses by the number of documents.
        duplicates: least similarity at which a document counts as a duplicate of another (`near`).
        encoder: a name of `encoder.ENCODERS`.
        seed: of the k-means.
    """

    topics: int | None = None
    clusters_per_topic: int | None = None
    duplicates: float = 0.95
    encoder: str = "whole"
    seed: int = 0


def cluster(inputs: Sequence[Path], out: Path, options: ClusterOptions, executor: Executor) -> dict[str, Any]:
    """Write everything below `out`; what `topics.json` holds.

    Raises:
        HainaError: an input that cannot be used, nothing to cluster, or a package that is missing.
    """
    if not 0 < options.duplicates <= 1:
        raise HainaError(
            f"duplicates: must be above 0 and at most 1 (got {options.duplicates:g})",
            "0.95 marks what says the same in nearly the same words",
        )
    parts = input_parts(inputs)
    load_faiss()
    encoder = load_encoder(options.encoder)
    scratch = out / "scratch"
    if not (scratch / "encoded").exists():  # nothing to go on from: what is here is of another run
        for name in ("clusters", "embeddings", "centroids.npy", "topics.json"):
            remove(out / name)

    def files(folder: Path, suffix: str, count: int = len(parts)) -> list[Path]:
        return [folder / f"part-{number:05d}.{suffix}" for number in range(count)]

    encoded = files(scratch / "encoded", "arrow")
    executor.map(
        encode_part, [Encoding(part, options.encoder) for part in parts], encoded, description="embeddings"
    )
    documents = sum(pq.read_metadata(part).num_rows for part in parts)
    trained = scratch / "centroids.npz"
    shape = Training(tuple(encoded), options.topics, options.clusters_per_topic, options.seed)
    executor.map(train_centroids, [shape], [trained], description="centroids")
    centroids = load_centroids(trained)

    partitions = max(1, -(-documents // _PARTITION_DOCUMENTS))
    spread = files(scratch / "spread", "exchange")
    executor.exchange(
        spread_by_cluster,
        [Spreading(path, number, trained) for number, path in enumerate(encoded)],
        spread,
        partitions=partitions,
        description="clusters",
    )
    judged = files(scratch / "judged", "arrow", partitions)
    executor.reduce(
        judge_clusters,
        spread,
        judged,
        description="near-duplicates",
        argument=Judging(options.duplicates, trained),
    )
    returned = files(scratch / "returned", "exchange", partitions)
    executor.exchange(send_back, judged, returned, partitions=len(parts), description="verdicts")
    tables = files(out / "clusters", "parquet")
    executor.reduce(write_part, returned, tables, description="tables", argument=tuple(encoded))
    executor.map(export_part, encoded, files(out / "embeddings", "npy"), description="vectors")

    sizes = count_sizes(tables, centroids.starts)
    kept = broadcast(_npy(sizes.documents - sizes.duplicates), scratch / "kept.npy")
    counted = files(scratch / "terms", "json")
    executor.map(
        count_terms,
        [Counting(part, table, kept) for part, table in zip(parts, tables, strict=True)],
        counted,
        description="names",
    )
    write_bytes(out / "centroids.npy", _npy(centroids.clusters))
    summary = {
        "documents": documents,
        "apart": sizes.apart,
        "duplicates": int(sizes.duplicates.sum()),
        "threshold": options.duplicates,
        "encoder": encoder.name,
        "parts": [str(part) for part in parts],
        "topics": describe(sizes, counted),
    }
    write_json(out / "topics.json", summary)
    remove(scratch)
    return summary


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
