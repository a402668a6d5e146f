"""Work over partitions on this machine: map, exchange by key, reduce, broadcast.

Tasks are plain functions over durable files. A task writes its output atomically and a task whose output
exists is not run again, so a killed job continues where it was. The number of partitions is configuration,
never the number of workers: the bytes that come out are the same for any number of workers.
"""

from __future__ import annotations

import multiprocessing
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from haina.runtime.errors import HainaError, os_errors_about
from haina.runtime.files import atomic_path, write_bytes
from haina.runtime.progress import Reporter, SilentProgress

MapTask = Callable[[Any, Path], None]


def _write_one(task: MapTask, item: Any, output: Path) -> None:
    with atomic_path(output) as temporary:
        task(item, temporary)


def _write_buckets(task: Callable[[Any], Sequence[bytes]], item: Any, output: Path) -> None:
    buckets = task(item)
    offsets = [0]
    for bucket in buckets:
        offsets.append(offsets[-1] + len(bucket))
    header = struct.pack(f"<{len(offsets) + 1}Q", len(buckets), *offsets)
    write_bytes(output, b"".join([header, *buckets]))


def _read_bucket(path: Path, partition: int) -> bytes:
    damaged = HainaError(f"{path}: not a whole exchange file", "delete it and run the same command again")
    with os_errors_about(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(8)
        count = int.from_bytes(head, "little")
        if len(head) < 8 or 8 * (count + 2) > size:
            raise damaged
        if not 0 <= partition < count:
            raise HainaError(
                f"{path}: holds {count} partitions, not number {partition}", "delete it and run again"
            )
        offsets = struct.unpack(f"<{count + 1}Q", file.read(8 * (count + 1)))
        if offsets[0] != 0 or list(offsets) != sorted(offsets) or 8 * (count + 2) + offsets[-1] != size:
            raise damaged
        file.seek(offsets[partition], os.SEEK_CUR)
        return file.read(offsets[partition + 1] - offsets[partition])


@dataclass
class LocalExecutor:
    """Processes on this machine.

    Attributes:
        workers: processes; 1 runs every task in this process.
        reporter: progress.
    """

    workers: int = 1
    reporter: Reporter = field(default_factory=SilentProgress)

    def map(
        self,
        task: MapTask,
        items: Sequence[Any],
        outputs: Sequence[Path],
        *,
        description: str,
        unit: str = "parts",
    ) -> None:
        """Run `task(item, temporary_path)` for each item whose output does not exist yet.

        Args:
            task: a module-level function that writes exactly the file it is given.
            items: one picklable value a partition.
            outputs: the file of each partition.
        """
        self._run(
            [
                (_write_one, (task, item, output))
                for item, output in zip(items, outputs, strict=True)
                if not output.exists()
            ],
            len(items),
            description,
            unit,
        )

    def exchange(
        self,
        task: Callable[[Any], Sequence[bytes]],
        items: Sequence[Any],
        outputs: Sequence[Path],
        *,
        description: str,
    ) -> None:
        """Run `task(item)`, which returns one byte string a key partition, and keep them in one file an item.

        `read_exchange` gives a reducer its partition of every file, in the order of `outputs`.
        """
        self._run(
            [
                (_write_buckets, (task, item, output))
                for item, output in zip(items, outputs, strict=True)
                if not output.exists()
            ],
            len(items),
            description,
            "parts",
        )

    def reduce(
        self, task: MapTask, exchanged: Sequence[Path], outputs: Sequence[Path], *, description: str
    ) -> None:
        """Run `task((partition, exchanged_files), temporary_path)` for each key partition."""
        self.map(
            task,
            [(index, tuple(exchanged)) for index in range(len(outputs))],
            outputs,
            description=description,
        )

    def _run(
        self,
        calls: Sequence[tuple[Callable[..., None], tuple[Any, ...]]],
        total: int,
        description: str,
        unit: str,
    ) -> None:
        with self.reporter.task(description, total, unit, done=total - len(calls)) as task:
            if self.workers <= 1 or len(calls) <= 1:
                for function, arguments in calls:
                    function(*arguments)
                    task.advance()
                return
            # spawn: a forked child inherits the locks of numba's and torch's threads in whatever state they
            # were.
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(min(self.workers, len(calls)), mp_context=context)
            pending: set[Future[None]] = {pool.submit(function, *arguments) for function, arguments in calls}
            try:
                while pending:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
                        task.advance()
            except BrokenProcessPool as error:
                raise HainaError(
                    f"{description}: a worker process died (out of memory?)",
                    "run again with fewer workers; finished parts are kept",
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def read_exchange(files: Iterable[Path], partition: int) -> list[bytes]:
    """The byte strings that every exchange file holds for `partition`, in the order of `files`."""
    return [_read_bucket(path, partition) for path in files]


def broadcast(value: bytes, path: Path) -> Path:
    """Write a small value where every task can read it; a file that holds it already is left alone."""
    if not path.is_file() or path.read_bytes() != value:
        write_bytes(path, value)
    return path
