"""JSON lines and Parquet: a record is a line or a row.

Comes in: an open file. Goes out: a page for each row that has text, a quarantined record for each that has not. A
compressed file of lines is read member by member, so that damage costs the lines it touches and not the rest; a
damaged row group of Parquet costs that group.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from haina.corpus.accounts import Account
from haina.corpus.members import Gap, Member, Packed, codec_of
from haina.corpus.records import Page, Quarantined, Record, Span, looks_like_html

TEXT_FIELDS = ("text", "html", "content", "raw_content")
_URL_FIELDS = ("url", "source_url", "uri")
_LINE_CHUNK = 1 << 20


def row_page(position: str, row: dict[str, Any], limit: int, span: Span | None = None) -> Record:
    """The page in one JSON object or table row; the first of `TEXT_FIELDS` it has is its content."""
    url = next((row[name] for name in _URL_FIELDS if isinstance(row.get(name), str)), "")
    field = next((name for name in TEXT_FIELDS if row.get(name) is not None), None)
    if field is None:
        return Quarantined(position, "missing-text", f"none of {', '.join(TEXT_FIELDS)}", url, span)
    content = row[field]
    if not isinstance(content, (str, bytes)):
        return Quarantined(
            position, "missing-text", f"{field} is {type(content).__name__}, not text", url, span
        )
    if len(content) > limit:
        return Quarantined(
            position, "too-large", f"{field} of {len(content)} is above the limit of {limit}", url, span
        )
    if not content.strip():
        return Quarantined(position, "empty", f"{field} is empty", url, span)
    is_html = field == "html" or (field != "text" and looks_like_html(content))
    title, license_name = row.get("title"), row.get("license")
    return Page(
        position,
        content,
        is_html,
        url,
        title=title if isinstance(title, str) else "",
        license=license_name if isinstance(license_name, str) else "",
        span=span,
    )


def _json_line(position: str, line: bytes, length: int, limit: int, span: Span) -> Record:
    if length > limit + 1:
        evidence = f"{span}: line of {length} bytes is above the limit of {limit}"
        return Quarantined(position, "too-large", evidence, "", span)
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        evidence = f"{span}: byte {error.start} of the line is not {error.encoding}"
        return Quarantined(position, "undecodable", evidence, "", span)
    except (ValueError, RecursionError) as error:
        return Quarantined(
            position, "invalid-json", f"{span}: {str(error) or type(error).__name__}", "", span
        )
    if not isinstance(row, dict):
        return Quarantined(position, "invalid-json", f"{span}: {type(row).__name__}, not an object", "", span)
    return row_page(position, row, limit, span)


class _Lines:
    """Cuts a stream of chunks into lines; a line above the limit is counted, not held.

    Attributes:
        number: lines so far.
        offset: of the first byte that no line was made of yet.
    """

    def __init__(self, limit: int, offset: int = 0) -> None:
        self.limit = limit
        self.number = 0
        self.offset = offset
        self._kept = bytearray()
        self._length = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes, int, int]]:
        """(line, its bytes, its offset) of each line that ends in this chunk."""
        start = 0
        while (end := chunk.find(b"\n", start) + 1) > 0:
            yield self._line(chunk[start:end])
            start = end
        self._keep(chunk[start:])

    def rest(self) -> tuple[bytes, int, int] | None:
        """What is left without a line feed, as a line; None when nothing is."""
        return self._line(b"") if self._length else None

    def drop(self) -> int:
        """Forget what is left without a line feed; how many bytes that was."""
        dropped, self._kept, self._length = self._length, bytearray(), 0
        self.offset += dropped
        return dropped

    def _keep(self, piece: bytes) -> None:
        self._length += len(piece)
        self._kept += piece if self._length <= self.limit + 1 else b""

    def _line(self, piece: bytes) -> tuple[bytes, int, int]:
        self._keep(piece)
        line, length, offset = bytes(self._kept), self._length, self.offset
        self._kept, self._length = bytearray(), 0
        self.offset += length
        self.number += 1
        return line if length <= self.limit + 1 else b"", length, offset


def _line_record(line: bytes, length: int, number: int, limit: int, span: Span) -> Record | None:
    """The record of a line; None for a blank one."""
    if number == 1:
        line = line.removeprefix(b"\xef\xbb\xbf")
    return (
        _json_line(f"line {number}", line, length, limit, span)
        if length > limit + 1 or line.strip()
        else None
    )


def _plain_lines(file: BinaryIO, size: int, limit: int, account: Account) -> Iterator[Record]:
    lines = _Lines(limit)

    def record(line: bytes, length: int, offset: int) -> Record | None:
        found = _line_record(line, length, lines.number, limit, Span(offset, offset + length))
        if found is None:
            account.take(offset + length)
        else:
            account.settle(offset + length, found)
        return found

    any_record = False
    while chunk := file.read(_LINE_CHUNK):
        for line in lines.feed(chunk):
            if (found := record(*line)) is not None:
                any_record = True
                yield found
    if (last := lines.rest()) is not None and (found := record(*last)) is not None:
        any_record = True
        yield found
    if not any_record:
        yield Quarantined("end", "empty", "no line in the file", "", Span(0, size))


def _head(file: BinaryIO) -> bytes:
    head = file.read(4096)
    file.seek(0)
    return head


def _begins_line(data: bytes) -> bool:
    """Whether unpacked bytes look like JSON lines, or the middle of one."""
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return True
    return bool(data) and not any(byte < 9 for byte in data) and data.decode("utf-8", "ignore") != ""


class _PackedLines:
    """JSON lines in gzip members or zstd frames; a line may go on in the next member."""

    def __init__(self, packed: Packed, limit: int, account: Account) -> None:
        self.packed = packed
        self.limit = limit
        self.account = account
        self.lines = _Lines(limit)
        self.after_damage = False

    def records(self) -> Iterator[Record]:
        offset = self.packed.first
        while offset < self.packed.size:
            if not self.packed.is_member(offset):
                following = self.packed.find(offset)
                yield self._damage(Gap(offset, following), "not-a-member")
                offset = following
                continue
            member = self.packed.member_at(offset)
            yield from self._member(member)
            offset = self.packed.after(member)
            if member.error:
                yield self._damage(Gap(member.offset, offset), member.error)
            else:
                self.account.take(offset)
        last = self.lines.rest()
        if last is not None and (found := self._record(last, self.packed.first)) is not None:
            yield found

    def _member(self, member: Member) -> Iterator[Record]:
        while chunk := member.read_chunk():
            if self.after_damage:
                chunk = self._resume(chunk, member)
            for line in self.lines.feed(chunk):
                if (found := self._record(line, member.offset)) is not None:
                    yield found

    def _resume(self, chunk: bytes, member: Member) -> bytes:
        """The chunk from the first line that begins in it; what comes before belongs to a line that was lost."""
        if chunk.lstrip(b" \t\r\n").startswith(b"{"):
            self.after_damage = False
            return chunk
        cut = chunk.find(b"\n") + 1
        lost = cut or len(chunk)
        record = Quarantined(
            "", "corrupt-line", "", "", Span(self.lines.offset, self.lines.offset + lost, member.offset)
        )
        self.account.settle_inside(record)
        self.lines.offset += lost
        self.after_damage = not cut
        return chunk[lost:]

    def _damage(self, gap: Gap, reason: str) -> Record:
        """The quarantined record of a damaged member; the line it broke off in goes with it."""
        dropped = self.lines.drop()
        self.after_damage = True
        start = self.account.cursor
        self.account.lose(gap.end, reason)
        span = Span(start, gap.end)
        evidence = f"{span} of {self.packed.size}: after line {self.lines.number}"
        if dropped:
            evidence += f", {dropped} unpacked bytes of the next"
        return Quarantined(f"byte {gap.start}", reason, evidence, "", span)

    def _record(self, line: tuple[bytes, int, int], inside: int) -> Record | None:
        content, length, offset = line
        span = Span(offset, offset + length, inside)
        found = _line_record(content, length, self.lines.number, self.limit, span)
        if found is not None:
            self.account.settle_inside(found)
        return found


def read_jsonl(file: BinaryIO, size: int, limit: int, account: Account, name: str = "") -> Iterator[Record]:
    """JSON lines, plain or compressed with gzip or zstd; a blank line is no record.

    Lines of a damaged member are given out up to where it breaks off: each is a whole JSON object, which is all that
    can be known of it.
    """
    codec = codec_of(file)
    if not codec and name.lower().endswith((".gz", ".zst")) and not _begins_line(_head(file)):
        codec = "gzip" if name.lower().endswith(".gz") else "zstd"
    if not codec:
        yield from _plain_lines(file, size, limit, account)
        return
    packed = Packed(file, size, codec, _begins_line, 1 << 30)
    account.take(packed.first)
    any_record = False
    for record in _PackedLines(packed, limit, account).records():
        any_record = True
        yield record
    if not any_record:
        yield Quarantined("end", "empty", "no line in the file", "", Span(0, size))


class _Watched(io.RawIOBase):
    """A file that notes where it is read. pyarrow can name the ranges of a row group too, but ends the whole
    process when the index is damaged in certain ways (26.0: `RowGroupMetaData.column` lets a C++ exception through).
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.first: int | None = None
        self.last = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def read(self, size: int = -1) -> bytes:
        start = self.file.tell()
        data = self.file.read(size)
        self.first = start if self.first is None else min(self.first, start)
        self.last = max(self.last, start + len(data))
        return data


