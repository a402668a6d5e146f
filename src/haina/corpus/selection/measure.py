"""The numbers of a block of documents that selection decides by, without their text.

Comes in: a block of a Parquet file. Goes out: an Arrow file with one record batch, a row a document in order
(`MEASURES`), which later steps map into memory. What the file has no column for is measured from its text:
language, quality, length, the signals of richness. A task of the executor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from haina.corpus.blocks import Block, read_rows
from haina.corpus.records import clean_text
from haina.corpus.selection.richness import RICHNESS_SIGNALS
from haina.corpus.selection.tokens import count_tokens, estimate_tokens, language_group
from haina.runtime.errors import HainaError
from haina.runtime.tokenizer_file import TokenizerFile

QUALITY = "score.quality"
CHARACTERS = "signal.characters"
# Documents that this one stands for, itself included, as `haina dedup` counts them.
DUPLICATES = "duplicate_count"
SIGNAL_COLUMNS = (CHARACTERS, *RICHNESS_SIGNALS)
NO_CLUSTER = 0

MEASURES = pa.schema(
    [
        ("key", pa.uint64()),
        ("cluster", pa.uint64()),
        ("language", pa.dictionary(pa.int32(), pa.string())),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("tokens", pa.int64()),
        ("characters", pa.int64()),
        ("quality", pa.float32()),
        *((name, pa.float32()) for name in RICHNESS_SIGNALS),
        ("duplicates", pa.int64()),
        # `key` in ascending order and the rows it stands in, for lookups by ranges of keys; `cluster` likewise.
        ("sorted_key", pa.uint64()),
        ("key_row", pa.uint32()),
        ("sorted_cluster", pa.uint64()),
        ("cluster_row", pa.uint32()),
    ]
)


@dataclass(frozen=True)
class Measuring:
    """What a task is given: rows, and the folder of a tokenizer if tokens are counted."""

    block: Block
    tokenizer: Path | None


def key_of(text: str) -> int:
    """64-bit BLAKE2b of an id."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _strings(batch: pa.RecordBatch, name: str) -> list[str]:
    if name not in batch.schema.names:
        return [""] * batch.num_rows
    return [value or "" for value in batch.column(name).cast(pa.string()).to_pylist()]


def _numbers(batch: pa.RecordBatch, name: str, path: object) -> npt.NDArray[np.float64]:
    """A column of numbers, NaN for null and for what is not finite."""
    column = batch.column(name)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise HainaError(f"{path}: column `{name}` holds {kind}, not numbers", "convert it or leave it out")
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _measured_texts(
    missing: Sequence[str], texts: Sequence[str], languages: Sequence[str]
) -> dict[str, npt.NDArray[Any]]:
    """Quality and signals of texts for which there are no columns."""
    found: dict[str, npt.NDArray[Any]] = {}
    if QUALITY in missing:
        from haina.corpus.quality.scorer import Scorer

        found[QUALITY] = Scorer.default().score(texts, languages).astype(np.float64)
    if set(missing) & set(SIGNAL_COLUMNS):
        from haina.corpus.signals.batch import measure_batch

        signals = measure_batch(texts, languages)
        found |= {name: signals[name.removeprefix("signal.")].astype(np.float64) for name in SIGNAL_COLUMNS}
    return found


def _cluster_keys(batch: pa.RecordBatch) -> list[int]:
    """Hash of each document's cluster, `NO_CLUSTER` for those that name none."""
    return [key_of(name) | 1 if name else NO_CLUSTER for name in _strings(batch, "cluster_id")]


def _check_ids(batch: pa.RecordBatch, path: object) -> None:
    missing = pc.any(pc.or_kleene(pc.is_null(batch.column("id")), pc.equal(batch.column("id"), "")))
    if missing.as_py():
        raise HainaError(f"{path}: a document has no `id`", "give every document an id of its own")


def _has_nulls(block: Block, name: str) -> bool:
    """Whether a column has, or may have, nulls: a document without a length has to be measured."""
    with pq.ParquetFile(block.path) as file:
        place = file.schema_arrow.names.index(name)
        if file.schema.names[place] != name:
            return True
        for group in range(*block.groups):
            statistics = file.metadata.row_group(group).column(place).statistics
            if statistics is None or not statistics.has_null_count or statistics.null_count:
                return True
    return False


