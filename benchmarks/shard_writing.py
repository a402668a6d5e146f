"""Claim: `haina shards write` is 1.7 times as fast on two cores as on one and more, process start included, same bytes.

The command is started anew each time, with 1 worker and with 2 in turn; medians of wall and CPU time (of the command
and all its children). Beside it what this machine gives at best: two commands with 1 worker at the same time, as work a
second over that of one. The input are the files of ../shared/data/text, several times over; MB are UTF-8 bytes of text.
The start of Python, kernels and tokenizer takes a second or two a process, which is why the input is not shorter.
Peer: datatrove's tokeniser step (Hugging Face tokenizers, one file a task, its own format), not shuffled, on the
first documents of the same files, with 1 worker and with 2. Rates depend on the tokenizer: it is the same for both.
Run: python benchmarks/shard_writing.py --tokenizer DIR [--data ../shared/data] [--copies 5] [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trained_tokenizer import tokenizer_folder

OURS = "from haina.cli.shards import app; app()"
PEER = """
import sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer
if __name__ == "__main__":
    inputs, tokenizer, out, workers = sys.argv[1:]
    LocalPipelineExecutor(
        pipeline=[
            ParquetReader(inputs, glob_pattern="*.parquet"),
            DocumentTokenizer(f"{out}/tokens", tokenizer, eos_token="</s>", shuffle_documents=False),
        ],
        tasks=4, workers=int(workers), logging_dir=f"{out}/logs",
    ).run()
