"""Read any source: every record it holds comes out as a page, quarantined or ignored.

Comes in: a source. Goes out: records, one at a time; no file is held in memory beyond one record and one
buffer. WARC, ARC and WET are read by `read_archive`, JSON lines and Parquet by `read_rows`, zip files by `read_zip`;
an HTML or text file is one page. The account says where every byte went.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from haina.corpus.accounts import Account
from haina.corpus.locations import open_location
from haina.corpus.read_archive import read_archive
from haina.corpus.read_rows import read_jsonl, read_parquet
from haina.corpus.read_zip import read_zip
from haina.corpus.records import Page, Quarantined, Record, Span
from haina.corpus.sources import Source, format_of


def read_page_file(
    file: BinaryIO, size: int, limit: int, account: Account, is_html: bool
) -> Iterator[Record]:
    """An HTML or text file: one page."""
    span = Span(0, size)
    if size > limit:
        record: Record = Quarantined(
            "0", "too-large", f"{span}: file of {size} bytes is above the limit of {limit}", "", span
        )
    else:
        data = file.read(limit + 1)
        if not data.strip():
            record = Quarantined("0", "empty", f"file of {len(data)} bytes holds nothing", "", span)
        else:
            record = Page("0", data, is_html, span=span)
    account.settle(size, record)
    yield record


def read_open(
    file: BinaryIO, kind: str, size: int, limit: int, account: Account, name: str = ""
) -> Iterator[Record]:
    """Every record of an open file of a known format (`Source.format`)."""
    if kind == "archive":
        yield from _never_silent(read_archive(file, size, limit, account, name=name), size)
    elif kind == "jsonl":
        yield from read_jsonl(file, size, limit, account, name)
    elif kind == "parquet":
        yield from read_parquet(file, size, limit, account)
    elif kind == "zip":
        yield from read_zip(
            file,
            size,
            limit,
            account,
            format_of,
            lambda member, format_, length, inner: read_open(member, format_, length, limit, inner),
        )
    else:
        yield from read_page_file(file, size, limit, account, kind == "html")


def read_source(source: Source, limit: int, account: Account | None = None) -> Iterator[Record]:
    """Every record of a source.

    Args:
        source: a file, or the fault that stands for one.
        limit: bytes a record may have; larger ones are quarantined unread.
        account: filled with where each byte and record of the source went.

    Raises:
        HainaError: the source is remote and the package that speaks its protocol is not installed.
    """
    account = Account() if account is None else account
    account.bytes_total = source.bytes
    for record in _records(source, limit, account):
        account.count(record)
        yield record


def _records(source: Source, limit: int, account: Account) -> Iterator[Record]:
    if source.format == "fault":
        reason, _, evidence = source.fault.partition(": ")
        yield Quarantined("file", reason, evidence)
        return
    try:
        with open_location(source.location) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            account.bytes_total = size
            yield from read_open(file, source.format, size, limit, account, source.name)
    except OSError as error:
        account.lose(account.bytes_total, "unreadable")
        yield Quarantined("file", "unreadable", error.strerror or str(error))


def _never_silent(records: Iterator[Record], size: int) -> Iterator[Record]:
    """An archive without any record is itself quarantined."""
    any_record = False
    for record in records:
        any_record = True
        yield record
    if not any_record:
        yield Quarantined("file", "empty", "no record in the file", "", Span(0, size))
