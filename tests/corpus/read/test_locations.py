"""Where pages may lie: paths, patterns, fsspec addresses, zip files."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from haina.corpus.accounts import Account
from haina.corpus.locations import describe
from haina.corpus.read import read_source
from haina.corpus.records import Ignored, Page, Quarantined
from haina.corpus.sources import Inputs, format_of, list_sources
from haina.runtime.errors import HainaError

from .archives import LIMIT, body, gz, read, records


def pages_of(inputs: Inputs) -> list[tuple[str, Any]]:
    found = []
    for source in inputs.sources:
        account = Account()
        for record in read_source(pickle.loads(pickle.dumps(source)), LIMIT, account):
            assert isinstance(record, Page), record
            found.append((source.name, record.data))
        assert account.balanced
    return found


def test_patterns(tmp_path: Path) -> None:
    for name in ("b.html", "a.html", "c.png", "deep/d.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"<p>{name} 页")
    inputs = list_sources([str(tmp_path / "*.html")])
    assert [source.name for source in inputs.sources] == ["a.html", "b.html"]
    inputs = list_sources([f"{tmp_path}/**/*.html"])
    assert sorted(source.name for source in inputs.sources) == ["a.html", "b.html", "d.html"]
    assert len(pages_of(list_sources([f"{tmp_path}/*"]))) == 3
    with pytest.raises(HainaError, match="matches no file"):
        list_sources([str(tmp_path / "*.warc")])
    (tmp_path / "odd[1].html").write_text("<p>brackets")
    assert [s.name for s in list_sources([str(tmp_path / "odd[1].html")]).sources] == ["odd[1].html"]


@pytest.fixture
def memory() -> Iterator[Any]:
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe(
        {
            "/crawl/a.warc.gz": gz(records(3)),
            "/crawl/b/第二.jsonl": json.dumps({"text": "百川"}).encode() + b"\n",
            "/crawl/c.html": b"<p>html",
            "/crawl/style.css": b"x",
        }
    )
    yield fs
    fs.rm("/crawl", recursive=True)


def test_fsspec_addresses(memory: Any) -> None:
    inputs = list_sources(["memory://crawl"])
    assert [source.name for source in inputs.sources] == ["a.warc.gz", "b/第二.jsonl", "c.html"]
    assert inputs.ignored_files == 1
    assert [data for _, data in pages_of(inputs)] == [body(0), body(1), body(2), "百川", b"<p>html"]
    assert len(list_sources(["memory://crawl/*.html"]).sources) == 1
    assert [s.name for s in list_sources(["memory://crawl/c.html"]).sources] == ["c.html"]
    assert [s.name for s in list_sources(["memory://crawl/b", "memory://crawl/c.html"]).sources] == [
        "b/第二.jsonl",
        "c.html",
    ]
    before = describe("memory://crawl")
    memory.pipe("/crawl/c.html", b"<p>longer html")
    assert describe("memory://crawl") != before
    with pytest.raises(HainaError, match="no such file"):
        list_sources(["memory://nowhere/at/all"])
    with pytest.raises(HainaError, match="not a format"):
        list_sources(["memory://crawl/style.css"])


def test_file_address_is_a_local_path(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n'))
    assert [data for _, data in pages_of(list_sources([f"file://{tmp_path}/a.jsonl.gz"]))] == ["x"]


def test_missing_driver_and_unknown_protocol() -> None:
    import importlib.util

    if importlib.util.find_spec("gcsfs") is None:
        with pytest.raises(HainaError, match="gcsfs"):
            list_sources(["gs://bucket/a.warc.gz"])
    with pytest.raises(HainaError, match="nosuch"):
        list_sources(["nosuch://bucket/a.warc.gz"])


@pytest.mark.parametrize("ranges", [True, False])
def test_http_address(ranges: bool) -> None:
    data = gz(records(5)) + b"garbage"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            part = self.headers.get("Range")
            if ranges and part:
                first, last = part.removeprefix("bytes=").split("-")
                start, stop = int(first), min(int(last or len(data)), len(data) - 1) + 1
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
                content = data[start:stop]
            else:
                self.send_response(200)
                content = data
            if ranges:
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if self.command == "GET" else b"")

        do_HEAD = do_GET  # noqa: N815 - the name that http.server asks for

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        inputs = list_sources([f"http://127.0.0.1:{server.server_port}/a.warc.gz"])
        account = Account()
        found = list(read_source(inputs.sources[0], LIMIT, account))
    finally:
        server.shutdown()
        server.server_close()
    assert [record.data for record in found if isinstance(record, Page)] == [body(i) for i in range(5)]
    assert [record.reason for record in found if isinstance(record, Quarantined)] == ["not-a-member"]
    assert account.balanced
    assert account.bytes_lost == 7


def zipped(members: dict[str, bytes], **options: Any) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", options.pop("compression", zipfile.ZIP_DEFLATED)) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sink.getvalue()


def test_zip_of_every_format(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = io.BytesIO()
    pq.write_table(pa.table({"text": ["行一", "row two"]}), table)
    data = zipped(
        {
            "a/第一页.html": "<p>网页".encode(),
            "b.txt": b"plain text",
            "c.jsonl": b'{"text": "json"}\nbroken\n',
            "d.warc.gz": gz(records(2)),
            "e.parquet": table.getvalue(),
            "f.png": b"\x89PNG",
            "inner.zip": zipped({"x.html": b"<p>x"}),
            "empty.html": b"",
        }
    )
    pages, quarantined, ignored, account = read(tmp_path / "a.zip", data)
    assert [page.position for page in pages] == [
        "a/第一页.html", "b.txt", "c.jsonl!line 1", "d.warc.gz", f"d.warc.gz!{len(gz(records(1)))}",
        "e.parquet!row 1", "e.parquet!row 2",
    ]  # fmt: skip
    assert [page.data for page in pages[3:5]] == [body(0), body(1)]
    assert [(q.position, q.reason) for q in quarantined] == [
        ("c.jsonl!line 2", "invalid-json"),
        ("empty.html!0", "empty"),
    ]
    assert [record.kind for record in ignored] == ["zip member .png", "zip member .zip"]
    assert [lost.reason for lost in account.lost] == ["invalid-json"]
    assert account.lost[0].inside is not None


def test_hostile_zip_members(tmp_path: Path) -> None:
    good = {"a.html": b"<p>good", "z.html": "<p>好".encode()}
    bomb = zipped({**good, "bomb.jsonl": b"0" * (200 << 20)})
    pages, quarantined, _, _ = read(tmp_path / "a.zip", bomb)
    assert len(pages) == 2
    assert [q.reason for q in quarantined] == ["zip-bomb"]

    data = bytearray(zipped({"a.html": b"<p>good", "b.html": b"<p>evil" * 50, "z.html": b"<p>z"}))
    local = data.index(b"PK\x03\x04", 10)
    central = data.index(b"b.html", data.index(b"PK\x01\x02")) - 46
    encrypted = bytearray(data)
    for place in (local + 6, central + 8):
        encrypted[place] |= 1
    pages, quarantined, _, _ = read(tmp_path / "a.zip", bytes(encrypted))
    assert len(pages) == 2
    assert [(q.position, q.reason) for q in quarantined] == [("b.html", "encrypted")]
    wrong_sum = bytearray(data)
    wrong_sum[central + 16] ^= 0xFF
    pages, quarantined, _, _ = read(tmp_path / "a.zip", bytes(wrong_sum))
    assert len(pages) == 2
    assert [(q.position, q.reason) for q in quarantined] == [("b.html", "corrupt-zip")]
    liar = bytearray(data)
    liar[central + 24 : central + 28] = struct.pack("<I", 1 << 30)
    pages, quarantined, _, _ = read(tmp_path / "a.zip", bytes(liar))
    assert len(pages) == 2
    assert [(q.position, q.reason) for q in quarantined] == [("b.html", "too-large")]
    pages, quarantined, _, account = read(tmp_path / "a.zip", bytes(data[: len(data) // 2]))
    assert not pages
    assert [q.reason for q in quarantined] == ["corrupt-zip"]
    assert account.bytes_lost == len(data) // 2


def test_zip_names_in_any_encoding(tmp_path: Path) -> None:
    for encoding in ("gb18030", "utf-8"):
        raw = "第一页.html".encode(encoding)
        data = zipped({"?" * len(raw): b"<p>x"}).replace(b"?" * len(raw), raw)
        pages, quarantined, _, _ = read(tmp_path / "a.zip", data)
        assert [page.position for page in pages] == ["第一页.html"]
        assert not quarantined
    twice = zipped({"a.html": b"<p>1", "b.html": b"<p>2"}).replace(b"b.html", b"a.html")
    pages, _, _, _ = read(tmp_path / "a.zip", twice)
    assert [page.position for page in pages] == ["a.html", "a.html#2"]
    evil = zipped({"../../etc/x.html": b"<p>up", "/abs.html": b"<p>abs"})
    pages, _, _, _ = read(tmp_path / "a.zip", evil)
    assert len(pages) == 2
    assert not (tmp_path.parent.parent / "etc").exists()


def test_formats_by_name() -> None:
    expected = {
        "a.WARC.GZ": "archive", "a.warc.zst": "archive", "a.warc.wet.gz": "archive", "a.arc": "archive",
        "a.zip": "zip", "a.htm": "html", "a.jsonl.zst": "jsonl", "a.parquet": "parquet", "a.png": None, "": None,
    }  # fmt: skip
    assert {name: format_of(name) for name in expected} == expected


def test_ignored_record_counts(tmp_path: Path) -> None:
    _, _, ignored, account = read(tmp_path / "a.zip", zipped({"a.css": b"x"}))
    assert account.ignored == len(ignored) == 1
    assert all(isinstance(record, Ignored) for record in ignored)
