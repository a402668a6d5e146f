"""The shards stage: curated documents and a tokenizer in, token shards out.

Part files are encoded in parallel into pieces; one process then strings the pieces together in the order of
the parts, so the bytes do not depend on the number of workers. A document goes to a validation shard when its
near-duplicate cluster is held out, and to `train` otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from haina.runtime.documents import document_parts, read_batches
from haina.runtime.errors import HainaError
from haina.runtime.executor import LocalExecutor
from haina.runtime.files import PARTIAL_SUFFIX, atomic_path, fsync_path, write_json
from haina.runtime.held_out import held_out_clusters
from haina.runtime.stage import StageContext, StageResult
from haina.runtime.tokenizer_file import TokenizerFile
from haina.shards.config import ShardsConfig
from haina.shards.domains import read_mixture, token_weights
from haina.shards.encode import (
    DOCUMENT_COLUMNS,
    DOMAIN,
    TRAIN,
    Part,
    encode_part,
    frame_ids,
    validation_shard,
)
from haina.shards.indexed import IndexedDatasetWriter, shard_paths, token_dtype

SHARDS_VERSION = 1
DOCUMENTS_FILE = "documents.parquet"
SPLITS = (TRAIN, validation_shard("zh-Hans"), validation_shard("en"))
DOCUMENTS_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("index", pa.int64()),
        *((name, pa.string()) for name in DOCUMENT_COLUMNS),
        ("bytes", pa.int64()),
        ("tokens", pa.int64()),
    ]
)


@dataclass
class Split:
    """One shard being written, and what has gone into it."""

    prefix: Path
    writer: IndexedDatasetWriter
    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    tokens_by_language: dict[str, int] = field(default_factory=dict)
    tokens_by_domain: dict[str, int] = field(default_factory=dict)
    bytes_by_domain: dict[str, int] = field(default_factory=dict)


def _clusters(parts: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for batch in read_batches(parts, ["cluster_id", "lang"]):
        yield from zip(batch["cluster_id"].to_pylist(), batch["lang"].to_pylist(), strict=True)


def _piece_batches(piece: Path) -> Iterator[pa.RecordBatch]:
    try:
        with pa.memory_map(str(piece)) as source:
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)
    except (pa.ArrowException, OSError) as error:
        raise HainaError(f"{piece}: damaged ({error})", "delete it and run the stage again") from error


class _Splits:
    """The shards of a folder, opened as documents for them arrive and moved into place together."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        self.folder, self.dtype = folder, token_dtype(vocab_size)
        self.open: dict[str, Split] = {}

    def __getitem__(self, name: str) -> Split:
        if name not in self.open:
            prefix = self.folder / name
            paths = [path.with_name(path.name + PARTIAL_SUFFIX) for path in shard_paths(prefix)]
            self.open[name] = Split(prefix, IndexedDatasetWriter(paths[0], paths[1], self.dtype))
        return self.open[name]

    def __enter__(self) -> _Splits:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with ExitStack() as stack:
            for split in self.open.values():
                stack.callback(self._close, split, kind is None)

    @staticmethod
    def _close(split: Split, good: bool) -> None:
        partial = (split.writer.bin_path, split.writer.index_path)
        if not good:
            split.writer.abandon()
            for path in partial:
                path.unlink(missing_ok=True)
            return
        split.writer.finish()
        for path, final in zip(partial, shard_paths(split.prefix), strict=True):
            fsync_path(path)
            path.replace(final)
        fsync_path(split.prefix.parent)


