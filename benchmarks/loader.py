"""Claim: the order of rows is the same for any number of ranks and any resume point, and one core feeds a GPU 20 times.

1. Order. Global batches of 1, 2, 4 and 8 ranks, and of fresh loaders at random steps of the first ten epochs (each with
   a number of ranks of its own), held against those of one loader that was never interrupted: all must be identical.
2. Speed of one thread, tokens a second of CPU time, for documents of three lengths; beside it what a 7B model eats at
   60 % of the 989 TFLOPS (dense bf16) of an H200 with rows of 4,096: model FLOPs (6 a matmul weight, 12 * layers *
   width * sequence for attention, full attention, nothing recomputed).
3. Prefetching for a step of that model on eight GPUs of a machine: how often the step had to wait, with one thread.
4. Size. Indices of more and more documents (sparse files): seconds to make a plan and to open it, and the most
   anonymous memory that a process needs for it and for reading batches, beyond what it held before.

Run: OMP_NUM_THREADS=1 python benchmarks/loader.py [--points 1000] [--most 100000000] [--json FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import platform
import statistics
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from haina.model.config import preset
from haina.shards import Loader, LoaderSection, Prefetcher, open_loader
from haina.shards.batch import Batch
from haina.shards.indexed import CODE_OF_DTYPE, HEADER, MAGIC, VERSION
from haina.shards.shard_set import SHARDS_VERSION, write_arrays

LENGTH = 4096
TFLOPS, UTILISATION = 989e12, 0.6
UINT16 = np.dtype("<u2")
TOKENIZER = {"fingerprint": "made-up", "vocab_size": 64_000, "bos_id": 0, "eos_id": 1}
WORLDS = (1, 2, 4, 8)


def eaten() -> float:
    """Tokens a second of the 7B model on one GPU."""
    return TFLOPS * UTILISATION / preset("baichuan-7b").flops_per_token(LENGTH)


def lengths_like(median: float, tokens: int, seed: int) -> np.ndarray:
    """Log-normal lengths of documents, sigma 1, together about `tokens`."""
    rng = np.random.default_rng(seed)
    count = max(1, round(tokens / (median * np.exp(0.5))))
    lengths: np.ndarray = np.maximum(3, rng.lognormal(np.log(median), 1.0, count)).astype(np.int64)
    return lengths


def write_documents(folder: Path, lengths: np.ndarray, files: int = 4) -> Path:
    """Shards of random tokens."""
    rng = np.random.default_rng(1)
    stream = rng.integers(5, 64_000, int(lengths.sum()), np.uint16)
    documents = np.split(stream, np.cumsum(lengths)[:-1])
    write_arrays(folder, {"train": documents}, TOKENIZER, UINT16, -(-len(documents) // files))
    return folder


def digest(parts: list[Batch]) -> str:
    """Of a global batch, whatever parts it comes in."""
    total = hashlib.blake2b(digest_size=16)
    for name in ("inputs", "targets", "positions", "segments"):
        total.update(np.concatenate([getattr(part, name) for part in parts]).tobytes())
    return total.hexdigest()


def check_order(work: Path, points: int) -> dict[str, Any]:
    """Part 1, for both ways to pack."""
    found: dict[str, Any] = {}
    folder = write_documents(work / "order", lengths_like(300, 1_000_000, 0))
    for packing in ("best_fit", "concatenate"):
        settings = LoaderSection(packing=packing, context_schedule=((0, 256), (40, 1024))).with_sizes(
            1024, 16, 7
        )
        whole = open_loader(folder, settings, work / "plans")
        steps = 10 * whole.rows_per_epoch // settings.rows
        ranks = {
            world: sum(
                digest([whole.batch(step, rank, world) for rank in range(world)])
                == digest([whole.batch(step)])
                for step in range(100)
            )
            for world in WORLDS
        }
        rng, good = np.random.default_rng(3), 0
        for _ in range(points):
            step, world = int(rng.integers(steps)), int(rng.choice(WORLDS))
            fresh = open_loader(folder, settings, work / "plans")
            step = fresh.check_state(json.loads(json.dumps(whole.state(step))))
            good += all(
                digest([fresh.batch(at, rank, world) for rank in range(world)]) == digest([whole.batch(at)])
                for at in (step, step + 1)
            )
        found[packing] = {
            "steps": steps,
            "identical_by_ranks": ranks,
            "points": points,
            "identical_resumes": good,
        }
        print(
            f"  {packing:12s} identical batches of 100, by ranks: {ranks}; identical after resume: {good:,} of "
            f"{points:,} points in {steps:,} steps (10 epochs)"
        )
    return found


def speed_of(loader: Loader, seconds: float) -> tuple[float, float]:
    """Tokens a second of CPU time and of wall time, median of five rounds."""
    loader.batch(0)
    tokens = loader.settings.rows * loader.settings.sequence_length
    by_cpu, by_wall = [], []
    step = 1
    for _ in range(5):
        began, cpu, wall, done = step, time.process_time(), time.perf_counter(), False
        while not done:
            loader.batch(step)
            step += 1
            done = time.perf_counter() - wall > seconds / 5
        by_cpu.append((step - began) * tokens / (time.process_time() - cpu))
        by_wall.append((step - began) * tokens / (time.perf_counter() - wall))
    return statistics.median(by_cpu), statistics.median(by_wall)


def measure_speed(work: Path, seconds: float) -> dict[str, Any]:
    """Part 2."""
    need, found = eaten(), {}
    print(f"  the 7B model eats {need:,.0f} tokens/s a GPU")
    for name, median in (("short", 60), ("web", 600), ("long", 6000)):
        folder = write_documents(work / name, lengths_like(median, 20_000_000, 2))
        for packing in ("best_fit", "concatenate"):
            settings = LoaderSection(packing=packing).with_sizes(LENGTH, 16, 7)
            loader = open_loader(folder, settings, work / "plans")
            pieces = len(loader.plan.pieces) / loader.plan.packs
            cpu, wall = speed_of(loader, seconds)
            found[f"{name} {packing}"] = {
                "tokens_per_cpu_second": cpu,
                "tokens_per_second": wall,
                "ratio": cpu / need,
            }
            print(
                f"  {name:5s} (median {median:5,} tokens, {pieces:5.1f} pieces a row) {packing:12s} {cpu / 1e6:7.1f} M "
                f"tokens/s of CPU ({wall / 1e6:.1f} M of wall time), {cpu / need:7,.0f} x the model"
            )
    return {"needed": need, **found}


def measure_waiting(work: Path, seconds: float) -> dict[str, Any]:
    """Part 3: the step sleeps for as long as eight GPUs compute."""
    folder = write_documents(work / "waiting", lengths_like(600, 5_000_000, 4))
    settings = LoaderSection().with_sizes(LENGTH, 16, 7)
    loader = open_loader(folder, settings, work / "plans")
    loader.batch(0)
    step = settings.rows * LENGTH / (8 * eaten())
    steps = max(4, round(seconds / step))
    with Prefetcher(loader, 0, steps) as batches:
        next(batches)
        waits, waited = batches.waits, batches.waited_seconds
        time.sleep(step)
        for _ in batches:
            time.sleep(step)
        waits, waited = batches.waits - waits, batches.waited_seconds - waited
    print(
        f"  step of {step * 1000:.0f} ms, {steps - 1} steps after the first: waited {waits} times, {waited:.4f} s"
    )
    return {"step_seconds": step, "steps": steps - 1, "waits": waits, "waited_seconds": waited}


def write_sparse(folder: Path, count: int) -> Path:
    """Shards of `count` documents whose tokens are holes in a sparse file."""
    folder.mkdir(parents=True)
    total = 0
    lengths_path, pointers_path = folder / "lengths", folder / "pointers"
    rng = np.random.default_rng(5)
    with lengths_path.open("wb") as lengths_file, pointers_path.open("wb") as pointers_file:
        for start in range(0, count, 1 << 20):
            many = min(1 << 20, count - start)
            lengths = np.clip(rng.lognormal(np.log(60), 1.0, many), 3, 30_000).astype("<i4")
            ends = np.cumsum(lengths, dtype=np.int64) + total
            lengths_file.write(lengths.tobytes())
            pointers_file.write(((ends - lengths) * 2).astype("<i8").tobytes())
            total = int(ends[-1])
    with (folder / "train-00000.idx").open("wb") as index:
        index.write(HEADER.pack(MAGIC, VERSION, CODE_OF_DTYPE[UINT16], count, count + 1))
        for path in (lengths_path, pointers_path):
            with path.open("rb") as part:
                while block := part.read(1 << 24):
                    index.write(block)
            path.unlink()
        for start in range(0, count + 1, 1 << 20):
            index.write(np.arange(start, min(count + 1, start + (1 << 20)), dtype="<i8").tobytes())
    with (folder / "train-00000.bin").open("wb") as tokens:
        tokens.truncate(2 * total)
    file = {"name": "train-00000", "documents": count, "tokens": total}
    split = {
        "documents": count,
        "tokens": total,
        "dtype": "uint16",
        "sha256": f"sparse-{count}",
        "files": [file],
    }
    content = {
        "version": SHARDS_VERSION,
        "tokenizer": TOKENIZER,
        "documents": None,
        "splits": {"train": split},
    }
    (folder / "shards.json").write_text(json.dumps(content))
    return folder


def anonymous_memory() -> float:
    """MiB that this process holds of its own, mapped files not counted."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def use_index(folder: Path, small: Path, cache: Path, results: Connection) -> None:
    """In a process of its own: open, read 200 batches; compiled kernels are loaded on a small index before."""
    settings = LoaderSection().with_sizes(LENGTH, 8, 7)
    open_loader(small, settings).batch(0)
    before, over = anonymous_memory(), threading.Event()
    peak = [before]

    def watch() -> None:
        while not over.wait(0.02):
            peak.append(anonymous_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started, cpu = time.perf_counter(), time.process_time()
    loader = open_loader(folder, settings, cache)
    opened, opened_cpu = time.perf_counter() - started, time.process_time() - cpu
    loader.batch(0)
    started = time.perf_counter()
    for step in range(1, 201):
        loader.batch(step * 1009)
    batch = (time.perf_counter() - started) / 200
    over.set()
    watcher.join()
    results.send((opened, opened_cpu, max(peak) - before, batch, loader.plan.padding))


def in_a_process(folder: Path, small: Path, cache: Path) -> tuple[float, ...]:
    """What `use_index` found."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=use_index, args=(folder, small, cache, there))
    process.start()
    there.close()
    found: tuple[float, ...] = here.recv()
    process.join()
    return found


def measure_size(work: Path, most: int) -> dict[str, Any]:
    """Part 4."""
    found: dict[str, Any] = {}
    small = write_sparse(work / "sparse", 1000)
    for count in sorted({max(1, most // 100), max(1, most // 10), most}):
        folder = write_sparse(work / f"sparse-{count}", count)
        made, made_cpu, making, *_ = in_a_process(folder, small, work / "plans")
        opened, _, memory, batch, padding = in_a_process(folder, small, work / "plans")
        found[str(count)] = {
            "plan_seconds": made,
            "plan_cpu_seconds": made_cpu,
            "plan_memory_mib": making,
            "open_seconds": opened,
            "open_memory_mib": memory,
            "batch_seconds": batch,
            "padding": padding,
        }
        print(
            f"  {count:11,} documents: plan {made:6.1f} s ({made_cpu:.1f} s CPU, {making:.0f} MiB), open "
            f"{opened * 1000:6.1f} ms, {memory:.0f} MiB of its own, batch of 8 rows {batch * 1000:.2f} ms, padding "
            f"{padding:.3%}"
        )
        for path in folder.iterdir():
            path.unlink()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--most", type=int, default=100_000_000)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    print(
        f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}; rows of {LENGTH:,}"
    )
    with tempfile.TemporaryDirectory(prefix="haina-loader-") as name:
        work = Path(name)
        print("order")
        report: dict[str, Any] = {"order": check_order(work, options.points)}
        print("speed of one thread")
        report["speed"] = measure_speed(work, options.seconds)
        print("prefetching, one thread")
        report["waiting"] = measure_waiting(work, 2 * options.seconds)
        print("size")
        report["size"] = measure_size(work, options.most)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
