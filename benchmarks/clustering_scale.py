"""Claim: 100 million documents are clustered in <= 30 minutes and <= 4 GiB on two cores, and the cost grows linearly.

Documents are generated, as signatures with known clusters, inside the tasks that read them, whenever they are read; the
time of that alone is printed beside. Of all documents

    1.0 %   are members of one cluster, by far the largest
    0.5 %   fill one template: distinct documents, any two of them at J = 0.5
    0.5 %   are copies of one page
    98 %    are singletons (about 60 %), clusters of 2 to 1,500 with a heavy tail, their copies, and templates of 64

Each value of a member's signature is that of its centre with probability J, uniform in [0.75, 0.98] over members. Ranks
put the centre first. Recall: members whose representative is their centre. `realised` counts only those whose
estimate from 128 values cut to 8 bits reaches the threshold, as the estimate decides here. Precision: documents with
a representative that is in their own known cluster. Template pages and singletons belong to none.

Run: python benchmarks/clustering_scale.py --documents 1M [10M 100M] [--workers 2] [--work DIR] [--peer 200k]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
from numba import njit

from haina.corpus.dedup.clusters import cluster_documents
from haina.corpus.dedup.layout import ClusterConfig, default_partitions
from haina.corpus.dedup.minhash import truncate8
from haina.corpus.dedup.verify import estimate_pairs
from haina.runtime.executor import LocalExecutor
from haina.runtime.measure import Measurement

PERMUTATIONS = 128
ROWS = 250_000  # documents in a partition of the input
BLOCK = 8192
PATTERN = 1 << 16  # documents after which the structure repeats, with other content
SHINGLES = 1000
ALONE, CENTRE, MEMBER, COPY, TEMPLATE = range(5)


@njit(nogil=True, cache=True)
def _mix(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    value = (value ^ (value >> np.uint64(29))) * np.uint64(0xA5A3564E27F8862B)
    return value ^ (value >> np.uint64(32))


@cache
def pattern() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8]]:
    """Kind of each document of a pattern, and how far back its centre is."""
    rng = np.random.default_rng(7)
    back, kind = np.zeros(PATTERN, dtype=np.int64), np.zeros(PATTERN, dtype=np.int8)
    place = 0
    while place < PATTERN:
        draw = rng.random()
        size = 1
        if draw < 0.10:
            size = min(1500, 1 + math.ceil(rng.pareto(1.1)))
        elif draw < 0.1015:
            size = 64
        size = min(size, PATTERN - place)
        if size > 1:
            back[place : place + size] = np.arange(size)
            if draw < 0.10:
                kind[place] = CENTRE
                kind[place + 1 : place + size] = np.where(rng.random(size - 1) < 0.15, COPY, MEMBER)
            else:
                kind[place : place + size] = TEMPLATE
        place += size
    return back, kind


def structure(
    numbers: npt.NDArray[np.int64], total: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8]]:
    """Centre (or first page of the template) and kind of each document."""
    borders = [total // 100, total * 3 // 200, total // 50]
    back, kind = pattern()
    place = (numbers - borders[2]) % PATTERN
    centres, kinds = numbers - back[place], kind[place]
    for start, end, rest in zip([0, *borders[:2]], borders, [MEMBER, TEMPLATE, COPY], strict=True):
        inside = (numbers >= start) & (numbers < end)
        centres = np.where(inside, start, centres)
        first = TEMPLATE if rest == TEMPLATE else CENTRE
        kinds = np.where(inside, np.where(numbers == start, first, rest), kinds)
    return centres, kinds.astype(np.int8)


@njit(nogil=True, cache=True)
def _signatures(
    numbers: npt.NDArray[np.int64], centres: npt.NDArray[np.int64], kinds: npt.NDArray[np.int8], width: int
) -> npt.NDArray[np.uint32]:
    out = np.empty((len(numbers), width), dtype=np.uint32)
    for index in range(len(numbers)):
        own = _mix(np.uint64(numbers[index]) + np.uint64(0x5851F42D4C957F2D))
        centre = _mix(np.uint64(centres[index]) + np.uint64(0x5851F42D4C957F2D))
        # A share of all 32-bit numbers, as the probability of taking the centre's value.
        alike = 0.0
        if kinds[index] == 2:
            alike = 0.75 + 0.23 * (own >> np.uint64(32)) / 4294967296.0
        elif kinds[index] == 3:
            alike = 1.0
        elif kinds[index] == 4:
            alike = 0.5**0.5
            centre = ~centre
        bound = np.uint64(alike * 4294967296.0)
        for row in range(width):
            value = _mix(own + np.uint64(row) * np.uint64(0x9E3779B97F4A7C15))
            if (value >> np.uint64(32)) < bound:
                value = _mix(centre + np.uint64(row) * np.uint64(0x9E3779B97F4A7C15))
            out[index, row] = np.uint32(value & np.uint64(0xFFFFFFFF))
    return out


def hashes(numbers: npt.NDArray[Any], seed: int) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each number."""
    state = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    state ^= state >> np.uint64(31)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    return state ^ (state >> np.uint64(29))


