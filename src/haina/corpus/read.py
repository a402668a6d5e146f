"""Read any source: every record it holds comes out as a page, quarantined or ignored.

Comes in: a source. Goes out: records, one at a time; no file is held in memory beyond one record and one
buffer. WARC, ARC and WET are read by `read_archive`; HTML and text files are one page each; JSONL and Parquet
one a row.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from haina.corpus.read_archive import read_archive
from haina.corpus.records import Page, Quarantined, Record, looks_like_html
from haina.corpus.sources import Source

TEXT_FIELDS = ("text", "html", "content", "raw_content")
_URL_FIELDS = ("url", "source_url", "uri")


def _row(position: str, row: dict[str, Any], limit: int) -> Record:
    """The page in one JSON object or table row; the first of `TEXT_FIELDS` it has is its content."""
    url = next((row[name] for name in _URL_FIELDS if isinstance(row.get(name), str)), "")
    field = next((name for name in TEXT_FIELDS if row.get(name) is not None), None)
    if field is None:
        return Quarantined(position, "missing-text", f"none of {', '.join(TEXT_FIELDS)}", url)
    content = row[field]
    if not isinstance(content, (str, bytes)):
        return Quarantined(position, "missing-text", f"{field} is {type(content).__name__}, not text", url)
    if len(content) > limit:
        return Quarantined(
            position, "too-large", f"{field} of {len(content)} is above the limit of {limit}", url
        )
    if not content.strip():
        return Quarantined(position, "empty", f"{field} is empty", url)
    is_html = field == "html" or (field != "text" and looks_like_html(content))
    title, license_name = row.get("title"), row.get("license")
    return Page(
        position,
        content,
        is_html,
        url,
        title=title if isinstance(title, str) else "",
        license=license_name if isinstance(license_name, str) else "",
    )


def read_file(path: Path, is_html: bool, limit: int) -> Iterator[Record]:
    """An HTML or text file: one page."""
    size = path.stat().st_size
    if size > limit:
        yield Quarantined("0", "too-large", f"file of {size} bytes is above the limit of {limit}")
        return
    data = path.read_bytes()
    if not data.strip():
        yield Quarantined("0", "empty", f"file of {len(data)} bytes holds nothing")
    else:
        yield Page("0", data, is_html)


def _open_lines(path: Path) -> BinaryIO:
    name = path.name.lower()
    if name.endswith(".gz"):
        return cast(BinaryIO, io.BufferedReader(gzip.open(path, "rb"), 1 << 20))
    if name.endswith(".zst"):
        import pyarrow as pa

        # Arrow's reader, since zstandard's takes half a frame for the end of the file without a word.
        return cast(BinaryIO, io.BufferedReader(pa.input_stream(path, compression="zstd"), 1 << 20))
    return path.open("rb")


def _lines(file: BinaryIO, limit: int) -> Iterator[tuple[bytes, int]]:
    """(line, its bytes); a line above the limit comes as an empty one with its length."""
    while line := file.readline(limit + 2):
        if line.endswith(b"\n") or len(line) < limit + 2:
            yield line, len(line)
            continue
        length = len(line)
        while more := file.readline(1 << 20):
            length += len(more)
            if more.endswith(b"\n"):
                break
        yield b"", length


def _json_line(number: int, line: bytes, length: int, limit: int) -> Record:
    position = f"line {number}"
    if length > limit + 1:
        return Quarantined(position, "too-large", f"line of {length} bytes is above the limit of {limit}")
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        return Quarantined(position, "undecodable", f"byte {error.start} of the line is not {error.encoding}")
    except (ValueError, RecursionError) as error:
        return Quarantined(position, "invalid-json", str(error) or type(error).__name__)
    if not isinstance(row, dict):
        return Quarantined(position, "invalid-json", f"{type(row).__name__}, not an object")
    return _row(position, row, limit)


def read_jsonl(path: Path, limit: int) -> Iterator[Record]:
    """JSON lines, plain or compressed with gzip or zstd; a blank line is no record.

    Damage to a compressed file ends it: lines after it cannot be found again, and one quarantined record says
    so.
    """
    number = 0
    with _open_lines(path) as file:
        lines = _lines(file, limit)
        while True:
            try:
                line, length = next(lines)
            except StopIteration:
                break
            except (EOFError, gzip.BadGzipFile, zlib.error, OSError) as error:
                if not path.name.lower().endswith((".gz", ".zst")):
                    raise
                cut = "truncated" if isinstance(error, EOFError) or "Truncated" in str(error) else "corrupt"
                kind = "zstd" if path.name.lower().endswith(".zst") else "gzip"
                evidence = f"after line {number}: {error}; the rest cannot be read"
                yield Quarantined("end", f"{cut}-{kind}", evidence)
                return
            number += 1
            if length > limit + 1 or line.strip():
                yield _json_line(
                    number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, length, limit
                )
    if number == 0:
        yield Quarantined("end", "empty", "no line in the file")


def read_parquet(path: Path, limit: int) -> Iterator[Record]:
    """Rows of a Parquet file with a column `text`, `html`, `content` or `raw_content` (string or binary)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    row_number = 0
    try:
        with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            names = file.schema_arrow.names
            if not any(name in names for name in TEXT_FIELDS):
                yield Quarantined(
                    "file",
                    "missing-text",
                    f"no column {', '.join(TEXT_FIELDS)} among {', '.join(names)[:200]}",
                )
                return
            columns = [name for name in (*TEXT_FIELDS, *_URL_FIELDS, "title", "license") if name in names]
            for batch in file.iter_batches(batch_size=64, columns=columns, use_threads=False):
                # Row by row, so that one cell that is not valid UTF-8 costs only its own row.
                for index in range(batch.num_rows):
                    row_number += 1
                    try:
                        row = {name: batch.column(name)[index].as_py() for name in columns}
                    except UnicodeDecodeError as error:
                        yield Quarantined(
                            f"row {row_number}", "undecodable", f"byte {error.start} is not UTF-8"
                        )
                        continue
                    yield _row(f"row {row_number}", row, limit)
    except (pa.ArrowException, OSError) as error:
        yield Quarantined(
            "end", "corrupt-parquet", f"after row {row_number}: {str(error).splitlines()[0][:200]}"
        )
        return
    if row_number == 0:
        yield Quarantined("end", "empty", "no row in the file")


def read_source(source: Source, limit: int) -> Iterator[Record]:
    """Every record of a source.

    Args:
        source: a file, or the fault that stands for one.
        limit: bytes a record may have; larger ones are quarantined unread.
    """
    if source.format == "fault":
        reason, _, evidence = source.fault.partition(": ")
        yield Quarantined("file", reason, evidence)
        return
    try:
        if source.format == "archive":
            yield from _never_silent(read_archive(source.path, limit))
        elif source.format == "jsonl":
            yield from read_jsonl(source.path, limit)
        elif source.format == "parquet":
            yield from read_parquet(source.path, limit)
        else:
            yield from read_file(source.path, source.format == "html", limit)
    except OSError as error:
        yield Quarantined("file", "unreadable", error.strerror or str(error))


def _never_silent(records: Iterator[Record]) -> Iterator[Record]:
    """An archive without any record is itself quarantined."""
    any_record = False
    for record in records:
        any_record = True
        yield record
    if not any_record:
        yield Quarantined("file", "empty", "no record in the file")
