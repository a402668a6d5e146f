"""The parts of a crawl that need no network: addresses, scope, turns, frontier, WARC files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from haina.corpus.accounts import Account
from haina.corpus.crawl.addresses import is_public
from haina.corpus.crawl.frontier import Frontier, Link
from haina.corpus.crawl.hosts import Hosts, retry_after
from haina.corpus.crawl.messages import links_of
from haina.corpus.crawl.options import CrawlOptions
from haina.corpus.crawl.seeds import read_seeds
from haina.corpus.crawl.urls import canonical, in_scope, origin_of
from haina.corpus.crawl.warc_file import Exchange, WarcFiles
from haina.corpus.read import read_source
from haina.corpus.records import Page, Quarantined
from haina.corpus.sources import Source
from haina.runtime.errors import HainaError


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("HTTP://Example.ORG:80", "http://example.org/"),
        ("https://example.org:443/a/../b/./c#part", "https://example.org/b/c"),
        ("http://example.org/%7euser/%e4%bd%a0?b=2&a=%2f", "http://example.org/~user/%E4%BD%A0?b=2&a=%2F"),
        (
            "http://例子.中国/路径?问=答",
            "http://xn--fsqu00a.xn--fiqs8s/%E8%B7%AF%E5%BE%84?%E9%97%AE=%E7%AD%94",
        ),
        ("http://example.org./a b", "http://example.org/a%20b"),
        ("http://example.org/100%", "http://example.org/100%25"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        (" http://example.org/\n", "http://example.org/"),
        ("http://example.org/a/..", "http://example.org/"),
        ("ftp://example.org/", None),
        ("javascript:alert(1)", None),
        ("http://user:secret@example.org/", None),
        ("http:///nohost", None),
        ("http://exa mple.org/", None),
        ("http://example.org:99999/", None),
        ("http://example.org/" + "x" * 3000, None),
        ("http://" + "a" * 300 + "/", None),
        ("", None),
    ],
)
def test_canonical(given_: str, expected: str | None) -> None:
    assert canonical(given_) == expected


@given(st.text(max_size=60))
def test_canonical_is_stable(tail: str) -> None:
    for address in (tail, f"http://{tail}", f"http://h/{tail}", f"https://h/?{tail}"):
        once = canonical(address)
        assert once is None or (canonical(once) == once and once.isascii())


def test_scope() -> None:
    assert in_scope("http://a.org/x", ["a.org"], [])
    assert in_scope("http://a.org:8080/x", ["A.org"], [])
    assert not in_scope("http://b.a.org/", ["a.org"], [])
    assert in_scope("http://b.a.org/", ["*.a.org"], [])
    assert in_scope("http://a.org/", ["*.a.org"], [])
    assert not in_scope("http://nota.org/", ["*.a.org"], [])
    assert in_scope("http://c.org/docs/1", [], ["http://c.org/docs/"])
    assert not in_scope("http://c.org/blog", [], ["http://c.org/docs/"])
    assert origin_of("http://a.org:81/x?y") == "http://a.org:81"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("1.1.1.1", True), ("10.0.0.1", False), ("172.16.9.9", False), ("192.168.1.1", False),
        ("127.0.0.1", False), ("127.9.9.9", False), ("169.254.169.254", False), ("0.0.0.0", False),
        ("100.64.0.1", False), ("224.0.0.1", False), ("240.0.0.1", False), ("255.255.255.255", False),
        ("192.0.2.1", False), ("198.18.0.1", False), ("::1", False), ("fe80::1", False), ("fc00::1", False),
        ("2606:4700::1111", True), ("::ffff:127.0.0.1", False), ("::ffff:8.8.8.8", True), ("2002:7f00:1::", False),
        ("nonsense", False), ("", False),
    ],
)  # fmt: skip
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_turns_keep_the_delay() -> None:
    hosts = Hosts(delay=2.0, per_host=1, longest=100.0)
    hosts.add("a")
    hosts.add("b")
    assert [hosts.take(0.0), hosts.take(0.0), hosts.take(0.0)] == ["a", "b", None]
    hosts.finished("a")
    assert hosts.take(1.9) is None
    assert hosts.take(2.0) == "a"
    hosts.finished("b")
    hosts.hold("b", 30.0, 3.0)
    assert hosts.take(10.0) is None
    hosts.finished("a")
    hosts.slow_down("a", 7.0, 10.0)
    assert hosts.take(16.9) is None
    assert hosts.take(17.0) == "a"
    assert hosts.take(32.9) is None
    assert hosts.take(33.0) == "b"
    hosts.hold("a", 1e9, 40.0)
    hosts.finished("a")
    assert hosts.next_turn() == 140.0


def test_several_requests_to_a_host_at_a_time() -> None:
    hosts = Hosts(delay=0.5, per_host=2, longest=100.0)
    hosts.add("a")
    assert [hosts.take(0.0), hosts.take(0.4), hosts.take(0.5), hosts.take(9.0)] == ["a", None, "a", None]
    hosts.finished("a")
    assert hosts.take(9.0) == "a"


def test_retry_after() -> None:
    assert retry_after("120", 0) == 120
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT", 1445412480 - 60) == 60
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT", 2e9) == 0
    for nonsense in ("", "soon", "-5", "1.5.5", "９"):
        assert retry_after(nonsense, 0) is None


def test_frontier_gives_each_address_once(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path / "f.sqlite")
    links = [Link(f"http://h/{i}", 0, 0, "") for i in range(3)]
    assert frontier.add([*links, *links]) == ["http://h"] * 3
    first = frontier.take("http://h")
    second = frontier.take("http://h")
    assert first is not None
    assert second is not None
    assert (first.url, second.url) == ("http://h/0", "http://h/1")
    frontier.done(
        first,
        200,
        10,
        [Link("http://h/0", 1, 0, "x"), Link("http://i/", 1, 0, "x")],
        {"scope": 2},
        {"warc": "0 9"},
    )
    frontier.put_back(second)
    again = frontier.take("http://h")
    assert again is not None
    assert (again.url, again.attempts) == ("http://h/1", 1)
    frontier.close()
    # As after a kill: what was taken is queued again, what is done is not.
    frontier = Frontier(tmp_path / "f.sqlite")
    taken = [frontier.take("http://h") for _ in range(3)]
    assert [entry.url if entry else None for entry in taken] == ["http://h/1", "http://h/2", None]
    assert taken[0] is not None
    frontier.failed(taken[0], "timeout")
    assert frontier.origins() == ["http://h", "http://i"]
    assert frontier.note("warc") == "0 9"
    summary = frontier.summary()
    assert (summary["pages"], summary["queued"], summary["bytes"]) == (1, 2, 10)
    assert summary["not_fetched"] == {"timeout": 1}
    assert summary["links_not_followed"] == {"scope": 2}


def exchange(index: int) -> Exchange:
    body = f"<html><p>第 {index} 页 page {index}</p>".encode() + os.urandom(300).hex().encode()
    message = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    return Exchange(
        f"http://h/{index}", b"GET / HTTP/1.1\r\n\r\n", message, body, "8.8.8.8", {"via": "x\r\nEvil: 1"}
    )


def pages_in(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.glob("*.warc.gz")):
        account = Account()
        records = list(
            read_source(Source(str(path), path.name, "archive", path.stat().st_size), 1 << 20, account)
        )
        assert not [record for record in records if isinstance(record, Quarantined)]
        assert account.balanced
        found += [record.url for record in records if isinstance(record, Page)]
    return found


def test_warc_files_turn_over_and_are_cut_back(tmp_path: Path) -> None:
    files = WarcFiles(tmp_path, 0, 0, 4000, {"software": "test"})
    valid = [files.append(exchange(index)) for index in range(12)]
    files.close()
    assert pages_in(tmp_path) == [f"http://h/{index}" for index in range(12)]
    assert valid[-1][0] >= 2
    index, size = valid[5]
    with (tmp_path / f"crawl-{index:05d}.warc.gz").open("ab") as file:
        file.write(b"\x1f\x8bhalf a member")
    files = WarcFiles(tmp_path, index, size, 4000, {"software": "test"})
    assert files.cut > 0
    files.append(exchange(99))
    files.close()
    assert pages_in(tmp_path) == [*(f"http://h/{index}" for index in range(6)), "http://h/99"]


def test_other_readers_accept_the_files(tmp_path: Path) -> None:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    files = WarcFiles(tmp_path, 0, 0, 1 << 20, {"software": "test"})
    files.append(exchange(1))
    files.close()
    with files.path.open("rb") as file:
        kinds = []
        for record in ArchiveIterator(file, parse_http=False):
            assert record.verify_block_digest()
            assert "Evil" not in dict(record.headers)
            kinds.append(record.record_type)
    assert kinds == [
        WarcRecordType.warcinfo, WarcRecordType.request, WarcRecordType.response, WarcRecordType.metadata,
    ]  # fmt: skip


def test_links() -> None:
    page = (
        '<base href="http://h/docs/"><a href="a.html#x">1</a><a href="/b?q=你">2</a><a href="a.html">again</a>'
        '<a href="picture.jpg">no page</a><a href="mailto:x@y">no</a><a rel="nofollow" href="/secret">no</a>'
        '<a href="http://other/">3</a><a href="http://[bad">broken</a>'
    )
    for charset in ("utf-8", "gb18030"):
        message = (
            f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset={charset}\r\n\r\n".encode()
            + page.encode(charset)
        )
        assert links_of("http://h/x", message, 1 << 20) == [
            "http://h/docs/a.html",
            "http://h/b?q=%E4%BD%A0",
            "http://other/",
        ]
    assert (
        links_of(
            "http://h/x", b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + page.encode(), 1 << 20
        )
        == []
    )
    for junk in (b"", b"\0" * 100, b"<" * 5000, bytes(range(256)) * 20):
        links_of("http://h/", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + junk, 1 << 20)


def test_options_and_seeds(tmp_path: Path) -> None:
    (tmp_path / "seeds.txt").write_text("# comment\nhttp://a.org/\n\nhttp://b.org/x\n", encoding="utf-8-sig")
    assert read_seeds([str(tmp_path / "seeds.txt"), "http://a.org/"]) == ("http://a.org/", "http://b.org/x")
    with pytest.raises(HainaError, match="neither an address nor a file"):
        read_seeds(["example.org"])
    options = CrawlOptions(seeds=("http://b.org/x", "http://A.org/"))
    assert options.scope_hosts() == ("a.org", "b.org")
    assert CrawlOptions(seeds=("http://b.org/",), prefixes=("http://c.org/d/",)).scope_hosts() == ()
    assert json.loads(options.model_dump_json())["delay"] == 1.0
    bad: list[dict[str, Any]] = [
        {"seeds": ()},
        {"seeds": ("ftp://x/",)},
        {"seeds": ("http://x/",), "delay": -1},
    ]
    for values in bad:
        with pytest.raises(ValidationError):
            CrawlOptions(**values)


def test_what_could_not_be_had_is_tried_again_with_other_options(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path / "f.sqlite")
    urls = ["http://a.example/", "http://b.example/好"]
    frontier.add(Link(url, 0, 0, "") for url in urls)
    for origin in frontier.origins():
        entry = frontier.take(origin)
        assert entry is not None
        frontier.failed(entry, "private-address")
    assert frontier.origins() == []
    assert frontier.retry_failed() == 2
    assert frontier.origins() == ["http://a.example", "http://b.example"]
    assert frontier.summary()["not_fetched"] == {}
    frontier.close()