def _string_together(
    pieces: Sequence[Path], out: Path, vocab_size: int, domains: bool, context: StageContext
) -> dict[str, Split]:
    """Write every shard and the table of documents from the pieces, in order; with the domain where pieces have it."""
    extra = [DOMAIN] if domains else []
    schema = DOCUMENTS_SCHEMA
    for name in extra:
        schema = schema.append(pa.field(name, pa.string()))
    with (
        context.reporter.task("writing shards", len(pieces), "parts") as task,
        atomic_path(out / DOCUMENTS_FILE) as table,
        pq.ParquetWriter(table, schema, compression="zstd") as documents,
        _Splits(out, vocab_size) as splits,
    ):
        for piece in pieces:
            for batch in _piece_batches(piece):
                values, ends = batch["tokens"].values.to_numpy(), batch["tokens"].offsets.to_numpy()
                names, langs, sizes = (batch[name].to_pylist() for name in ("shard", "lang", "bytes"))
                of_domain = batch[DOMAIN].to_pylist() if domains else [""] * len(names)
                index = []
                for shard, lang, domain, size, start, end in zip(
                    names, langs, of_domain, sizes, ends[:-1], ends[1:], strict=True
                ):
                    split = splits[shard]
                    index.append(split.writer.add(values[start:end]))
                    split.documents += 1
                    split.bytes += size
                    split.tokens += int(end - start)
                    for counts, key, amount in (
                        (split.tokens_by_language, lang, int(end - start)),
                        (split.tokens_by_domain, domain, int(end - start)),
                        (split.bytes_by_domain, domain, size),
                    ):
                        counts[key] = counts.get(key, 0) + amount
                columns = {name: batch[name] for name in ("shard", *DOCUMENT_COLUMNS, *extra, "bytes")}
                columns["index"] = pa.array(index, pa.int64())
                columns["tokens"] = pa.array(ends[1:] - ends[:-1], pa.int64())
                documents.write_batch(
                    pa.record_batch([columns[name] for name in schema.names], schema=schema)
                )
            task.advance()
    return {name: splits.open[name] for name in SPLITS if name in splits.open}


def run(config: ShardsConfig, context: StageContext) -> StageResult:
    """Encode `corpus` with `tokenizer` and write the `shards` output.

    Raises:
        HainaError: no documents, none left for training, a tokenizer without begin and end tokens, or a mixture that
            does not fit the documents.
    """
    mixture = read_mixture(config.mixture)
    parts = document_parts(context.input("corpus"))
    folder = context.input("tokenizer")
    tokenizer = TokenizerFile(folder)
    bos, eos = frame_ids(tokenizer)
    out = context.out("shards")

    held_out = held_out_clusters(_clusters(parts), config.validation_fraction)
    held_out_file = context.scratch / "held-out.json"
    write_json(held_out_file, sorted(held_out))
    pieces = [context.scratch / "pieces" / f"{part.stem}.arrow" for part in parts]
    LocalExecutor(context.workers, context.reporter).map(
        encode_part,
        [Part(part, folder, held_out_file, mixture) for part in parts],
        pieces,
        description="encoding documents",
    )
    splits = _string_together(pieces, out, tokenizer.vocab_size, mixture is not None, context)
    if TRAIN not in splits:
        raise HainaError(
            "shards: no documents are left to train on", "lower shards.validation_fraction or bring more text"
        )
    train = splits[TRAIN]
    write_json(
        out / "shards.json",
        {
            "version": SHARDS_VERSION,
            "tokenizer": {
                "fingerprint": tokenizer.fingerprint,
                "vocab_size": tokenizer.vocab_size,
                "bos_id": bos,
                "eos_id": eos,
            },
            "documents": DOCUMENTS_FILE,
            "splits": {name: _summary(split) for name, split in splits.items()},
            "mixture_weights": {
                lang: round(tokens / train.tokens, 6)
                for lang, tokens in sorted(train.tokens_by_language.items())
            },
            **(
                {
                    "mixture": {
                        "by": mixture.by,
                        "weights": token_weights(mixture, train.tokens_by_domain, train.bytes_by_domain),
                    }
                }
                if mixture
                else {}
            ),
        },
    )
    documents = sum(split.documents for split in splits.values())
    return StageResult(
        records_in=documents,
        records_out=documents,
        records_dropped=0,
        unit="documents",
        metrics={f"tokens.{name}": split.tokens for name, split in splits.items()},
    )


def _summary(split: Split) -> dict[str, Any]:
    return {
        "documents": split.documents,
        "tokens": split.tokens,
        "bytes": split.bytes,
        "sha256": split.writer.sha256.hexdigest(),
        "dtype": split.writer.dtype.name,
    }