@dataclass
class GeneratedBlock:
    """Consecutive documents of a partition; signatures are made when they are asked for."""

    numbers: npt.NDArray[np.int64]
    total: int

    def __post_init__(self) -> None:
        self.centres, self.kinds = structure(self.numbers, self.total)
        self.sizes = np.full(len(self.numbers), SHINGLES, dtype=np.int64)

    @property
    def signatures(self) -> npt.NDArray[np.uint32]:
        return _signatures(self.numbers, self.centres, self.kinds, PERMUTATIONS)

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        content = np.where(self.kinds == COPY, self.centres, self.numbers)
        return np.column_stack([hashes(content, 1), hashes(content, 2)])

    @property
    def priority(self) -> npt.NDArray[np.uint64]:
        return np.where(self.kinds == CENTRE, 0, 1 + hashes(self.numbers, 3) % np.uint64(1000)).astype(
            np.uint64
        )

    @property
    def tie(self) -> npt.NDArray[np.uint64]:
        return hashes(self.numbers, 4)


@dataclass(frozen=True)
class Generated:
    """A partition: documents [first, last) of `total`, whose numbers are scattered over all partitions."""

    first: int
    last: int
    total: int

    def rows(self) -> int:
        return self.last - self.first

    def numbers(self, first: int, last: int) -> npt.NDArray[np.int64]:
        step = round(self.total * 0.6180339887) | 1
        while math.gcd(step, self.total) > 1:
            step += 2
        return ((np.arange(first, last, dtype=np.uint64) * np.uint64(step)) % np.uint64(self.total)).astype(
            np.int64
        )

    def blocks(self) -> Iterator[GeneratedBlock]:
        for start in range(self.first, self.last, BLOCK):
            yield GeneratedBlock(self.numbers(start, min(start + BLOCK, self.last)), self.total)

    def ids(self) -> pa.Array:
        return hex_ids(self.numbers(self.first, self.last))

    def shingle_sets(self, rows: npt.NDArray[np.int64]) -> Any:
        raise NotImplementedError("generated documents have signatures only")


def hex_ids(numbers: npt.NDArray[np.int64]) -> pa.Array:
    """16 hex digits of each number."""
    shifts = np.arange(60, -4, -4, dtype=np.uint64)
    digits = (numbers.astype(np.uint64)[:, None] >> shifts) & np.uint64(15)
    data = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)[digits.astype(np.int64)]
    offsets = np.arange(len(numbers) + 1, dtype=np.int64) * 16
    return pa.Array.from_buffers(
        pa.large_string(), len(numbers), [None, pa.py_buffer(offsets), pa.py_buffer(data.tobytes())]
    )


def numbers_of(ids: pa.Array) -> npt.NDArray[np.int64]:
    """What `hex_ids` made ids of, for those that are not null."""
    ids = ids.drop_null()
    _, offsets, data = ids.buffers()
    first = np.frombuffer(offsets, dtype="<i8")[ids.offset] if len(ids) else 0
    digits = np.frombuffer(data or b"", dtype=np.uint8)[first : first + 16 * len(ids)].reshape(-1, 16)
    digits = np.where(digits >= ord("a"), digits - (ord("a") - 10), digits - ord("0"))
    return (digits.astype(np.int64) << np.arange(60, -4, -4)).sum(axis=1)


def only_generate(source: Generated, path: Path) -> None:
    """Task: all signatures of a partition, for nothing."""
    check = np.uint32(0)
    for block in source.blocks():
        check ^= np.bitwise_xor.reduce(block.signatures, axis=None)
    path.write_bytes(check.tobytes())


def tree_cpu_seconds() -> float:
    """CPU time of this process and its descendants so far."""
    total = 0.0
    process = psutil.Process()
    for each in [process, *process.children(recursive=True)]:
        try:
            times = each.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


