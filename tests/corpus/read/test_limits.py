"""Hostile sizes: what is above a limit is counted without being held, in bounded memory and time."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from .archives import LIMIT, gz, http, read, records, warc

_CHILD = """
import json, resource, sys
from haina.corpus.accounts import Account
from haina.corpus.read import read_source
from haina.corpus.sources import Source, format_of
import pyarrow.parquet, zstandard
path, size = sys.argv[1], int(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
account, reasons = Account(), []
for record in read_source(Source(path, path, format_of(path), size), 1 << 20, account):
    if hasattr(record, "reason"):
        reasons.append(record.reason)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([peak - before, reasons, account.pages, account.balanced]))
"""


def child(path: Path) -> tuple[int, list[str], int]:
    """(KiB of memory above the interpreter's own, reasons, pages) of reading a file in a process of its own."""
    out = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), str(path.stat().st_size)],
        capture_output=True,
        text=True,
        check=True,
    )
    peak, reasons, pages, balanced = json.loads(out.stdout)
    assert balanced
    return peak, reasons, pages


def sparse_record(path: Path) -> None:
    """A record of 3 GB, most of it a hole, between two ordinary ones."""
    size = 3 << 30
    with path.open("wb") as file:
        file.write(records(1)[0])
        head = b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://big/\r\n"
        file.write(head + b"Content-Type: application/http\r\nContent-Length: %d\r\n\r\n" % size)
        file.seek(size, io.SEEK_CUR)
        file.write(b"\r\n\r\n" + records(2)[1])