def read_parquet(file: BinaryIO, size: int, limit: int, account: Account) -> Iterator[Record]:
    """Rows of a Parquet file with a column `text`, `html`, `content` or `raw_content` (string or binary).

    A row group that cannot be decoded is quarantined, from its first row that could not be read, with the byte
    range from its own start to that of the next; checksums of pages are verified where the file has them.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    faults = (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError)
    watched = _Watched(file)
    try:
        table = pq.ParquetFile(watched, memory_map=False, pre_buffer=False, page_checksum_verification=True)
        names, groups = table.schema_arrow.names, table.num_row_groups
        file.seek(-8, io.SEEK_END)
        footer = size - 8 - int.from_bytes(file.read(4), "little")
    except faults as error:
        account.lose(size, "corrupt-parquet")
        span = Span(0, size)
        yield Quarantined("end", "corrupt-parquet", f"{span}: {_first_line(error)}", "", span)
        return
    if not any(name in names for name in TEXT_FIELDS):
        account.take(size)
        found = ", ".join(names)[:200]
        evidence = f"no column {', '.join(TEXT_FIELDS)} among {found}"
        yield Quarantined("file", "missing-text", evidence, "", Span(0, size))
        return
    columns = [name for name in (*TEXT_FIELDS, *_URL_FIELDS, "title", "license") if name in names]
    first = 1
    starts: list[int] = []
    damaged: dict[int, tuple[str, str]] = {}
    for index in range(groups):
        row_number = first
        rows = table.metadata.row_group(index).num_rows
        watched.first = None
        try:
            for batch in table.iter_batches(
                batch_size=64, columns=columns, row_groups=[index], use_threads=False
            ):
                # Row by row, so that one cell that is not valid UTF-8 costs only its own row.
                for position in range(batch.num_rows):
                    yield _row(batch, columns, position, row_number, limit)
                    row_number += 1
        except faults as error:
            left = first + rows - row_number
            place = f"group {index + 1}, rows {row_number}-{first + rows - 1}"
            damaged[index] = place, f"{left} rows from row {row_number} on: {_first_line(error)}"
        previous = starts[-1] if starts else 0
        start = watched.first if watched.first is not None else watched.last
        starts.append(min(max(previous, start), footer) if index else 0)
        first += rows
    for index, (place, evidence) in damaged.items():
        end = starts[index + 1] if index + 1 < groups else max(footer, starts[index])
        account.take(starts[index])
        account.lose(end, "corrupt-parquet")
        span = Span(starts[index], end)
        yield Quarantined(place, "corrupt-parquet", f"{span}: {evidence}", "", span)
    account.take(size)
    if first == 1:
        yield Quarantined("end", "empty", "no row in the file", "", Span(0, size))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _row(batch: Any, columns: list[str], position: int, number: int, limit: int) -> Record:
    try:
        row = {name: batch.column(name)[position].as_py() for name in columns}
    except UnicodeDecodeError as error:
        return Quarantined(f"row {number}", "undecodable", f"byte {error.start} is not UTF-8")
    return row_page(f"row {number}", row, limit)
