"""Train from files, and score files.

Comes in: Parquet or JSONL with `text`. Goes out: a model; or the same rows with `score.quality` and, when asked for,
`score.sentences`. Batches stream through: memory does not grow with the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from haina.corpus.quality.linear import DEFAULT_HEAD, Batch, FitOptions, fit_batches
from haina.corpus.quality.model import LinearModel
from haina.corpus.quality.rows import Row, domain_of, interleaved, text_files
from haina.corpus.quality.scorer import Scorer
from haina.corpus.records import clean_text
from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import atomic_path
from haina.runtime.progress import Reporter

QUALITY = "score.quality"
SENTENCES = "score.sentences"
_COLUMNS = ("text", "domain", "key", "head")
_TRAIN_ROWS = 4096
_SCORE_ROWS = 512


def _batches(positive: Sequence[Path], negative: Sequence[Path]) -> Iterator[Batch]:
    """Mixed batches of both classes."""
    labels = {**dict.fromkeys(negative, 0), **dict.fromkeys(positive, 1)}
    for number, rows in enumerate(interleaved([*positive, *negative], _COLUMNS, _TRAIN_ROWS)):
        yield Batch(
            [clean_text(row["text"]) for _, row in rows],
            [labels[path] for path, _ in rows],
            [_named(row, "domain") or domain_of(path) for path, row in rows],
            [_named(row, "key") or f"{path.name}:{number}:{index}" for index, (path, row) in enumerate(rows)],
            [_named(row, "head") or DEFAULT_HEAD for _, row in rows],
        )


def _named(row: Row, column: str) -> str:
    return str(row.get(column) or "")


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with os_errors_about(path), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def train_files(
    positive: Sequence[Path],
    negative: Sequence[Path],
    language: str,
    out: Path,
    options: FitOptions,
    reporter: Reporter,
    note: dict[str, Any] | None = None,
) -> LinearModel:
    """Fit a model to files and write it.

    Rows may name their `domain`, `key` and `head` (see `haina quality sets`); without, a file is a domain.

    Args:
        positive: files or folders of good text.
        negative: files or folders of bad text.
        language: `zh` or `en`; noted in the model, so that a scorer uses it for that language alone.
        out: file to write, ending in `.npz`.
        options: how to fit.
        reporter: told of every pass.
        note: what to add to the provenance.

    Raises:
        HainaError: unreadable or missing input, a file on both sides, a class without texts.
    """
    good, bad = text_files(positive), text_files(negative)
    for path in good:
        if path.resolve() in {other.resolve() for other in bad}:
            raise HainaError(f"{path}: stands on both sides", "name a file as --positive or as --negative")
    if out.suffix != ".npz":
        raise HainaError(f"{out}: a model's name ends in .npz", "name the file MODEL.npz")
    provenance = {
        "language": language,
        "positive": {path.name: _digest(path) for path in good},
        "negative": {path.name: _digest(path) for path in bad},
        **(note or {}),
    }
    model = fit_batches(lambda: _batches(good, bad), options, provenance, say=reporter.say)
    with atomic_path(out) as temporary:
        model.save(temporary)
    return model


def _strings(batch: pa.RecordBatch, name: str) -> list[str]:
    return [value or "" for value in batch.column(name).to_pylist()]


def _sentence_scores(scorer: Scorer, texts: Sequence[str], languages: Sequence[str]) -> pa.Array:
    """One score for every sentence of each text, as a list column."""
    from haina.corpus.sentences import split_sentences

    pieces: list[str] = []
    owners: list[str] = []
    offsets = [0]
    for text, language in zip(texts, languages, strict=True):
        spans = split_sentences(text)
        pieces.extend(text[span.start : span.end] for span in spans)
        owners.extend([language] * len(spans))
        offsets.append(len(pieces))
    scores = scorer.score(pieces, owners)
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(scores, pa.float32(), mask=np.isnan(scores))
    )


def _scored(batch: pa.RecordBatch, scorer: Scorer, sentences: bool) -> pa.RecordBatch:
    texts = [clean_text(text) for text in _strings(batch, "text")]
    languages = _strings(batch, "lang") if "lang" in batch.schema.names else [""] * len(texts)
    if not all(languages):
        from haina.corpus.language import identify_language

        languages = [
            name or identify_language(text).language for name, text in zip(languages, texts, strict=True)
        ]
    scores = scorer.score(texts, languages)
    for name in (QUALITY, SENTENCES):
        if name in batch.schema.names:
            batch = batch.drop_columns([name])
    columns = [*batch.columns, pa.array(scores, pa.float32(), mask=np.isnan(scores))]
    fields = [*batch.schema, pa.field(QUALITY, pa.float32())]
    if sentences:
        columns.append(_sentence_scores(scorer, texts, languages))
        fields.append(pa.field(SENTENCES, pa.list_(pa.float32())))
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, batch.schema.metadata))


def score_file(source: Path, target: Path, scorer: Scorer, sentences: bool, reporter: Reporter) -> int:
    """Add `score.quality`, and with `sentences` also `score.sentences`; how many rows there were.

    A score is null where no model reads the row's language (`lang`, identified where it is missing).

    Raises:
        HainaError: the input is not Parquet, has no `text`, or is the output.
    """
    if target.resolve() == source.resolve():
        raise HainaError(f"{target}: is the input", "write to another file")
    with os_errors_about(source):
        source.open("rb").close()
    try:
        with pq.ParquetFile(source) as file:
            return _score_batches(file, source, target, scorer, sentences, reporter)
    except (pa.ArrowException, OSError) as error:
        message = str(error).splitlines()[0]
        raise HainaError(f"{source}: not readable as Parquet ({message})", "check the file") from error


def _score_batches(
    file: pq.ParquetFile, source: Path, target: Path, scorer: Scorer, sentences: bool, reporter: Reporter
) -> int:
    schema = file.schema_arrow
    if "text" not in schema.names:
        raise HainaError(
            f"{source}: no column `text`", f"its columns are {', '.join(schema.names) or 'none'}"
        )
    kind = schema.field("text").type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise HainaError(f"{source}: column `text` is {kind}, not string", "convert it")
    empty = _scored(pa.RecordBatch.from_pylist([], schema=schema), scorer, sentences)
    rows = 0
    with (
        atomic_path(target) as temporary,
        pq.ParquetWriter(temporary, empty.schema, compression="zstd") as writer,
        reporter.task("scoring", file.metadata.num_rows, "documents") as task,
    ):
        for batch in file.iter_batches(batch_size=_SCORE_ROWS):
            writer.write_batch(_scored(batch, scorer, sentences))
            rows += batch.num_rows
            task.advance(batch.num_rows)
    return rows


def with_calibration(options: FitOptions, share: float) -> FitOptions:
    """The options with another calibration share.

    Raises:
        HainaError: the share leaves nothing on one side.
    """
    if not 0 < share < 1:
        raise HainaError(f"--calibrate {share:g}: has to be between 0 and 1", "a tenth is usual")
    return replace(options, calibrate=share)
