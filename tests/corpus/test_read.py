"""Readers: every format, and every way a file can be broken, with all records accounted for."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from haina.corpus.read import read_source
from haina.corpus.read_archive import read_archive
from haina.corpus.records import Ignored, Page, Quarantined, clean_text
from haina.corpus.sources import Source, format_of, list_sources, partition
from haina.runtime.errors import HainaError

LIMIT = 1 << 20


def http(
    body: bytes, head: bytes = b"Content-Type: text/html; charset=utf-8", status: bytes = b"200 OK"
) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\n\r\n" + body


def warc(url: str, block: bytes, kind: bytes = b"response", lower: bool = False) -> bytes:
    fields = [
        b"WARC-Type: " + kind,
        b"WARC-Target-URI: " + url.encode(),
        b"Content-Type: application/http; msgtype=response",
        b"Content-Length: %d" % len(block),
    ]
    if lower:
        fields = [
            name.lower() + b":" + value for name, _, value in (field.partition(b":") for field in fields)
        ]
    return b"WARC/1.0\r\n" + b"\r\n".join(fields) + b"\r\n\r\n" + block + b"\r\n\r\n"


RECORDS = [warc(f"http://h/{i}", http(f"<p>第 {i} 页 page {i}</p>".encode())) for i in range(6)]


def read(path: Path, data: bytes) -> tuple[list[Page], list[Quarantined], list[Ignored]]:
    path.write_bytes(data)
    records = list(read_source(Source(str(path), path.name, format_of(path.name) or "", len(data)), LIMIT))
    assert len({r.position for r in records if not isinstance(r, Ignored)}) == sum(
        not isinstance(r, Ignored) for r in records
    )
    pages = [r for r in records if isinstance(r, Page)]
    return (
        pages,
        [r for r in records if isinstance(r, Quarantined)],
        [r for r in records if isinstance(r, Ignored)],
    )


@pytest.mark.parametrize("compress", [False, True])
def test_warc_reads_every_response(tmp_path: Path, compress: bool) -> None:
    other = [
        warc("http://h/q", b"GET / HTTP/1.1\r\n\r\n", b"request"),
        warc("http://h/i", http(b"\x89PNG", b"Content-Type: image/png")),
    ]
    parts = [*RECORDS, *other]
    data = b"".join(map(gzip.compress, parts)) if compress else b"".join(parts)
    pages, quarantined, ignored = read(tmp_path / ("a.warc.gz" if compress else "a.warc"), data)
    assert [page.url for page in pages] == [f"http://h/{i}" for i in range(6)]
    assert pages[3].data == "<p>第 3 页 page 3</p>".encode()
    assert pages[0].charset == "utf-8"
    assert not quarantined
    assert [record.kind for record in ignored] == ["request", "image/png"]


def test_lower_case_header_names(tmp_path: Path) -> None:
    pages, quarantined, _ = read(tmp_path / "a.warc", warc("http://low/", http(b"<p>x</p>"), lower=True))
    assert [page.url for page in pages] == ["http://low/"]
    assert not quarantined


def test_corrupt_gzip_member_costs_only_itself(tmp_path: Path) -> None:
    members = [gzip.compress(record) for record in RECORDS]
    middle = bytearray(members[2])
    middle[len(middle) // 2] ^= 0xFF
    members[2] = bytes(middle)
    offset = len(members[0]) + len(members[1])
    pages, quarantined, _ = read(tmp_path / "a.warc.gz", b"".join(members))
    assert [page.url[-1] for page in pages] == ["0", "1", "3", "4", "5"]
    assert [(q.position, q.reason) for q in quarantined] == [(str(offset), "corrupt-gzip")]
    assert f"byte {offset}" in quarantined[0].evidence


def test_half_a_gzip_member_at_the_end(tmp_path: Path) -> None:
    members = [gzip.compress(record) for record in RECORDS]
    pages, quarantined, _ = read(
        tmp_path / "a.warc.gz", b"".join(members[:3]) + members[3][: len(members[3]) // 2]
    )
    assert len(pages) == 3
    assert [q.reason for q in quarantined] == ["truncated-gzip"]


def test_half_a_member_in_the_middle(tmp_path: Path) -> None:
    members = [gzip.compress(record) for record in RECORDS]
    members[1] = members[1][: len(members[1]) // 2]
    pages, quarantined, _ = read(tmp_path / "a.warc.gz", b"".join(members))
    assert [page.url[-1] for page in pages] == ["0", "2", "3", "4", "5"]
    assert len(quarantined) == 1


@pytest.mark.parametrize("cut", [20, 60, 150])
def test_truncated_plain_warc(tmp_path: Path, cut: int) -> None:
    pages, quarantined, _ = read(tmp_path / "a.warc", b"".join(RECORDS[:3]) + RECORDS[3][:cut])
    assert len(pages) == 3
    assert [q.reason for q in quarantined] == ["truncated-record"]


def test_wrong_length_does_not_swallow_the_next_record(tmp_path: Path) -> None:
    length = b"Content-Length: "
    bad = RECORDS[1].replace(length, length + b"9", 1)
    pages, quarantined, _ = read(tmp_path / "a.warc", RECORDS[0] + bad + b"".join(RECORDS[2:]))
    assert [page.url[-1] for page in pages] == ["0", "2", "3", "4", "5"]
    assert len(quarantined) == 1


def test_garbage_between_records_is_reported(tmp_path: Path) -> None:
    pages, quarantined, _ = read(tmp_path / "a.warc", RECORDS[0] + b"junk\r\nmore junk\r\n\r\n" + RECORDS[1])
    assert len(pages) == 2
    assert [q.reason for q in quarantined] == ["not-a-record"]


def test_gzip_bomb_is_bounded(tmp_path: Path) -> None:
    import tracemalloc

    bomb = warc("http://bomb/", http(b"0" * (64 << 20)))
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress(bomb) + gzip.compress(RECORDS[0]))
    del bomb
    tracemalloc.start()
    with path.open("rb") as file:
        records = list(read_archive(file, path.stat().st_size, LIMIT))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [type(record) for record in records] == [Quarantined, Page]
    assert isinstance(records[0], Quarantined)
    assert records[0].reason == "gzip-bomb"
    assert peak < 16 << 20


def test_content_encoding_bomb_is_quarantined(tmp_path: Path) -> None:
    head = b"Content-Type: text/html\r\nContent-Encoding: gzip"
    data = warc("http://b/", http(gzip.compress(b"a" * (8 << 20)), head))
    _, quarantined, _ = read(tmp_path / "a.warc", data)
    assert [q.reason for q in quarantined] == ["too-large"]


def test_transfer_codings(tmp_path: Path) -> None:
    chunked = http(
        b"6\r\n<p>\xe4\xb8\xad\r\n1\r\n.\r\n0\r\n\r\n",
        b"Content-Type: text/html\r\nTransfer-Encoding: chunked",
    )
    zipped = http(gzip.compress(b"<p>zip"), b"Content-Type: text/html\r\nContent-Encoding: gzip")
    liar = http(b"<p>plain", b"Content-Type: text/html\r\nContent-Encoding: gzip")
    bare = b"HTTP/1.0 200 OK\nContent-Type: text/html\n\n<p>lf"
    data = b"".join(warc(f"http://h/{i}", block) for i, block in enumerate((chunked, zipped, liar, bare)))
    pages, _, _ = read(tmp_path / "a.warc", data)
    assert [page.data for page in pages] == ["<p>中.".encode(), b"<p>zip", b"<p>plain", b"<p>lf"]


def test_http_errors_are_quarantined_with_their_status(tmp_path: Path) -> None:
    _, quarantined, _ = read(
        tmp_path / "a.warc", warc("http://x/", http(b"<p>gone", status=b"404 Not Found"))
    )
    assert [(q.reason, q.evidence) for q in quarantined] == [("http-status", "404")]


def test_arc_and_wet(tmp_path: Path) -> None:
    block = http("<p>百川</p>".encode())
    arc = b"filedesc://a.arc 0.0.0.0 20200101000000 text/plain 4\n1 0\n\n"
    arc += b"http://a/b c 1.2.3.4 20200101000000 text/html %d\n" % len(block) + block + b"\n"
    pages, quarantined, _ = read(tmp_path / "a.arc", arc)
    assert [(page.url, page.data) for page in pages] == [("http://a/b c", "<p>百川</p>".encode())]
    assert not quarantined
    wet = warc("http://w/", "纯文本 plain".encode(), b"conversion").replace(
        b"application/http; msgtype=response", b"text/plain"
    )
    pages, _, _ = read(tmp_path / "a.warc.wet", wet) if format_of("a.warc.wet") else ([], [], [])
    assert [(page.is_html, page.data) for page in pages] == [(False, "纯文本 plain".encode())]


def test_jsonl_with_bad_lines(tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": "中文 text", "url": "http://1"}, ensure_ascii=False),
        '{"text": "broken',
        "[1, 2]",
        '{"url": "http://no-text"}',
        "",
        '{"text": "\\ud800 lone"}',
        '{"html": "<p>markup</p>"}',
        '{"text": "' + "x" * LIMIT + '"}',
        '{"text": 5}',
    ]
    data = "\n".join(lines).encode()
    for name, packed in (
        ("a.jsonl", data),
        ("a.jsonl.gz", gzip.compress(data)),
        ("a.jsonl.zst", zstandard.compress(data)),
    ):
        pages, quarantined, _ = read(tmp_path / name, packed)
        assert [page.position for page in pages] == ["line 1", "line 6", "line 7"]
        assert [q.reason for q in quarantined] == [
            "invalid-json",
            "invalid-json",
            "missing-text",
            "too-large",
            "missing-text",
        ]
        assert pages[2].is_html
        assert clean_text(str(pages[1].data)).encode() == "\ufffd lone".encode()


@pytest.mark.parametrize(("suffix", "reason"), [("gz", "truncated-gzip"), ("zst", "truncated-zstd")])
def test_half_a_compressed_jsonl(tmp_path: Path, suffix: str, reason: str) -> None:
    import random

    values = random.Random(1)
    data = "".join(json.dumps({"text": f"{values.random()}"}) + "\n" for _ in range(5000)).encode()
    packed = gzip.compress(data) if suffix == "gz" else zstandard.compress(data)
    pages, quarantined, _ = read(tmp_path / f"a.jsonl.{suffix}", packed[: len(packed) // 2])
    assert len(pages) < 5000
    assert [q.reason for q in quarantined][-1] == reason


def test_parquet(tmp_path: Path) -> None:
    def packed(table: pa.Table) -> bytes:
        sink = io.BytesIO()
        pq.write_table(table, sink)
        return sink.getvalue()

    pages, quarantined, _ = read(
        tmp_path / "a.parquet", packed(pa.table({"text": ["甲", None, "b"], "url": ["u1", "u2", "u3"]}))
    )
    assert [page.data for page in pages] == ["甲", "b"]
    assert [(q.reason, q.url) for q in quarantined] == [("missing-text", "u2")]
    pages, _, _ = read(tmp_path / "b.parquet", packed(pa.table({"html": [b"<p>x"]})))
    assert pages[0].is_html
    _, quarantined, _ = read(tmp_path / "c.parquet", packed(pa.table({"body": ["x"]})))
    assert [q.reason for q in quarantined] == ["missing-text"]
    assert "body" in quarantined[0].evidence
    _, quarantined, _ = read(tmp_path / "d.parquet", b"PAR1 this is no parquet PAR1")
    assert [q.reason for q in quarantined] == ["corrupt-parquet"]


@pytest.mark.parametrize(
    "name", ["a.html", "a.txt", "a.jsonl", "a.warc", "a.warc.gz", "a.parquet", "a.jsonl.gz"]
)
def test_empty_file_is_quarantined(tmp_path: Path, name: str) -> None:
    pages, quarantined, _ = read(tmp_path / name, b"")
    assert not pages
    assert len(quarantined) == 1


def test_sources_are_sorted_portable_and_counted(tmp_path: Path) -> None:
    for name in ("b/2.html", "a/1.htm", "a/3.txt", "a/style.css", "a/noext", "LICENSES.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"a": "MIT", "a/3.txt": "CC0-1.0"}' if name.endswith("json") else "x")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "broken.html").symlink_to(tmp_path / "nowhere")
    (tmp_path / "again").symlink_to(tmp_path / "b", target_is_directory=True)
    inputs = list_sources([tmp_path])
    found = {source.name: (source.format, source.license) for source in inputs.sources}
    assert list(found) == sorted(found)
    assert found["a/1.htm"] == ("html", "MIT")
    assert found["a/3.txt"] == ("text", "CC0-1.0")
    assert found["b/2.html"] == ("html", "unknown")
    assert found["a/loop"][0] == found["broken.html"][0] == "fault"
    assert "again/2.html" not in found
    assert inputs.ignored_files == 2
    reasons = [
        r.reason
        for s in inputs.sources
        if s.format == "fault"
        for r in read_source(s, LIMIT)
        if isinstance(r, Quarantined)
    ]
    assert reasons == ["symlink-loop", "unreadable"]
    both = list_sources([tmp_path / "a", tmp_path / "b"])
    assert "b/2.html" in {source.name for source in both.sources}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_unreadable_file_is_quarantined(tmp_path: Path) -> None:
    (tmp_path / "ok.html").write_text("<p>x")
    secret = tmp_path / "secret.html"
    secret.write_text("<p>x")
    secret.chmod(0)
    faults = [source.fault for source in list_sources([tmp_path]).sources if source.format == "fault"]
    assert faults == ["unreadable: permission denied"]


def test_missing_and_empty_inputs(tmp_path: Path) -> None:
    with pytest.raises(HainaError, match="no such file"):
        list_sources([tmp_path / "nowhere"])
    with pytest.raises(HainaError, match="no page to read"):
        list_sources([tmp_path])
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(HainaError, match="not a format"):
        list_sources([tmp_path / "a.png"])


def test_partitions_keep_order_and_lose_nothing() -> None:
    sources = [Source(str(i), str(i), "html", (i * 7919) % 5000) for i in range(101)]
    for count in (1, 2, 7, 32, 500):
        parts = partition(sources, count)
        assert [source for part in parts for source in part] == sources
        assert all(parts)
        assert len(parts) <= count