"""
PEER_PARTS = 4
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class Cost:
    """Seconds of a command, by the wall clock and of all processors."""

    wall: float
    cpu: float


def run(*commands: list[str]) -> Cost:
    """Start commands at the same time and wait for all."""
    start, spent = time.perf_counter(), os.times()
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "env": ENVIRONMENT}
    processes = [subprocess.Popen(command, **silent) for command in commands]  # type: ignore[call-overload]
    for process in processes:
        _, errors = process.communicate()
        if process.returncode:
            raise SystemExit(f"{process.args[:3]} failed:\n{errors.decode()[-2000:]}")
    wall, now = time.perf_counter() - start, os.times()
    used = now.children_user + now.children_system - spent.children_user - spent.children_system
    return Cost(wall, used)


def ours(inputs: Path, tokenizer: Path, out: Path, workers: int) -> list[str]:
    """Our command."""
    given = ["write", inputs, "--tokenizer", tokenizer, "--out", out, "--workers", workers]
    return [sys.executable, "-c", OURS, *map(str, given)]


def copies_of(data: Path, folder: Path, copies: int) -> Path:
    """The files of `data/text`, `copies` times, and in the page cache."""
    folder.mkdir()
    for number in range(copies):
        for path in sorted((data / "text").glob("*.parquet")):
            shutil.copyfile(path, folder / f"{number}-{path.name}")
    return folder


def peer_input(data: Path, folder: Path, megabytes: float) -> tuple[Path, float]:
    """About so many megabytes of documents, the same share of each file, in parts alike; and how many they are."""
    folder.mkdir()
    paths = sorted((data / "text").glob("*.parquet"))
    total = 0
    for path in paths:
        wanted, rows = megabytes * 1e6 / len(paths), []
        for text in pq.read_table(path, columns=["text"])["text"].to_pylist():
            if wanted <= 0:
                break
            rows.append(text)
            wanted -= len(text.encode())
        total += sum(len(text.encode()) for text in rows)
        for part in range(PEER_PARTS):
            chosen = rows[part::PEER_PARTS]
            names = [f"{path.stem}-{part}-{number}" for number in range(len(chosen))]
            table = {"id": names, "text": chosen}
            pq.write_table(pa.table(table), folder / f"{path.stem}-{part}.parquet")
    return folder, total / 1e6


def checksums(out: Path) -> dict[str, str]:
    """SHA-256 of every split."""
    splits = json.loads((out / "shards.json").read_text(encoding="utf-8"))["splits"]
    return {name: split["sha256"] for name, split in splits.items()}


def measure_ours(inputs: Path, tokenizer: Path, work: Path, rounds: int) -> dict[str, Any]:
    """Times with 1 worker, with 2, and of two commands with 1 worker at once; counts of what was written."""
    costs: dict[str, list[Cost]] = {"1 worker": [], "2 workers": [], "two commands": []}
    outs = [work / f"out-{number}" for number in range(3)]
    run(ours(inputs, tokenizer, outs[0], 2))  # compiles kernels, fills the page cache
    expected = checksums(outs[0])
    for number in range(rounds):
        commands_of = {
            "1 worker": [ours(inputs, tokenizer, outs[1], 1)],
            "2 workers": [ours(inputs, tokenizer, outs[1], 2)],
            "two commands": [ours(inputs, tokenizer, out, 1) for out in outs[1:]],
        }
        if number:  # the machine is asked once
            del commands_of["two commands"]
        for name, commands in commands_of.items():
            for out in outs[1:]:
                shutil.rmtree(out, ignore_errors=True)
            costs[name].append(run(*commands))
            if checksums(outs[1]) != expected:
                raise SystemExit(f"{name}: other bytes than before")
            print(f"round {number + 1}: {name}: {costs[name][-1].wall:.1f} s", file=sys.stderr, flush=True)
    splits = json.loads((outs[0] / "shards.json").read_text(encoding="utf-8"))["splits"].values()
    megabytes = sum(split["bytes"] for split in splits) / 1e6
    tokens = sum(split["tokens"] for split in splits)
    walls = {name: statistics.median(cost.wall for cost in found) for name, found in costs.items()}
    return {
        "megabytes": megabytes,
        "tokens": tokens,
        "documents": sum(split["documents"] for split in splits),
        "seconds": {name: [round(cost.wall, 2) for cost in found] for name, found in costs.items()},
        "cpu_seconds": {
            name: round(statistics.median(cost.cpu for cost in found), 2) for name, found in costs.items()
        },
        "megabytes_per_second": {name: megabytes / walls[name] for name in ("1 worker", "2 workers")},
        "tokens_per_second": {name: tokens / walls[name] for name in ("1 worker", "2 workers")},
        "two_over_one": walls["1 worker"] / walls["2 workers"],
        "machine_two_over_one": 2 * walls["1 worker"] / walls["two commands"],
    }


def measure_peer(data: Path, tokenizer: Path, work: Path, megabytes: float) -> dict[str, Any]:
    """MB/s of datatrove with 1 worker and with 2; one run each, for it takes long."""
    inputs, size = peer_input(data, work / "peer", megabytes)
    rates = {}
    for workers in (1, 2):
        out = work / f"peer-{workers}"
        command = [sys.executable, "-c", PEER, inputs, tokenizer / "tokenizer.json", out, workers]
        rates[f"{workers} worker{'s' * (workers > 1)}"] = size / run([str(word) for word in command]).wall
    return {
        "name": f"datatrove {importlib.metadata.version('datatrove')}",
        "megabytes": size,
        "megabytes_per_second": rates,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokenizer", type=Path, help="default: learnt now, kept in build/")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--copies", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-megabytes", type=float, default=30.0, help="0 leaves the peer out")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    tokenizer = tokenizer_folder(options.tokenizer)
    with tempfile.TemporaryDirectory(prefix="shard-writing-") as name:
        work = Path(name)
        inputs = copies_of(options.data, work / "input", options.copies)
        found = measure_ours(inputs, tokenizer, work, options.rounds)
        if options.peer_megabytes:
            found["peer"] = measure_peer(options.data, tokenizer, work, options.peer_megabytes)
    found["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, CPython {platform.python_version()}"
    found["load_average"] = os.getloadavg()[0]
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(
        f"{found['megabytes']:,.0f} MB of text, {found['documents']:,} documents, {found['tokens']:,} tokens; "
        f"{found['machine']}; load at the end {found['load_average']:.1f}"
    )
    for name, seconds in found["seconds"].items():
        low, high = min(seconds), max(seconds)
        cpu = found["cpu_seconds"][name]
        print(
            f"{name:13} median {statistics.median(seconds):6.1f} s, {low:.1f} to {high:.1f}; CPU {cpu:.1f} s"
        )
    for name, rate in found["megabytes_per_second"].items():
        print(f"{name:13} {rate:6.1f} MB/s, {found['tokens_per_second'][name] / 1e6:.2f} million tokens/s")
    best = found["machine_two_over_one"]
    print(f"two workers over one {found['two_over_one']:.2f} (target >= 1.7); the machine {best:.2f}")
    if "peer" in found:
        peer = found["peer"]
        for name, rate in peer["megabytes_per_second"].items():
            ratio = found["megabytes_per_second"][name] / rate
            print(
                f"{peer['name']}, {peer['megabytes']:.0f} MB, {name}: {rate:.2f} MB/s; ours {ratio:.1f} times"
            )


if __name__ == "__main__":
    main()