def bomb_member(path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: %d\r\n\r\n" % (1 << 31)
    parts = [packer.compress(head)] + [packer.compress(bytes(8 << 20)) for _ in range(32)] + [packer.flush()]
    path.write_bytes(gz(records(1)) + b"".join(parts) + gz([records(2)[1]]))


def zstd_bomb(path: Path) -> None:
    packer = zstandard.ZstdCompressor().compressobj()
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: %d\r\n\r\n" % (1 << 31)
    parts = [packer.compress(head)] + [packer.compress(bytes(8 << 20)) for _ in range(64)] + [packer.flush()]
    frames = [zstandard.compress(record) for record in records(2)]
    path.write_bytes(frames[0] + b"".join(parts) + frames[1])


def long_line(path: Path) -> None:
    with gzip.open(path, "wb", 1) as file:
        file.write(b'{"text": "first"}\n{"text": "')
        for _ in range(12):
            file.write(b"x" * (8 << 20))
        file.write(b'"}\n{"text": "last"}\n')


def content_bomb(path: Path) -> None:
    packed = gzip.compress(gzip.compress(bytes(200 << 20), 9))
    block = http(packed, b"Content-Type: text/html\r\nContent-Encoding: gzip, gzip")
    path.write_bytes(records(1)[0] + warc("http://bomb/", block) + records(2)[1])


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("a.warc", sparse_record, "too-large"),
        ("a.warc.gz", bomb_member, "gzip-bomb"),
        ("a.warc.zst", zstd_bomb, "zstd-bomb"),
        ("a.jsonl.gz", long_line, "too-large"),
        ("b.warc", content_bomb, "too-large"),
    ],
)
def test_memory_and_time_are_bounded(
    tmp_path: Path, name: str, make: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / name
    make(path)
    begin = time.perf_counter()
    peak, reasons, pages = child(path)
    assert reasons == [reason]
    assert pages == 2
    assert peak < 48 << 10, f"{peak >> 10} MiB"
    assert time.perf_counter() - begin < 20


def test_many_false_record_starts_take_linear_time(tmp_path: Path) -> None:
    seconds = []
    for count in (2_000, 8_000):
        start = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 900000\r\n\r\n"
        begin = time.perf_counter()
        pages, quarantined, _, _ = read(tmp_path / "a.warc", start * count + records(1)[0])
        seconds.append(time.perf_counter() - begin)
        assert [page.url for page in pages] == ["http://h/0"]
        assert quarantined
    assert seconds[1] < 12 * seconds[0] + 1


def test_many_false_member_starts_take_bounded_time(tmp_path: Path) -> None:
    begin = time.perf_counter()
    pages, _, _, _ = read(tmp_path / "a.warc.gz", b"\x1f\x8b\x08\x00" * 60_000 + gz(records(1)))
    assert [page.url for page in pages] == ["http://h/0"]
    assert time.perf_counter() - begin < 10


def test_header_without_end(tmp_path: Path) -> None:
    data = b"WARC/1.0\r\n" + b"X-Long: " + b"y" * (300 << 10) + b"\r\n"
    pages, quarantined, _, _ = read(tmp_path / "a.warc", data + records(1)[0])
    assert len(pages) == 1
    assert [q.reason for q in quarantined] == ["truncated-record"]


def test_damaged_members_of_json_lines(tmp_path: Path) -> None:
    def line(index: int) -> bytes:
        text = f"第 {index} 行 line {index} {zlib.crc32(b'%d' % index)}"
        return json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"

    parts = [b"".join(line(part * 50 + index) for index in range(50)) for part in range(6)]
    for suffix, pack in (
        ("gz", gzip.compress),
        ("zst", zstandard.ZstdCompressor(write_checksum=True).compress),
    ):
        members = [pack(part) for part in parts]
        broken = bytearray(members[2])
        broken[len(broken) // 2] ^= 0xFF
        data = b"".join([*members[:2], bytes(broken), *members[3:5], members[5][:-12]])
        pages, quarantined, _, account = read(tmp_path / f"a.jsonl.{suffix}", data)
        texts = {str(page.data) for page in pages}
        for number in (*range(100), *range(150, 250)):
            assert any(text.startswith(f"第 {number} 行") for text in texts), number
        assert {q.reason.split("-")[0] for q in quarantined} >= {"corrupt", "truncated"}
        assert account.bytes_lost >= len(broken)
        # Lines may go on from one member to the next.
        whole = b"".join(parts)
        cut = b"".join(pack(whole[start : start + 777]) for start in range(0, len(whole), 777))
        pages, quarantined, _, _ = read(tmp_path / f"b.jsonl.{suffix}", cut)
        assert len(pages) == 300
        assert not quarantined


def test_hostile_lines(tmp_path: Path) -> None:
    lines = [b'{"text": "ok"}', b"\0\0\0", b"[" * 100_000, b'{"text": "\xff\xfe"}', b'{"text": NaN}',
             b'{"text": "' + b"y" * LIMIT + b'"}', b"\xef\xbb\xbf{}", b'{"text": "end"}']  # fmt: skip
    pages, quarantined, _, account = read(tmp_path / "a.jsonl", b"\n".join(lines))
    assert [page.data for page in pages] == ["ok", "end"]
    assert len(quarantined) == 6
    assert account.bytes_lost > LIMIT


def test_damaged_row_group_costs_itself(tmp_path: Path) -> None:
    sink = io.BytesIO()
    rows = [f"第 {index} 行 row {index} {zlib.crc32(b'%d' % index):x}" for index in range(400)]
    pq.write_table(
        pa.table({"text": rows}), sink, row_group_size=100, compression="none", use_dictionary=False,
        write_page_checksum=True,
    )  # fmt: skip
    data = bytearray(sink.getvalue())
    data[data.index("第 150 行".encode())] ^= 0x01
    pages, quarantined, _, account = read(tmp_path / "a.parquet", bytes(data))
    assert {str(page.data) for page in pages} == {*rows[:100], *rows[200:]}
    assert [q.reason for q in quarantined] == ["corrupt-parquet"]
    assert "rows" in quarantined[0].position
    assert 0 < account.bytes_lost < len(data) / 2
    pages, quarantined, _, account = read(tmp_path / "b.parquet", bytes(data[:-5]))
    assert account.bytes_lost == len(data) - 5