class StepTimes:
    """A reporter that keeps wall and CPU seconds of each step."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float, float]] = []

    @contextmanager
    def task(self, description: str, total: float | None, unit: str, done: float = 0) -> Iterator[Any]:
        started, cpu = time.monotonic(), tree_cpu_seconds()

        class Bar:
            def advance(self, amount: float = 1, note: str = "") -> None:
                return

        yield Bar()
        self.steps.append((description, time.monotonic() - started, tree_cpu_seconds() - cpu))
        print(
            f"    {description:28} {self.steps[-1][1]:8.1f} s wall {self.steps[-1][2]:8.1f} s CPU", flush=True
        )

    def say(self, message: str) -> None:
        print(message, flush=True)


@dataclass
class DiskUse:
    """Bytes of the files in a folder: the most at a time, and the most of each step."""

    folder: Path
    peak: int = 0

    def __enter__(self) -> DiskUse:
        self.steps: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            sizes: dict[str, int] = {}
            for entry in os.scandir(self.folder):
                with contextlib.suppress(FileNotFoundError):
                    name = re.sub(r"-\d{5}.*", "", entry.name)
                    sizes[name] = sizes.get(name, 0) + entry.stat().st_size
            self.peak = max(self.peak, sum(sizes.values()))
            for name, size in sizes.items():
                self.steps[name] = max(self.steps.get(name, 0), size)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def quality(sources: list[Generated], files: list[Path], threshold: float) -> dict[str, float]:
    """Recall and precision against the known clusters."""
    names = "members found realised realised_found given right copies copies_found kept_distinct distinct"
    counts = dict.fromkeys(names.split(), 0)
    sampled = 0
    for source, path in zip(sources, files, strict=True):
        with pa.memory_map(str(path)) as file:
            column = pa.ipc.open_file(file).read_all().column("representative").combine_chunks()
            given = ~np.asarray(column.is_null())
            targets = numbers_of(column)
        numbers = source.numbers(source.first, source.last)
        centres, kinds = structure(numbers, source.total)
        representative = numbers.copy()
        representative[given] = targets
        their_centres, their_kinds = structure(representative, source.total)
        right = given & (their_centres == centres) & np.isin(kinds, (CENTRE, MEMBER, COPY))
        right &= np.isin(their_kinds, (CENTRE, MEMBER, COPY))
        member, copy = kinds == MEMBER, kinds == COPY
        counts["members"] += int(member.sum())
        counts["found"] += int((member & (representative == centres)).sum())
        counts["copies"] += int(copy.sum())
        counts["copies_found"] += int((copy & (representative == centres)).sum())
        counts["given"] += int(given.sum())
        counts["right"] += int(right.sum())
        distinct = (kinds == TEMPLATE) | (kinds == ALONE)
        counts["distinct"] += int(distinct.sum())
        counts["kept_distinct"] += int((distinct & ~given).sum())
        if sampled < 2_000_000:
            sampled += len(numbers)
            for start in range(0, len(numbers), BLOCK):
                part = np.flatnonzero(member[start : start + BLOCK]) + start
                own = _signatures(numbers[part], centres[part], kinds[part], PERMUTATIONS)
                theirs = _signatures(
                    centres[part], centres[part], np.full(len(part), CENTRE, dtype=np.int8), PERMUTATIONS
                )
                both = truncate8(np.concatenate([own, theirs]))
                pairs = np.column_stack([np.arange(len(part)), np.arange(len(part)) + len(part)])
                enough = estimate_pairs(both, pairs.astype(np.int64), threshold) > 0
                counts["realised"] += int(enough.sum())
                counts["realised_found"] += int((enough & (representative[part] == centres[part])).sum())
    return {
        "recall of members": counts["found"] / max(1, counts["members"]),
        "recall, realised": counts["realised_found"] / max(1, counts["realised"]),
        "recall of copies": counts["copies_found"] / max(1, counts["copies"]),
        "precision": counts["right"] / max(1, counts["given"]),
        "distinct kept": counts["kept_distinct"] / max(1, counts["distinct"]),
        "documents removed": counts["given"],
    }


def run(documents: int, workers: int, work: Path, exchange_gib: float) -> dict[str, float]:
    """Cluster and print; seconds and memory."""
    sources = [Generated(a, min(a + ROWS, documents), documents) for a in range(0, documents, ROWS)]
    partitions = default_partitions(documents, exact=False)
    config = ClusterConfig(
        exact=False,
        partitions=partitions,
        permutations=PERMUTATIONS,
        exchange_bytes=int(exchange_gib * (1 << 30)),
    )
    print(
        f"{documents:,} documents in {len(sources)} partitions, {partitions} partitions of keys, {workers} workers"
    )
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    reporter = StepTimes()
    with LocalExecutor(workers, reporter) as executor:
        # The kernels are compiled or loaded before the clock starts.
        warm = [Generated(a, a + 2500, 5000) for a in (0, 2500)]
        cluster_documents(LocalExecutor(1), work / "warm", warm, config)
        executor.map(only_generate, sources, [work / f"generated-{k}" for k in range(len(sources))],
                     description="generation alone (all signatures once)")  # fmt: skip
        generation = reporter.steps[-1]
        cpu = tree_cpu_seconds()
        with DiskUse(work) as disk, Measurement() as measured:
            files = cluster_documents(executor, work, sources, config)
        cpu = tree_cpu_seconds() - cpu
    found = quality(sources, files, config.threshold)
    passes = 1 + sum(step.startswith("bands") for step, _, _ in reporter.steps)
    met = sum(size for step, size in disk.steps.items() if step.startswith("pairs-of-bands")) // 8
    print(
        f"  {measured.seconds:.1f} s wall, {cpu:.1f} s CPU ({1e6 * cpu / documents:.2f} us a document), "
        f"peak RSS of the process tree {measured.peak_memory_bytes / (1 << 30):.2f} GiB\n"
        f"  in that, signatures are generated {passes} times; once takes {generation[2]:.1f} s CPU\n"
        f"  peak disk {disk.peak / 1e9:.2f} GB, pairs that meet {met:,}, different ones {disk.steps['pairs'] // 8:,}"
    )
    for name, value in found.items():
        print(f"  {name:20} {value:,.4f}" if value <= 1 else f"  {name:20} {value:,.0f}")
    return {"documents": documents, "seconds": measured.seconds, "cpu": cpu}


def peer(documents: int, work: Path) -> None:
    """datatrove's stages 2 and 3 (buckets, clusters) on the same signatures, one worker, in a process of its own."""
    sources = [Generated(a, min(a + ROWS, documents), documents) for a in range(0, documents, ROWS)]
    shutil.rmtree(work, ignore_errors=True)
    banding = 20, 4
    for task, source in enumerate(sources):
        signatures = np.concatenate([block.signatures for block in source.blocks()])
        rows = np.arange(source.rows(), dtype=np.uint32)
        for band in range(banding[0]):
            part = signatures[:, band * banding[1] : (band + 1) * banding[1]]
            order = np.lexsort((rows, *part.T[::-1]))
            record = np.empty(len(rows), dtype=[("hash", "<u4", (banding[1],)), ("row", "<u4")])
            record["hash"], record["row"] = part[order], rows[order]
            path = work / "signatures" / f"bucket_{band:03d}" / f"{task:05d}.minhash.sig"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(record.tobytes())
    code = """
import sys, time, json, psutil
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster
from datatrove.utils.hashing import HashConfig
work, bands, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
config = MinhashConfig(num_buckets=bands, hashes_per_bucket=rows, hash_config=HashConfig(precision=32))
stage = MinhashDedupBuckets(input_folder=work + "/signatures", output_folder=work + "/buckets", config=config)
start = time.process_time()
for rank in range(bands):
    stage.run(None, rank, bands)
buckets = time.process_time() - start
start = time.process_time()
MinhashDedupCluster(input_folder=work + "/buckets", output_folder=work + "/remove", config=config).run(None, 0, 1)
print(json.dumps({"buckets": buckets, "clusters": time.process_time() - start}))
"""
    with Measurement() as measured:
        done = subprocess.run(
            [sys.executable, "-c", code, str(work), *map(str, banding)],
            check=True,
            capture_output=True,
            text=True,
        )
    took = json.loads(done.stdout.strip().splitlines()[-1])
    total = took["buckets"] + took["clusters"]
    print(
        f"datatrove, {documents:,} documents: buckets {took['buckets']:.1f} s CPU, clusters "
        f"{took['clusters']:.1f} s CPU "
        f"({1e6 * total / documents:.1f} us a document), peak RSS {measured.peak_memory_bytes / (1 << 30):.2f} GiB; "
        "its signatures are made and sorted outside the clock, and its pairs are not verified"
    )
    shutil.rmtree(work)


def number(text: str) -> int:
    """1M, 200k, 5000."""
    scale = {"k": 1_000, "m": 1_000_000}.get(text[-1].lower(), 1)
    return round(float(text[:-1] if scale > 1 else text) * scale)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=number, nargs="*", default=[1_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "haina-clustering")
    parser.add_argument("--exchange-gib", type=float, default=16.0, help="records of bands on disk at a time")
    parser.add_argument("--peer", type=number, help="documents for datatrove's bucket and cluster stages")
    arguments = parser.parse_args()
    runs = [
        run(count, arguments.workers, arguments.work, arguments.exchange_gib) for count in arguments.documents
    ]
    for small, large in pairwise(runs):
        ratio = math.log(large["documents"] / small["documents"])
        print(f"growth from {small['documents']:,} to {large['documents']:,}: wall time as n^"
              f"{math.log(large['seconds'] / small['seconds']) / ratio:.2f}, CPU time as n^"
              f"{math.log(large['cpu'] / small['cpu']) / ratio:.2f}")  # fmt: skip
    if arguments.peer:
        peer(arguments.peer, arguments.work)
    shutil.rmtree(arguments.work, ignore_errors=True)


if __name__ == "__main__":
    main()
