"""Claim: of a damaged WARC file every undamaged record is recovered byte by byte, and every loss is reported.

Makes an archive of `--records` pages (those of ../shared/data/web when there, else self-made Chinese and English
ones), damages it in several ways, and reads it with haina, FastWARC and warcio in the same process. A record is
undamaged when none of its bytes (in .warc.gz: of its member's) was touched. Recovered: undamaged records that come out
with their payload byte for byte. Wrong: records that come out with another payload than was written. Ranges: what
haina names as lost; together with what it read they are all bytes of the file, which is checked. FastWARC and warcio
name none. In plain files with digests off nothing can show a flipped byte inside a block, so digests
are written, as crawlers do.

    python benchmarks/damaged_warc.py [--records 2000] [--seeds 5] [--data ../shared/data]

warcio is taken if it is installed. Exit code 1 if haina misses an undamaged record or keeps quiet about a loss.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import importlib.metadata
import io
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from haina.corpus.accounts import Account
from haina.corpus.read import read_source
from haina.corpus.records import Page, Quarantined
from haina.corpus.sources import Source

LIMIT = 16 << 20
RATE = 0.01


@dataclass
class Archive:
    """A file and where its records stand: (start, end, address, payload)."""

    data: bytes
    records: list[tuple[int, int, str, bytes]]


@dataclass
class Damaged:
    """A damaged file and the addresses of its untouched records."""

    data: bytes
    intact: set[str]


def payloads(data: Path, count: int) -> Iterator[bytes]:
    """Pages to fill an archive with."""
    pages: list[bytes] = []
    for name in ("magic_html_article.parquet", "magic_html_forum.parquet"):
        if (data / "web" / name).exists():
            import pyarrow.parquet as pq

            pages += [cell.as_py() for cell in pq.read_table(data / "web" / name, columns=["html"]).column(0)]
    rng = random.Random(0)
    for index in range(count):
        if pages and index % 4 == 0:
            yield pages[rng.randrange(len(pages))][:200_000] + b"<!-- %d -->" % index
        else:
            words = " ".join(str(rng.randrange(10**6)) for _ in range(rng.randrange(20, 800)))
            yield f"<html><body><p>第 {index} 页，网页正文。{words}</p></body></html>".encode()


def digest(data: bytes) -> bytes:
    return b"sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest())


def build(contents: list[bytes], packed: bool) -> Archive:
    """A WARC file of responses with digests; a gzip member a record when packed."""
    out = io.BytesIO()
    records = []
    for index, payload in enumerate(contents):
        url = f"http://example.org/{index}"
        block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
        block += b"Content-Length: %d\r\n\r\n" % len(payload) + payload
        record = b"WARC/1.1\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:%032x>\r\n" % index
        record += b"WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Target-URI: " + url.encode() + b"\r\n"
        record += b"WARC-Block-Digest: " + digest(block) + b"\r\nWARC-Payload-Digest: " + digest(payload)
        record += b"\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: %d\r\n\r\n" % len(
            block
        )
        record += block + b"\r\n\r\n"
        start = out.tell()
        out.write(gzip.compress(record, 6, mtime=0) if packed else record)
        records.append((start, out.tell(), url, payload))
    return Archive(out.getvalue(), records)


def _untouched(archive: Archive, touched: list[tuple[int, int]]) -> set[str]:
    """Addresses of records that no touched range of the original overlaps; an empty range is an insertion point."""
    ranges = sorted(touched)
    intact = set()
    first = 0
    for start, end, url, _ in archive.records:
        while first < len(ranges) and ranges[first][1] <= start and ranges[first][0] < start:
            first += 1
        hit = any(
            a < end and b > start if b > a else start < a < end
            for a, b in ranges[first : first + 5000]
            if a < end
        )
        if not hit:
            intact.add(url)
    return intact


def flip_bytes(archive: Archive, rng: random.Random, where: list[tuple[int, int]]) -> Damaged:
    data = bytearray(archive.data)
    for start, end in where:
        for position in range(start, end):
            data[position] ^= rng.randrange(1, 256)
    return Damaged(bytes(data), _untouched(archive, where))


def chosen_records(archive: Archive, rng: random.Random) -> Damaged:
    """1 % of all bytes, every one of them in a tenth of the records."""
    size = len(archive.data)
    victims = rng.sample(archive.records, max(1, len(archive.records) // 10))
    where = []
    for _ in range(int(size * RATE)):
        start, end, *_ = victims[rng.randrange(len(victims))]
        position = rng.randrange(start, end)
        where.append((position, position + 1))
    return flip_bytes(archive, rng, sorted(set(where)))


def scattered(archive: Archive, rng: random.Random) -> Damaged:
    """Single flipped bytes, one for every three records on average."""
    size = len(archive.data)
    where = {rng.randrange(size) for _ in range(max(1, len(archive.records) // 3))}
    return flip_bytes(archive, rng, [(position, position + 1) for position in sorted(where)])


def bursts(archive: Archive, rng: random.Random) -> Damaged:
    """1 % of all bytes in runs of 16 to 2,048."""
    size, left, where = len(archive.data), int(len(archive.data) * RATE), []
    while left > 0:
        length = min(left, rng.randrange(16, 2049))
        start = rng.randrange(max(1, size - length))
        where.append((start, start + length))
        left -= length
    return flip_bytes(archive, rng, sorted(where))


def headers(archive: Archive, rng: random.Random) -> Damaged:
    """One flipped byte in the header (plain) or the first 20 bytes (gzip) of every fifth record."""
    where = []
    for start, end, *_ in rng.sample(archive.records, max(1, len(archive.records) // 5)):
        reach = 20 if archive.data[start] == 0x1F else archive.data.index(b"\r\n\r\n", start, end) - start
        position = start + rng.randrange(reach)
        where.append((position, position + 1))
    return flip_bytes(archive, rng, sorted(where))


def zeroed_sectors(archive: Archive, rng: random.Random) -> Damaged:
    """1 % of all 512-byte sectors set to zero."""
    data = bytearray(archive.data)
    sectors = max(1, len(data) // 512)
    where = []
    for sector in rng.sample(range(sectors), max(1, int(sectors * RATE))):
        data[sector * 512 : sector * 512 + 512] = bytes(len(data[sector * 512 : sector * 512 + 512]))
        where.append((sector * 512, min(len(data), sector * 512 + 512)))
    return Damaged(bytes(data), _untouched(archive, sorted(where)))


def cuts_and_garbage(archive: Archive, rng: random.Random) -> Damaged:
    """Twenty ranges deleted, garbage put in, or a stretch of the file repeated."""
    points = sorted(rng.randrange(len(archive.data)) for _ in range(20))
    parts, touched, position = [], [], 0
    for point in points:
        if point < position:
            continue
        parts.append(archive.data[position:point])
        kind = rng.randrange(3)
        if kind == 0:
            length = rng.randrange(1, 4000)
            touched.append((point, min(len(archive.data), point + length)))
            position = point + length
        else:
            extra = rng.randbytes(rng.randrange(1, 4000))
            parts.append(extra if kind == 1 else archive.data[max(0, point - 3000) : point])
            touched.append((point, point))
            position = point
    parts.append(archive.data[position:])
    return Damaged(b"".join(parts), _untouched(archive, touched))


def truncated(archive: Archive, rng: random.Random) -> Damaged:
    """The last part of the file is missing."""
    end = rng.randrange(len(archive.data) // 2, len(archive.data))
    return Damaged(archive.data[:end], _untouched(archive, [(end, len(archive.data))]))


DAMAGE: dict[str, Callable[[Archive, random.Random], Damaged]] = {
    "1 % flipped, in a tenth of the records": chosen_records,
    "single flips": scattered,
    "1 % flipped, in bursts": bursts,
    "flips in headers": headers,
    "1 % of sectors zeroed": zeroed_sectors,
    "cut, garbage, repeated": cuts_and_garbage,
    "truncated tail": truncated,
}

Pairs = list[tuple[str, bytes]]


def with_haina(path: Path) -> tuple[Pairs, Account, list[Quarantined]]:
    account = Account()
    source = Source(str(path), path.name, "archive", path.stat().st_size)
    pages, quarantined = [], []
    for record in read_source(source, LIMIT, account):
        if isinstance(record, Page):
            pages.append(
                (record.url, record.data if isinstance(record.data, bytes) else record.data.encode())
            )
        elif isinstance(record, Quarantined):
            quarantined.append(record)
    return pages, account, quarantined


def with_fastwarc(path: Path) -> Pairs:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    found: Pairs = []
    try:
        with path.open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response, parse_http=True):
                found.append((str(record.headers.get("WARC-Target-URI")), record.reader.read()))
    except Exception:  # whatever it raises, what it gave before counts
        pass
    return found


def with_warcio(path: Path) -> Pairs:
    from warcio.archiveiterator import ArchiveIterator  # type: ignore[import-not-found,import-untyped]

    found: Pairs = []
    try:
        with path.open("rb") as file:
            for record in ArchiveIterator(file):
                if record.rec_type == "response":
                    found.append(
                        (
                            str(record.rec_headers.get_header("WARC-Target-URI")),
                            record.content_stream().read(),
                        )
                    )
    except Exception:  # as above
        pass
    return found


def judged(pairs: Pairs, archive: Archive, intact: set[str]) -> tuple[int, int]:
    """(undamaged records recovered, records that came out with a payload nobody wrote)."""
    written = {url: payload for _, _, url, payload in archive.records}
    right = {url for url, payload in pairs if written.get(url) == payload}
    known = set(written.values())
    return len(right & intact), sum(payload not in known for _, payload in pairs)


@contextmanager
def quiet() -> Iterator[None]:
    """Peers print a line for every damaged record; the table is what counts here."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def main() -> int:  # noqa: PLR0915 - a table, from top to bottom
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    arguments = parser.parse_args()
    peers: dict[str, Callable[[Path], Pairs]] = {"fastwarc": with_fastwarc}
    try:
        import warcio  # type: ignore[import-not-found,import-untyped]  # noqa: F401

        peers["warcio"] = with_warcio
    except ImportError:
        print("warcio is not installed: left out", file=sys.stderr)
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("haina", "fastwarc")]
    print(f"{arguments.records} records, {arguments.seeds} seeds, {', '.join(versions)}")
    print("undamaged records recovered / undamaged; wrong: payloads that nobody wrote; median over seeds")
    contents = list(payloads(arguments.data, arguments.records))
    failed = False
    speeds: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for packed in (False, True):
            archive = build(contents, packed)
            path = Path(folder) / ("a.warc.gz" if packed else "a.warc")
            path.write_bytes(archive.data)
            seconds: dict[str, list[float]] = {}
            for _ in range(max(3, arguments.seeds)):
                for reader, read_all in {"haina": lambda where: with_haina(where)[0], **peers}.items():
                    begin = time.perf_counter()
                    with quiet():
                        assert len(read_all(path)) == len(contents)
                    seconds.setdefault(reader, []).append(time.perf_counter() - begin)
            size = sum(map(len, contents)) / 1e6
            speeds.append(
                f"{path.name}, undamaged: "
                + ", ".join(
                    f"{reader} {size / statistics.median(value):.0f} MB/s"
                    for reader, value in seconds.items()
                )
            )
            for name, damage in DAMAGE.items():
                rows: dict[str, list[tuple[int, int]]] = {}
                shares, ranges = [], []
                for seed in range(arguments.seeds):
                    damaged = damage(archive, random.Random(seed))
                    path.write_bytes(damaged.data)
                    pages, account, quarantined = with_haina(path)
                    found = judged(pages, archive, damaged.intact)
                    rows.setdefault("haina", []).append(found)
                    missing = account.bytes_total - account.bytes_read - account.bytes_lost
                    gone = {url for *_, url, _ in archive.records} - {url for url, _ in pages}
                    silent = bool(gone) and not account.lost
                    failed |= found[0] != len(damaged.intact) or found[1] > 0 or missing != 0 or silent
                    ranges.append(len([item for item in quarantined if item.span is not None]))
                    shares.append(len(damaged.intact))
                    for peer, read in peers.items():
                        with quiet():
                            found_by_peer = read(path)
                        rows.setdefault(peer, []).append(judged(found_by_peer, archive, damaged.intact))
                line = f"{'.warc.gz' if packed else '.warc':9}{name:40}"
                intact = statistics.median(shares)
                for reader, values in rows.items():
                    recovered = statistics.median(value[0] for value in values)
                    wrong = statistics.median(value[1] for value in values)
                    line += f" {reader} {recovered:.0f}/{intact:.0f} wrong {wrong:.0f};"
                print(f"{line} haina names {statistics.median(ranges):.0f} ranges", flush=True)
    print("\n".join(speeds))
    print("FAILED" if failed else "every undamaged record recovered, every byte accounted for")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
