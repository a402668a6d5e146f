"""Evaluation files as rows: CSV, TSV, JSON, JSON lines and Parquet, alone, in folders, in zip files, with gzip.

Comes in: the path that the user named. Goes out: for each file or member its rows as dictionaries with their
numbers, and what could not be read. A row that cannot be decoded is quarantined and the rest go on; a file that
cannot be opened, is damaged or holds nothing is an error that names it, because a benchmark that was silently
not searched for is worse than none.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import files_below

Row = dict[str, Any]
NOT_UTF8, NOT_JSON, NOT_OBJECT = "not-utf8", "not-json", "not-an-object"
NO_HEADER = "column {}"
_FIELD_BYTES = 1 << 30
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class BadRow:
    """A row that was not read: its number (from 0), why, and the beginning of it."""

    number: int
    reason: str
    preview: str


@dataclass(frozen=True)
class Table:
    """The rows of one file: (number, fields), in order, and those that were not read."""

    name: str
    rows: tuple[tuple[int, Row], ...]
    bad: tuple[BadRow, ...]


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(data.splitlines()):
        if line.strip():
            yield number, line


def _json_lines(data: bytes, name: str) -> Table:
    rows, bad = [], []
    for number, line in _lines(data.removeprefix(b"\xef\xbb\xbf")):
        preview = line[:80].decode("utf-8", "replace")
        try:
            value = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError:
            bad.append(BadRow(number, NOT_UTF8, preview))
        except (json.JSONDecodeError, RecursionError):
            bad.append(BadRow(number, NOT_JSON, preview))
        else:
            if isinstance(value, dict):
                rows.append((number, value))
            else:
                bad.append(BadRow(number, NOT_OBJECT, preview))
    return Table(name, tuple(rows), tuple(bad))


def _records(value: Any) -> list[Any]:
    """The rows of a JSON document: a list, the longest list of an object, or the objects of an object by key."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        lists = [
            item
            for item in value.values()
            if isinstance(item, list) and any(isinstance(one, dict) for one in item)
        ]
        if lists:
            return max(lists, key=len)
        if value and all(isinstance(item, dict) for item in value.values()):
            return [{"id": key, **item} for key, item in value.items()]
        return [value] if value else []
    return []


def _json(data: bytes, name: str) -> Table:
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        lines = _json_lines(data, name)
        if lines.rows:  # JSON lines by another name
            return lines
        raise HainaError(
            f"{name}: not valid JSON ({str(error).splitlines()[0]})", "check the file"
        ) from error
    rows, bad = [], []
    for number, row in enumerate(_records(value)):
        if isinstance(row, dict):
            rows.append((number, row))
        else:
            bad.append(BadRow(number, NOT_OBJECT, str(row)[:80]))
    return Table(name, tuple(rows), tuple(bad))


def _is_header(first: list[str], second: list[str] | None) -> bool:
    """Whether the first row of a CSV names its columns.

    MMLU's files have none: question, four options, letter. A row that ends in the letter of an answer, or is
    longer than any name is, is a row of data.
    """
    letters = {"A", "B", "C", "D", "E"}
    if (
        len(first) >= 3
        and first[-1].strip() in letters
        and not {cell.strip() for cell in first[-5:-1]} & letters
    ):
        return False
    if (
        second is not None
        and len(second) > 1
        and first[-1].strip() == second[-1].strip()
        and first[-1].strip() in letters
    ):
        return False
    return all(len(cell) <= 48 for cell in first) and len(set(first)) == len(first)


