"""Tasks of the executor's tests, in a module that worker processes and Ray workers can import.

The job counts words: `collect` writes the words of an item, `spread` exchanges them by content, `count_words` sorts and
counts each partition. Every task logs its start and its end to `units.log` of its folder, so that a test can count what
was done twice.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from haina.runtime.errors import HainaError
from haina.runtime.executor import Buckets, Executor, Recovery, executor_from, iter_blocks, local_copy
from haina.runtime.progress import PlainProgress

WORDS = ["海纳百川", "有容乃大", "河流", "湖泊", "river", "sea", "page", "token", "漢字", "naïve"]
WIDTH = np.dtype([("key", "<u4"), ("place", "<u4"), ("count", "<u8")])
SHARED = "shared-size.txt"


def log(folder: Path, unit: str, event: str) -> None:
    descriptor = os.open(folder / "units.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{event} {unit}\n".encode())
    os.close(descriptor)


def collect(item: tuple[str, int, int], output: Path) -> None:
    """`(folder, seed, words)`: words of a seed, one a line."""
    folder, seed, count = item
    log(Path(folder), f"collect-{seed}", "start")
    rng = random.Random(seed)
    output.write_text("".join(rng.choice(WORDS) + "\n" for _ in range(count)), encoding="utf-8")
    log(Path(folder), f"collect-{seed}", "end")


def spread(item: tuple[str, Any, int], buckets: Buckets) -> None:
    """`(folder, words file, number)`: each word to the partition of its content."""
    folder, source, number = item
    log(Path(folder), f"spread-{number}", "start")
    with local_copy(source) as path:
        words = path.read_text(encoding="utf-8").split()
    for place, word in enumerate(words):
        key = zlib.crc32(word.encode())
        row = np.array([(key, place, 1)], WIDTH)
        buckets.add(key % buckets.partitions, row.tobytes())
    log(Path(folder), f"spread-{number}", "end")


def count_words(item: tuple[int, Any, tuple[str, int]], output: Path) -> None:
    """Sorts the records of a partition on disk and writes how often each key is there."""
    from haina.runtime.executor.external_sort import sort_records  # not for every worker: it brings numba

    partition, files, (folder, memory) = item
    log(Path(folder), f"reduce-{partition}", "start")
    counts: dict[int, int] = {}
    last = -1
    for block in sort_records(
        iter_blocks(files, partition), WIDTH, ["key", "place"], folder=output.parent, memory=memory
    ):
        for key, _, count in block.tolist():
            assert key >= last
            counts[key] = counts.get(key, 0) + count
            last = key
    output.write_text(json.dumps(counts), encoding="utf-8")
    log(Path(folder), f"reduce-{partition}", "end")


def run_job(
    executor: Executor, folder: Path, parts: int, partitions: int, words: int, files: Any = None
) -> dict[str, bytes]:
    """The whole job in `folder`, its files in `files`; gives the bytes of everything it made."""
    files = folder / "files" if files is None else files
    collected = [files / "words" / f"{number}.txt" for number in range(parts)]
    exchanged = [files / "exchange" / f"{number}.x" for number in range(parts)]
    counted = [files / "counts" / f"{number}.json" for number in range(partitions)]
    executor.map(
        collect, [(str(folder), number, words) for number in range(parts)], collected, description="collect"
    )
    executor.exchange(
        spread,
        [(str(folder), path, number) for number, path in enumerate(collected)],
        exchanged,
        partitions=partitions,
        description="spread",
    )
    executor.reduce(count_words, exchanged, counted, description="count", argument=(str(folder), 100_000))
    return {path.name: path.read_bytes() for path in [*collected, *exchanged, *counted]}


def main(folder: str, kind: str, workers: str, parts: str, partitions: str, words: str) -> None:
    """The job in a process of its own, for tests that kill it."""
    place = Path(folder)
    print("begin", flush=True)
    with executor_from(
        "ray" if kind == "ray" else "local",
        int(workers),
        None,
        PlainProgress(sys.stderr),
        place / "state",
    ) as executor:
        run_job(executor, place, int(parts), int(partitions), int(words))
    print("done", flush=True)


def repeated(folder: Path) -> tuple[int, int]:
    """(units whose finished work was done again, units) of a job, from its log."""
    lines = (folder / "units.log").read_text().split("\n")
    ends = [line.removeprefix("end ") for line in lines if line.startswith("end ")]
    return len(ends) - len(set(ends)), len(set(ends))


# Tasks that go wrong ------------------------------------------------------------------------------------------------


def who(item: int, output: Path) -> None:
    output.write_text(str(os.getpid()), encoding="utf-8")


def die_once(item: tuple[str, str], output: Path) -> None:
    """Killed on the first attempt, as by the kernel."""
    folder, word = item
    mark = Path(folder) / f"died-{word}"
    if word.startswith("!") and not mark.exists():
        mark.touch()
        output.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    output.write_text(word, encoding="utf-8")


def beside(item: tuple[str, str], output: Path) -> None:
    """Like `die_once`, and writes which other tasks were running."""
    folder, word = Path(item[0]), item[1]
    running = folder / f"running-{word}"
    running.touch()
    time.sleep(0.1)
    others = sorted(path.name for path in folder.glob("running-*") if path != running)
    if word.startswith("!") and not (folder / f"died-{word}").exists():
        (folder / f"died-{word}").touch()
        running.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    output.write_text(" ".join(others) if word.startswith("!") else word, encoding="utf-8")
    running.unlink()


def too_large(item: list[str], output: Path) -> None:
    """Killed when it holds more than two words, or the poisonous one."""
    if len(item) > 2 or "毒" in item:
        os.kill(os.getpid(), signal.SIGKILL)
    output.write_text("".join(f"{word}\n" for word in item), encoding="utf-8")


def no_memory(item: list[str], output: Path) -> None:
    """Runs out of memory in Python when it holds more than two words."""
    if len(item) > 2:
        raise MemoryError("50 GB")
    output.write_text("".join(f"{word}\n" for word in item), encoding="utf-8")


def halves(item: list[str]) -> list[list[str]]:
    middle = len(item) // 2
    return [item[:middle], item[middle:]] if middle else [item]


def join_text(pieces: list[Path], output: Path) -> None:
    output.write_text("".join(piece.read_text(encoding="utf-8") for piece in pieces), encoding="utf-8")


def note_loss(item: list[str], reason: str, output: Path) -> None:
    output.write_text(f"[{' '.join(item)}: {reason.split(',', maxsplit=1)[0]}]\n", encoding="utf-8")


RECOVERY = Recovery(halves, join_text, note_loss)


def fail_on_sea(item: str, output: Path) -> None:
    output.write_bytes(b"half")
    if item == "sea":
        raise HainaError("sea: too salty", "take fresh water")
    if item == "bug":
        raise ZeroDivisionError("in the worker")
    output.write_text(item, encoding="utf-8")


def copy_text(item: Any, output: Path) -> None:
    """Item: a file, or a folder and a name to log and a file. A missing or cut input is an ordinary error."""
    folder, name, source = item
    log(Path(folder), name, "start")
    text = Path(source).read_text(encoding="utf-8")
    if not text.endswith("。"):
        raise ValueError("not the end of a sentence")
    output.write_text(text, encoding="utf-8")
    log(Path(folder), name, "end")


def write_text(item: tuple[str, str, str], output: Path) -> None:
    folder, name, text = item
    log(Path(folder), name, "start")
    output.write_text(text, encoding="utf-8")
    log(Path(folder), name, "end")


def damage_input_then_copy(item: Any, output: Path) -> None:
    """Cuts its own input on the first attempt, as a disk might between two tasks."""
    folder, name, source = item
    mark = Path(folder) / f"cut-{name}"
    if not mark.exists():
        mark.touch()
        if name.startswith("gone"):
            Path(source).unlink()
        else:
            Path(source).write_text("半句", encoding="utf-8")
    copy_text(item, output)


def always_damaged(item: Any, output: Path) -> None:
    """Cuts its own input on every attempt."""
    Path(item[2]).write_text("半句", encoding="utf-8")
    copy_text(item, output)


def all_read(item: tuple[int, Any, None], output: Path) -> None:
    """Reads every partition, so that every reader meets any damage."""
    partition, files, _ = item
    time.sleep(0.01 * partition)
    with output.open("wb") as file:
        for number in range(12):
            file.writelines(iter_blocks(files, number))


def sleep_long(item: tuple[str, str], output: Path) -> None:
    folder, name = item
    log(Path(folder), name, "start")
    (Path(folder) / f"pid-{name}").write_text(str(os.getpid()))
    time.sleep(60)
    output.touch()


def fill_disk(item: tuple[str, int], output: Path) -> None:
    log(Path(item[0]), str(item[1]), "start")
    with output.open("wb") as file:
        for _ in range(16):
            file.write(os.urandom(1 << 16))
    log(Path(item[0]), str(item[1]), "end")
