"""Parquet files as runs of rows of bounded size.

Comes in: Parquet files. Goes out: which rows make a run of about so many bytes of one column, and the rows of a run.
Runs depend on the file alone: they follow its row groups, and cut those that are too large.
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


@dataclass(frozen=True)
class RowRun:
    """Rows that lie together.

    Attributes:
        groups: their row groups, `groups[0]` to `groups[1]`.
        skip: rows of these groups before the first of the run.
        rows: how many the run has.
    """

    groups: tuple[int, int]
    skip: int
    rows: int


def open_parquet(path: Path) -> pq.ParquetFile:
    """A Parquet file; one that is missing or damaged is a `HainaError` that names it."""
    with os_errors_about(path):
        path.open("rb").close()
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path | str, error: Exception) -> HainaError:
    """What to say when pyarrow gives up on a file."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return HainaError(f"{path}: not readable as Parquet ({first})", "check the file")


def parquet_below(folder: Path) -> list[Path]:
    """All Parquet files below `folder/documents`, where there is such a folder, else below `folder`; in order."""
    inside = folder / "documents" if (folder / "documents").is_dir() else folder
    return sorted(inside.rglob("*.parquet"))


def holds_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings, plainly or by dictionary."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def column_bytes(file: pq.ParquetFile, group: int, name: str) -> int:
    """Bytes of a column in a row group before compression; of the group, where the column is not a plain one."""
    found = file.metadata.row_group(group)
    for index in range(found.num_columns):
        column = found.column(index)
        if column.path_in_schema == name:
            return int(column.total_uncompressed_size)
    return int(found.total_byte_size)


def row_runs(file: pq.ParquetFile, run_bytes: int, column: str = "text") -> Iterator[RowRun]:
    """Runs of about `run_bytes` of a column that together are all rows, in order; none is empty."""
    low = held = rows = 0
    for group in range(file.num_row_groups):
        size, count = column_bytes(file, group, column), file.metadata.row_group(group).num_rows
        if held + size > run_bytes:
            if rows:
                yield RowRun((low, group), 0, rows)
            low, held, rows = group, 0, 0
        shares = min(-(-size // run_bytes), count)
        if shares > 1:
            cuts = [count * share // shares for share in range(shares + 1)]
            yield from (RowRun((group, group + 1), begin, end - begin) for begin, end in pairwise(cuts))
            low, held, rows = group + 1, 0, 0
        else:
            held, rows = held + size, rows + count
    if rows:
        yield RowRun((low, file.num_row_groups), 0, rows)


def read_run(
    path: Path, run: RowRun, columns: Sequence[str] | None, batch_rows: int, name: object = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a run in batches of at most `batch_rows`. `name` stands for the file in messages.

    Raises:
        HainaError: the file is damaged or has fewer rows than when the run was made.
    """
    said = path if name is None else name
    skip, rows = run.skip, run.rows
    with open_parquet(path) as file:
        if file.num_row_groups < run.groups[1]:
            raise _changed(said, rows)
        try:
            for batch in file.iter_batches(
                batch_size=batch_rows,
                row_groups=list(range(*run.groups)),
                columns=None if columns is None else list(columns),
                use_threads=False,
            ):
                part = batch.slice(min(skip, batch.num_rows), rows)
                skip -= min(skip, batch.num_rows)
                rows -= part.num_rows
                if part.num_rows:
                    yield part
                if not rows:
                    return
        except (pa.ArrowException, OSError) as error:
            groups = f"row groups {run.groups[0] + 1} to {run.groups[1]}"
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise HainaError(
                f"{said}: not readable as Parquet ({groups}: {first})", "check the file"
            ) from error
    raise _changed(said, rows)


def _changed(name: object, rows: int) -> HainaError:
    return HainaError(f"{name}: {rows} rows fewer than before", "do not change the input while it is read")


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
