"""Work over partitions, on this machine or on a Ray cluster: map, exchange by key, reduce, broadcast.

Tasks are module-level functions over durable files. A task's output is whole or absent, and one that is there and fits
its line in the manifest is not made again, so a killed job goes on where it was. The number of partitions
is configuration, never the number of workers: the bytes that come out are the same for any number of them.

    executor.map(task, items, outputs, description=...)        task(item, temporary_path)
    executor.exchange(task, items, outputs, partitions=P, ...) task(item, buckets); buckets.add(partition, data)
    executor.reduce(task, exchanged, outputs, ...)             task((partition, files, argument), temporary_path)
    broadcast(value, path)                                     a small value that every task can read
"""

from __future__ import annotations

import os
from typing import Literal

from haina.runtime.errors import HainaError
from haina.runtime.executor.engine import DurableExecutor
from haina.runtime.executor.exchange import Buckets, iter_blocks, iter_exchange, read_exchange
from haina.runtime.executor.local import LocalExecutor
from haina.runtime.executor.locations import (
    DamagedFile,
    Location,
    exists,
    local_copy,
    local_path,
    remove_folder,
    size,
    write_file,
)
from haina.runtime.executor.run import Quarantined
from haina.runtime.executor.task import Recovery
from haina.runtime.progress import Reporter

Executor = DurableExecutor

__all__ = [
    "Buckets",
    "DamagedFile",
    "Executor",
    "LocalExecutor",
    "Location",
    "Quarantined",
    "Recovery",
    "broadcast",
    "executor_from",
    "exists",
    "iter_blocks",
    "iter_exchange",
    "local_copy",
    "local_path",
    "read_exchange",
    "remove_folder",
    "size",
]


def broadcast(value: bytes, path: Location) -> Location:
    """Write a small value where every task can read it; a file that holds it already is left alone."""
    there = local_path(path)
    if not exists(path) or (there or path).read_bytes() != value:
        write_file(path, value)
    return path


def executor_from(
    kind: Literal["local", "ray"],
    workers: int | None = None,
    address: str | None = None,
    reporter: Reporter | None = None,
    state: Location | None = None,
) -> Executor:
    """The executor that a command line asks for.

    Args:
        kind: `local` processes or `ray` tasks. workers: tasks at a time; None for all cores.
        address: of a Ray cluster; None starts one on this machine. state: folder of the manifest.

    Raises:
        HainaError: another kind, an address without `ray`, or Ray is not installed.
    """
    if kind == "ray":
        from haina.runtime.executor.ray_backend import RayExecutor

        return RayExecutor(address, workers, reporter, state)
    if kind != "local":
        raise HainaError(f"--executor {kind}: no such executor", "use local or ray")
    if address is not None:
        raise HainaError("an address of a Ray cluster, but the executor is local", "add --executor ray")
    return LocalExecutor(workers or os.cpu_count() or 1, reporter, state)
