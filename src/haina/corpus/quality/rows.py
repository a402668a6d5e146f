"""Labelled and unlabelled texts from Parquet and JSONL files, interleaved and never whole in memory.

Comes in: files or folders. Goes out: batches of rows in which every file has its share, so that a batch is mixed even
when each file is sorted. The order depends on the paths and their contents alone.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from haina.runtime.errors import HainaError, os_errors_about

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz")
Row = dict[str, Any]


def text_files(paths: Sequence[Path]) -> list[Path]:
    """The Parquet and JSONL files named, or below the folders named, in order.

    Raises:
        HainaError: a path that is not there, of another kind, or a folder without such files.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(
                item for item in path.rglob("*") if item.is_file() and item.name.endswith(SUFFIXES)
            )
            if not found:
                raise HainaError(
                    f"{path}: no {', '.join(SUFFIXES)} below this folder", "name files with a column `text`"
                )
            files.extend(found)
        elif not path.is_file():
            raise HainaError(f"{path}: no such file or folder", "check the path")
        elif not path.name.endswith(SUFFIXES):
            raise HainaError(f"{path}: not a {', '.join(SUFFIXES)}", "convert it, or name another file")
        else:
            files.append(path)
    return files


def domain_of(path: Path) -> str:
    """A file's name without its endings: the domain of rows that name none."""
    return path.name.split(".")[0]


def _open_lines(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


def count_rows(path: Path) -> int:
    """Rows of a file, empty lines of JSONL not counted."""
    with os_errors_about(path):
        if path.suffix == ".parquet":
            with _parquet(path) as file:
                return int(file.metadata.num_rows)
        with _open_lines(path) as lines:
            return sum(1 for line in lines if line.strip())


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except pa.ArrowException as error:
        message = str(error).splitlines()[0]
        raise HainaError(f"{path}: not readable as Parquet ({message})", "check the file") from error


def iterate(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Rows of a file with those of `columns` that it has; `text` must be one and a string.

    Raises:
        HainaError: no column `text`, a line that is not a JSON object, a damaged file.
    """
    if path.suffix == ".parquet":
        with _parquet(path) as file:
            names = file.schema_arrow.names
            if "text" not in names:
                raise HainaError(f"{path}: no column `text`", f"its columns are {', '.join(names) or 'none'}")
            try:
                for batch in file.iter_batches(
                    batch_size=256, columns=[name for name in columns if name in names]
                ):
                    for row in batch.to_pylist():
                        yield {**row, "text": row["text"] or ""}
            except pa.ArrowException as error:
                message = str(error).splitlines()[0]
                raise HainaError(f"{path}: not readable as Parquet ({message})", "check the file") from error
        return
    with os_errors_about(path), _open_lines(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise HainaError(
                    f"{path}: line {number}: not JSON ({error})", "mend or remove the line"
                ) from error
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                raise HainaError(
                    f"{path}: line {number}: no string `text`", "one JSON object with `text` a line"
                )
            yield {name: row[name] for name in columns if name in row}


def interleaved(
    files: Sequence[Path], columns: Sequence[str], batch_rows: int
) -> Iterator[list[tuple[Path, Row]]]:
    """Batches of rows, every file spread evenly over all batches.

    Args:
        files: Parquet or JSONL files.
        columns: names to read where present, `text` among them.
        batch_rows: rows of a batch, about.
    """
    counts = [count_rows(path) for path in files]
    batches = max(1, -(-sum(counts) // batch_rows))
    rows = [iterate(path, columns) for path in files]
    for number in range(batches):
        batch: list[tuple[Path, Row]] = []
        for path, count, source in zip(files, counts, rows, strict=True):
            due = count * (number + 1) // batches - count * number // batches
            for _ in range(due):
                batch.append((path, next(source)))
        yield batch
