"""Documents of Parquet files in blocks of bounded size.

Comes in: Parquet files with `id` and `text`. Goes out: blocks, each a run of rows that one task works on, and the rows
of a block. Blocks depend on the files alone, never on who works on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.executor import Location, local_copy

_READ_ROWS = 1024


@dataclass(frozen=True)
class Block:
    """Rows that one task works on.

    Attributes:
        number: 0 for the first block of all.
        path: Parquet file.
        columns: its columns.
        groups: its row groups, `groups[0]` to `groups[1]`.
        skip: rows of them before the first of the block.
        rows: how many the block has.
        first: number of its first document among all.
    """

    number: int
    path: Location
    columns: tuple[str, ...]
    groups: tuple[int, int]
    skip: int
    rows: int
    first: int


def parquet_files(inputs: Sequence[Path]) -> list[Path]:
    """Parquet files of inputs, in order: files as they are, folders with all below `documents/` or below themselves.

    Raises:
        HainaError: an input is not there, or holds no Parquet file.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = path / "documents" if (path / "documents").is_dir() else path
            files = sorted(inside.rglob("*.parquet"))
            if not files:
                raise HainaError(f"{path}: no *.parquet below it", "name Parquet files or a folder of them")
            found += files
        elif path.is_file():
            found.append(path)
        else:
            raise HainaError(f"{path}: no such file or folder", "check the path")
    return found


def open_parquet(path: Path) -> pq.ParquetFile:
    """A Parquet file; one that is missing or damaged is a `HainaError` that names it."""
    with os_errors_about(path):
        path.open("rb").close()
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise HainaError(
            f"{path}: not readable as Parquet ({str(error).splitlines()[0]})", "check the file"
        ) from error


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _check_columns(path: Path, schema: pa.Schema, priority: str) -> None:
    for name in ("id", "text", *([priority] if priority else [])):
        if name not in schema.names:
            raise HainaError(
                f"{path}: no column `{name}` (it has {', '.join(schema.names)})", "name the columns so"
            )
    for name in ("id", "text"):
        if not _is_text(schema.field(name).type):
            raise HainaError(
                f"{path}: column `{name}` holds {schema.field(name).type}, not strings", "convert it"
            )
    if priority:
        kind = schema.field(priority).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise HainaError(
                f"{path}: column `{priority}` holds {kind}, not numbers", "name another as priority"
            )


def _text_bytes(file: pq.ParquetFile, group: int) -> int:
    found = file.metadata.row_group(group)
    for index in range(found.num_columns):
        column = found.column(index)
        if column.path_in_schema == "text":
            return int(column.total_uncompressed_size)
    return int(found.total_byte_size)


def plan_blocks(paths: Sequence[Path], block_bytes: int, priority: str = "") -> tuple[list[Block], int]:
    """Blocks of about `block_bytes` of text, in the order of the files; and the bytes of text in all, as Parquet
    counts them.

    Raises:
        HainaError: a file is missing or no Parquet, or lacks a column.
    """
    blocks: list[Block] = []
    first = total = 0

    def add(path: Path, columns: tuple[str, ...], low: int, high: int, skip: int, rows: int) -> None:
        nonlocal first
        if rows:
            blocks.append(Block(len(blocks), path, columns, (low, high), skip, rows, first))
            first += rows

    for path in paths:
        with open_parquet(path) as file:
            _check_columns(path, file.schema_arrow, priority)
            columns = tuple(file.schema_arrow.names)
            low = held = rows = 0
            for group in range(file.num_row_groups):
                size, count = _text_bytes(file, group), file.metadata.row_group(group).num_rows
                total += size
                if held + size > block_bytes:
                    add(path, columns, low, group, 0, rows)
                    low, held, rows = group, 0, 0
                shares = min(-(-size // block_bytes), count)
                if shares > 1:
                    cuts = [count * share // shares for share in range(shares + 1)]
                    for begin, end in pairwise(cuts):
                        add(path, columns, group, group + 1, begin, end - begin)
                    low, held, rows = group + 1, 0, 0
                else:
                    held, rows = held + size, rows + count
            add(path, columns, low, file.num_row_groups, 0, rows)
    return blocks, total


def _check_utf8(path: Location, batch: pa.RecordBatch) -> None:
    """Parquet does not check that strings are UTF-8, and everything behind takes it for granted."""
    for name in ("id", "text"):
        if name in batch.schema.names:
            try:
                batch.column(name).validate(full=True)
            except pa.ArrowInvalid as error:
                raise HainaError(
                    f"{path}: column `{name}` holds a string that is no UTF-8",
                    "repair the strings of that column",
                ) from error


def read_rows(block: Block, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a block, in batches.

    Raises:
        HainaError: the file is damaged or has other rows than when the blocks were made.
    """
    skip, rows = block.skip, block.rows
    with local_copy(block.path) as path, open_parquet(path) as file:
        try:
            for batch in file.iter_batches(
                batch_size=_READ_ROWS,
                row_groups=list(range(*block.groups)),
                columns=None if columns is None else list(columns),
                use_threads=False,
            ):
                _check_utf8(block.path, batch)
                part = batch.slice(min(skip, batch.num_rows), rows)
                skip -= min(skip, batch.num_rows)
                rows -= part.num_rows
                if part.num_rows:
                    yield part
                if not rows:
                    return
        except (pa.ArrowException, OSError) as error:
            raise HainaError(
                f"{block.path}: not readable as Parquet ({str(error).splitlines()[0]})", "check the file"
            ) from error
    raise HainaError(
        f"{block.path}: {rows} rows fewer than before", "do not change the input while it is read"
    )


def packed_strings(column: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """UTF-8 of a column of strings and where each begins (int64 [rows + 1]); null counts as empty. No copy of the
    text."""
    column = column.cast(pa.large_string())
    if column.null_count:
        column = pc.fill_null(column, "")
    _, offsets, data = column.buffers()
    places = np.frombuffer(offsets, dtype=np.int64)[column.offset : column.offset + len(column) + 1]
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
    return raw, places


def whole_file(number: int, path: Location, first: int) -> Block:
    """All rows of a file as one block, `first` of all documents before it."""
    with local_copy(path) as here, open_parquet(here) as file:
        names = tuple(file.schema_arrow.names)
        return Block(number, path, names, (0, file.num_row_groups), 0, file.metadata.num_rows, first)
