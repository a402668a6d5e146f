"""Claim: HTML becomes scored Parquet at 100 pages a second on two cores, in memory that does not grow with the input.

Packs real pages into WARC files, each page several times with a paragraph of its own so that no two are the same, and
runs `haina curate` on one, two and four times as many of them. Prints pages a second and the peak memory of the process
tree. Run: python benchmarks/pages_to_parquet.py [--data ../shared/data] [--pages 2000] [--workers 2]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq

SIZES = (1, 2, 4)
ROUNDS = 3


def real_pages(data: Path) -> list[bytes]:
    """The raw pages of every Parquet file with a column `html`, in the order of the names."""
    files = sorted((data / "web").glob("*.parquet"))
    found = [
        page for path in files for page in pq.read_table(path, columns=["html"]).column("html").to_pylist()
    ]
    if not found:
        print(f"{data}/web: no Parquet file with a column html; name the folder with --data", file=sys.stderr)
        raise SystemExit(2)
    return found


def write_warcs(pages: list[bytes], count: int, folder: Path) -> int:
    """`count` records in files of 250; how many bytes of HTML they hold."""
    folder.mkdir(parents=True)
    total = 0
    for start in range(0, count, 250):
        with (folder / f"{start:06d}.warc.gz").open("wb") as file:
            for number in range(start, min(count, start + 250)):
                page = pages[number % len(pages)]
                mark = f"<p>Record number {number} of this collection 本集第{number}篇。</p></body>".encode()
                cut = page.rfind(b"</body>")
                page = page[:cut] + mark + page[cut + 7 :] if cut >= 0 else page + mark
                body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page
                head = (
                    "WARC/1.1\r\nWARC-Type: response\r\nContent-Type: application/http; msgtype=response\r\n"
                    f"WARC-Target-URI: https://host{number}.example/\r\nContent-Length: {len(body)}\r\n\r\n"
                )
                file.write(gzip.compress(head.encode() + body + b"\r\n\r\n", 6))
                total += len(page)
    return total


def curate(source: Path, out: Path, workers: int) -> tuple[float, int, dict[str, int]]:
    """Wall seconds, peak memory in bytes of the process tree, and the summary of one run."""
    command = [str(Path(sys.executable).with_name("haina")), "curate", str(source), "--out", str(out)]
    start = time.monotonic()
    process = subprocess.Popen(
        [*command, "--workers", str(workers), "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            tree = [watched, *watched.children(recursive=True)]
            peak = max(peak, sum(item.memory_info().rss for item in tree))
        except psutil.Error:
            pass
        time.sleep(0.1)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    summary: dict[str, int] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return time.monotonic() - start, peak, summary


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    pages = real_pages(options.data)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {options.workers} workers"
    )
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        html = {size: write_warcs(pages, size * options.pages, work / f"in{size}") for size in SIZES}
        rates: dict[int, list[float]] = {size: [] for size in SIZES}
        peaks: dict[int, list[int]] = {size: [] for size in SIZES}
        for number in range(ROUNDS):
            for size in SIZES:
                seconds, peak, summary = curate(
                    work / f"in{size}", work / f"out{size}-{number}", options.workers
                )
                rates[size].append(summary["pages"] / seconds)
                peaks[size].append(peak)
                kept = summary["documents"]
        for size in SIZES:
            print(
                f"{size * options.pages:6} pages, {html[size] / 2**20:6.1f} MiB of HTML: median "
                f"{statistics.median(rates[size]):6.1f} pages/s ({min(rates[size]):.1f} to {max(rates[size]):.1f}), "
                f"peak {statistics.median(peaks[size]) / 2**20:.0f} MiB"
            )
        print(f"documents kept of the largest: {kept}; start-up and the search for duplicates included")
        growth = statistics.median(peaks[SIZES[-1]]) / statistics.median(peaks[SIZES[0]])
        print(f"peak memory, {SIZES[-1]} times the input: {growth:.2f} times")


if __name__ == "__main__":
    main()
