"""Documents of Parquet files in blocks of bounded size, numbered through.

Comes in: Parquet files with `id` and `text`. Goes out: blocks, each a run of rows that one task works on, and the rows
of a block. Blocks depend on the files alone, never on who works on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from haina.runtime.errors import HainaError
from haina.runtime.executor import Location, local_copy
from haina.runtime.parquet_rows import (
    RowRun,
    column_bytes,
    holds_text,
    open_parquet,
    parquet_below,
    read_run,
    row_runs,
)

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
            files = parquet_below(path)
            if not files:
                raise HainaError(f"{path}: no *.parquet below it", "name Parquet files or a folder of them")
            found += files
        elif path.is_file():
            found.append(path)
        else:
            raise HainaError(f"{path}: no such file or folder", "check the path")
    return found


def _check_columns(path: Path, schema: pa.Schema, priority: str) -> None:
    for name in ("id", "text", *([priority] if priority else [])):
        if name not in schema.names:
            raise HainaError(
                f"{path}: no column `{name}` (it has {', '.join(schema.names)})", "name the columns so"
            )
    for name in ("id", "text"):
        if not holds_text(schema.field(name).type):
            raise HainaError(
                f"{path}: column `{name}` holds {schema.field(name).type}, not strings", "convert it"
            )
    if priority:
        kind = schema.field(priority).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise HainaError(
                f"{path}: column `{priority}` holds {kind}, not numbers", "name another as priority"
            )


def plan_blocks(paths: Sequence[Path], block_bytes: int, priority: str = "") -> tuple[list[Block], int]:
    """Blocks of about `block_bytes` of text, in the order of the files; and the bytes of text in all, as Parquet
    counts them.

    Raises:
        HainaError: a file is missing or no Parquet, or lacks a column.
    """
    blocks: list[Block] = []
    first = total = 0
    for path in paths:
        with open_parquet(path) as file:
            _check_columns(path, file.schema_arrow, priority)
            columns = tuple(file.schema_arrow.names)
            total += sum(column_bytes(file, group, "text") for group in range(file.num_row_groups))
            for run in row_runs(file, block_bytes):
                blocks.append(Block(len(blocks), path, columns, run.groups, run.skip, run.rows, first))
                first += run.rows
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
    run = RowRun(block.groups, block.skip, block.rows)
    with local_copy(block.path) as path:
        for batch in read_run(path, run, columns, _READ_ROWS, block.path):
            _check_utf8(block.path, batch)
            yield batch


def whole_file(number: int, path: Location, first: int) -> Block:
    """All rows of a file as one block, `first` of all documents before it."""
    with local_copy(path) as here, open_parquet(here) as file:
        names = tuple(file.schema_arrow.names)
        return Block(number, path, names, (0, file.num_row_groups), 0, file.metadata.num_rows, first)
