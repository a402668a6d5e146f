"""Mutate pages and archives until a reader or the extractor breaks.

    python tests/fuzz_corpus.py --minutes 10 --target readers [--seed 0] [--data ../shared/data] [--out /tmp/fuzz]

Targets: `readers` (every format that `haina curate` reads) and `extract` (HTML, text and encodings). Seeds are self-made
files of every format, and those of ../shared/data/web where there. What counts as broken: an exception, bytes or records
that are not accounted for, text that cannot be encoded, or more than `--slow` seconds for one input. Each finding is
written to `--out` with its traceback; keep it as a test. Exit code 1 when there are any. One process; the same seed tries
the same inputs in the same order.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
import sys
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path

LIMIT = 1 << 18
_MAX_SEED = 400_000
_TOKENS = [
    b"WARC/1.0\r\n", b"\r\n\r\n", b"Content-Length: ", b"99999999999", b"-1", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd",
    b"\x5d\x2a\x4d\x18", b"PAR1", b"PK\x03\x04", b"PK\x01\x02", b"\x00" * 64, b"\xff\xfe", b"\xef\xbb\xbf", b"<html>",
    b"<div>" * 200, b"</table>", b"<![CDATA[", b"<!--", b"&#x110000;", b"&#xD800;", b"{\"text\": ", b"\\ud800", b"[" * 300,
    b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"<meta charset=utf-16>", b"<svg><math><template>",
    "百川".encode(), "鐨勪腑".encode(), b"\xc3\xa4\xc2\xb8\xc2\xad", b"<pre><code>", b"charset=hz", b"ffffffff\r\n",
]  # fmt: skip

Check = Callable[[str, bytes], None]


def _http(body: bytes, head: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + head + b"\r\n" + body


def _warc(index: int, block: bytes) -> bytes:
    head = b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://f/%d\r\n" % index
    return (
        head
        + b"Content-Type: application/http\r\nContent-Length: %d\r\n\r\n" % len(block)
        + block
        + b"\r\n\r\n"
    )


def own_seeds() -> dict[str, bytes]:
    """A small file of every format."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zstandard

    page = "<html><head><meta charset=utf-8><title>第一页</title></head><body><h1>Rivers 百川</h1>".encode()
    page += (
        "<p>海纳百川，有容乃大。All rivers run into the sea.</p><table><tr><td>1<td>2</table></body>".encode()
        * 9
    )
    blocks = [
        _http(page, b""),
        _http(gzip.compress(page), b"Content-Encoding: gzip\r\n"),
        _http(b"5\r\n" + page[:5] + b"\r\n0\r\n\r\n", b"Transfer-Encoding: chunked\r\n"),
        _http(page.decode().encode("gb18030"), b""),
    ]
    warcs = [_warc(index, block) for index, block in enumerate(blocks)]
    arc = b"filedesc://a.arc 0.0.0.0 20200101000000 text/plain 4\n1 0\n\n" + b"".join(
        b"http://a/ 1.2.3.4 20200101000000 text/html %d\n" % len(block) + block + b"\n" for block in blocks
    )
    lines = b"".join(
        json.dumps({"text": f"文 text {index}", "url": "u"}).encode() + b"\n" for index in range(30)
    )
    table, archive = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"text": ["甲", None, "b" * 99] * 9, "url": ["u"] * 27}), table, row_group_size=9)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("第一页.html", page)
        packed.writestr("a.jsonl", lines)
        packed.writestr("a.warc.gz", b"".join(map(gzip.compress, warcs)))
    return {
        "a.warc": b"".join(warcs),
        "a.warc.gz": b"".join(map(gzip.compress, warcs)),
        "b.warc.gz": gzip.compress(b"".join(warcs)),
        "a.warc.zst": b"".join(map(zstandard.compress, warcs)),
        "a.arc": arc,
        "a.arc.gz": gzip.compress(arc),
        "a.jsonl": lines,
        "a.jsonl.gz": gzip.compress(lines[:900]) + gzip.compress(lines[900:]),
        "a.jsonl.zst": zstandard.compress(lines),
        "a.parquet": table.getvalue(),
        "a.zip": archive.getvalue(),
        "a.html": page,
        "b.html": page.decode().encode("gb18030"),
        "c.html": page.decode().encode("utf-16"),
        "a.txt": "海纳百川 text".encode("big5hkscs", "ignore"),
    }


def seeds(data: Path, target: str) -> list[tuple[str, bytes]]:
    """(name, content) to start from."""
    found = list(own_seeds().items())
    if target == "readers":
        for path in sorted((data / "web" / "warc").glob("*")):
            if path.stat().st_size <= _MAX_SEED:
                found.append((path.name, path.read_bytes()))
        return found
    found = [(name, content) for name, content in found if name.endswith((".html", ".txt"))]
    for name in ("magic_html_article.parquet", "magic_html_forum.parquet"):
        if (data / "web" / name).exists():
            import pyarrow.parquet as pq

            column = pq.read_table(data / "web" / name, columns=["html"]).column(0)
            found += [(f"{name}-{index}.html", cell.as_py()[:_MAX_SEED]) for index, cell in enumerate(column)]
    return found


