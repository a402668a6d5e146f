"""Damaged archives: every undamaged record comes out byte for byte, every loss is named."""

from __future__ import annotations

import gzip
import importlib.util
import random
import zlib
from pathlib import Path
from typing import Any

import pytest
import zstandard

from .archives import LIMIT, body, gz, http, read, records, warc


@pytest.fixture(scope="module")
def bench() -> Any:
    """The benchmark's own archive and damage functions, so that test and claim are about the same thing."""
    path = Path(__file__).parents[3] / "benchmarks" / "damaged_warc.py"
    spec = importlib.util.spec_from_file_location("damaged_warc", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["damaged_warc"] = module
    spec.loader.exec_module(module)
    return module


KINDS = [
    "1 % flipped, in a tenth of the records",
    "single flips",
    "1 % flipped, in bursts",
    "flips in headers",
    "1 % of sectors zeroed",
    "cut, garbage, repeated",
    "truncated tail",
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_undamaged_record_comes_out(bench: Any, tmp_path: Path, kind: str, packed: bool) -> None:
    archive = bench.build([body(index) for index in range(60)], packed)
    for seed in range(12):
        damaged = bench.DAMAGE[kind](archive, random.Random(seed))
        pages, quarantined, _, account = read(tmp_path / ("a.warc.gz" if packed else "a.warc"), damaged.data)
        pairs = [(page.url, page.data) for page in pages]
        recovered, wrong = bench.judged(pairs, archive, damaged.intact)
        assert recovered == len(damaged.intact), seed
        assert not wrong, seed
        if len({url for url, _ in pairs}) < 60:
            assert quarantined
            assert account.lost


def test_records_without_digests_survive_damage_beside_them(tmp_path: Path) -> None:
    parts = records(9, digests=False)
    for victim in range(1, 8):
        for cut in (slice(0, 5), slice(0, 40), slice(90, 130), slice(-40, None), slice(-4, None)):
            broken = bytearray(parts[victim])
            broken[cut] = b"\0" * len(broken[cut])
            data = b"".join([*parts[:victim], bytes(broken), *parts[victim + 1 :]])
            pages, _, _, _ = read(tmp_path / "a.warc", data)
            urls = {page.url for page in pages}
            assert urls >= {f"http://h/{i}" for i in range(9) if i != victim}, (victim, cut)


def test_a_wrong_length_takes_no_other_record_with_it(tmp_path: Path) -> None:
    parts = records(6, digests=False)
    length = parts[2].split(b"Content-Length: ")[1].split(b"\r\n")[0]
    following = len(parts[3]) + len(parts[4])
    for wrong in (
        b"1",
        b"99999999999",
        b"%d" % (int(length) + following),
        b"%d" % (int(length) - 3),
        b"-5",
        b"",
        b"x",
    ):
        for digests in (True, False):
            plain = records(6, digests=digests)
            plain[2] = plain[2].replace(b"Content-Length: " + length, b"Content-Length: " + wrong)
            for name, data in (("a.warc", b"".join(plain)), ("a.warc.gz", gzip.compress(b"".join(plain)))):
                pages, quarantined, _, _ = read(tmp_path / name, data)
                urls = [page.url[-1] for page in pages]
                if wrong == b"%d" % (int(length) + following) and not digests:
                    # Nothing tells this from one long record.
                    assert urls == ["0", "1", "2", "5"]
                else:
                    assert urls == ["0", "1", "3", "4", "5"], (wrong, digests, name)
                    assert quarantined


def test_flipped_byte_inside_a_block_is_found_by_its_digest(tmp_path: Path) -> None:
    parts = records(3)
    broken = parts[1].replace("网页".encode(), "罔页".encode())
    pages, quarantined, _, _ = read(tmp_path / "a.warc", parts[0] + broken + parts[2])
    assert [page.url[-1] for page in pages] == ["0", "2"]
    assert [q.reason for q in quarantined] == ["digest-mismatch"]
    start = len(parts[0])
    assert quarantined[0].span is not None
    assert (quarantined[0].span.start, quarantined[0].span.end) == (start, start + len(broken) - 4)


def test_digest_labels(tmp_path: Path) -> None:
    import base64
    import hashlib

    from haina.corpus.digests import matches

    data = "百川 rivers".encode()
    for name in ("md5", "sha1", "sha256", "sha512"):
        raw = hashlib.new(name, data).digest()
        for label in (
            raw.hex(),
            raw.hex().upper(),
            base64.b32encode(raw).decode(),
            base64.b64encode(raw).decode(),
        ):
            assert matches(f"{name}:{label}", data) is True
            assert matches(f"{name.upper()}: {label}", data + b"x") is False
    assert matches("sha-1:" + hashlib.sha1(data).hexdigest(), data) is True
    for unknown in ("", "crc32:abcd", "sha1:", "sha1:short", "nonsense"):
        assert matches(unknown, data) is None


def test_payload_digest_alone(tmp_path: Path) -> None:
    from .archives import digest

    payload = body(1)
    block = http(payload)
    good = warc("http://p/", block, digests=False).replace(
        b"Content-Type: app", b"WARC-Payload-Digest: " + digest(payload) + b"\r\nContent-Type: app", 1
    )
    pages, quarantined, _, _ = read(
        tmp_path / "a.warc", good + good.replace("网页".encode(), "罔页".encode())
    )
    assert len(pages) == 1
    assert [q.reason for q in quarantined] == ["digest-mismatch"]
    zipped = http(gzip.compress(payload), b"Content-Type: text/html\r\nContent-Encoding: gzip")
    decoded = warc("http://z/", zipped, digests=False).replace(
        b"Content-Type: app", b"WARC-Payload-Digest: " + digest(payload) + b"\r\nContent-Type: app", 1
    )
    pages, quarantined, _, _ = read(tmp_path / "a.warc", decoded)
    assert [page.data for page in pages] == [payload]


def test_false_member_starts_are_not_members(tmp_path: Path) -> None:
    inner = gzip.compress(b"no archive at all " * 20) + b"\x1f\x8b\x08\x00" + b"\x1f\x8b\x08" * 50
    block = http(b"<p>download</p>" + inner)
    stored = zlib.compressobj(0, zlib.DEFLATED, 31)
    member = stored.compress(warc("http://s/", block)) + stored.flush()
    parts = [gzip.compress(record) for record in records(4)]
    pages, quarantined, _, _ = read(tmp_path / "a.warc.gz", b"".join([*parts[:2], member, *parts[2:]]))
    assert len(pages) == 5
    assert not quarantined
    broken = bytearray(member)
    broken[60] ^= 0xFF
    pages, quarantined, _, _ = read(tmp_path / "a.warc.gz", b"".join([*parts[:2], bytes(broken), *parts[2:]]))
    assert [page.url[-1] for page in pages] == ["0", "1", "2", "3"]
    assert len(quarantined) == 1
    start = len(parts[0] + parts[1])
    assert f"{start}-{start + len(member)}" in quarantined[0].evidence


def test_garbage_and_zeros_between_members(tmp_path: Path) -> None:
    parts = [gzip.compress(record) for record in records(3)]
    garbage = random.Random(3).randbytes(3000)
    data = parts[0] + garbage + parts[1] + bytes(512) + parts[2] + bytes(1000)
    pages, quarantined, _, account = read(tmp_path / "a.warc.gz", data)
    assert len(pages) == 3
    assert account.bytes_lost == 3000 + 512 + 1000
    assert {q.reason for q in quarantined} == {"not-a-member"}


def test_one_stream_for_many_records(tmp_path: Path) -> None:
    parts = records(40)
    whole = gzip.compress(b"".join(parts))
    pages, quarantined, _, _ = read(tmp_path / "a.warc.gz", whole)
    assert len(pages) == 40
    assert not quarantined
    for share in (0.3, 0.7, 0.99):
        broken = bytearray(whole)
        broken[int(len(whole) * share)] ^= 0x55
        pages, quarantined, _, _ = read(tmp_path / "a.warc.gz", bytes(broken))
        right = [page for page in pages if page.data == body(int(page.url.rpartition("/")[2]))]
        assert len(right) == len(pages)
        assert len(pages) >= 40 * share - 8
        assert quarantined
    pages, quarantined, _, _ = read(tmp_path / "a.warc.gz", whole[: len(whole) // 2])
    assert len(pages) >= 15
    assert [q.reason for q in quarantined] == ["truncated-gzip"]


def test_stream_cut_into_members_anywhere(tmp_path: Path) -> None:
    whole = b"".join(records(12))
    cuts = gz([whole[start : start + 700] for start in range(0, len(whole), 700)])
    pages, quarantined, _, _ = read(tmp_path / "a.warc.gz", cuts)
    assert [page.data for page in pages] == [body(index) for index in range(12)]
    assert not quarantined


def test_zstd_archive_with_and_without_dictionary(tmp_path: Path) -> None:
    parts = records(30)
    plain = [zstandard.ZstdCompressor(write_checksum=True).compress(part) for part in parts]
    trained = zstandard.train_dictionary(2048, parts * 4)
    compressor = zstandard.ZstdCompressor(dict_data=trained, write_checksum=True)
    dictionary = b"\x5d\x2a\x4d\x18" + len(trained.as_bytes()).to_bytes(4, "little") + trained.as_bytes()
    packed = zstandard.compress(trained.as_bytes())
    packed_dictionary = b"\x5d\x2a\x4d\x18" + len(packed).to_bytes(4, "little") + packed
    with_dictionary = [compressor.compress(part) for part in parts]
    for start, frames in ((b"", plain), (dictionary, with_dictionary), (packed_dictionary, with_dictionary)):
        pages, quarantined, _, _ = read(tmp_path / "a.warc.zst", start + b"".join(frames))
        assert len(pages) == 30
        assert not quarantined
        broken = bytearray(frames[4])
        broken[len(broken) // 2] ^= 0xFF
        damaged = [*frames[:4], bytes(broken), *frames[5:29], frames[29][:-9]]
        pages, quarantined, _, _ = read(tmp_path / "a.warc.zst", start + b"".join(damaged))
        assert [int(page.url.rpartition("/")[2]) for page in pages] == [*range(4), *range(5, 29)]
        assert [q.reason.partition("-")[2] for q in quarantined] == ["zstd", "zstd"]
    pages, quarantined, _, _ = read(tmp_path / "a.warc.zst", b"".join(with_dictionary))
    assert not pages
    assert {q.reason for q in quarantined} <= {"corrupt-zstd", "not-a-member"}


@pytest.mark.parametrize("version", [b"0.17", b"0.18", b"1.0", b"1.1"])
@pytest.mark.parametrize("ending", [b"\r\n\r\n", b"\r\n", b"\n\n", b""])
def test_versions_and_record_ends(tmp_path: Path, version: bytes, ending: bytes) -> None:
    parts = [warc(f"http://v/{i}", http(body(i)), version=version)[:-4] + ending for i in range(4)]
    pages, quarantined, _, _ = read(tmp_path / "a.warc", b"".join(parts))
    assert [page.data for page in pages] == [body(i) for i in range(4)]
    assert not quarantined


def test_folded_lower_case_and_bare_line_feeds(tmp_path: Path) -> None:
    block = http(body(0))
    lower = b"warc/1.0\nwarc-type: response\nwarc-target-uri:\n  http://fold/\ncontent-length:%d\n\n" % len(
        block
    )
    pages, quarantined, _, _ = read(tmp_path / "a.warc", lower + block + b"\n\n" + records(2)[1])
    assert [page.url for page in pages] == ["http://fold/", "http://h/1"]
    assert not quarantined


def test_damaged_arc(tmp_path: Path) -> None:
    def arc(index: int) -> bytes:
        block = http(body(index))
        return b"http://a/%d 1.2.3.4 20200101000000 text/html %d\n" % (index, len(block)) + block + b"\n"

    head = b"filedesc://a.arc 0.0.0.0 20200101000000 text/plain 4\n1 0\n\n"
    parts = [head, *(arc(index) for index in range(8))]
    for victim in range(1, 8):
        for place in (0, 3, len(parts[victim].split(b"\n")[0]) - 1, len(parts[victim]) - 1):
            broken = bytearray(parts[victim])
            broken[place] ^= 0x08
            pages, _, _, _ = read(
                tmp_path / "a.arc", b"".join([*parts[:victim], bytes(broken), *parts[victim + 1 :]])
            )
            right = {page.url for page in pages if page.data == body(int(page.url.rpartition("/")[2] or 0))}
            assert right >= {f"http://a/{i}" for i in range(8) if i != victim - 1}, (victim, place)
    broken_start = b"".join(parts)[30:]
    pages, quarantined, _, _ = read(tmp_path / "a.arc", broken_start)
    assert len(pages) == 8
    assert len(quarantined) == 1


def test_http_messages_as_found_in_the_wild(tmp_path: Path) -> None:
    page = "<p>中文 page</p>".encode()
    chunked = b"Content-Type: text/html\r\nTransfer-Encoding: chunked"
    cases = [
        (http(page, b"Content-Type: text/html\r\nContent-Length: 3"), page),
        (http(page, b"Content-Type: text/html\r\nContent-Length: 999999"), page),
        (http(b"5\r\n<p>ab\r\n3\r\ncde\r\n0\r\n\r\n", chunked), b"<p>abcde"),
        (http(page, chunked), page),
        (http(b"5\r\n<p>ab\r\nzz\r\nrest", chunked), b"<p>abzz\r\nrest"),
        (http(b"5\r\n<p>ab\r\nff\r\ncut", chunked), b"<p>abcut"),
        (http(b"5;x=y\n<p>ab\n0\n\n", chunked), b"<p>ab"),
        (
            http(gzip.compress(page * 40)[:-9], b"Content-Type: text/html\r\nContent-Encoding: gzip"),
            page * 40,
        ),
        (http(page, b"Content-Type: text/html\r\nContent-Encoding: br"), page),
        (http(page, b"Content-Type:\r\n  text/html;\r\n charset=gbk"), page),
    ]
    data = b"".join(warc(f"http://c/{i}", block) for i, (block, _) in enumerate(cases))
    pages, quarantined, _, _ = read(tmp_path / "a.warc", data)
    assert not quarantined
    for index, (found, (_, expected)) in enumerate(zip(pages, cases, strict=True)):
        assert found.data == expected, index
    assert pages[-1].charset == "gbk"


def test_records_of_any_size_up_to_the_limit(tmp_path: Path) -> None:
    sizes = [0, 1, LIMIT - 200, LIMIT - 51, LIMIT + 1, 3 * LIMIT, 5]
    filler = random.Random(1).randbytes(2 * LIMIT).hex().encode()
    blocks = [http(b"<p>" + filler[:size], b"Content-Type: text/html") for size in sizes]
    data = b"".join(warc(f"http://s/{i}", block) for i, block in enumerate(blocks))
    for name, packed in (
        ("a.warc", data),
        ("a.warc.gz", gzip.compress(data)),
        ("b.warc.gz", gz([warc(f"http://s/{i}", block) for i, block in enumerate(blocks)])),
    ):
        pages, quarantined, _, _ = read(tmp_path / name, packed)
        fit = [i for i, block in enumerate(blocks) if len(block) <= LIMIT]
        assert [int(page.url.rpartition("/")[2]) for page in pages] == fit, name
        assert len(quarantined) == 2
        assert {q.reason for q in quarantined} <= {"too-large", "gzip-bomb"}


def test_zero_byte_records_and_empty_members(tmp_path: Path) -> None:
    parts = records(2)
    empty = warc("http://e/", b"")
    pages, quarantined, _, _ = read(tmp_path / "a.warc", parts[0] + empty + parts[1])
    assert len(pages) == 2
    assert [q.reason for q in quarantined] == ["empty"]
    pages, quarantined, _, _ = read(tmp_path / "a.warc.gz", gz([parts[0], b"", parts[1]]))
    assert len(pages) == 2
    assert not quarantined
