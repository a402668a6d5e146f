"""Rows of files as documents: what is one, and what is none and why.

Comes in: lines of JSON, passages of text, columns of Parquet. Goes out: rows and Arrow batches of strings with `id` and
`text`; what is no document - no text, no UTF-8, no JSON - goes to the caller's `bad` with a reason and its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from haina.runtime.parquet_rows import holds_text

BATCH_ROWS = 1024
BATCH_BYTES = 16 << 20
Bad = Callable[[str, str], None]
Row = dict[str, str | None]


def document_schema(columns: Sequence[str]) -> pa.Schema:
    """Of the batches of `read_block`."""
    return pa.schema(
        [("id", pa.string()), ("text", pa.large_string()), *((name, pa.string()) for name in columns)]
    )


def strings(column: pa.Array, kind: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """The column as strings, what is no UTF-8 as null, and why, by row."""
    if not holds_text(column.type):
        return _or_nothing(column, kind), {}
    try:
        column.validate(full=True)
        return column.cast(kind), {}
    except pa.ArrowInvalid:
        values: list[str | None] = []
        broken = {}
        for number, value in enumerate(column.cast(pa.large_binary()).to_pylist()):
            try:
                values.append(None if value is None else value.decode("utf-8"))
            except UnicodeDecodeError as error:
                values.append(None)
                broken[number] = f"byte {error.start} of {len(value)}"
        return pa.array(values, kind), broken


def _or_nothing(column: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return column.cast(kind)
    except pa.ArrowException:  # a list or struct has no short form as a string
        return pa.nulls(len(column), kind)


def json_rows(
    lines: Iterable[tuple[int, bytes | None, int]], name: str, asked: Sequence[str], bad: Bad
) -> Iterator[Row]:
    """The documents in lines of JSON, given as `text_streams.read_lines` does; blank lines are none.

    `name` is the file's in ids and places, `asked` are the fields wanted beside `id` and `text`.
    """
    for offset, line, length in lines:
        place = f"{name}#{offset}"
        if line is None:
            bad(f"too-large: a line of {length:,} bytes", place)
            continue
        content = line.removeprefix(b"\xef\xbb\xbf") if offset == 0 else line
        if not content or content.isspace():
            continue
        try:
            row = json.loads(content)
        except UnicodeDecodeError as error:
            bad(f"not-utf8: byte {error.start} of {length}", place)
            continue
        except (ValueError, RecursionError) as error:
            bad(f"invalid-json: {error}", place)
            continue
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            bad("missing-text: no field `text` that is a string", place)
            continue
        found = {name: _scalar(row.get(name)) for name in ("id", *asked)}
        found |= {"id": found["id"] or place, "text": row["text"]}
        try:
            for value in found.values():
                if value is not None:
                    value.encode()
        except UnicodeEncodeError:
            bad("not-utf8: half of a surrogate pair", place)
            continue
        yield found


def _scalar(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return None if value is None or isinstance(value, (dict, list)) else json.dumps(value)


def text_rows(
    passages: Iterable[tuple[int, bytes]], name: str, asked: Sequence[str], bad: Bad
) -> Iterator[Row]:
    """Passages of text as documents, given as `text_streams.read_passages` does."""
    for offset, passage in passages:
        place = f"{name}#{offset}"
        try:
            text = passage.decode("utf-8-sig" if offset == 0 else "utf-8")
        except UnicodeDecodeError as error:
            bad(f"not-utf8: byte {offset + error.start} of the file", place)
            continue
        yield {"id": place, "text": text, **dict.fromkeys(asked)}


def batches_of(rows: Iterable[Row], asked: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Rows in batches of at most `BATCH_ROWS` rows and about `BATCH_BYTES` of text."""
    schema, held, size = document_schema(asked), list[Row](), 0
    for row in rows:
        held.append(row)
        size += len(row["text"] or "")
        if len(held) == BATCH_ROWS or size >= BATCH_BYTES:
            yield pa.RecordBatch.from_pylist(held, schema=schema)
            held, size = [], 0
    if held:
        yield pa.RecordBatch.from_pylist(held, schema=schema)