def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to six changes of the kinds that disks, networks and people make."""
    content = bytearray(data)
    for _ in range(rng.randrange(1, 7)):
        size = len(content)
        place = rng.randrange(size + 1)
        length = min(size - place, int(2 ** rng.uniform(0, 12)))
        kind = rng.randrange(9)
        if kind == 0 and size:
            content[min(place, size - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[place : place + length] = rng.randbytes(length)
        elif kind == 2:
            content[place : place + length] = bytes(length)
        elif kind == 3:
            del content[place : place + length]
        elif kind == 4:
            content[place:place] = content[place : place + length] * rng.choice((1, 1, 2, 40))
        elif kind == 5:
            content[place:place] = rng.choice(_TOKENS)
        elif kind == 6:
            del content[place:]
        elif kind == 7:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            content[place:place] = other[start : start + int(2 ** rng.uniform(0, 13))]
        else:
            digits = [index for index in range(place, min(size, place + 2000)) if 48 <= content[index] < 58]
            if digits:
                content[rng.choice(digits)] = 48 + rng.randrange(10)
        if len(content) > 4 * _MAX_SEED:
            del content[4 * _MAX_SEED :]
    return bytes(content)


def repack(name: str, data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Mutate what a compressed file holds, now and then, so that checksums do not shield the inner reader."""
    if name.endswith(".gz") and rng.random() < 0.4:
        try:
            return gzip.compress(mutate(gzip.decompress(data), others, rng), 1)
        except (OSError, EOFError, ValueError):
            pass
    return mutate(data, others, rng)


def check_reader(name: str, data: bytes) -> None:
    """Read a file; every byte and record is accounted for, and everything that comes out can be stored."""
    from haina.corpus.accounts import Account
    from haina.corpus.read import read_open
    from haina.corpus.records import Ignored, Page, Quarantined, clean_text
    from haina.corpus.sources import format_of

    account = Account(len(data))
    seen: set[str] = set()
    count = 0
    for record in read_open(io.BytesIO(data), format_of(name) or "archive", len(data), LIMIT, account, name):
        count += 1
        if isinstance(record, Ignored):
            clean_text(record.kind).encode()
            continue
        assert record.position not in seen, f"position {record.position} given twice"
        seen.add(record.position)
        clean_text(record.url).encode()
        if isinstance(record, Quarantined):
            clean_text(record.evidence).encode()
        elif isinstance(record, Page):
            assert len(record.data) <= LIMIT
        if record.span is not None and record.span.inside is None:
            assert 0 <= record.span.start <= record.span.end <= len(data), record.span
    assert account.balanced, account
    assert sum(lost.end - lost.start for lost in account.lost if lost.inside is None) == account.bytes_lost
    assert count or not data, "no record at all"


def check_extract(name: str, data: bytes) -> None:
    """Extract a page; the text can be stored, and is not longer than what went in by much."""
    from haina.corpus.encoding import UndecodableError, decode
    from haina.corpus.extract import extract_page

    try:
        text = decode(data, None).text if name.endswith(".txt") else extract_page(data).text
    except UndecodableError:
        return
    text.encode("utf-8", "surrogatepass" if name.endswith(".txt") else "strict")
    assert len(text) <= 4 * len(data) + 1000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--target", choices=("readers", "extract"), default="readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slow", type=float, default=10.0, help="seconds of CPU that one input may take")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=Path("/tmp/haina-fuzz"))
    arguments = parser.parse_args()
    check: Check = check_reader if arguments.target == "readers" else check_extract
    rng = random.Random(arguments.seed)
    start = seeds(arguments.data, arguments.target)
    others = [content for _, content in start]
    arguments.out.mkdir(parents=True, exist_ok=True)
    tried, findings, slowest = 0, 0, 0.0
    signatures: set[str] = set()
    until = time.process_time() + 60 * arguments.minutes
    while time.process_time() < until:
        name, content = rng.choice(start)
        data = content if tried < len(start) else repack(name, content, others, rng)
        if tried < len(start):
            name, data = start[tried]
        tried += 1
        # A crash of the interpreter leaves the input that did it.
        (arguments.out / "last").write_bytes(name.encode() + b"\n" + data)
        begin = time.process_time()
        report = ""
        try:
            check(name, data)
        except Exception:
            report = traceback.format_exc()
        seconds = time.process_time() - begin
        slowest = max(slowest, seconds)
        if not report and seconds > arguments.slow:
            report = f"slow: {seconds:.1f} s for {len(data)} bytes"
        signature = report[-400:] if not report.startswith("slow") else f"slow {name}"
        if report and signature not in signatures:
            signatures.add(signature)
            findings += 1
            stem = arguments.out / f"{arguments.target}-{findings:03d}-{name[-40:]}"
            stem.write_bytes(data)
            stem.with_name(stem.name + ".report.txt").write_text(report)
            print(f"{stem}: {report.strip().splitlines()[-1][:200]}", flush=True)
    print(f"{arguments.target}: {tried} inputs, {findings} findings, slowest {slowest:.2f} s")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