class _Measurer:
    """Measures batches of one file."""

    def __init__(self, item: Measuring) -> None:
        self.path = item.block.path
        names = item.block.columns
        self.missing = tuple(name for name in (QUALITY, *SIGNAL_COLUMNS) if name not in names)
        if CHARACTERS not in self.missing and _has_nulls(item.block, CHARACTERS):
            self.missing += (CHARACTERS,)
        self.no_language = "lang" not in names
        self.tokenizer = TokenizerFile(item.tokenizer) if item.tokenizer is not None else None
        # Texts are read only when something has to be measured on them.
        self.reads_text = bool(self.missing) or self.no_language or self.tokenizer is not None
        wanted = ("id", "lang", "source", "cluster_id", DUPLICATES, QUALITY, *SIGNAL_COLUMNS)
        self.columns = [name for name in wanted if name in names] + (["text"] if self.reads_text else [])

    def measure(self, batch: pa.RecordBatch) -> dict[str, Any]:
        """Columns of `MEASURES` but the sorted ones."""
        _check_ids(batch, self.path)
        texts = [clean_text(text) for text in _strings(batch, "text")] if self.reads_text else []
        if self.no_language:
            from haina.corpus.language.identify import identify_batch

            languages = [found.language for found in identify_batch(texts)]
        else:
            languages = _strings(batch, "lang")
        values = _measured_texts(self.missing, texts, languages)
        for name in (QUALITY, *SIGNAL_COLUMNS):
            if name not in values:
                values[name] = _numbers(batch, name, self.path)
        quality = values[QUALITY]
        outside = quality[(quality < 0.0) | (quality > 1.0)]
        if len(outside):
            raise HainaError(
                f"{self.path}: column `{QUALITY}` holds {outside[0]:g}, not 0 to 1",
                "scale it to 0 to 1, or leave the column out to have it measured",
            )
        characters = np.maximum(np.nan_to_num(values[CHARACTERS]), 0).astype(np.int64)
        groups = [language_group(language) for language in languages]
        counted = self.tokenizer is not None
        duplicates = (
            np.maximum(np.nan_to_num(_numbers(batch, DUPLICATES, self.path), nan=1.0), 1.0)
            if DUPLICATES in batch.schema.names
            else np.ones(batch.num_rows)
        )
        return {
            "key": np.array([key_of(name) for name in _strings(batch, "id")], np.uint64),
            "cluster": np.array(_cluster_keys(batch), np.uint64),
            "language": np.array(groups, dtype=object),
            "source": np.array(_strings(batch, "source"), dtype=object),
            "tokens": count_tokens(self.tokenizer, texts)  # type: ignore[arg-type]
            if counted
            else estimate_tokens(characters, groups),
            "characters": characters,
            "quality": quality.astype(np.float32),
            **{name: values[name].astype(np.float32) for name in RICHNESS_SIGNALS},
            "duplicates": np.minimum(duplicates, 2.0**62).astype(np.int64),
        }


def measure_block(item: Measuring, output: Path) -> None:
    """Task: the measures of a block, as one record batch of an Arrow file."""
    measurer = _Measurer(item)
    pieces = [measurer.measure(batch) for batch in read_rows(item.block, measurer.columns)]
    columns: dict[str, Any] = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    for name in ("key", "cluster"):
        order = np.argsort(columns[name], kind="stable")
        columns[f"sorted_{name}"] = columns[name][order]
        columns[f"{name}_row"] = order.astype(np.uint32)
    arrays = []
    for field in MEASURES:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        array = pa.array(columns[field.name], kind)
        arrays.append(array.dictionary_encode() if pa.types.is_dictionary(field.type) else array)
    with pa.OSFile(str(output), "wb") as sink, pa.ipc.new_file(sink, MEASURES) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=MEASURES))


class Measures:
    """A file of measures, mapped into memory.

    Attributes:
        first: number of its first document among all.
        rows: how many it has.
    """

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        self.first = first
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            self.batch = reader.get_batch(0)
        self.rows = self.batch.num_rows

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return np.asarray(self.batch.column(name).to_numpy())

    def names(self, column: str) -> tuple[npt.NDArray[np.int32], list[str]]:
        """Codes of a column of names, int32 [rows], and the names they stand for."""
        values = self.batch.column(column)
        return np.asarray(values.indices.to_numpy()), values.dictionary.to_pylist()
