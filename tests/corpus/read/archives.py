"""Archives that the reader tests make: records with digests, gzip and zstd members, damage."""

from __future__ import annotations

import base64
import gzip
import hashlib
import random
from itertools import pairwise
from pathlib import Path

from haina.corpus.accounts import Account
from haina.corpus.read import read_source
from haina.corpus.records import Ignored, Page, Quarantined, Record
from haina.corpus.sources import Source, format_of

LIMIT = 1 << 20


def digest(data: bytes) -> bytes:
    return b"sha1:" + base64.b32encode(hashlib.sha1(data).digest())


def http(
    body: bytes, head: bytes = b"Content-Type: text/html; charset=utf-8", status: bytes = b"200 OK"
) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\n\r\n" + body


def warc(
    url: str, block: bytes, kind: bytes = b"response", *, digests: bool = True, version: bytes = b"1.0"
) -> bytes:
    head = b"WARC/" + version + b"\r\nWARC-Type: " + kind + b"\r\nWARC-Target-URI: " + url.encode() + b"\r\n"
    if digests:
        head += b"WARC-Block-Digest: " + digest(block) + b"\r\n"
    head += b"Content-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n" % len(block)
    return head + block + b"\r\n\r\n"


def body(index: int, rng: random.Random | None = None) -> bytes:
    words = " ".join(str((rng or random.Random(index)).randrange(10**5)) for _ in range(40 + index % 7 * 60))
    return f"<p>第 {index} 页，网页正文。page {index}: {words}</p>".encode()


def records(count: int, *, digests: bool = True) -> list[bytes]:
    return [warc(f"http://h/{index}", http(body(index)), digests=digests) for index in range(count)]


def read(
    path: Path, data: bytes, limit: int = LIMIT
) -> tuple[list[Page], list[Quarantined], list[Ignored], Account]:
    """Read a file, with the checks that hold for every file: unique positions, all bytes and records accounted for."""
    path.write_bytes(data)
    account = Account()
    found = list(
        read_source(Source(str(path), path.name, format_of(path.name) or "", len(data)), limit, account)
    )
    check(found, account, len(data))
    return (
        [record for record in found if isinstance(record, Page)],
        [record for record in found if isinstance(record, Quarantined)],
        [record for record in found if isinstance(record, Ignored)],
        account,
    )


def check(found: list[Record], account: Account, size: int) -> None:
    placed = [record.position for record in found if not isinstance(record, Ignored)]
    assert len(set(placed)) == len(placed)
    assert account.bytes_total == size
    assert account.balanced, account
    assert account.bytes_read + account.bytes_lost == size
    assert account.pages + account.quarantined + account.ignored == len(found)
    outer = [lost for lost in account.lost if lost.inside is None]
    assert sum(lost.end - lost.start for lost in outer) == account.bytes_lost
    assert all(left.end <= right.start for left, right in pairwise(outer))
    named = {
        (record.span.start, record.span.end)
        for record in found
        if isinstance(record, Quarantined)
        and record.span is not None
        and f"bytes {record.span.start}-{record.span.end}" in record.evidence
    }
    assert {(lost.start, lost.end) for lost in outer} <= named


def gz(parts: list[bytes]) -> bytes:
    return b"".join(gzip.compress(part, mtime=0) for part in parts)