def _separated(data: bytes, name: str, delimiter: str) -> Table:
    csv.field_size_limit(_FIELD_BYTES)
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    try:
        cells = [
            row
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            if any(map(str.strip, row))
        ]
    except csv.Error as error:
        raise HainaError(f"{name}: not readable as CSV ({error})", "check the file") from error
    if not cells:
        return Table(name, (), ())
    if _is_header(cells[0], cells[1] if len(cells) > 1 else None):
        names, start = [cell.strip() for cell in cells[0]], 1
    else:
        names, start = headerless(len(cells[0])), 0
    rows, bad = [], []
    for number, row in enumerate(cells[start:]):
        if any("\udc80" <= character <= "\udcff" for cell in row for character in cell):
            raw = delimiter.join(row).encode("utf-8", "surrogateescape")
            bad.append(BadRow(number, NOT_UTF8, raw[:80].decode("utf-8", "replace")))
        else:
            padded = [*row, *[""] * (len(names) - len(row))]
            rows.append(
                (
                    number,
                    dict(
                        zip(
                            [*names, *map(NO_HEADER.format, range(len(names), len(row)))],
                            padded,
                            strict=False,
                        )
                    ),
                )
            )
    return Table(name, tuple(rows), tuple(bad))


def headerless(columns: int) -> list[str]:
    """Names for the columns of a table without any: question, options, answer."""
    return ["question", *(f"option{number}" for number in range(1, columns - 1)), "answer"][: max(columns, 1)]


def _parquet(data: bytes, name: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(data))
        return Table(name, tuple(enumerate(table.to_pylist())), ())
    except UnicodeDecodeError:
        return _parquet_by_row(table, name)
    except (pa.ArrowException, OSError) as error:
        raise HainaError(
            f"{name}: not readable as Parquet ({str(error).splitlines()[0]})", "check the file"
        ) from error


def _parquet_by_row(table: Any, name: str) -> Table:
    rows, bad = [], []
    for number in range(table.num_rows):
        try:
            rows.append((number, table.slice(number, 1).to_pylist()[0]))
        except UnicodeDecodeError:
            bad.append(BadRow(number, NOT_UTF8, ""))
    return Table(name, tuple(rows), tuple(bad))


READERS: dict[str, Callable[[bytes, str], Table]] = {
    ".csv": lambda data, name: _separated(data, name, ","),
    ".tsv": lambda data, name: _separated(data, name, "\t"),
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}


def _suffix(name: str) -> str:
    return Path(name.removesuffix(".gz")).suffix.lower()


def _read(data: bytes, name: str) -> Table:
    if name.endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except _DAMAGE as error:
            raise HainaError(f"{name}: damaged gzip ({error})", "fetch it again") from error
    return READERS[_suffix(name)](data, name)


def _members(path: Path, name: str) -> Iterator[Table | str]:
    try:
        with zipfile.ZipFile(path) as archive:
            for info in sorted(archive.infolist(), key=lambda info: info.filename):
                member = f"{name}/{info.filename}"
                if info.is_dir():
                    continue
                if _suffix(info.filename) not in READERS:
                    yield member
                    continue
                if info.flag_bits & 1:
                    raise HainaError(f"{member}: encrypted", "unpack it and name the files")
                yield _read(archive.read(info), member)
    except (*_DAMAGE, OSError) as error:
        raise HainaError(
            f"{path}: damaged zip ({error or type(error).__name__})", "fetch it again"
        ) from error


def read_tables(path: Path) -> Iterator[Table | str]:
    """The tables of a file, a zip or a folder, by name; the name alone of a file of another kind below it.

    Raises:
        HainaError: missing, damaged, empty, or of a kind that is not read.
    """
    with os_errors_about(path):
        found = files_below(path) if path.is_dir() else [path]
        if not path.exists():
            raise HainaError(f"{path}: no such file or folder", "check the path of --against")
        if not found or not any(file.stat().st_size for file in found):
            raise HainaError(f"{path}: empty", "name a file that holds questions")
    for file in found:
        name = path.name if file == path else f"{path.name}/{file.relative_to(path).as_posix()}"
        if file.suffix.lower() == ".zip":
            yield from _members(file, name)
        elif _suffix(file.name) in READERS:
            with os_errors_about(file):
                data = file.read_bytes()
            yield _read(data, name)
        elif file == path:
            raise HainaError(
                f"{path}: not a file of questions",
                "CSV, TSV, JSON, JSON lines and Parquet are read, and zip files of them",
            )
        else:
            yield name
