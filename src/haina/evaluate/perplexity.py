"""Perplexity and bits per byte of documents.

In: token sequences `<s> tokens </s>`. Out: how surprised the model is by each document.

A document's cost is the sum of -ln p over its tokens, `</s>` included, `<s>` given. One longer than the
window is cut into windows that do not overlap, each behind its own `<s>`; every token is scored exactly once.
Bits per byte divides by the UTF-8 bytes of the text, so models with different tokenizers can be compared;
perplexity is per token and can not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import files_below
from haina.runtime.progress import Reporter, SilentProgress

if TYPE_CHECKING:
    from haina.inference import Engine

GROUP_DOCUMENTS = 32


@dataclass(frozen=True)
class DocumentScore:
    """One document: its scored tokens, its UTF-8 bytes and its cost in nats."""

    tokens: int
    bytes: int
    nats: float


def windows(tokens: Sequence[int], start_id: int, length: int) -> list[list[int]]:
    """Cut a document for scoring.

    Args:
        tokens: `<s>`, the text, `</s>`.
        start_id: what stands before each window.
        length: most tokens in a window, its start token included (>= 2).

    Returns:
        Sequences that begin with `start_id`; without it they join to `tokens[1:]`.
    """
    content = list(tokens[1:])
    step = length - 1
    return [[start_id, *content[start : start + step]] for start in range(0, len(content), step)]


def score_documents(engine: Engine, documents: Sequence[Sequence[int]], window: int) -> list[float]:
    """Nats of each document. documents: `<s> tokens </s>` each."""
    pieces = [
        (index, piece)
        for index, document in enumerate(documents)
        for piece in windows(document, document[0], window)
    ]
    logprobs = engine.score([piece for _, piece in pieces])
    nats: list[list[float]] = [[] for _ in documents]
    for (index, _), values in zip(pieces, logprobs, strict=True):
        nats[index] += [-float(value) for value in values]
    return [math.fsum(values) for values in nats]


def summarise(scores: Sequence[DocumentScore]) -> dict[str, Any]:
    """Loss (nats per token), perplexity, bits per byte and its standard error over documents.

    The standard error is that of a ratio estimator (Cochran, Sampling Techniques, 3rd ed., section 2.11):
    documents are the independent units, not tokens. None for a single document.
    """
    tokens, size = sum(score.tokens for score in scores), sum(score.bytes for score in scores)
    if not tokens or not size:
        raise HainaError(
            "nothing to measure: the documents are empty", "give text with at least one character"
        )
    nats = math.fsum(score.nats for score in scores)
    bits_per_byte = nats / math.log(2) / size
    error = None
    if len(scores) > 1:
        squares = math.fsum((score.nats / math.log(2) - bits_per_byte * score.bytes) ** 2 for score in scores)
        error = math.sqrt(squares * len(scores) / (len(scores) - 1)) / size
    loss = nats / tokens
    return {
        "documents": len(scores),
        "tokens": tokens,
        "bytes": size,
        "loss": round(loss, 6),
        "perplexity": round(math.exp(min(loss, 700.0)), 4),
        "bits_per_byte": round(bits_per_byte, 6),
        "standard_error": None if error is None else round(error, 6),
    }


def scoring_window(engine: Engine, window: int | None) -> int:
    """The window to use: what is asked for, or the model's context."""
    if window is None:
        return engine.context_length
    if window > engine.context_length:
        raise HainaError(
            f"window: {window} tokens do not fit this model's context of {engine.context_length}",
            f"set it to {engine.context_length} or less",
        )
    return window


def texts_of(sources: Iterable[Path], column: str = "text") -> Iterator[str]:
    """Documents of files and folders: each row of a Parquet file, every other file as one UTF-8 document.

    Raises:
        HainaError: a file is missing, is not UTF-8, or has no such column.
    """
    for source in sources:
        if not source.exists():
            raise HainaError(f"{source}: no such file or folder", "check the path")
        for path in files_below(source):
            if path.suffix == ".parquet":
                yield from _parquet_texts(path, column)
                continue
            with os_errors_about(path):
                data = path.read_bytes()
            try:
                yield data.decode("utf-8")
            except UnicodeDecodeError as error:
                raise HainaError(
                    f"{path}: not UTF-8 (byte {error.start})", "convert it to UTF-8, or leave it out"
                ) from error


def _parquet_texts(path: Path, column: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if column not in file.schema_arrow.names:
                raise HainaError(
                    f"{path}: no column {column!r}", f"it has {', '.join(file.schema_arrow.names)}"
                )
            for batch in file.iter_batches(batch_size=256, columns=[column]):
                yield from (text for text in batch.column(0).to_pylist() if text)
    except pa.ArrowException as error:
        raise HainaError(
            f"{path}: not a readable Parquet file ({error})", "restore it or leave it out"
        ) from error


def encode_document(engine: Engine, text: str) -> list[int]:
    """`<s> tokens </s>` of a text, with the ids that the model's tokenizer names.

    A tokenizer without a start token (GPT-2's kind) begins with its end token; one without an end token ends
    with none.
    """
    tokenizer = engine.tokenizer
    start = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
    if start is None:
        raise HainaError(f"{tokenizer.folder}: the tokenizer names neither a start nor an end token",
                         "name bos_token or eos_token in tokenizer_config.json")  # fmt: skip
    return [start, *tokenizer.encode(text), *([] if tokenizer.eos_id is None else [tokenizer.eos_id])]


def evaluate_text(
    engine: Engine,
    sources: Sequence[Path | str],
    *,
    column: str = "text",
    max_documents: int | None = None,
    window: int | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Bits per byte of a user's own text.

    Args:
        engine: the model.
        sources: a `Path` is a file or folder of UTF-8 text or Parquet; a `str` is a text itself.
        column: the Parquet column.
        max_documents: stop after this many.
        window: longest piece scored at once, in tokens; the model's context when None.
        reporter: progress.

    Returns:
        What `summarise` returns, and the window.

    Raises:
        HainaError: a source cannot be read, or there is no text in them.
    """
    length = scoring_window(engine, window)

    def documents() -> Iterator[str]:
        for source in sources:
            yield from [source] if isinstance(source, str) else texts_of([source], column)

    scores: list[DocumentScore] = []
    group: list[str] = []

    def flush() -> None:
        encoded = [encode_document(engine, text) for text in group]
        for text, ids, nats in zip(group, encoded, score_documents(engine, encoded, length), strict=True):
            scores.append(DocumentScore(len(ids) - 1, len(text.encode()), nats))
        group.clear()

    with (reporter or SilentProgress()).task("scoring text", None, "documents") as task:
        for number, text in enumerate(text for text in documents() if text):
            if number == max_documents:
                break
            group.append(text)
            if len(group) == GROUP_DOCUMENTS:
                flush()
                task.advance(GROUP_DOCUMENTS, f"{summarise(scores)['bits_per_byte']:.3f} bits/byte")
        if group:
            flush()
    return {**summarise(scores), "window": length}
